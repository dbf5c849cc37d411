"""The two chats of the stage: one as Channels' tutorial leaves it, one with the encryption."""

from __future__ import annotations

from typing import Any

from channels.generic.websocket import AsyncJsonWebsocketConsumer

from demo_project.stage.redis_watch import PLAIN_LAYER, plain_group, sealed_group
from demo_project.stage.sandbox import Sandbox, Side, sandbox_of
from gcrypt_channels import EncryptedJsonConsumer, broadcast


class StageChat(AsyncJsonWebsocketConsumer):
    """What both have in common: the room, and a note of what the consumer got."""

    side: Side
    sandbox: Sandbox

    async def connect(self) -> None:
        self.room = self.scope["url_route"]["kwargs"]["room"]
        sandbox = sandbox_of(self.room)
        if sandbox is None or self.scope["user"] not in (sandbox.alice, sandbox.bob):
            await self.close()
            return
        self.sandbox = sandbox
        self.user = "bob" if self.scope["user"] == sandbox.bob else "alice"
        sandbox.note("consumer", self.side, user=self.user, room=self.room, opened=True)
        await self.enter()
        await self.accept()

    async def enter(self) -> None:
        raise NotImplementedError

    async def tell_room(self, message: dict[str, Any]) -> None:
        raise NotImplementedError

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        text = str(content["message"])[:200]
        self.sandbox.note("consumer", self.side, user=self.user, room=self.room, got=text)
        await self.tell_room({"user": self.user, "message": text})


class PlainChat(StageChat):
    side = "plain"
    channel_layer_alias = PLAIN_LAYER

    async def enter(self) -> None:
        self.group = plain_group(self.room)
        self.sandbox.channels.add(self.channel_name)
        if self.user == "bob":
            self.sandbox.bobs_channel["plain"] = self.channel_name
        await self.channel_layer.group_add(self.group, self.channel_name)

    async def tell_room(self, message: dict[str, Any]) -> None:
        await self.channel_layer.group_send(self.group, {"type": "chat.message", **message})

    async def chat_message(self, event: dict[str, Any]) -> None:
        await self.send_json({"user": event["user"], "message": event["message"]})

    async def disconnect(self, code: int) -> None:
        if hasattr(self, "group"):
            self.sandbox.channels.discard(self.channel_name)
            await self.channel_layer.group_discard(self.group, self.channel_name)


class EncryptedChat(EncryptedJsonConsumer, StageChat):
    side = "gcrypt"

    async def enter(self) -> None:
        self.group = sealed_group(self.room)
        if self.user == "bob":
            self.sandbox.bobs_channel["gcrypt"] = self.channel_name
        await self.gcrypt.join(self.group)

    async def tell_room(self, message: dict[str, Any]) -> None:
        await broadcast(self.group, message)

    async def chat_message(self, event: dict[str, Any]) -> None:
        """What an attacker hopes to reach through the channel layer."""
        await self.send_json({"user": event["user"], "message": event["message"]})
