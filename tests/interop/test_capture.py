"""No plaintext byte on the wire: a session with known canaries, captured below both ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from websockets.asyncio.client import connect as open_socket
from websockets.typing import Origin, Subprotocol

from gcrypt_channels.client import DjangoSession
from gcrypt_channels.exceptions import ConnectionClosed
from tests.interop.capture import Capture, payloads
from tests.servers import Daphne, Site, Uvicorn, WebServer

pytestmark = pytest.mark.interop

TEXT = "canary-of-text"
BYTES = b"\x00canary-of-bytes\xff"
SUBPROTOCOL = "canary-of-subprotocol"
THEIR_REASON = "canary-of-their-reason"
OUR_REASON = "canary-of-our-reason"
IN_THE_CLEAR = "this canary is to be found"


@pytest.fixture(scope="module", params=[Daphne, Uvicorn], ids=["daphne", "uvicorn"])
def server(request: pytest.FixtureRequest, shared_demo: Site) -> Iterator[WebServer]:
    site = replace(shared_demo, settings="tests.interop.site_settings")
    with request.param("tests.interop.site:application", site) as running:
        yield running


async def secure_session(alice: DjangoSession) -> None:
    """Every kind of content that `gcrypt.v2` carries, both ways."""
    options: Any = {"proxy": None, "subprotocols": [SUBPROTOCOL]}
    for path in ("/ws/echo/", "/ws/echo-sync/"):
        async with alice.connect(path, **options) as socket:
            messages: list[str | bytes] = [TEXT, BYTES, TEXT * 50_000]
            for message in messages:
                await socket.send(message)
                assert await socket.receive() == message
            await socket.close(3001, OUR_REASON)
    async with alice.connect("/ws/headers/", **options) as socket:
        assert socket.subprotocol == SUBPROTOCOL
    async with alice.connect("/ws/closer/", **options) as socket:
        await socket.send_json({"code": 4001, "reason": THEIR_REASON})
        assert await socket.receive_json() == "closing"
        with pytest.raises(ConnectionClosed, match=THEIR_REASON):
            await socket.receive()


async def classic_session(alice: DjangoSession) -> None:
    async with alice.connect("/ws/echo/", profile="gcrypt.v1", proxy=None) as socket:
        for value in [{"message": TEXT}, TEXT * 1000]:
            await socket.send_json(value)
            assert await socket.receive_json() == value


async def plaintext(alice: DjangoSession, server: WebServer) -> None:
    """What the search has to find, so that it can find anything."""
    async with open_socket(
        f"{server.websocket_url}/ws/echo/",
        subprotocols=[Subprotocol("gcrypt.v2")],
        additional_headers={"Cookie": alice.cookie_header("/ws/echo/")},
        origin=Origin(server.url),
        compression=None,
        proxy=None,
    ) as socket:
        await socket.recv()
        await socket.send(IN_THE_CLEAR)
        await socket.wait_closed()


async def test_no_plaintext_is_on_the_wire(server: WebServer) -> None:
    alice = DjangoSession(server.url)
    await alice.login("alice", "alice-demo")
    with Capture(server.port) as capture:
        await secure_session(alice)
        await classic_session(alice)
        await plaintext(alice, server)
    wire = capture.streams()
    raw = b"\n".join(wire.values())
    unmasked = b"\n".join(payloads(stream) for stream in wire.values())
    assert IN_THE_CLEAR.encode() not in raw
    assert IN_THE_CLEAR.encode() in unmasked
    assert unmasked.count(b'{"ct":"') == 4  # both classic messages, both ways
    assert len(unmasked) > 2 * 2 * len(TEXT * 50_000)
    canaries: list[str | bytes] = [TEXT, BYTES, SUBPROTOCOL, THEIR_REASON, OUR_REASON]
    for canary in canaries:
        sought = canary if isinstance(canary, bytes) else canary.encode()
        assert sought not in raw
        assert sought not in unmasked
    assert b"canary-of" not in raw + unmasked
