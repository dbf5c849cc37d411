"""How a connection ends on each server. The wire can make a cut of it, and nothing else."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Iterator
from secrets import token_hex
from typing import Any

import pytest

from gcrypt_channels.client import connect
from gcrypt_channels.exceptions import ConnectionClosed
from tests.interop.conftest import WIRE_SITE, wire_site
from tests.interop.wire_client import DEADLINE, visit
from tests.interop.wire_site import KEYRING
from tests.proxy import Proxy
from tests.servers import Daphne, Hypercorn, WebServer

pytestmark = pytest.mark.interop

every_style = pytest.mark.parametrize("style", ["room", "sync"])


@pytest.fixture
def room() -> str:
    """A name that no other test uses, by which its log lines are found."""
    return token_hex(6)


async def told(server: WebServer, room: str) -> str:
    """What the consumer was told of its end, once nothing of the connection is left."""
    await asyncio.to_thread(server.wait_for_log, f"CLOSED '.*/{room}/'")
    await asyncio.to_thread(server.wait_for_log, f"ENDED '{room}'")
    [end] = re.findall(f"ENDED '{room}' ({{.*}})", server.log)
    return str(end)


async def end_of(connection: Any) -> ConnectionClosed:
    """Read until the end of the connection."""
    try:
        while True:
            await asyncio.wait_for(connection.receive(), DEADLINE)
    except ConnectionClosed as closed:
        return closed


async def ask(connection: Any, question: str) -> Any:
    await connection.send_json(question)
    return await asyncio.wait_for(connection.receive_json(), DEADLINE)


# What the wire makes up


@every_style
@pytest.mark.parametrize("code", [1000, 1001, 4001, None])
async def test_a_close_made_up_on_the_wire_is_a_cut_to_the_consumer(
    wired: WebServer, proxy: Proxy, room: str, style: str, code: int | None
) -> None:
    async with visit(f"{proxy.websocket_url}/ws/{style}/{room}/") as connection:
        await connection.receive()
        proxy.forge_close("inbound", code, b"INVENTED" if code else b"")
        assert await told(wired, room) == '{"code": 1006, "reason": "", "authentic": false}'


@pytest.mark.parametrize("code", [1000, 1001, 4001, 4401, None])
async def test_a_close_made_up_on_the_wire_is_a_cut_to_the_client(
    proxy: Proxy, room: str, code: int | None
) -> None:
    async with visit(f"{proxy.websocket_url}/ws/room/{room}/") as connection:
        await connection.receive()
        proxy.forge_close("outbound", code, b"INVENTED" if code else b"")
        closed = await end_of(connection)
    assert (closed.code, closed.reason, closed.authentic) == (1006, "", False)


@every_style
async def test_a_cut_line_is_a_cut(wired: WebServer, room: str, style: str) -> None:
    async with visit(f"{wired.websocket_url}/ws/{style}/{room}/") as connection:
        await connection.receive()
        connection._socket.transport.abort()
        assert await told(wired, room) == '{"code": 1006, "reason": "", "authentic": false}'


# What the two sides say


@every_style
async def test_the_clients_close_is_authentic(
    wired: WebServer, proxy: Proxy, room: str, style: str
) -> None:
    async with visit(f"{proxy.websocket_url}/ws/{style}/{room}/") as connection:
        await connection.receive()
        await connection.close(3001, "SECRET")
    assert await told(wired, room) == '{"code": 3001, "reason": "SECRET", "authentic": true}'
    assert not proxy.shows(b"SECRET")


@every_style
@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1011, 1012, 1014, 3000, 4999])
async def test_the_consumers_close_is_authentic_and_its_reason_is_sealed(
    wired: WebServer, proxy: Proxy, room: str, style: str, code: int
) -> None:
    async with visit(f"{proxy.websocket_url}/ws/{style}/{room}/") as connection:
        await connection.receive()
        await connection.send_json({"close": [code, "SECRET"]})
        closed = await end_of(connection)
    assert (closed.code, closed.reason, closed.authentic) == (code, "SECRET", True)
    own = await told(wired, room)
    assert own == f'{{"code": {code}, "reason": "SECRET", "authentic": true}}'
    assert not proxy.shows(b"SECRET")
    closes = [each.payload for each in proxy.controls if each.opcode == 8]
    assert closes[0] == code.to_bytes(2, "big")


# Channels itself takes `True` for no code.
NOT_CODES: list[Any] = [5000, 999, 0, -1, "4001", 1004, 1005, 1006, 1015, 2999, False, 4001.0]
REFUSED: list[list[Any]] = [
    *([code, "SECRET"] for code in NOT_CODES),
    [4001, "SECRET\ud800"],
    [4001, "SECRET" + "x" * 118],
    [4001, "SECRET" + "é" * 59],
    [4001, ["SECRET"]],
    [4001, 5],
]


@every_style
async def test_a_close_that_cannot_be_sent_changes_nothing_and_tells_nothing(
    proxy: Proxy, room: str, style: str
) -> None:
    async with visit(f"{proxy.websocket_url}/ws/{style}/{room}/") as connection:
        await connection.receive()
        for arguments in REFUSED:
            await connection.send('{"close": ' + json.dumps(arguments) + "}")
            assert await connection.receive_json() == "refused", arguments
        await connection.send_json("still here")
        assert await connection.receive_json() == "still here"
        assert not [each for each in proxy.controls if each.opcode == 8]
    assert not proxy.shows(b"SECRET")


async def test_a_classic_close_without_a_code_is_1005(
    wired: WebServer, proxy: Proxy, room: str
) -> None:
    async with connect(
        f"{proxy.websocket_url}/ws/room/{room}/",
        passphrase=KEYRING.passphrases[0],
        profile="gcrypt.v1",
        proxy=None,
    ) as connection:
        await connection.receive()
        proxy.forge_close("inbound", None)
        own = await told(wired, room)
    # Hypercorn tells of every close by the client as of a cut.
    code = 1006 if isinstance(wired, Hypercorn) else 1005
    assert own == f'{{"code": {code}, "reason": "", "authentic": false}}'


# A client that vanishes


@every_style
async def test_a_client_that_vanishes_while_it_is_sent_to_has_left_once(
    wired: WebServer, room: str, style: str
) -> None:
    async with visit(f"{wired.websocket_url}/ws/{style}/{room}/", max_queue=1) as connection:
        await connection.receive()
        await connection.send_json("flood")
        await connection.receive()
        connection._socket.transport.abort()
        assert await told(wired, room) == '{"code": 1006, "reason": "", "authentic": false}'
    async with visit(f"{wired.websocket_url}/ws/room/{room}-later/") as connection:
        await connection.receive()
        assert await ask(connection, "members") == 1


# A server that stops


@pytest.fixture(params=["plain", "sentry"])
def environment(request: pytest.FixtureRequest) -> dict[str, str]:
    return {"SENTRY": "1"} if request.param == "sentry" else {}


class EmbeddedHypercorn(Hypercorn):
    def command(self) -> list[str]:
        return [sys.executable, "-m", "tests.interop.embedded_hypercorn", str(self.port)]


@pytest.fixture(params=[Daphne, EmbeddedHypercorn], ids=["daphne", "hypercorn"])
def stopping(
    request: pytest.FixtureRequest,
    environment: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[WebServer]:
    """The servers that cancel the application when they are told to stop."""
    site = wire_site(tmp_path_factory, DRAIN="0", **environment)
    with request.param(WIRE_SITE, site) as server:
        yield server


async def test_a_cancelled_application_is_a_restart_to_the_client(stopping: WebServer) -> None:
    async def visitor(number: int) -> ConnectionClosed:
        style = ["room", "sync"][number % 2]
        async with visit(f"{stopping.websocket_url}/ws/{style}/{number}/") as connection:
            await connection.receive()
            is_open.release()
            return await end_of(connection)

    is_open = asyncio.Semaphore(0)
    visitors = [asyncio.create_task(visitor(number)) for number in range(10)]
    for _ in visitors:
        await asyncio.wait_for(is_open.acquire(), DEADLINE)
    async with visit(f"{stopping.websocket_url}/ws/room/last/") as connection:
        await connection.receive()
        while not await ask(connection, "settled"):
            pass
        await asyncio.to_thread(stopping.stop)
    ends = {(end.code, end.authentic) for end in await asyncio.gather(*visitors)}
    assert ends == {(1012, True)}
