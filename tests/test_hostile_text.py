"""Any text, to each function of the server's side that takes text: an answer or a documented error.

Whichever it is, the process's books are balanced after it: no connection, no member, no task is
left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer, JsonWebsocketConsumer
from channels.layers import channel_layers
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from hypothesis import HealthCheck, example, given, settings

from gcrypt_channels import (
    EncryptedJsonConsumer,
    GcryptMiddleware,
    broadcast,
    disconnect_session,
    disconnect_user,
    group_send,
    user_group,
)
from gcrypt_channels.exceptions import LocalError, MessageTooBig
from gcrypt_channels.hub.hub import current_hub
from gcrypt_channels.protocol.messages import is_close_code
from tests.channel_layers import core, in_memory, pubsub
from tests.consumers import PlainEcho
from tests.hostile import ANY_TEXT, documented
from tests.servers import Redis
from tests.wire import Wire, resolver

# Channels looks after database connections wherever a consumer runs.
pytestmark = pytest.mark.django_db(transaction=True)

DOCUMENTED = (
    LocalError,
    MessageTooBig,
    ValueError,
    TypeError,
    ImproperlyConfigured,
)
SURROGATE = "\ud800"


class Acting:
    """Hands itself to the test, which acts in its place."""

    groups = ["room"]  # noqa: RUF012 - as Channels has it
    here: asyncio.Future[Any]

    def websocket_connect(self, message: Any) -> Any:
        result = super().websocket_connect(message)  # type: ignore[misc]
        loop = self.here.get_loop()
        loop.call_soon_threadsafe(self.here.set_result, self)
        return result


class AsyncActing(Acting, EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
    async def chat_message(self, event: Any) -> None:
        pass


class SyncActing(Acting, JsonWebsocketConsumer, EncryptedJsonConsumer):
    def chat_message(self, event: Any) -> None:
        pass


Action = Callable[[Any, str], Awaitable[Any]]

GROUPS: dict[str, Action] = {
    "join": lambda consumer, text: consumer.gcrypt.join(text),
    "leave": lambda consumer, text: consumer.gcrypt.leave(text),
    "broadcast to": lambda _, text: broadcast(text, 1),
    "broadcast": lambda _, text: broadcast("room", {text: text}),
    "group_send to": lambda _, text: group_send(text, {"type": "chat.message"}),
    "group_send of a type": lambda _, text: group_send("room", {"type": text}),
    "group_send": lambda _, text: group_send("room", {"type": "chat.message", text: text}),
    "user_group": lambda _, text: broadcast(user_group(SimpleNamespace(pk=text)), text),
    "disconnect_user": lambda _, text: disconnect_user(SimpleNamespace(pk=text)),
    "disconnect_user for": lambda _, text: disconnect_user(SimpleNamespace(pk=1), text),
    "disconnect_session": lambda _, text: disconnect_session(text),
    "disconnect_session for": lambda _, text: disconnect_session("key", text),
}
SOCKETS: dict[str, Action] = {
    "send": lambda consumer, text: consumer.send(text_data=text),
    "send_json": lambda consumer, text: consumer.send_json({text: text}),
    "close": lambda consumer, text: consumer.close(4000, text),
    "close with": lambda consumer, text: consumer.close(text),
    "facade's close": lambda consumer, text: consumer.gcrypt.close(4000, text),
    "facade's close with": lambda consumer, text: consumer.gcrypt.close(text),
    "accept": lambda consumer, text: consumer.accept(text),
    "accept with headers": lambda consumer, text: consumer.accept(None, [(text, text)]),
}


async def act(consumer: Any, action: Action, text: str) -> None:
    """Do it, as the consumer's own code would."""

    def in_thread() -> Awaitable[Any] | None:
        result = action(consumer, text)
        return result if hasattr(result, "__await__") else None

    with documented(*DOCUMENTED):
        if isinstance(consumer, JsonWebsocketConsumer):
            result = await sync_to_async(in_thread)()
            if result is not None:
                await result
        else:
            await action(consumer, text)


@asynccontextmanager
async def balanced_books() -> Any:
    """Nothing is left of the connections that were open inside."""
    hub = current_hub()
    yield
    assert not any(vars(hub.members).values())


@asynccontextmanager
async def balanced() -> Any:
    """Nor is any task left that was begun inside."""
    before = asyncio.all_tasks()
    async with balanced_books():
        yield
    while tasks := asyncio.all_tasks() - before:
        await asyncio.wait_for(asyncio.wait(tasks), 10)


def assert_sendable(events: list[Any]) -> None:
    """What the server was given is what a WebSocket can carry."""
    for event in events:
        (event.get("reason") or "").encode()
        (event.get("subprotocol") or "").encode()
        assert event["type"] != "websocket.close" or is_close_code(event["code"]), event


async def through(consumer_class: Any, profile: str, action: Action, text: str) -> None:
    async with balanced():

        class Once(consumer_class):  # type: ignore[misc]
            here = asyncio.get_running_loop().create_future()

        wire = Wire(GcryptMiddleware(Once.as_asgi(), resolver=resolver), subprotocols=[profile])
        if profile == "gcrypt.v2":
            await wire.open()
        consumer = await asyncio.wait_for(Once.here, 10)
        await act(consumer, action, text)
        wire.leave()
        with documented(*DOCUMENTED):  # such as an event for which there is no handler
            await wire.end()
        assert_sendable(wire.sent)


@pytest.fixture(params=[None, in_memory])
def layer(request: pytest.FixtureRequest) -> Iterator[None]:
    configured = {"default": request.param("")} if request.param else {}
    consumers_groups = ["room"] if request.param else []
    with override_settings(CHANNEL_LAYERS=configured), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Acting, "groups", consumers_groups)
        channel_layers.backends.clear()
        yield
    channel_layers.backends.clear()


any_text = given(ANY_TEXT)
# The fixture sets up what all examples share.
quick = settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("action", GROUPS.values(), ids=GROUPS.keys())
@pytest.mark.parametrize("consumer", [AsyncActing, SyncActing])
@quick
@any_text
@example(SURROGATE)
@example("")
async def test_any_text_to_the_functions_of_groups(
    layer: None, consumer: Any, action: Action, text: str
) -> None:
    await through(consumer, "gcrypt.v2", action, text)


@pytest.mark.parametrize("action", SOCKETS.values(), ids=SOCKETS.keys())
@pytest.mark.parametrize("consumer", [AsyncActing, SyncActing])
@pytest.mark.parametrize("profile", ["gcrypt.v2", "gcrypt.v1"])
@quick
@any_text
@example(SURROGATE)
@example("x" * 124)
async def test_any_text_to_the_functions_of_a_socket(
    consumer: Any, profile: str, action: Action, text: str
) -> None:
    await through(consumer, profile, action, text)


@quick
@any_text
@example(SURROGATE)
async def test_any_text_as_the_accepted_subprotocol(text: str) -> None:
    class Choosing(EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
        async def connect(self) -> None:
            with documented(*DOCUMENTED):
                await self.accept(text)
            await self.send_json("accepted")

    async with balanced():
        wire = Wire(GcryptMiddleware(Choosing.as_asgi(), resolver=resolver))
        await wire.handshake()
        wire.leave()
        with documented(*DOCUMENTED):  # nothing was accepted, so nothing can be sent
            await wire.end()


@pytest.mark.parametrize("profile", ["gcrypt.v2", "gcrypt.v1"])
@quick
@any_text
@example(SURROGATE)
@example("")
async def test_any_text_as_the_resolvers_answer(profile: str, text: str) -> None:
    async def answer(scope: Any) -> str:
        return text

    async with balanced():
        application = GcryptMiddleware(PlainEcho.as_asgi(), resolver=answer)
        wire = Wire(application, subprotocols=[profile])
        await wire.until(1)
        wire.leave()
        with documented(*DOCUMENTED):
            await wire.end()


@pytest.mark.parametrize("make", [core, pubsub])
async def test_a_surrogate_is_no_outage_of_redis(
    make: Callable[[str], Any], redis: Redis, settings: Any
) -> None:
    """One socket tries all of it, and another one goes on as if nothing had been."""
    settings.CHANNEL_LAYERS = {"default": make(redis.url)}
    async with balanced_books():
        consumers = []
        wires = []
        for _ in range(2):

            class Once(AsyncActing):
                here = asyncio.get_running_loop().create_future()

            wire = Wire(GcryptMiddleware(Once.as_asgi(), resolver=resolver))
            await wire.open()
            wires.append(wire)
            consumers.append(await asyncio.wait_for(Once.here, 10))
        hostile, victim = consumers
        for name, action in GROUPS.items():
            if name != "group_send of a type":  # which has no handler, and ends who gets it
                await act(hostile, action, SURROGATE)
                await act(hostile, action, "chat" + SURROGATE)
        for number in range(20):
            await victim.gcrypt.join(f"group {number}")
        sent = len(wires[1].sent)
        await broadcast("group 7", "heard")
        await wires[1].until(sent + 1)
        for wire in wires:
            wire.leave()
            await wire.end()
