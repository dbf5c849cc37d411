from __future__ import annotations

import asyncio
import base64
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed as SocketClosed
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from gcrypt_channels import Crypt
from gcrypt_channels.client import ClientConnection, DjangoSession, connect
from gcrypt_channels.exceptions import (
    ConnectionClosed,
    HandshakeTimeout,
    InvalidFrame,
    LocalError,
    MessageTooBig,
    NoProfile,
    NoSessionKey,
)
from gcrypt_channels.keys import SessionKey
from gcrypt_channels.protocol.events import (
    Bytes,
    Closed,
    HandshakeDone,
    Joined,
    Position,
    Stamped,
    Text,
)
from gcrypt_channels.protocol.profiles import V1, V2, V3, Profile, SecureProfile, secure_profiles
from gcrypt_channels.protocol.secure import SecureSession
from tests.documents import ROOT, blocks
from tests.servers import Uvicorn, WebServer, demo_site

KEY = SessionKey(kid=bytes(range(8)), psk=bytes(range(32)))
PAGE = ROOT / "docs" / "python-client.md"
PASSPHRASE = "a passphrase for the tests"


class Peer:
    """The server's side of one connection, to be played by a test."""

    def __init__(self, socket: ServerConnection, *, max_message: int = 1_048_576) -> None:
        self.socket = socket
        profile: SecureProfile = V3 if socket.subprotocol == V3 else V2
        self.session = SecureSession(profile, role="server", max_message=max_message)

    async def greet(self, key: SessionKey = KEY) -> tuple[str, ...]:
        await self.socket.send(self.session.hello(key.kid, key.psk))
        done = self.session.receive(await self.socket.recv())
        assert isinstance(done, HandshakeDone)
        self.resume = done.resume
        return done.subprotocols

    async def accept(self, subprotocol: str | None = None) -> None:
        await self.write(self.session.seal_accept(subprotocol))

    async def send(self, message: str | bytes) -> None:
        await self.write(self.session.seal(message))

    async def write(self, frames: list[bytes]) -> None:
        for frame in frames:
            await self.socket.send(frame)

    async def receive(self) -> Any:
        event = None
        while event is None:
            event = self.session.receive(await self.socket.recv())
        return event

    async def close(self, code: int, reason: str = "") -> None:
        await self.write(self.session.seal_close(code, reason))
        await self.socket.close(code)


Script = Callable[[Peer], Awaitable[None]]


@asynccontextmanager
async def server(
    script: Script, *, subprotocol: str | None = V2, max_message: int = 1_048_576
) -> AsyncIterator[str]:
    """A server that plays `script` with its one client; its failures are the test's."""
    played: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def play(socket: ServerConnection) -> None:
        try:
            await script(Peer(socket, max_message=max_message))
        except Exception as error:  # noqa: BLE001 - it is raised in the test
            played.set_exception(error)
        else:
            played.set_result(None)

    def select(_: ServerConnection, offered: Any) -> Subprotocol | None:
        return None if subprotocol is None else Subprotocol(subprotocol)

    async with serve(play, "127.0.0.1", 0, select_subprotocol=select) as listening:
        port = listening.sockets[0].getsockname()[1]
        yield f"ws://127.0.0.1:{port}/"
        await played


def connected_v1(url: str) -> Any:
    return connect(url, profile=V1, passphrase=PASSPHRASE, proxy=None)


def connected(url: str, **options: Any) -> Any:
    return connect(url, **{"kid": KEY.kid, "psk": KEY.psk, "proxy": None, **options})


async def echo(peer: Peer) -> None:
    await peer.greet()
    await peer.accept()
    while isinstance(event := await peer.receive(), Text | Bytes):
        await peer.send(event.data)
    assert event == Closed(1000, "")


# Messages


async def test_text_and_bytes_travel_both_ways() -> None:
    async with server(echo) as url, connected(url) as socket:
        for message in ["text", "", "ünïcödé 🔐", b"bytes", b"", "large" * 200_000]:
            await socket.send(message)
            assert await socket.receive() == message


async def test_json_travels_both_ways() -> None:
    async with server(echo) as url, connected(url) as socket:
        await socket.send_json({"id": 1, "name": "ünï"})
        assert await socket.receive_json() == {"id": 1, "name": "ünï"}
        await socket.send(b"[1]")
        with pytest.raises(ValueError, match="binary"):
            await socket.receive_json()
        await socket.send("no JSON")
        with pytest.raises(ValueError, match="JSON"):
            await socket.receive_json()


async def test_the_keys_may_be_written_as_the_key_endpoint_does() -> None:
    members: dict[str, Any] = {
        "kid": KEY.kid.hex(),
        "psk": base64.urlsafe_b64encode(KEY.psk).decode().rstrip("="),
    }
    async with server(echo) as url, connect(url, proxy=None, **members) as socket:
        await socket.send("hello")
        assert await socket.receive() == "hello"


@pytest.mark.parametrize(
    "wrong",
    [
        {"kid": b"short", "psk": KEY.psk},
        {"kid": "xy" * 8, "psk": KEY.psk},
        {"kid": KEY.kid, "psk": "c2hvcnQ"},
        {"kid": KEY.kid, "psk": "~" * 43},
        {"kid": KEY.kid},
        {},
        {"profile": V1},
        {"profile": "gcrypt.v4", "kid": KEY.kid, "psk": KEY.psk},
    ],
)
async def test_a_wrong_key_or_profile_is_refused_before_connecting(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="gcrypt"):
        async with connect("ws://127.0.0.1:1/", **wrong):
            pass


@pytest.mark.usefixtures("no_ml_kem")
async def test_a_profile_that_the_libraries_lack_is_refused_before_connecting() -> None:
    with pytest.raises(NoProfile):
        async with connect("ws://127.0.0.1:1/", profile=V3, kid=KEY.kid, psk=KEY.psk):
            pass


async def test_padded_messages_arrive_as_they_were() -> None:
    async with server(echo) as url, connected(url, padding=True) as socket:
        await socket.send("padded")
        assert await socket.receive() == "padded"


async def test_a_message_over_the_servers_limit_is_not_sent() -> None:
    async with server(echo, max_message=1024) as url, connected(url) as socket:
        with pytest.raises(MessageTooBig):
            await socket.send("x" * 1025)
        await socket.send("small")
        assert await socket.receive() == "small"


async def test_a_message_over_the_own_limit_ends_the_connection_with_1009() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        assert peer.session.peer_max_message == 1024
        await peer.accept()
        peer.session.peer_max_message = 10_000
        await peer.send("x" * 1025)
        await peer.socket.wait_closed()
        assert peer.socket.close_code == 1009

    async with server(script) as url, connected(url, max_message=1024) as socket:
        with pytest.raises(MessageTooBig):
            await socket.receive()


async def test_many_tasks_send_at_once_and_every_message_arrives_in_one_piece() -> None:
    async with server(echo) as url, connected(url) as socket:
        messages = [f"{number}:" + "x" * (number % 7 * 60_000) for number in range(50)]

        async def collect() -> list[str | bytes]:
            return [await socket.receive() for _ in messages]

        received, *_ = await asyncio.gather(collect(), *map(socket.send, messages))
        assert received == messages


async def test_a_cancelled_send_leaves_the_connection_in_step() -> None:
    async with server(echo) as url, connected(url) as socket:
        senders = [asyncio.create_task(socket.send("x" * 300_000)) for _ in range(20)]
        for turns, sender in enumerate(senders):
            for _ in range(turns % 3):
                await asyncio.sleep(0)
            sender.cancel()
        await asyncio.gather(*senders, return_exceptions=True)
        assert any(sender.cancelled() for sender in senders)
        await socket.send("last")
        while (message := await socket.receive()) != "last":
            assert message == "x" * 300_000


async def test_a_cancelled_receive_loses_no_message() -> None:
    async with server(echo) as url, connected(url) as socket:
        waiting = asyncio.create_task(socket.receive())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        await socket.send("kept")
        assert await socket.receive() == "kept"


# Opening


async def test_the_application_chooses_a_subprotocol_under_encryption() -> None:
    async def script(peer: Peer) -> None:
        assert peer.socket.request is not None
        assert peer.socket.request.headers["Sec-WebSocket-Protocol"] == (
            ", ".join([*secure_profiles(), "gcrypt.kid.0001020304050607"])
        )
        assert await peer.greet() == ("coffee", "tea")
        await peer.accept("tea")
        assert isinstance(await peer.receive(), Closed)

    async with server(script) as url, connected(url, subprotocols=["coffee", "tea"]) as socket:
        assert socket.subprotocol == "tea"
        assert "open" in repr(socket)


async def test_a_subprotocol_that_was_not_offered_is_no_answer() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.accept("milk")
        await peer.socket.wait_closed()
        assert (peer.socket.close_code, peer.socket.close_reason) == (4400, "")

    async with server(script) as url:
        with pytest.raises(InvalidFrame):
            async with connected(url, subprotocols=["coffee", "tea"]):
                pass


async def test_compression_is_not_offered() -> None:
    async def script(peer: Peer) -> None:
        assert peer.socket.request is not None
        assert "Sec-WebSocket-Extensions" not in peer.socket.request.headers
        await echo(peer)

    async with server(script) as url, connected(url):
        pass


async def test_a_refusal_raises_the_applications_code_and_reason() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.close(4123, "not today")

    async with server(script) as url:
        with pytest.raises(ConnectionClosed) as caught:
            async with connected(url):
                pass
    assert (caught.value.code, caught.value.reason) == (4123, "not today")
    assert caught.value.authentic


async def test_a_close_before_the_handshake_raises_the_servers_code() -> None:
    async def script(peer: Peer) -> None:
        await peer.socket.close(4401, "no session key")

    async with server(script) as url:
        with pytest.raises(ConnectionClosed) as caught:
            async with connected(url):
                pass
    assert (caught.value.code, caught.value.authentic) == (4401, False)


@pytest.mark.parametrize("profile", secure_profiles())
async def test_the_server_selects_one_of_the_profiles_that_are_offered(profile: str) -> None:
    async with server(echo, subprotocol=profile) as url, connected(url) as socket:
        assert socket.profile == profile
        await socket.send("hello")
        assert await socket.receive() == "hello"


@pytest.mark.parametrize("profile", secure_profiles())
async def test_a_profile_that_is_named_is_offered_alone(profile: Profile) -> None:
    async def script(peer: Peer) -> None:
        assert peer.socket.request is not None
        assert peer.socket.request.headers["Sec-WebSocket-Protocol"] == (
            f"{profile}, gcrypt.kid.0001020304050607"
        )
        await echo(peer)

    async with (
        server(script, subprotocol=profile) as url,
        connected(url, profile=profile) as socket,
    ):
        assert socket.profile == profile


@pytest.mark.usefixtures("no_ml_kem")
async def test_without_ml_kem_v2_is_offered_alone() -> None:
    async def script(peer: Peer) -> None:
        assert peer.socket.request is not None
        offered = peer.socket.request.headers["Sec-WebSocket-Protocol"]
        assert offered == "gcrypt.v2, gcrypt.kid.0001020304050607"
        await echo(peer)

    async with server(script) as url, connected(url) as socket:
        assert socket.profile == V2


@pytest.mark.parametrize("profile", [*secure_profiles(), V1, None])
async def test_a_server_that_selects_no_profile_is_left(profile: Profile | None) -> None:
    async def script(peer: Peer) -> None:
        await peer.socket.wait_closed()
        assert peer.socket.close_code == 4406

    async with server(script, subprotocol=None) as url:
        with pytest.raises(NoProfile):
            async with connected(url, profile=profile, passphrase=PASSPHRASE):
                pass


async def test_a_server_without_the_key_is_left_with_4400() -> None:
    async def script(peer: Peer) -> None:
        await peer.socket.send(peer.session.hello(KEY.kid, b"?" * 32))
        await peer.socket.wait_closed()
        assert peer.socket.close_code == 4400

    async with server(script) as url:
        with pytest.raises(InvalidFrame):
            async with connected(url):
                pass


async def test_a_plaintext_server_is_left_with_4400() -> None:
    async def script(peer: Peer) -> None:
        await peer.socket.send("welcome")
        await peer.socket.wait_closed()
        assert peer.socket.close_code == 4400

    async with server(script) as url:
        with pytest.raises(InvalidFrame):
            async with connected(url):
                pass


async def test_a_server_that_never_accepts_is_left_with_4408() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.socket.wait_closed()
        assert peer.socket.close_code == 4408

    async with server(script) as url:
        with pytest.raises(HandshakeTimeout):
            async with connected(url, open_timeout=0.2):
                pass


async def test_a_rotated_key_is_fetched_again_while_the_handshake_waits() -> None:
    fresh = SessionKey(kid=b"rotated!", psk=b"R" * 32)
    fetched = 0

    async def fetch() -> SessionKey:
        nonlocal fetched
        fetched += 1
        return fresh

    async def script(peer: Peer) -> None:
        await peer.greet(fresh)
        await peer.accept()
        assert isinstance(await peer.receive(), Closed)

    async with server(script) as url, connected(url, key_source=fetch):
        pass
    assert fetched == 1


@pytest.mark.parametrize("has_source", [True, False])
async def test_a_key_that_cannot_be_had_gives_up(has_source: bool) -> None:
    async def stale() -> SessionKey:
        return KEY

    async def script(peer: Peer) -> None:
        await peer.socket.send(peer.session.hello(b"unknown!", b"U" * 32))
        await peer.socket.wait_closed()
        assert peer.socket.close_code == 4401

    async with server(script) as url:
        with pytest.raises(NoSessionKey):
            async with connected(url, key_source=stale if has_source else None):
                pass


@pytest.mark.parametrize("ticket", [None, "AbC-_9"])
@pytest.mark.parametrize("as_mapping", [True, False])
async def test_a_key_source_gives_the_key_and_perhaps_a_ticket(
    ticket: str | None, as_mapping: bool
) -> None:
    asked: list[None] = []

    async def fetch() -> Any:
        asked.append(None)
        if not as_mapping and ticket is None:
            return KEY
        psk = base64.urlsafe_b64encode(KEY.psk).decode().rstrip("=")
        return {"kid": KEY.kid.hex(), "psk": psk, "ticket": ticket, "expires_in": 60}

    offered = []

    async def script(peer: Peer) -> None:
        assert peer.socket.request is not None
        offered.append(peer.socket.request.headers["Sec-WebSocket-Protocol"].split(", ")[-1])
        await peer.greet()
        await peer.accept()
        assert isinstance(await peer.receive(), Closed)

    async with server(script) as url, connect(url, key_source=fetch, proxy=None, profile=V2):
        pass
    assert offered == [f"gcrypt.ticket.{ticket}" if ticket else f"gcrypt.kid.{KEY.kid.hex()}"]
    assert len(asked) == 1


async def test_a_ticket_is_given_with_its_key() -> None:
    async def script(peer: Peer) -> None:
        assert peer.socket.request is not None
        assert "gcrypt.ticket.AbC" in peer.socket.request.headers["Sec-WebSocket-Protocol"]
        await peer.greet()
        await peer.accept()
        assert isinstance(await peer.receive(), Closed)

    async with server(script) as url, connected(url, ticket="AbC"):
        pass


async def test_a_ticket_of_another_kid_is_not_asked_for_again() -> None:
    asked: list[None] = []

    async def fetch() -> Any:
        asked.append(None)
        return {"kid": KEY.kid, "psk": KEY.psk, "ticket": "AbC"}

    async def script(peer: Peer) -> None:
        await peer.socket.send(peer.session.hello(b"unknown!", b"U" * 32))
        await peer.socket.wait_closed()

    async with server(script) as url:
        with pytest.raises(NoSessionKey):
            async with connect(url, key_source=fetch, proxy=None, profile=V2):
                pass
    assert len(asked) == 1


@pytest.mark.parametrize(
    "answer",
    [
        None,
        7,
        {},
        {"kid": "00", "psk": KEY.psk},
        {"kid": KEY.kid, "psk": KEY.psk[:31]},
        {"kid": KEY.kid, "psk": KEY.psk, "ticket": "a b"},
        {"kid": KEY.kid, "psk": KEY.psk, "ticket": ""},
        {"kid": KEY.kid, "psk": KEY.psk, "ticket": 7},
    ],
)
async def test_nonsense_of_a_key_source_is_a_value_error(answer: Any) -> None:
    async def nonsense() -> Any:
        return answer

    with pytest.raises(ValueError, match=r"key_source|psk|ticket"):
        async with connect("ws://127.0.0.1:1/", key_source=nonsense, proxy=None):
            pass


async def test_what_a_key_source_raises_is_raised() -> None:
    async def refused() -> Any:
        raise NoSessionKey("log in")

    with pytest.raises(NoSessionKey, match="log in"):
        async with connect("ws://127.0.0.1:1/", key_source=refused, proxy=None):
            pass


async def test_a_key_source_that_hangs_is_not_waited_for_without_end() -> None:
    async def hangs() -> Any:
        await asyncio.Event().wait()

    with pytest.raises(HandshakeTimeout, match="key_source"):
        async with connect("ws://127.0.0.1:1/", key_source=hangs, open_timeout=0.01, proxy=None):
            pass


# Ending


async def test_iteration_ends_with_an_authentic_normal_close() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.accept()
        await peer.send("one")
        await peer.send("two")
        await peer.close(1000)

    async with server(script) as url, connected(url) as socket:
        assert [message async for message in socket] == ["one", "two"]


async def test_iteration_raises_when_the_end_was_cut_off() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.accept()
        await peer.send("one")
        await peer.socket.close(1000)  # as someone on the path can

    async with server(script) as url, connected(url) as socket:
        messages = aiter(socket)
        assert await anext(messages) == "one"
        with pytest.raises(ConnectionClosed) as caught:
            await anext(messages)
    assert (caught.value.code, caught.value.authentic) == (1006, False)


async def test_a_close_that_is_made_up_on_the_wire_is_1006_without_a_reason() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.accept()
        await peer.socket.close(4401, "INVENTED")

    async with server(script) as url, connected(url) as socket:
        with pytest.raises(ConnectionClosed) as caught:
            await socket.receive()
    assert repr(caught.value) == "ConnectionClosed(1006, '')"


async def test_a_frame_that_is_too_big_for_the_library_is_1009() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.accept()
        await peer.socket.send(bytes(300_000))
        await peer.socket.wait_closed()
        assert peer.socket.close_code == 1009

    async with server(script) as url, connected(url) as socket:
        with pytest.raises(ConnectionClosed) as caught:
            await socket.receive()
    assert (caught.value.code, caught.value.authentic) == (1009, False)


async def test_the_own_close_is_authentic_with_keys_alone() -> None:
    async def classic(peer: Peer) -> None:
        await peer.socket.wait_closed()

    async with server(echo) as url, connected(url) as socket:
        await socket.close()
        with pytest.raises(ConnectionClosed) as caught:
            await socket.receive()
        assert (caught.value.code, caught.value.authentic) == (1000, True)
    async with server(classic, subprotocol=V1) as url, connected_v1(url) as socket:
        await socket.close()
        with pytest.raises(ConnectionClosed) as caught:
            await socket.receive()
        assert (caught.value.code, caught.value.authentic) == (1000, False)


async def test_iteration_raises_another_close_code() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.accept()
        await peer.close(4401, "logged out")

    async with server(script) as url, connected(url) as socket:
        with pytest.raises(ConnectionClosed) as caught:
            async for _ in socket:
                pass
        assert (caught.value.code, caught.value.reason) == (4401, "logged out")
        for call in (socket.receive, socket.receive_json, lambda: socket.send("late")):
            with pytest.raises(ConnectionClosed) as again:
                await call()
            assert (again.value.code, again.value.authentic) == (4401, True)
        assert "closed" in repr(socket)


async def test_a_connection_that_breaks_ends_with_1006() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.accept()
        peer.socket.transport.abort()

    async with server(script) as url, connected(url) as socket:
        with pytest.raises(ConnectionClosed) as caught:
            await socket.receive()
    assert (caught.value.code, caught.value.authentic) == (1006, False)


async def test_an_authentic_close_is_found_behind_unread_messages_after_a_failed_send() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.accept()
        await peer.send("unread")
        await peer.close(4123, "over")

    async with server(script) as url, connected(url) as socket:
        await socket._socket.wait_closed()
        with pytest.raises(ConnectionClosed):
            await socket.send("late")
        assert await socket.receive() == "unread"
        with pytest.raises(ConnectionClosed) as caught:
            await socket.receive()
    assert (caught.value.code, caught.value.reason) == (4123, "over")
    assert caught.value.authentic


async def test_closing_tells_the_server_code_and_reason() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.accept()
        assert await peer.receive() == Closed(3001, "done")
        await peer.socket.wait_closed()
        assert (peer.socket.close_code, peer.socket.close_reason) == (3001, "")

    async with server(script) as url, connected(url) as socket:
        await socket.close(3001, "done")
        await socket.close()  # the second time it does nothing
        with pytest.raises(ConnectionClosed):
            await socket.receive()


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        *((code, "") for code in (0, 999, 1001, 1005, 1006, 1012, 1015, 2000, 2999, 5000)),
        *((code, "") for code in ("4001", 4001.5, None, True)),
        (1000, "ü" * 62),
        (1000, "close \ud800"),
        (1000, b"close"),
    ],
)
async def test_a_close_that_cannot_be_sent_is_refused(code: Any, reason: Any) -> None:
    async with server(echo) as url, connected(url) as socket:
        with pytest.raises(LocalError, match="clos"):
            await socket.close(code, reason)
        await socket.send("still open")
        assert await socket.receive() == "still open"


@pytest.mark.parametrize("another_task_receives", [False, True])
async def test_unread_messages_do_not_hold_up_a_close(another_task_receives: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.accept()
        with suppress(SocketClosed):  # when the client's close comes while this is being sent
            for _ in range(1000):
                await peer.send("x" * 10_000)
        assert await peer.receive() == Closed(1000, "")

    received = []
    reading = asyncio.Event()

    async def read(socket: ClientConnection) -> None:
        async for message in socket:
            received.append(message)
            reading.set()

    async with server(script) as url, connected(url, close_timeout=60) as socket:
        reader = asyncio.create_task(read(socket)) if another_task_receives else None
        if reader is not None:
            await reading.wait()
        before_close = len(received)
        await asyncio.wait_for(socket.close(), 30)
        if reader is not None:
            await reader
    assert len(received) == before_close


async def test_a_frame_that_is_not_valid_ends_the_connection_with_4400() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.accept()
        [frame] = peer.session.seal("replayed")
        await peer.write([frame, frame])
        await peer.socket.wait_closed()
        assert (peer.socket.close_code, peer.socket.close_reason) == (4400, "")

    async with server(script) as url, connected(url) as socket:
        assert await socket.receive() == "replayed"
        with pytest.raises(InvalidFrame):
            await socket.receive()
        with pytest.raises(ConnectionClosed) as caught:
            await socket.receive()
    assert (caught.value.code, caught.value.authentic) == (4400, False)


async def test_an_error_in_the_block_closes_the_connection() -> None:
    async with server(echo) as url:
        with pytest.raises(ZeroDivisionError):
            async with connected(url):
                raise ZeroDivisionError


# Gaps


async def gap(peer: Peer) -> None:
    await peer.greet()
    await peer.accept()
    await peer.write(peer.session.seal_gap("news", 3))
    await peer.send("after")
    assert isinstance(await peer.receive(), Closed)


async def test_a_gap_is_told_to_the_callback() -> None:
    gaps: list[tuple[str, int]] = []

    def on_gap(group: str, missed: int) -> None:
        gaps.append((group, missed))

    async with server(gap) as url, connected(url, on_gap=on_gap) as socket:
        assert await socket.receive() == "after"
    assert gaps == [("news", 3)]


async def test_a_gap_that_nobody_hears_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with server(gap) as url, connected(url) as socket:
        assert await socket.receive() == "after"
    assert "3 messages of the group 'news' were lost." in caplog.text


# gcrypt.v1


async def test_the_classic_profile_carries_json_text() -> None:
    crypt = Crypt(PASSPHRASE)

    async def script(peer: Peer) -> None:
        number = crypt.decrypt(str(await peer.socket.recv()))["id"]
        await peer.socket.send(crypt.encrypt({"id": number + 1}))
        await peer.socket.wait_closed()

    async with server(script, subprotocol=V1) as url, connected_v1(url) as socket:
        await socket.send_json({"id": 1})
        assert await socket.receive_json() == {"id": 2}
        with pytest.raises(LocalError):
            await socket.send("no JSON")
        with pytest.raises(LocalError):
            await socket.send(b"{}")


async def test_iteration_over_the_classic_profile_ends_with_a_normal_close() -> None:
    async def script(peer: Peer) -> None:
        await peer.socket.send(Crypt(PASSPHRASE).encrypt("x" * 700_000))
        await peer.socket.close(1000)

    async with server(script, subprotocol=V1) as url, connected_v1(url) as socket:
        assert [len(message) async for message in socket] == [700_002]


# A Django site


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    site = demo_site(tmp_path_factory.mktemp("demo"))
    with Uvicorn("demo_project.asgi:application", site) as running:
        yield running


@pytest.mark.parametrize("profile", [*secure_profiles(), V1])
async def test_a_user_logs_in_and_counts(demo: WebServer, profile: Profile) -> None:
    site = DjangoSession(demo.url)
    await site.login("alice", "alice-demo")
    async with site.connect("/ws/counter/", profile=profile, proxy=None) as socket:
        await socket.send_json({"id": 41})
        assert await socket.receive_json() == {"id": 42}


async def test_a_wrong_password_is_told_apart(demo: WebServer) -> None:
    site = DjangoSession(demo.url)
    with pytest.raises(NoSessionKey, match="login"):
        await site.login("alice", "wrong")
    with pytest.raises(NoSessionKey):
        await site.fetch_keys()


async def test_an_address_without_a_login_page_is_told_apart(demo: WebServer) -> None:
    site = DjangoSession(demo.url, login_path="/nowhere/")
    with pytest.raises(OSError, match="404"):
        await site.login("alice", "alice-demo")


async def test_the_socket_carries_cookie_and_origin(demo: WebServer) -> None:
    site = DjangoSession(demo.url)
    await site.login("bob", "bob-demo")
    keys = await site.fetch_keys()
    url = f"{demo.websocket_url}/ws/echo/"
    with pytest.raises(InvalidStatus):  # 403: no Origin
        async with connect(url, **keys["session"], proxy=None):
            pass
    with pytest.raises(ConnectionClosed) as caught:  # no cookie
        async with connect(url, **keys["session"], origin=demo.url, proxy=None):
            pass
    assert caught.value.code == 4401


async def test_the_example_of_the_documentation_counts(
    demo: WebServer, capsys: pytest.CaptureFixture[str]
) -> None:
    [example] = [each for each in blocks(PAGE, "python") if each.title == "count.py"]
    text = example.text.replace("http://127.0.0.1:8000", demo.url)
    namespace: dict[str, Any] = {"__name__": "count"}
    exec(compile(text, example.title, "exec"), namespace)
    await namespace["main"]()
    assert capsys.readouterr().out == "{'id': 2}\n"


def test_only_http_sites_are_taken() -> None:
    with pytest.raises(ValueError, match="http"):
        DjangoSession("file:///etc/passwd")


def test_no_secret_is_in_a_repr() -> None:
    site = DjangoSession("https://example.org/app/")
    assert repr(site) == "<DjangoSession https://example.org>"
    assert "psk" not in repr(KEY)


# Without the library


def test_without_websockets_the_import_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "websockets.py").write_text("raise ImportError('not here')")
    code = "import sys; sys.path.insert(0, sys.argv[1]); import gcrypt_channels.client"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "pip install 'gcrypt_channels[client]'" in done.stderr.splitlines()[-1]


async def test_it_offers_its_positions_and_keeps_them() -> None:
    room = Position("room", "00112233445566ff", 5)
    offered = []
    told = []

    async def script(peer: Peer) -> None:
        await peer.greet()
        offered.append(peer.resume)
        await peer.accept()
        await peer.write(peer.session.seal_joined(Joined(1, room, recovered=True)))
        await peer.write(peer.session.seal(Stamped(1, 8, "eight")))
        await peer.send("plain")
        await peer.receive()

    many = [Position(f"g{n}", room.epoch, n) for n in range(64)]
    async with server(script) as url:
        options = {
            "resume": [*many, room],
            "on_joined": lambda *call: told.append(call),
        }
        async with connected(url, profile=V2, **options) as socket:
            assert await socket.receive() == "eight"
            assert told == [("room", True)]
            assert await socket.receive() == "plain"
            assert socket.positions == (*many[1:], room._replace(n=8))
    assert offered == [(*many[1:], room)]


async def test_it_forgets_the_position_of_a_group_that_it_left() -> None:
    room = Position("room", "00112233445566ff", 5)

    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.accept()
        await peer.write(peer.session.seal_joined(Joined(1, room, recovered=False)))
        await peer.write(peer.session.seal_left(1))
        await peer.send("plain")
        await peer.receive()

    async with server(script) as url, connected(url, profile=V2, resume=()) as socket:
        assert await socket.receive() == "plain"
        assert socket.positions == ()
