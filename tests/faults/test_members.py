"""Between processes, too, nothing of a group with history is lost unsaid, and nothing comes twice.

`HISTORIES` is how many random histories are tried on each layer; each has 500 messages.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.faults.members import History, Processes

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module")]

HISTORIES = int(os.environ.get("HISTORIES", "1"))
MESSAGES = 500
REFUSALS = {"HTTP 503", "InvalidMessage", "ConnectionResetError"}
"""How an attempt ends while a worker drains, or is not there."""


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=["core", "pubsub"])
async def processes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Processes]:
    async with Processes(tmp_path_factory.mktemp("site"), request.param) as processes:
        yield processes


async def test_a_rolling_restart_with_drain_loses_nothing_and_tells_nothing(
    processes: Processes,
) -> None:
    """It comes first: after an outage a worker may turn somebody away with 1013 once."""
    history = History(processes, HISTORIES, clients=8, cuts=False)
    async with history:
        await history.settle()
        for worker in processes.workers:
            for publisher in processes.publishers:
                publisher.burst(50)
            await history.restart(worker)
            await history.settle()
    history.check()
    for listener in history.listeners:
        assert listener.joins[False] == 1, "one was not recovered"  # the first has nothing to be
        assert listener.record.heard.count(None) == 1, "a gap was told"
        assert listener.ends.keys() <= {"1012", *REFUSALS}
    assert sum(listener.ends["1012"] for listener in history.listeners) >= 8


@pytest.mark.parametrize("seed", range(HISTORIES))
async def test_every_client_has_what_was_published(
    processes: Processes, seed: int, request: pytest.FixtureRequest, table: list[str]
) -> None:
    history = History(processes, seed)
    async with history:
        await history.play(MESSAGES)
        await history.settle()
    history.check()
    table.append(f"{request.node.callspec.id:<12} {history}")
