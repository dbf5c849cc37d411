"""Consumers for the tests: the same behaviour in every style in which a project may write it."""

from __future__ import annotations

from typing import Any

from channels.generic.websocket import (
    AsyncWebsocketConsumer,
    WebsocketConsumer,
)

from gcrypt_channels import EncryptedJsonConsumer
from gcrypt_channels.connection.connection import Connection
from gcrypt_channels.connection.facade import connection_of


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


def internals(consumer: Any) -> Connection:
    """The connection behind a consumer's small facade."""
    connection = connection_of(consumer.gcrypt)
    assert connection is not None
    return connection


ECHO_CONSUMERS = [
    AsyncEchoMixinFirst,
    AsyncEchoMixinLast,
    SyncEchoMixinFirst,
    SyncEchoMixinLast,
]
