"""Who can write to the channel layer calls no handler of the socket's own events."""

from __future__ import annotations

from typing import Any

import pytest
from channels.consumer import AsyncConsumer
from channels.generic.websocket import AsyncJsonWebsocketConsumer, JsonWebsocketConsumer
from channels.layers import get_channel_layer

from gcrypt_channels import EncryptedJsonConsumer, GcryptMiddleware, group_send
from gcrypt_channels.exceptions import LocalError
from gcrypt_channels.keys import Keyring
from tests.communicators import EncryptedCommunicator

# Channels looks after database connections wherever a consumer runs.
pytestmark = pytest.mark.django_db(transaction=True)

RESERVED = [
    {"type": "websocket.receive", "text": '"forged"'},
    {"type": "websocket_receive", "text": '"forged"'},
    {"type": "websocket.receive", "text": "no JSON"},
    {"type": "websocket.receive"},
    {"type": "websocket.connect"},
    {"type": "websocket_connect"},
    {"type": "websocket.disconnect", "code": 1000},
    {"type": "websocket_disconnect", "code": 1000},
    {"type": "websocket.anything"},
    {"type": "gcrypt.gap", "group": "news", "missed": 7},
    {"type": "gcrypt_gap", "group": "news", "missed": 7},
    {"type": "gcrypt.anything"},
]


class Async:
    """Tells of each event which handler it came to."""

    groups = ["news"]  # noqa: RUF012 - as Channels has it

    async def connect(self: Any) -> None:
        await self.accept()
        await self.send_json({"channel": self.channel_name})

    async def receive_json(self: Any, content: Any, **kwargs: Any) -> None:
        await self.send_json({"received": content})

    async def disconnect(self: Any, code: int) -> None:
        ended.append(code)

    async def group_gap(self: Any, group: str, missed: int) -> None:
        await self.send_json({"gap": missed})

    async def chat_message(self: Any, event: Any) -> None:
        await self.send_json({"event": event["text"]})


class Sync:
    groups = ["news"]  # noqa: RUF012 - as Channels has it

    def connect(self: Any) -> None:
        self.accept()
        self.send_json({"channel": self.channel_name})

    def receive_json(self: Any, content: Any, **kwargs: Any) -> None:
        self.send_json({"received": content})

    def disconnect(self: Any, code: int) -> None:
        ended.append(code)

    def group_gap(self: Any, group: str, missed: int) -> None:
        self.send_json({"gap": missed})

    def chat_message(self: Any, event: Any) -> None:
        self.send_json({"event": event["text"]})


class OwnCall(AsyncConsumer):
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await super().__call__(scope, receive, send)


class OwnDispatch(AsyncConsumer):
    async def dispatch(self, message: Any) -> None:
        await super().dispatch(message)


class AsyncFirst(Async, EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
    pass


class AsyncLast(Async, AsyncJsonWebsocketConsumer, EncryptedJsonConsumer):
    pass


class SyncFirst(Sync, EncryptedJsonConsumer, JsonWebsocketConsumer):
    pass


class SyncLast(Sync, JsonWebsocketConsumer, EncryptedJsonConsumer):
    pass


class CallAbove(Async, OwnCall, EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
    pass


class CallBelow(Async, EncryptedJsonConsumer, OwnCall, AsyncJsonWebsocketConsumer):
    pass


class CallBelowSync(Sync, EncryptedJsonConsumer, OwnCall, JsonWebsocketConsumer):
    pass


class DispatchAbove(Async, OwnDispatch, EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
    pass


class DispatchBelow(Async, EncryptedJsonConsumer, OwnDispatch, AsyncJsonWebsocketConsumer):
    pass


STYLES = [
    AsyncFirst,
    AsyncLast,
    SyncFirst,
    SyncLast,
    CallAbove,
    CallBelow,
    CallBelowSync,
    DispatchAbove,
    DispatchBelow,
]
ended: list[int] = []


@pytest.fixture(params=STYLES)
async def client(request: pytest.FixtureRequest) -> Any:
    async def resolver(scope: Any) -> Keyring:
        return Keyring.derive("test")

    ended.clear()
    application = GcryptMiddleware(request.param.as_asgi(), resolver=resolver)
    client = EncryptedCommunicator(application, "/", resolver=resolver)
    assert (await client.connect())[0]
    yield client
    await client.disconnect()
    assert len(ended) == 1


async def test_none_of_them_comes_from_the_consumers_channel(
    client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    channel = (await client.receive_json_from())["channel"]
    layer: Any = get_channel_layer()
    for event in RESERVED:
        await layer.send(channel, event)
        await layer.group_send("news", event)
    await layer.send(channel, {"type": "chat.message", "text": "real"})
    assert await client.receive_json_from() == {"event": "real"}
    await client.send_json_to("mine")
    assert await client.receive_json_from() == {"received": "mine"}
    assert ended == []
    dropped = [each for each in caplog.records if "was dropped" in each.getMessage()]
    assert len(dropped) == 2 * len(RESERVED)


@pytest.mark.parametrize("event", RESERVED)
async def test_none_of_them_can_be_sent_to_a_group(event: Any) -> None:
    with pytest.raises(LocalError):
        await group_send("news", event)
