"""The consumers: plain Channels code. Encryption is the first base class, and nothing else."""

from __future__ import annotations

from typing import Any

from channels.generic.websocket import (
    AsyncJsonWebsocketConsumer,
    AsyncWebsocketConsumer,
    WebsocketConsumer,
)

from gcrypt_channels import EncryptedJsonConsumer, broadcast

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
        await self.gcrypt.join(self.group)
        await self.accept()

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        match content:
            case {"message": str(text)}:
                user = str(self.scope["user"])
                await broadcast(self.group, {"user": user, "message": text})
            case _:
                await self.close(INVALID_MESSAGE, 'expected {"message": text}')
