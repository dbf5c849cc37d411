"""asyncio's debug mode prints results of tasks and arguments of callbacks: none is plaintext."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from channels.consumer import AsyncConsumer
from channels.generic.websocket import AsyncJsonWebsocketConsumer, JsonWebsocketConsumer
from channels.layers import channel_layers, get_channel_layer

from gcrypt_channels import EncryptedJsonConsumer, GcryptMiddleware, broadcast, group_send
from tests.wire import KEYRING, Wire, resolver

# Channels looks after database connections wherever a consumer runs.
pytestmark = pytest.mark.django_db(transaction=True)

CANARY = "CANARY"
"""Short, since asyncio cuts what it prints."""


class Async:
    groups = ["room"]  # noqa: RUF012 - as Channels has it

    async def connect(self: Any) -> None:
        await self.gcrypt.join("room")
        channels.append(self.channel_name)
        await self.accept()

    async def receive_json(self: Any, content: Any, **kwargs: Any) -> None:
        await self.send_json(content)

    async def chat_message(self: Any, event: Any) -> None:
        await self.send_json(event["text"])


class Sync:
    groups = ["room"]  # noqa: RUF012 - as Channels has it

    def connect(self: Any) -> None:
        channels.append(self.channel_name)
        self.accept()

    def receive_json(self: Any, content: Any, **kwargs: Any) -> None:
        self.send_json(content)

    def chat_message(self: Any, event: Any) -> None:
        self.send_json(event["text"])


class OwnCall(AsyncConsumer):
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await super().__call__(scope, receive, send)


class AsyncMixinFirst(Async, EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
    pass


class SyncMixinLast(Sync, JsonWebsocketConsumer, EncryptedJsonConsumer):
    pass


class WithItsOwnLoop(Async, EncryptedJsonConsumer, OwnCall, AsyncJsonWebsocketConsumer):
    pass


channels: list[str] = []


@pytest.fixture
async def debug_log(caplog: pytest.LogCaptureFixture) -> Any:
    """Everything that asyncio prints in debug mode, about each callback."""
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 0
    caplog.set_level(logging.DEBUG)
    channels.clear()
    yield caplog
    loop.set_debug(False)


@pytest.mark.parametrize("consumer", [AsyncMixinFirst, SyncMixinLast, WithItsOwnLoop])
@pytest.mark.parametrize("profile", ["gcrypt.v2", "gcrypt.v1"])
async def test_no_plaintext_is_printed(
    consumer: Any, profile: str, debug_log: pytest.LogCaptureFixture
) -> None:
    server = Wire(GcryptMiddleware(consumer.as_asgi(), resolver=resolver), subprotocols=[profile])
    if profile == "gcrypt.v2":
        await server.open()
        server.send(f'"{CANARY}"')
    else:
        from gcrypt_channels import Crypt

        await server.until(1)
        server.put_frames([Crypt(KEYRING.passphrases[0]).encrypt(CANARY)])
    taken = len(server.sent)
    await server.until(taken + 1)
    await broadcast("room", CANARY)
    await group_send("room", {"type": "chat.message", "text": CANARY})
    layer: Any = get_channel_layer()
    event = {"type": "chat.message", "text": CANARY}
    await layer.send(channels[0], event)
    await layer.group_send("room", event)
    await server.until(taken + 5)
    server.leave()
    await server.end()
    printed = [each for each in debug_log.records if each.name == "asyncio"]
    assert any("took" in each.getMessage() for each in printed)
    for record in printed:
        assert CANARY not in record.getMessage()


@pytest.fixture
def no_layer(settings: Any) -> Iterator[None]:
    settings.CHANNEL_LAYERS = {}
    channel_layers.backends.clear()
    yield
    channel_layers.backends.clear()


async def test_no_plaintext_is_printed_that_comes_from_another_event_loop(
    no_layer: None, debug_log: pytest.LogCaptureFixture
) -> None:
    class Joined(EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
        async def connect(self) -> None:
            await self.gcrypt.join("room")
            await self.accept()

    server = Wire(GcryptMiddleware(Joined.as_asgi(), resolver=resolver))
    await server.open()
    elsewhere = threading.Thread(target=lambda: asyncio.run(broadcast("room", CANARY)))
    elsewhere.start()
    await server.until(4)
    elsewhere.join()
    server.leave()
    await server.end()
    for record in debug_log.records:
        assert CANARY not in record.getMessage()
