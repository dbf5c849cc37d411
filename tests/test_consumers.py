from __future__ import annotations

import asyncio
import json
import logging
import threading
from typing import Any, cast

import pytest
from asgiref.sync import async_to_sync
from channels.consumer import AsyncConsumer
from channels.exceptions import DenyConnection, StopConsumer
from channels.generic.websocket import (
    AsyncJsonWebsocketConsumer,
    AsyncWebsocketConsumer,
    JsonWebsocketConsumer,
)
from channels.layers import get_channel_layer
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured

from gcrypt_channels import EncryptedJsonConsumer, GcryptMiddleware
from gcrypt_channels.exceptions import LocalError
from gcrypt_channels.keys import Keyring
from gcrypt_channels.protocol.profiles import V1, Profile, secure_profiles
from tests.communicators import Communicator, EncryptedCommunicator
from tests.consumers import internals
from tests.wire import Wire
from tests.wire import resolver as wire_resolver

pytestmark = pytest.mark.django_db(transaction=True)

PROFILES = [*secure_profiles(), V1]
GROUPS = ["news"]


async def resolver(scope: Any) -> Keyring:
    return Keyring.derive("test")


def communicate(consumer: Any, profile: Profile | None = None, **options: Any) -> Any:
    """A communicator with `consumer`; no test here needs a login."""
    application = GcryptMiddleware(consumer.as_asgi(), resolver=resolver)
    return EncryptedCommunicator(application, "/", profile=profile, resolver=resolver, **options)


class AsyncCounter:
    """`{"id": n}` is answered with n + 1; other members ask for other things."""

    ended: list[int]

    async def connect(self: Any) -> None:
        type(self).ended = []
        await self.accept()

    async def disconnect(self, code: int) -> None:
        self.ended.append(code)

    async def receive_json(self: Any, content: Any, **kwargs: Any) -> None:
        match content:
            case {"id": number}:
                await self.send_json({"id": number + 1})
            case {"text": text}:
                await self.send(text_data=json.dumps(text))
            case {"close": code, "reason": reason}:
                await self.close(code, reason)
            case {"boom": message}:
                raise ValueError(message)
            case {"unaccepted": _}:
                await self.accept()

    async def news(self: Any, event: Any) -> None:
        await self.send_json({"news": event["body"]})


class SyncCounter:
    ended: list[int]

    def connect(self: Any) -> None:
        type(self).ended = []
        self.accept()

    def disconnect(self, code: int) -> None:
        self.ended.append(code)

    def receive_json(self: Any, content: Any, **kwargs: Any) -> None:
        match content:
            case {"id": number}:
                self.send_json({"id": number + 1})
            case {"text": text}:
                self.send(text_data=json.dumps(text))
            case {"close": code, "reason": reason}:
                self.close(code, reason)
            case {"boom": message}:
                raise ValueError(message)
            case {"unaccepted": _}:
                self.accept()

    def news(self: Any, event: Any) -> None:
        self.send_json({"news": event["body"]})


class AsyncMixinFirst(AsyncCounter, EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
    groups = GROUPS


class AsyncMixinLast(AsyncCounter, AsyncJsonWebsocketConsumer, EncryptedJsonConsumer):
    groups = GROUPS


class SyncMixinFirst(SyncCounter, EncryptedJsonConsumer, JsonWebsocketConsumer):
    groups = GROUPS


class SyncMixinLast(SyncCounter, JsonWebsocketConsumer, EncryptedJsonConsumer):
    groups = GROUPS


every_style = pytest.mark.parametrize(
    "consumer", [AsyncMixinFirst, AsyncMixinLast, SyncMixinFirst, SyncMixinLast]
)
every_profile = pytest.mark.parametrize("profile", PROFILES)


# What a consumer sends


@every_style
@every_profile
async def test_send_json_and_send_leave_sealed(consumer: Any, profile: Profile) -> None:
    communicator = communicate(consumer, profile)
    assert await communicator.connect() == (True, None)
    await communicator.send_json_to({"id": 1})
    assert await communicator.receive_json_from() == {"id": 2}
    await communicator.send_json_to({"text": "ünï"})
    assert await communicator.receive_json_from() == "ünï"
    await communicator.disconnect()


@every_style
@every_profile
async def test_no_frame_on_the_wire_holds_plaintext(consumer: Any, profile: Profile) -> None:
    wire: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        async def tapped(event: Any) -> None:
            wire.append(event)
            await send(event)

        await GcryptMiddleware(consumer.as_asgi(), resolver=resolver)(scope, receive, tapped)

    communicator = EncryptedCommunicator(application, "/", profile=profile, resolver=resolver)
    await communicator.connect()
    await communicator.send_json_to({"text": "canary"})
    assert await communicator.receive_json_from() == "canary"
    await communicator.disconnect()
    assert len(wire) > 1
    assert "canary" not in repr(wire)


@every_style
@every_profile
async def test_close_reaches_the_client_with_code_and_reason(
    consumer: Any, profile: Profile
) -> None:
    communicator = communicate(consumer, profile)
    await communicator.connect()
    await communicator.send_json_to({"close": 4123, "reason": "enough"})
    closed = await communicator.receive_output()
    assert closed == {"type": "websocket.close", "code": 4123, "reason": "enough"}
    await communicator.disconnect()


@every_style
@every_profile
async def test_a_groups_event_reaches_the_handler_and_leaves_sealed(
    consumer: Any, profile: Profile
) -> None:
    communicator = communicate(consumer, profile)
    await communicator.connect()
    layer: Any = get_channel_layer()
    await layer.group_send("news", {"type": "news", "body": "extra"})
    assert await communicator.receive_json_from() == {"news": "extra"}
    await communicator.disconnect()


@every_style
async def test_concurrent_events_keep_the_order_of_the_counters(consumer: Any) -> None:
    communicator = communicate(consumer)
    await communicator.connect()
    layer: Any = get_channel_layer()
    for number in range(50):
        await layer.group_send("news", {"type": "news", "body": number})
        await communicator.send_json_to({"id": number})
    received = [await communicator.receive_json_from() for _ in range(100)]
    assert [each["id"] for each in received if "id" in each] == list(range(1, 51))
    assert [each["news"] for each in received if "news" in each] == list(range(50))
    await communicator.disconnect()


# What a client must not send


async def send_text(communicator: Any, text: str) -> None:
    await communicator.send_input({"type": "websocket.receive", "text": text})


async def send_bytes(communicator: Any) -> None:
    await communicator.send_input({"type": "websocket.receive", "bytes": b'{"id": 1}'})


NOT_JSON = {
    "malformed": "{",
    "empty": "",
    "nested too deep": "[" * 100_000,
    "too many digits": "1" * 5000,
}


@every_style
@pytest.mark.parametrize("text", NOT_JSON.values(), ids=NOT_JSON.keys())
async def test_what_is_not_json_closes_with_4400_and_no_traceback(
    consumer: Any, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    communicator = communicate(consumer)
    await communicator.connect()
    await send_text(communicator, text)
    assert (await communicator.receive_output())["code"] == 4400
    await communicator.disconnect()
    assert consumer.ended == [4400]
    [record] = [each for each in caplog.records if each.name.startswith("gcrypt_channels")]
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("'/': closed with 4400: ")
    assert record.exc_info is None


@every_style
async def test_a_binary_message_to_a_json_consumer_closes_with_4400(consumer: Any) -> None:
    communicator = communicate(consumer)
    await communicator.connect()
    await send_bytes(communicator)
    assert (await communicator.receive_output())["code"] == 4400
    await communicator.disconnect()
    assert consumer.ended == [4400]


@every_style
@every_profile
@pytest.mark.parametrize("frame", [b"\x10garbage", '{"id": 1}'])
async def test_a_frame_that_does_not_open_closes_with_4400(
    consumer: Any, profile: Profile, frame: str | bytes
) -> None:
    application = GcryptMiddleware(consumer.as_asgi(), resolver=wire_resolver)
    server = Wire(application, subprotocols=[profile])
    await (server.until(1) if profile == V1 else server.open())
    server.put_frames([frame])
    await server.end()
    assert server.close["code"] == 4400
    assert consumer.ended == [4400]


async def test_nothing_behind_a_bad_message_is_delivered() -> None:
    communicator = communicate(AsyncMixinFirst)
    await communicator.connect()
    await send_text(communicator, "{")
    await communicator.send_json_to({"id": 1})
    assert (await communicator.receive_output())["code"] == 4400
    assert await communicator.receive_nothing()
    await communicator.disconnect()


async def test_a_decode_json_of_the_projects_own_is_guarded_as_well() -> None:
    class Own(EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
        @classmethod
        async def decode_json(cls, text_data: str) -> Any:
            return {"own": int(text_data)}

        async def receive_json(self, content: Any, **kwargs: Any) -> None:
            await self.send_json(content)

    communicator = communicate(Own)
    await communicator.connect()
    await communicator.send_to(text_data="7")
    assert await communicator.receive_json_from() == {"own": 7}
    await communicator.send_to(text_data="seven")
    assert (await communicator.receive_output())["code"] == 4400
    await communicator.disconnect()


async def test_a_consumer_that_takes_bytes_gets_them() -> None:
    received = []

    class Takes(EncryptedJsonConsumer, AsyncWebsocketConsumer):
        async def receive(
            self, text_data: str | None = None, bytes_data: bytes | None = None
        ) -> None:
            received.append((text_data, bytes_data))
            await self.send(bytes_data=b"")

    communicator = communicate(Takes)
    await communicator.connect()
    for message in ({"text": ""}, {"bytes": b""}, {"bytes": b"\xff"}):
        await communicator.send_input({"type": "websocket.receive", **message})
        assert await communicator.receive_output() == {"type": "websocket.send", "bytes": b""}
    assert received == [("", None), (None, b""), (None, b"\xff")]
    await communicator.disconnect()


# The consumer's own mistakes


@every_style
@every_profile
async def test_an_exception_of_the_consumer_is_raised_in_the_test(
    consumer: Any, profile: Profile
) -> None:
    communicator = communicate(consumer, profile)
    await communicator.connect()
    await communicator.send_json_to({"boom": "our own mistake"})
    with pytest.raises(ValueError, match="our own mistake"):
        await communicator.receive_json_from()


@every_style
async def test_accepting_twice_is_an_error_of_the_consumer(consumer: Any) -> None:
    communicator = communicate(consumer)
    await communicator.connect()
    await communicator.send_json_to({"unaccepted": 1})
    with pytest.raises(LocalError, match="twice"):
        await communicator.receive_output()


async def test_sending_before_the_accept_is_an_error_of_the_consumer() -> None:
    class Hasty(EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
        async def connect(self) -> None:
            await self.send_json("too early")

    communicator = communicate(Hasty)
    with pytest.raises(LocalError, match="before it sends"):
        await communicator.connect()


async def test_without_the_middleware_the_consumer_says_what_is_missing() -> None:
    communicator = Communicator(AsyncMixinFirst.as_asgi(), "/")
    await communicator.send_input({"type": "websocket.connect"})
    with pytest.raises(ImproperlyConfigured, match="no GcryptMiddleware"):
        await communicator.wait()


async def test_bytes_over_the_classic_profile_are_an_error_of_the_consumer() -> None:
    class Binary(EncryptedJsonConsumer, AsyncWebsocketConsumer):
        async def receive(
            self, text_data: str | None = None, bytes_data: bytes | None = None
        ) -> None:
            await self.send(bytes_data=b"bytes")

    communicator = communicate(Binary, "gcrypt.v1")
    await communicator.connect()
    await communicator.send_json_to(1)
    with pytest.raises(LocalError, match="not bytes"):
        await communicator.receive_output()


# Accepting and refusing


@every_profile
async def test_a_consumer_may_deny_the_connection(profile: Profile) -> None:
    class Denying(EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
        async def connect(self) -> None:
            raise DenyConnection

    assert await communicate(Denying, profile).connect() == (False, 1000)


@every_profile
async def test_a_consumer_that_stops_without_an_answer_closes(profile: Profile) -> None:
    class Silent(EncryptedJsonConsumer, AsyncConsumer):
        async def websocket_connect(self, event: Any) -> None:
            raise StopConsumer

    assert await communicate(Silent, profile).connect() == (False, 1000)


async def test_headers_passed_to_accept_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    class Headers(EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
        async def connect(self) -> None:
            await self.accept(headers=[("x-secret", "value")])

    communicator = communicate(Headers)
    assert await communicator.connect() == (True, None)
    await communicator.disconnect()
    [record] = [each for each in caplog.records if "headers" in each.getMessage()]
    assert record.levelno == logging.WARNING
    assert "value" not in record.getMessage()


@every_profile
async def test_the_consumer_sees_the_applications_subprotocols_alone(profile: Profile) -> None:
    class Seeing(EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
        async def connect(self) -> None:
            await self.accept()
            await self.send_json(self.scope["subprotocols"])

    communicator = communicate(Seeing, profile, subprotocols=["graphql-transport-ws", "json"])
    assert await communicator.connect() == (True, None)
    assert await communicator.receive_json_from() == ["graphql-transport-ws", "json"]
    await communicator.disconnect()


# The connection in the consumer's hands


@every_profile
async def test_the_consumer_may_close_through_its_connection(profile: Profile) -> None:
    class Closing(EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
        async def receive_json(self, content: Any, **kwargs: Any) -> None:
            assert self.gcrypt.profile == profile
            assert cast("Any", self.scope)["gcrypt"] is self.gcrypt
            await self.gcrypt.close(4009, "closed here")

    communicator = communicate(Closing, profile)
    await communicator.connect()
    await communicator.send_json_to(1)
    closed = await communicator.receive_output()
    assert (closed["code"], closed["reason"]) == (4009, "closed here")
    await communicator.disconnect()


@pytest.mark.parametrize("base", [AsyncJsonWebsocketConsumer, JsonWebsocketConsumer])
async def test_a_gap_reaches_group_gap(base: Any) -> None:
    gaps: list[tuple[str, int]] = []
    told = asyncio.Event()
    loop = asyncio.get_running_loop()

    class Sync:
        def group_gap(self, group: str, missed: int) -> None:
            gaps.append((group, missed))
            loop.call_soon_threadsafe(told.set)

    class Async:
        async def group_gap(self, group: str, missed: int) -> None:
            gaps.append((group, missed))
            told.set()

    style = Sync if base is JsonWebsocketConsumer else Async

    class Listening(style, EncryptedJsonConsumer, base):  # type: ignore[misc, valid-type]
        def websocket_connect(self, event: Any) -> Any:
            connections.append(internals(self))
            return super().websocket_connect(event)

    connections: list[Any] = []
    communicator = communicate(Listening)
    await communicator.connect()
    connections[0].tell_gap("news", 3)
    assert await communicator.receive_output() == {
        "type": "gcrypt.gap",
        "group": "news",
        "missed": 3,
    }
    await told.wait()
    assert gaps == [("news", 3)]
    await communicator.disconnect()


@pytest.mark.parametrize("base", [AsyncJsonWebsocketConsumer, JsonWebsocketConsumer])
async def test_a_gap_without_a_handler_of_the_project_changes_nothing(base: Any) -> None:
    connections: list[Any] = []

    class Deaf(EncryptedJsonConsumer, base):  # type: ignore[misc]
        def websocket_connect(self, event: Any) -> Any:
            connections.append(internals(self))
            return super().websocket_connect(event)

        def receive_json(self, content: Any, **kwargs: Any) -> Any:
            return self.send_json(content)

    communicator = communicate(Deaf)
    await communicator.connect()
    connections[0].tell_gap("news", 1)
    await communicator.send_json_to("still here")
    assert (await communicator.receive_output())["type"] == "gcrypt.gap"
    assert await communicator.receive_json_from() == "still here"
    await communicator.disconnect()


async def test_foreign_threads_with_loops_of_their_own_never_misorder() -> None:
    class Busy(EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
        async def receive_json(self, content: Any, **kwargs: Any) -> None:
            def work(name: int) -> None:
                for number in range(25):
                    async_to_sync(self.send_json)([name, number])

            threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
            for thread in threads:
                thread.start()
            for number in range(25):
                await self.send_json(["own", number])
            await asyncio.get_running_loop().run_in_executor(None, _join, threads)
            await self.send_json("done")

    communicator = communicate(Busy)
    await communicator.connect()
    await communicator.send_json_to("go")
    received = [await communicator.receive_json_from(5) for _ in range(126)]
    assert received.pop() == "done"
    for name in [0, 1, 2, 3, "own"]:
        assert [number for each, number in received if each == name] == list(range(25))
    await communicator.disconnect()


def _join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join()


async def test_a_logged_in_users_consumer_has_the_user_in_its_scope() -> None:
    class Named(EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
        async def connect(self) -> None:
            await self.accept()
            await self.send_json(str(self.scope["user"]))

    alice = await User.objects.acreate_user("alice")
    application = GcryptMiddleware(Named.as_asgi())
    communicator = EncryptedCommunicator(application, "/", user=alice)
    assert await communicator.connect() == (True, None)
    assert await communicator.receive_json_from() == "alice"
    await communicator.disconnect()


def test_the_mixin_alone_is_refused_before_anybody_connects() -> None:
    class Alone(EncryptedJsonConsumer):
        pass

    with pytest.raises(ImproperlyConfigured, match="Alone inherits EncryptedJsonConsumer alone"):
        Alone.as_asgi()


def test_the_mixin_with_handlers_of_its_own_is_a_consumer() -> None:
    class Own(EncryptedJsonConsumer):
        async def websocket_connect(self, event: Any) -> None:
            pass

    assert callable(Own.as_asgi())


async def test_a_consumer_that_waits_in_connect_is_closed_with_4408(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Waiting(EncryptedJsonConsumer, AsyncWebsocketConsumer):
        async def connect(self) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr("gcrypt_channels.connection.connection.ACCEPT_TIMEOUT", 0.05)
    monkeypatch.setattr("gcrypt_channels.connection.connection.APPLICATION_TIMEOUT", 0.05)
    server = Wire(GcryptMiddleware(cast("Any", Waiting.as_asgi()), resolver=wire_resolver))
    await server.handshake()
    await server.end()
    assert server.close["code"] == 4408
    assert "call accept()" in caplog.text


async def test_a_message_that_is_not_json_names_the_consumer_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Json(EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
        pass

    for message, cause in (("{", "a message is not JSON"), (b"{}", "has to send text")):
        caplog.clear()
        server = Wire(GcryptMiddleware(cast("Any", Json.as_asgi()), resolver=wire_resolver))
        await server.open()
        server.send(message)
        await server.end()
        assert server.close["code"] == 4400
        assert "closed with 4400: Json takes JSON" in caplog.text
        assert cause in caplog.text
