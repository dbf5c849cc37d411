"""A client that does not read costs a bounded amount of memory, and holds up nobody."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gcrypt_channels.client import connect
from gcrypt_channels.client.connection import ClientConnection
from tests.room_site import KEYRING
from tests.servers import Daphne, Site, Uvicorn, WebServer

SERVERS = [Daphne, Uvicorn]
DEADLINE = 60.0  # seconds; only a failing test waits as long
COUNT = 480
BATCH = 8
SIZE = 64 * 1024
BOUND = COUNT * SIZE // 2  # 15 MiB; the backlog is 1 MiB, the rest is room for the allocator


def start(server: type[WebServer], directory: Path, **env: str) -> WebServer:
    return server("tests.room_site:application", Site(directory, settings="", env=env))


@asynccontextmanager
async def member(server: WebServer, **options: Any) -> AsyncIterator[ClientConnection]:
    key = KEYRING.session_keys[0]
    async with connect(
        f"{server.websocket_url}/ws/", kid=key.kid, psk=key.psk, **options
    ) as connection:
        yield connection


def narrow_socket(server: WebServer) -> socket.socket:
    """A socket whose buffer is small, so that what is not read stays with the server."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    sock.connect(("127.0.0.1", server.port))
    return sock


def memory(server: WebServer) -> int:
    """Bytes of the server's resident memory."""
    pages = int(Path(f"/proc/{server.pid}/statm").read_text().split()[1])
    return pages * 4096


@asynccontextmanager
async def stalled(
    server: WebServer, on_gap: Callable[[str, int], None]
) -> AsyncIterator[ClientConnection]:
    """A member that reads nothing of a flood of broadcasts, which another one reads in full."""
    async with (
        member(
            server,
            sock=narrow_socket(server),
            on_gap=on_gap,
            max_queue=1,  # messages that the websockets library reads ahead
        ) as slow,
        member(server) as quick,
    ):
        before = memory(server)
        for start in range(0, COUNT, BATCH):
            numbers = list(range(start, start + BATCH))
            await quick.send_json({"numbers": numbers, "size": SIZE})
            for number in numbers:
                got = await asyncio.wait_for(quick.receive_json(), DEADLINE)
                assert got == [number, "x" * SIZE]
        assert memory(server) - before < BOUND
        yield slow


@pytest.mark.parametrize("server", SERVERS)
async def test_a_stalled_client_is_told_of_one_gap_when_it_reads_again(
    server: type[WebServer], tmp_path: Path
) -> None:
    gaps: list[int] = []
    numbers: list[int] = []
    told = asyncio.Event()

    def on_gap(group: str, missed: int) -> None:
        gaps.append(missed)
        told.set()

    async def read(connection: ClientConnection) -> None:
        text = None
        while text != "":
            number, text = await connection.receive_json()
            numbers.append(number)

    with start(server, tmp_path) as running:
        async with stalled(running, on_gap) as slow:
            reading = asyncio.ensure_future(read(slow))
            await asyncio.wait_for(told.wait(), DEADLINE)
            await slow.send_json({"numbers": [-1], "size": 0})
            await asyncio.wait_for(reading, DEADLINE)
    assert numbers == [*range(COUNT - gaps[0]), -1]  # what is missing is where the gap was told
    assert len(gaps) == 1
    assert gaps[0] > COUNT // 2


@pytest.mark.parametrize("server", SERVERS)
async def test_a_stalled_client_that_leaves_leaves_nothing_waiting(
    server: type[WebServer], tmp_path: Path
) -> None:
    with start(server, tmp_path) as running:
        async with stalled(running, _ignore) as slow:
            slow._socket.transport.abort()
        async with member(running) as another:
            await another.send_json({"numbers": [0], "size": 1})
            assert await asyncio.wait_for(another.receive_json(), DEADLINE) == [0, "x"]
        running.stop()
        assert "Traceback" not in running.log
        assert "never retrieved" not in running.log
        assert "took too long to shut down" not in running.log


def _ignore(group: str, missed: int) -> None:
    pass
