"""Other people's ASGI applications around a consumer and between it and the middleware."""

from __future__ import annotations

import json
from typing import Any

import pytest
from channels.consumer import AsyncConsumer
from channels.generic.websocket import AsyncJsonWebsocketConsumer, JsonWebsocketConsumer
from channelsmultiplexer import AsyncJsonWebsocketDemultiplexer

from gcrypt_channels import EncryptedJsonConsumer, GcryptMiddleware, broadcast, group_send
from gcrypt_channels.protocol.events import Closed
from tests.communicators import EncryptedCommunicator
from tests.consumers import internals
from tests.wire import Wire, resolver

# Channels looks after database connections wherever a consumer runs.
pytestmark = pytest.mark.django_db(transaction=True)


class Recorder:
    """Wraps an application, and records what it receives and sends."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.received: list[Any] = []
        self.sent: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def recording_receive() -> Any:
            self.received.append(await receive())
            return self.received[-1]

        async def recording_send(event: Any) -> None:
            self.sent.append(event)
            await send(event)

        await self.inner(scope, recording_receive, recording_send)


class AsyncEcho:
    async def receive_json(self: Any, content: Any, **kwargs: Any) -> None:
        await self.send_json(content)


class SyncEcho:
    def receive_json(self: Any, content: Any, **kwargs: Any) -> None:
        self.send_json(content)


class Stamped(AsyncConsumer):
    """Wraps `send` in its `__call__`, as a consumer that counts or stamps its messages does."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def stamping_send(event: Any) -> None:
            if "text" in event:
                event = {**event, "text": event["text"].replace("canary", "stamped canary")}
            await send(event)

        await super().__call__(scope, receive, stamping_send)


class AsyncFirst(AsyncEcho, EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
    pass


class AsyncLast(AsyncEcho, AsyncJsonWebsocketConsumer, EncryptedJsonConsumer):
    pass


class SyncFirst(SyncEcho, EncryptedJsonConsumer, JsonWebsocketConsumer):
    pass


class SyncLast(SyncEcho, JsonWebsocketConsumer, EncryptedJsonConsumer):
    pass


class StampedAbove(AsyncEcho, Stamped, EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
    pass


class StampedBelow(AsyncEcho, EncryptedJsonConsumer, Stamped, AsyncJsonWebsocketConsumer):
    pass


class StampedSync(SyncEcho, Stamped, JsonWebsocketConsumer, EncryptedJsonConsumer):
    pass


class Plain(AsyncEcho, AsyncJsonWebsocketConsumer):
    """Without the mixin."""


class StampedPlain(AsyncEcho, Stamped, AsyncJsonWebsocketConsumer):
    """Without it as well."""


PLAIN = [AsyncFirst, AsyncLast, SyncFirst, SyncLast]
STAMPED = [StampedAbove, StampedBelow, StampedSync]


def around(inner: Any, **options: Any) -> tuple[Recorder, Recorder, Recorder]:
    """An application with a recorder in each position: outside, between, and twice between."""
    innermost = Recorder(inner)
    between = Recorder(innermost)
    outside = Recorder(GcryptMiddleware(between, resolver=resolver, **options))
    return outside, between, innermost


@pytest.mark.parametrize("consumer", [*PLAIN, *STAMPED])
@pytest.mark.parametrize("profile", ["gcrypt.v2", "gcrypt.v1"])
async def test_a_wrapper_sees_all_that_passes_it(consumer: Any, profile: Any) -> None:
    outside, between, innermost = around(consumer.as_asgi())
    client = EncryptedCommunicator(outside, "/", profile=profile, resolver=resolver)
    assert (await client.connect())[0]
    await client.send_json_to("canary")
    expected = "stamped canary" if consumer in STAMPED else "canary"
    assert await client.receive_json_from() == expected
    await client.disconnect()
    for recorder in (between, innermost):
        assert [each["type"] for each in recorder.received] == [
            "websocket.connect",
            "websocket.receive",
            "websocket.disconnect",
        ]
        assert [each["type"] for each in recorder.sent] == ["websocket.accept", "websocket.send"]
        assert recorder.received[1]["text"] == '"canary"'
        assert recorder.sent[1]["text"] == f'"{expected}"'
    assert "canary" not in repr((outside.received, outside.sent))


@pytest.mark.parametrize("consumer", [AsyncFirst, SyncLast])
async def test_a_wrapper_may_hold_a_message_back(consumer: Any) -> None:
    def filtered(inner: Any) -> Any:
        async def application(scope: Any, receive: Any, send: Any) -> None:
            async def filtering_send(event: Any) -> None:
                if "secret" not in event.get("text", ""):
                    await send(event)

            await inner(scope, receive, filtering_send)

        return application

    application = GcryptMiddleware(filtered(consumer.as_asgi()), resolver=resolver)
    client = EncryptedCommunicator(application, "/", resolver=resolver)
    assert (await client.connect())[0]
    await client.send_json_to("secret")
    await client.send_json_to("public")
    assert await client.receive_json_from() == "public"
    await client.disconnect()


@pytest.mark.parametrize("consumer", [Plain, StampedPlain])
async def test_plaintext_is_refused_whatever_is_around(consumer: Any) -> None:
    outside, _, _ = around(consumer.as_asgi())
    server = Wire(outside)
    await server.open()
    server.send('"canary"')
    await server.end()
    assert server.opened(3) == [Closed(1011, "internal error")]
    assert "canary" not in repr(server.sent)


# A multiplexer, whose children are consumers of one socket


class Child(EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
    here: dict[str, Any]
    name: str

    async def connect(self) -> None:
        self.here[self.name] = self
        await self.accept()

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        if "join" in content:
            await self.gcrypt.join(content["join"])
        if "leave" in content:
            await self.gcrypt.leave(content["leave"])
        await self.send_json(content)

    async def chat_message(self, event: Any) -> None:
        await self.send_json({"heard": event["text"]})

    async def group_gap(self, group: str, missed: int) -> None:
        await self.send_json({"gap": group, "missed": missed})

    async def disconnect(self, code: int) -> None:
        self.here[self.name] = code


def child(children: dict[str, Any], stream: str) -> type[Child]:
    class Named(Child):
        here = children
        name = stream

    return Named


class Multiplexed:
    def __init__(self, children: Any) -> None:
        self.here = children
        self.consumers = {name: child(self.here, name).as_asgi() for name in ("one", "two")}
        application = GcryptMiddleware(
            AsyncJsonWebsocketDemultiplexer.as_asgi(**self.consumers), resolver=resolver
        )
        self.client = EncryptedCommunicator(application, "/", resolver=resolver)

    async def ask(self, stream: str, payload: Any) -> Any:
        await self.client.send_json_to({"stream": stream, "payload": payload})
        return await self.client.receive_json_from()


@pytest.fixture
async def multiplexed() -> Any:
    """One whose children are told of the end, once it is over."""
    multiplexed = Multiplexed({})
    assert (await multiplexed.client.connect())[0]
    yield multiplexed
    await multiplexed.client.disconnect()
    assert multiplexed.here == {"one": 1000, "two": 1000}


async def test_children_of_a_multiplexer_answer_on_their_own_streams(
    multiplexed: Multiplexed,
) -> None:
    for stream in ("one", "two", "one"):
        answer = await multiplexed.ask(stream, {"text": "canary"})
        assert answer == {"stream": stream, "payload": {"text": "canary"}}


async def test_a_groups_event_reaches_the_child_that_joined_and_no_other(
    multiplexed: Multiplexed,
) -> None:
    await multiplexed.ask("one", {"join": "room"})
    await multiplexed.ask("two", {"join": "another"})
    for group, stream in [("room", "one"), ("another", "two"), ("room", "one")]:
        await group_send(group, {"type": "chat.message", "text": f"to {group}"})
        heard = await multiplexed.client.receive_json_from()
        assert heard == {"stream": stream, "payload": {"heard": f"to {group}"}}
    assert await multiplexed.client.receive_nothing()


async def test_a_group_joined_by_both_children_outlives_the_leave_of_one(
    multiplexed: Multiplexed,
) -> None:
    for stream in ("one", "two"):
        await multiplexed.ask(stream, {"join": "room"})
    await group_send("room", {"type": "chat.message", "text": "both"})
    heard = [(await multiplexed.client.receive_json_from())["stream"] for _ in range(2)]
    assert sorted(heard) == ["one", "two"]
    await multiplexed.ask("one", {"leave": "room"})
    await group_send("room", {"type": "chat.message", "text": "one of them"})
    assert (await multiplexed.client.receive_json_from())["stream"] == "two"
    assert await multiplexed.client.receive_nothing()


async def test_a_broadcast_goes_to_the_client_once(multiplexed: Multiplexed) -> None:
    for stream in ("one", "two"):
        await multiplexed.ask(stream, {"join": "room"})
    await broadcast("room", "to the client")
    assert await multiplexed.client.receive_json_from() == "to the client"
    assert await multiplexed.client.receive_nothing()


async def test_a_gap_reaches_the_child_that_joined_and_no_other(
    multiplexed: Multiplexed,
) -> None:
    await multiplexed.ask("one", {"join": "room"})
    internals(multiplexed.here["two"]).tell_gap("room", 3)
    told = [await multiplexed.client.receive_output() for _ in range(2)]
    gaps = [each for each in told if each["type"] == "gcrypt.gap"]
    assert gaps == [{"type": "gcrypt.gap", "group": "room", "missed": 3}]
    [sent] = [each["text"] for each in told if each["type"] == "websocket.send"]
    assert json.loads(sent) == {"stream": "one", "payload": {"gap": "room", "missed": 3}}
    assert await multiplexed.client.receive_nothing()


async def test_the_close_of_one_child_is_the_end_of_all(multiplexed: Multiplexed) -> None:
    await multiplexed.here["one"].gcrypt.close()
    assert (await multiplexed.client.receive_output())["type"] == "websocket.close"
    await multiplexed.client.wait()
