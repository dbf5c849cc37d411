"""The loop that runs a consumer behaves as Channels' own: each promise is kept by both."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from channels.consumer import AsyncConsumer
from channels.exceptions import ChannelFull, StopConsumer
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.layers import InMemoryChannelLayer, get_channel_layer
from django.test import override_settings

from gcrypt_channels import EncryptedJsonConsumer, GcryptMiddleware
from gcrypt_channels.protocol.events import Text
from tests.communicators import PATIENCE
from tests.wire import Wire, resolver

pytestmark = pytest.mark.django_db(transaction=True)  # dispatching looks after the connections

CAPACITY = 3


class BreakingLayer(InMemoryChannelLayer):
    """A layer whose ``receive`` fails when it meets a certain message."""

    async def receive(self, channel: str) -> Any:
        event = await super().receive(channel)
        if event["type"] == "break":
            raise ConnectionError("the layer is down")
        return event


class DeadLayer(InMemoryChannelLayer):
    """A layer whose every ``receive`` fails."""

    async def receive(self, channel: str) -> Any:
        raise ConnectionError("the layer is down")


@pytest.fixture(autouse=True)
def layer() -> Iterator[None]:
    config = {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": {"capacity": CAPACITY}}
    with override_settings(CHANNEL_LAYERS={"default": config}):
        yield


def with_layer(layer: type) -> override_settings:
    return override_settings(
        CHANNEL_LAYERS={"default": {"BACKEND": f"{__name__}.{layer.__name__}"}}
    )


class Consumer(AsyncJsonWebsocketConsumer):
    """Answers; or waits, fails or stops, as it is asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = asyncio.Event()
        self.goes_on = asyncio.Event()
        self.seen: list[Any] = []

    async def connect(self) -> None:
        await self.accept()

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        match content:
            case "name":
                await self.send_json(self.channel_name)
            case "wait":
                await self.wait()
            case "fail":
                raise RuntimeError("the handler failed")
            case "stop":
                raise StopConsumer
            case _:
                await self.send_json(content)

    async def wait(self) -> None:
        self.entered.set()
        await self.goes_on.wait()
        await self.send_json("waited")

    async def layer_wait(self, event: Any) -> None:
        await self.wait()

    async def layer_fail(self, event: Any) -> None:
        raise RuntimeError("the handler failed")

    async def layer_stop(self, event: Any) -> None:
        raise StopConsumer

    async def layer_number(self, event: Any) -> None:
        await asyncio.sleep(0)  # a handler that suspends is not overtaken
        await self.send_json(event["number"])


class SealedConsumer(EncryptedJsonConsumer, Consumer):
    pass


class Peer:
    """A server and a client around one consumer, sealed or not."""

    def __init__(self, consumer: type[Consumer]) -> None:
        self.consumer = consumer()
        self.is_sealed = isinstance(self.consumer, EncryptedJsonConsumer)
        self.read = 0
        application: Any = self.consumer
        if self.is_sealed:
            application = GcryptMiddleware(application, resolver=resolver)

        async def counting(scope: Any, receive: Any, send: Any) -> None:
            async def counted() -> Any:
                event = await receive()
                self.read += 1
                return event

            await application(scope, counted, send)

        self.server = Wire(counting)
        self._answered = 0

    async def connect(self) -> None:
        await (self.server.open() if self.is_sealed else self.server.until(1))
        self._answered = len(self.server.sent)

    def send(self, content: Any) -> None:
        if self.is_sealed:
            self.server.send(json.dumps(content))
        else:
            self.server.put({"type": "websocket.receive", "text": json.dumps(content)})

    async def receive(self) -> Any:
        await self.server.until(self._answered + 1)
        event = self.server.sent[self._answered]
        self._answered += 1
        if not self.is_sealed:
            return json.loads(event["text"])
        told = self.server.client.receive(event["bytes"])
        assert isinstance(told, Text)
        return json.loads(told.data)

    async def ask(self, content: Any) -> Any:
        self.send(content)
        return await self.receive()

    async def until_entered(self) -> None:
        await asyncio.wait_for(self.consumer.entered.wait(), PATIENCE)

    async def end(self) -> None:
        """Wait for the application to return, and raise what it raised."""
        await self.server.end()

    async def leave(self) -> None:
        self.server.leave()
        await self.end()


async def connected(consumer: type[Consumer]) -> Peer:
    peer = Peer(consumer)
    await peer.connect()
    return peer


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


def the_layer() -> Any:
    return get_channel_layer()


both = pytest.mark.parametrize("consumer", [Consumer, SealedConsumer], ids=["Channels", "ours"])


# The end


@both
async def test_a_handler_that_stops_the_consumer_ends_it_quietly(consumer: Any) -> None:
    peer = await connected(consumer)
    peer.send("stop")
    await peer.end()


@both
async def test_a_handler_of_a_layers_message_may_stop_it_too(consumer: Any) -> None:
    peer = await connected(consumer)
    await the_layer().send(await peer.ask("name"), {"type": "layer.stop"})
    await peer.end()


@both
async def test_what_a_handler_raises_the_server_gets(consumer: Any) -> None:
    peer = await connected(consumer)
    peer.send("fail")
    with pytest.raises(RuntimeError, match="the handler failed"):
        await peer.end()


@both
async def test_what_a_handler_of_a_layers_message_raises_the_server_gets(consumer: Any) -> None:
    peer = await connected(consumer)
    await the_layer().send(await peer.ask("name"), {"type": "layer.fail"})
    with pytest.raises(RuntimeError, match="the handler failed"):
        await peer.end()


@both
@with_layer(BreakingLayer)
async def test_what_the_layers_receive_raises_ends_an_idle_consumer(consumer: Any) -> None:
    peer = await connected(consumer)
    name = await peer.ask("name")
    await settle()
    await the_layer().send(name, {"type": "break"})
    with pytest.raises(ConnectionError, match="the layer is down"):
        await peer.end()


@with_layer(DeadLayer)
async def test_a_consumer_that_never_names_its_channel_is_not_ended_by_the_layer() -> None:
    peer = await connected(SealedConsumer)
    assert await peer.ask("still here") == "still here"
    await peer.leave()


@both
@pytest.mark.parametrize("asks", [[], ["name"], ["wait"]], ids=["idle", "fed", "in a handler"])
async def test_cancelling_the_application_leaves_no_task(consumer: Any, asks: list[str]) -> None:
    peer = await connected(consumer)
    for each in asks:
        peer.send(each)
    await settle()
    peer.server.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await peer.end()
    await settle()
    assert asyncio.all_tasks() == {asyncio.current_task()}


# Order, and what waits where


@both
async def test_the_layers_messages_are_handled_in_order_one_at_a_time(consumer: Any) -> None:
    peer = await connected(consumer)
    name = await peer.ask("name")
    for number in range(CAPACITY):
        await the_layer().send(name, {"type": "layer.number", "number": number})
    assert [await peer.receive() for _ in range(CAPACITY)] == list(range(CAPACITY))
    await peer.leave()


@both
async def test_a_busy_consumer_holds_one_message_and_the_layer_its_capacity(
    consumer: Any,
) -> None:
    peer = await connected(consumer)
    name = await peer.ask("name")
    peer.send("wait")
    await peer.until_entered()
    for number in range(CAPACITY + 1):
        await the_layer().send(name, {"type": "layer.number", "number": number})
        await settle()
    with pytest.raises(ChannelFull):
        await the_layer().send(name, {"type": "layer.number", "number": -1})
    peer.consumer.goes_on.set()
    expected = ["waited", *range(CAPACITY + 1)]
    assert [await peer.receive() for _ in expected] == expected
    await peer.leave()


@both
async def test_a_frame_is_not_read_while_a_handler_of_a_frame_runs(consumer: Any) -> None:
    peer = await connected(consumer)
    await peer.ask("first")
    peer.send("wait")
    await peer.until_entered()
    before = peer.read
    for number in range(5):
        peer.send(number)
    await settle()
    assert peer.read == before
    peer.consumer.goes_on.set()
    assert [await peer.receive() for _ in range(6)] == ["waited", *range(5)]
    await peer.leave()


@both
async def test_frames_do_not_starve_the_layers_messages(consumer: Any) -> None:
    peer = await connected(consumer)
    name = await peer.ask("name")
    peer.send("wait")
    await peer.until_entered()
    for number in range(20):
        peer.send(number)
    await the_layer().send(name, {"type": "layer.number", "number": "from the layer"})
    await settle()
    peer.consumer.goes_on.set()
    answers = [await peer.receive() for _ in range(22)]
    assert answers.index("from the layer") <= 2
    await peer.leave()


# What an idle connection costs


async def tasks_of_one(consumer: type[Consumer]) -> float:
    """Tasks that each further connection keeps while nothing happens."""
    peers = [await connected(consumer)]
    await settle()
    before = len(asyncio.all_tasks())
    peers += [await connected(consumer) for _ in range(4)]
    await settle()
    tasks = len(asyncio.all_tasks()) - before
    for peer in peers:
        await peer.leave()
    return tasks / 4


async def test_an_idle_connection_has_two_tasks_and_channels_three() -> None:
    assert await tasks_of_one(SealedConsumer) == 2
    assert await tasks_of_one(Consumer) == 3


# Whose loop it is


async def test_a_class_with_a_loop_of_its_own_keeps_it() -> None:
    run = []

    class Own(Consumer):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            run.append("own")
            await super().__call__(scope, receive, send)

    class First(EncryptedJsonConsumer, Own):
        pass

    class Last(Own, EncryptedJsonConsumer):
        pass

    for consumer in (First, Last):
        peer = await connected(consumer)
        assert await peer.ask("hello") == "hello"
        await peer.leave()
    assert run == ["own", "own"]


async def test_a_message_without_a_type_is_the_error_that_channels_raises() -> None:
    class Bare(EncryptedJsonConsumer, AsyncConsumer):
        async def websocket_connect(self, event: Any) -> None:
            await the_layer().send(self.channel_name, {"no": "type"})

    server = Wire(GcryptMiddleware(Bare.as_asgi(), resolver=resolver))
    await server.handshake()
    with pytest.raises(ValueError, match="no 'type' attribute"):
        await server.end()
