"""Consumers for the tests: the same behaviour in every style in which a project may write it."""

from __future__ import annotations

from channels.generic.websocket import (
    AsyncWebsocketConsumer,
    WebsocketConsumer,
)

from gcrypt_channels import EncryptedJsonConsumer


class AsyncEcho:
    """Sends back what it gets: text as text, bytes as bytes."""

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.send(text_data=text_data, bytes_data=bytes_data)  # type: ignore[attr-defined]


class SyncEcho:
    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.send(text_data=text_data, bytes_data=bytes_data)  # type: ignore[attr-defined]


class AsyncEchoMixinFirst(AsyncEcho, EncryptedJsonConsumer, AsyncWebsocketConsumer):
    pass


class AsyncEchoMixinLast(AsyncEcho, AsyncWebsocketConsumer, EncryptedJsonConsumer):
    pass


class SyncEchoMixinFirst(SyncEcho, EncryptedJsonConsumer, WebsocketConsumer):
    pass


class SyncEchoMixinLast(SyncEcho, WebsocketConsumer, EncryptedJsonConsumer):
    pass


class PlainEcho(AsyncEcho, AsyncWebsocketConsumer):
    """Without the mixin: what it sends is plaintext."""


ECHO_CONSUMERS = [
    AsyncEchoMixinFirst,
    AsyncEchoMixinLast,
    SyncEchoMixinFirst,
    SyncEchoMixinLast,
]
