"""The package under real daphne and uvicorn, where they differ and where they must not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection as Socket
from websockets.asyncio.client import connect as open_socket
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin, Subprotocol

from gcrypt_channels.client import ClientConnection, DjangoSession
from gcrypt_channels.exceptions import ConnectionClosed, MessageTooBig
from gcrypt_channels.keys import SessionKey
from gcrypt_channels.protocol.events import Binding
from gcrypt_channels.protocol.profiles import V1, V2, Profile, secure_profiles
from gcrypt_channels.protocol.secure import SecureSession
from tests.servers import Daphne, Site, Uvicorn, WebServer

pytestmark = pytest.mark.interop

each_secure_profile = pytest.mark.parametrize("profile", secure_profiles())
every_profile = pytest.mark.parametrize("profile", [*secure_profiles(), V1])
MIB = 1024 * 1024


@pytest.fixture(scope="module", params=[Daphne, Uvicorn], ids=["daphne", "uvicorn"])
def server(request: pytest.FixtureRequest, shared_demo: Site) -> Iterator[WebServer]:
    site = replace(shared_demo, settings="tests.interop.site_settings")
    with request.param("tests.interop.site:application", site) as running:
        yield running


@pytest.fixture(scope="module")
def alice(server: WebServer) -> DjangoSession:
    session = DjangoSession(server.url)
    asyncio.run(session.login("alice", "alice-demo"))
    return session


def connect(alice: DjangoSession, path: str, **options: Any) -> Any:
    return alice.connect(path, proxy=None, **options)


@asynccontextmanager
async def raw(
    alice: DjangoSession, server: WebServer, path: str, **options: Any
) -> AsyncIterator[Socket]:
    """A WebSocket with alice's cookie and no encryption yet."""
    async with open_socket(
        server.websocket_url + path,
        additional_headers={"Cookie": alice.cookie_header(path)},
        origin=Origin(server.url),
        proxy=None,
        **options,
    ) as socket:
        yield socket


async def close_code(socket: Socket) -> int:
    """What the WebSocket itself tells of its end."""
    await asyncio.wait_for(socket.wait_closed(), 10)
    assert socket.close_code is not None
    return socket.close_code


# What must not differ


@each_secure_profile
@pytest.mark.parametrize("path", ["/ws/echo/", "/ws/echo-sync/"])
async def test_text_comes_back_as_text_and_bytes_as_bytes(
    alice: DjangoSession, path: str, profile: Profile
) -> None:
    async with connect(alice, path, profile=profile) as socket:
        assert socket.profile == profile
        for message in ["text", "", "ünï 🔐", b"bytes", b""]:
            await socket.send(message)
            assert await socket.receive() == message


@pytest.mark.parametrize("path", ["/ws/echo/", "/ws/echo-sync/"])
async def test_classic_text_comes_back(alice: DjangoSession, path: str) -> None:
    async with connect(alice, path, profile=V1) as socket:
        for value in ["text", {"id": 1}, "ünï 🔐"]:
            await socket.send_json(value)
            assert await socket.receive_json() == value


@pytest.mark.parametrize("path", ["/ws/echo/", "/ws/echo-sync/"])
async def test_many_messages_come_back_in_order(alice: DjangoSession, path: str) -> None:
    async with connect(alice, path) as socket:
        sending = asyncio.gather(*(socket.send(str(number)) for number in range(500)))
        assert [await socket.receive() for _ in range(500)] == [str(n) for n in range(500)]
        await sending


async def test_a_message_larger_than_the_servers_limit_goes_in_fragments(
    alice: DjangoSession,
) -> None:
    message = b"x" * (5 * MIB)
    async with connect(alice, "/ws/echo/", max_message=8 * MIB) as socket:
        await socket.send(message)
        assert await socket.receive() == message
        with pytest.raises(MessageTooBig):
            await socket.send(b"x" * (8 * MIB + 1))


async def test_a_message_over_the_limit_closes_with_an_authentic_1009(
    alice: DjangoSession,
) -> None:
    async with connect(alice, "/ws/echo/") as socket:
        socket._session.peer_max_message = 16 * MIB
        await socket.send(b"x" * (8 * MIB + 1))
        with pytest.raises(ConnectionClosed) as caught:
            await socket.receive()
    assert (caught.value.code, caught.value.authentic) == (1009, True)


async def test_an_authentic_close_has_code_and_reason(alice: DjangoSession) -> None:
    async with connect(alice, "/ws/closer/") as socket:
        await socket.send_json({"code": 4001, "reason": "enough"})
        assert await socket.receive_json() == "closing"
        with pytest.raises(ConnectionClosed) as caught:
            await socket.receive()
    assert (caught.value.code, caught.value.reason) == (4001, "enough")
    assert caught.value.authentic


async def test_a_refusal_has_the_applications_code_and_reason(alice: DjangoSession) -> None:
    with pytest.raises(ConnectionClosed) as caught:
        async with connect(alice, "/ws/refuser/"):
            pass
    assert (caught.value.code, caught.value.reason) == (4123, "not today")
    assert caught.value.authentic


async def test_a_classic_refusal_has_the_applications_code(alice: DjangoSession) -> None:
    async with connect(alice, "/ws/refuser/", profile=V1) as socket:
        with pytest.raises(ConnectionClosed) as caught:
            await socket.receive()
    assert caught.value.code == 4123


@every_profile
async def test_an_exception_of_the_consumer_closes_with_1011(
    alice: DjangoSession, server: WebServer, profile: Profile
) -> None:
    async with connect(alice, "/ws/failing/", profile=profile) as socket:
        await socket.send_json(1)
        with pytest.raises(ConnectionClosed) as caught:
            await socket.receive()
    assert caught.value.code == 1011
    server.wait_for_log("ZeroDivisionError")


@every_profile
async def test_plaintext_of_a_consumer_closes_with_1011(
    alice: DjangoSession, server: WebServer, profile: Profile
) -> None:
    async with connect(alice, "/ws/leaking/", profile=profile) as socket:
        await socket.send_json("canary")
        with pytest.raises(ConnectionClosed) as caught:
            await socket.receive()
    assert caught.value.code == 1011
    server.wait_for_log("a consumer sent plaintext")


@pytest.mark.parametrize("frame", [b"\x10garbage" * 10, b"", "plaintext"])
async def test_a_bad_frame_closes_with_4400(
    alice: DjangoSession, server: WebServer, frame: Any
) -> None:
    async with raw(
        alice, server, "/ws/echo/", subprotocols=[Subprotocol(V2)], compression=None
    ) as socket:
        await socket.recv()
        await socket.send(frame)
        code = await close_code(socket)
    assert code == 4400


async def test_a_handshake_that_takes_too_long_closes_with_4408(
    alice: DjangoSession, server: WebServer
) -> None:
    async with raw(alice, server, "/ws/echo/", subprotocols=[Subprotocol(V2)]) as socket:
        code = await close_code(socket)
    assert code == 4408


async def test_an_unknown_profile_closes_with_4406(alice: DjangoSession, server: WebServer) -> None:
    offered = [Subprotocol("gcrypt.v4")]
    async with raw(alice, server, "/ws/echo/", subprotocols=offered) as socket:
        assert socket.subprotocol == "gcrypt.v4"  # or Chromium would not show the code
        code = await close_code(socket)
    assert code == 4406


async def test_a_stranger_is_closed_with_4401(server: WebServer) -> None:
    stranger = DjangoSession(server.url)
    async with raw(stranger, server, "/ws/echo/", subprotocols=[Subprotocol(V2)]) as socket:
        code = await close_code(socket)
    assert code == 4401


async def test_another_origin_is_refused_by_http(alice: DjangoSession, server: WebServer) -> None:
    async def from_elsewhere() -> None:
        async with open_socket(
            f"{server.websocket_url}/ws/echo/",
            additional_headers={"Cookie": alice.cookie_header("/ws/echo/")},
            origin=Origin("https://evil.example"),
            subprotocols=[Subprotocol(V2)],
            proxy=None,
        ):
            pass

    with pytest.raises(InvalidStatus) as caught:
        await from_elsewhere()
    assert caught.value.response.status_code == 403


async def test_headers_of_the_accept_come_too_late_and_are_logged(
    alice: DjangoSession, server: WebServer
) -> None:
    async with connect(alice, "/ws/headers/", subprotocols=["tea"]) as socket:
        assert socket.subprotocol == "tea"
        response = socket._socket.response
        assert response is not None
        assert "x-late" not in response.headers
    server.wait_for_log("headers passed to accept")


# Where they differ


async def test_the_reason_of_a_classic_close_arrives_though_daphne_itself_drops_it(
    alice: DjangoSession, server: WebServer
) -> None:
    async with connect(alice, "/ws/closer/", profile=V1) as socket:
        await socket.send_json({"code": 4001, "reason": "enough"})
        assert await socket.receive_json() == "closing"
        with pytest.raises(ConnectionClosed) as caught:
            await socket.receive()
    assert (caught.value.code, caught.value.reason) == (4001, "enough")
    assert not caught.value.authentic


async def test_a_classic_message_is_limited_by_the_server(
    alice: DjangoSession, server: WebServer
) -> None:
    message = "x" * (2 * MIB)
    async with connect(alice, "/ws/echo/", profile=V1, max_message=8 * MIB) as socket:
        await socket.send_json(message)
        if isinstance(server, Daphne):
            with pytest.raises(ConnectionClosed) as caught:
                await socket.receive()
            assert caught.value.code in (1009, 1006)  # it may hang up on what is still coming
        else:
            assert await socket.receive_json() == message


async def echo_through(alice: DjangoSession, socket: Socket) -> None:
    connection = ClientConnection(socket, SecureSession(role="client"))
    key = SessionKey(**alice.key_members(await alice.fetch_keys(), None))
    await connection.handshake(key, None, (), Binding((V2,), "127.0.0.1", "/ws/echo/"))
    messages: list[str | bytes] = ["x" * 10_000, b"x" * 300_000]
    for message in messages:
        await connection.send(message)
        assert await connection.receive() == message


async def test_a_client_that_offers_compression_is_served(
    alice: DjangoSession, server: WebServer
) -> None:
    async with raw(
        alice, server, "/ws/echo/", subprotocols=[Subprotocol(V2)], compression="deflate"
    ) as socket:
        assert socket.response is not None
        extensions = socket.response.headers.get("Sec-WebSocket-Extensions", "")
        assert ("permessage-deflate" in extensions) == isinstance(server, Uvicorn)
        await echo_through(alice, socket)


async def test_uvicorn_leaves_compression_off_when_it_is_told(shared_demo: Site) -> None:
    with Uvicorn(
        "demo_project.asgi:application", shared_demo, "--ws-per-message-deflate", "false"
    ) as server:
        alice = DjangoSession(server.url)
        await alice.login("alice", "alice-demo")
        async with raw(
            alice, server, "/ws/echo/", subprotocols=[Subprotocol(V2)], compression="deflate"
        ) as socket:
            assert socket.response is not None
            assert "Sec-WebSocket-Extensions" not in socket.response.headers
            await echo_through(alice, socket)
