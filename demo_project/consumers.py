"""The consumers: plain Channels code. Encryption is the first base class, and nothing else."""

from __future__ import annotations

from typing import Any

from channels.generic.websocket import (
    AsyncJsonWebsocketConsumer,
    AsyncWebsocketConsumer,
    WebsocketConsumer,
)

from gcrypt_channels import EncryptedJsonConsumer

INVALID_MESSAGE = 4000  # close code: JSON that this consumer does not understand


class CounterConsumer(EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
    """`{"id": n}` is answered with `{"id": n + 1}`."""

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        match content:
            case {"id": int(number)}:
                await self.send_json({"id": number + 1})
            case _:
                await self.close(INVALID_MESSAGE, 'expected {"id": number}')


class EchoConsumer(EncryptedJsonConsumer, AsyncWebsocketConsumer):
    """Sends back what it gets: text as text, bytes as bytes."""

    async def receive(
        self, text_data: str | None = None, bytes_data: bytes | None = None, **kwargs: Any
    ) -> None:
        await self.send(text_data=text_data, bytes_data=bytes_data)


class SyncEchoConsumer(EncryptedJsonConsumer, WebsocketConsumer):
    """The same, as a synchronous consumer."""

    def receive(
        self, text_data: str | None = None, bytes_data: bytes | None = None, **kwargs: Any
    ) -> None:
        self.send(text_data=text_data, bytes_data=bytes_data)


class ChatConsumer(EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
    """`{"message": text}` reaches everyone in the room as `{"user": name, "message": text}`."""

    async def connect(self) -> None:
        self.group = f"chat.{self.scope['url_route']['kwargs']['room']}"
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(self.group, self.channel_name)

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        match content:
            case {"message": str(text)}:
                user = str(self.scope["user"])
                event = {"type": "chat.message", "user": user, "message": text}
                await self.channel_layer.group_send(self.group, event)
            case _:
                await self.close(INVALID_MESSAGE, 'expected {"message": text}')

    async def chat_message(self, event: dict[str, str]) -> None:
        await self.send_json({"user": event["user"], "message": event["message"]})
