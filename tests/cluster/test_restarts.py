"""Workers behind nginx that are restarted one after the other: nobody is turned away."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gcrypt_channels.exceptions import ConnectionClosed
from tests.cluster.processes import Nginx
from tests.hub.drain_client import DEADLINE, echo, end_of, visit
from tests.servers import Site, Uvicorn, WebServer, side_by_side

pytestmark = pytest.mark.cluster

RESTART = (1012, "service restart", True)
OPENERS = 2
RESIDENTS = 9


@pytest.fixture
def workers(tmp_path: Path) -> list[WebServer]:
    site = Site(tmp_path, settings="tests.hub.drain_settings", env={"DRAIN": "0.5"})
    return [Uvicorn("tests.hub.drain_site:application", site) for _ in range(3)]


@pytest.fixture
def nginx(workers: list[WebServer], tmp_path: Path) -> Iterator[Nginx]:
    nginx = Nginx(tmp_path / "nginx", [worker.port for worker in workers])
    with side_by_side(*workers, nginx):
        yield nginx


class Visitors:
    """Opens sockets all the time, and counts what becomes of them."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.served = 0
        self.failures: list[Any] = []
        self.ends: list[tuple[int, str, bool]] = []

    async def have_been(self, number: int) -> None:
        while self.served < number:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)

    async def open_and_leave(self) -> None:
        """Open one socket after the other; a client that is told to return was served as well."""
        while True:
            try:
                async with visit(self.url, open_timeout=DEADLINE) as connection:
                    self.served += 1
                    await echo(connection)
            except ConnectionClosed as closed:
                if (closed.code, closed.reason, closed.authentic) != RESTART:
                    self.failures.append(closed)
            except Exception as error:  # noqa: BLE001 - none is expected
                self.failures.append(error)

    async def stay(self) -> None:
        """Keep one socket, and open another when told to return."""
        while True:
            try:
                async with visit(self.url, open_timeout=DEADLINE) as connection:
                    self.served += 1
                    self.ends.append(await end_of(connection))
            except Exception as error:  # noqa: BLE001 - none is expected
                self.failures.append(error)
                return


async def test_a_rolling_restart_under_load_fails_no_new_connection(
    nginx: Nginx, workers: list[WebServer]
) -> None:
    visitors = Visitors(nginx.websocket_url)
    stays = [asyncio.create_task(visitors.stay()) for _ in range(RESIDENTS)]
    openers = [asyncio.create_task(visitors.open_and_leave()) for _ in range(OPENERS)]
    try:
        await asyncio.wait_for(visitors.have_been(RESIDENTS + 10), DEADLINE)
        for worker in workers:
            before = visitors.served
            worker.terminate()
            assert await asyncio.to_thread(worker.wait) == -15
            assert "Draining: " in worker.log
            assert visitors.served > before
            await asyncio.to_thread(worker.restart)
    finally:
        for task in (*stays, *openers):
            task.cancel()
        await asyncio.wait((*stays, *openers))
    assert visitors.failures == []
    assert len(visitors.ends) >= RESIDENTS
    assert set(visitors.ends) == {RESTART}
