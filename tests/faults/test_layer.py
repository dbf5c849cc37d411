"""Faults of the channel layer's Redis: nothing wrong, nothing twice, nothing lost without a word.

The table at the end of the run shows the figures of each fault, layer and server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.faults.cases import OUTAGE, SERVERS, SLOW_OUTAGE, command, recorded
from tests.faults.garage import Garage
from tests.faults.rig import Rig, Run
from tests.servers import Site

pytestmark = pytest.mark.cluster


async def kill(run: Run, times: int) -> None:
    for _ in range(times):
        await asyncio.to_thread(run.rig.redis.kill)
        await run.published(20)
        await asyncio.to_thread(run.rig.redis.start)
        await run.recover()


async def restart_empty(run: Run, _: int) -> None:
    await asyncio.to_thread(run.rig.redis.restart)
    await run.recover()


async def flush(run: Run, _: int) -> None:
    """Redis forgets all memberships, and no connection ends."""
    command(run.rig.redis, "FLUSHALL")
    await run.published(20)
    await run.recover()


async def hang(run: Run, seconds: int) -> None:
    run.rig.redis.suspend()
    await asyncio.sleep(seconds)
    run.rig.redis.resume()
    await run.recover()


async def fill(run: Run, count: int) -> None:
    command(run.rig.redis, "CONFIG", "SET", "maxmemory-policy", "noeviction")
    command(run.rig.redis, "CONFIG", "SET", "maxmemory", "1")
    await run.published(count)
    command(run.rig.redis, "CONFIG", "SET", "maxmemory", "0")
    await run.recover()


async def replicate(run: Run, count: int) -> None:
    """Redis has become the replica of a master that is away, and keeps what it has."""
    command(run.rig.redis, "REPLICAOF", "127.0.0.1", "1")
    await run.published(count)
    command(run.rig.redis, "REPLICAOF", "NO", "ONE")
    await run.recover()


async def lose_replicas(run: Run, count: int) -> None:
    command(run.rig.redis, "CONFIG", "SET", "min-replicas-to-write", "1")
    await run.published(count)
    command(run.rig.redis, "CONFIG", "SET", "min-replicas-to-write", "0")
    await run.recover()


async def overflow(run: Run, times: int) -> None:
    """The workers hang while 10 times what a channel holds is published."""
    for _ in range(times):
        for worker in run.rig.workers:
            worker.suspend()
        await run.burst(1000, 64)
        for worker in run.rig.workers:
            worker.resume()
        await run.recover()


Fault = Callable[[Run, int], Awaitable[None]]

ANYWHERE = [(layer, server) for layer in ("core", "pubsub") for server in SERVERS]
NOWHERE: set[tuple[str, str]] = set()

FAULTS: list[tuple[str, Fault, int, frozenset[str], set[tuple[str, str]]]] = [
    ("killed twice", kill, 2, OUTAGE, {("core", "daphne"), ("pubsub", "uvicorn")}),
    ("killed 20 times", kill, 20, OUTAGE, NOWHERE),
    ("restarted empty", restart_empty, 1, OUTAGE, {("pubsub", "uvicorn")}),
    ("flushed", flush, 1, OUTAGE, {("core", "uvicorn")}),
    ("stopped for 2 s", hang, 2, SLOW_OUTAGE, {("pubsub", "daphne")}),
    ("stopped for 8 s", hang, 8, SLOW_OUTAGE, NOWHERE),
    ("stopped for 20 s", hang, 20, SLOW_OUTAGE, NOWHERE),
    ("full", fill, 50, OUTAGE, {("core", "daphne")}),
    ("full for long", fill, 1000, OUTAGE, NOWHERE),
    ("read-only", replicate, 50, OUTAGE, {("core", "uvicorn")}),
    ("read-only for long", replicate, 1000, OUTAGE, NOWHERE),
    ("without replicas", lose_replicas, 50, OUTAGE, {("core", "daphne")}),
    ("overflow", overflow, 1, OUTAGE, {("core", "uvicorn")}),
    ("overflow 5 times", overflow, 5, OUTAGE, NOWHERE),
]
"""Each with how often or how long, how connections may end, and where `make test` tries it.

The campaign tries it everywhere.
"""

DOUBTS = {
    ("pubsub", "stopped for 8 s"): 1,
    ("pubsub", "stopped for 20 s"): 1,
    ("pubsub", "killed 20 times"): 3,
    ("core", "overflow 5 times"): 3,
}
"""How often a process may hear nothing for long, and cannot know whether a last message was lost.

The pubsub layer keeps no messages, and a full channel of the core layer loses probes as well.
"""


def cases() -> list[Any]:
    found = []
    for layer, server in ANYWHERE:
        for name, fault, amount, ends, quick in FAULTS:
            marks = [] if (layer, server) in quick else [pytest.mark.campaign]
            case = f"{layer}-{server}-{name}".replace(" ", "-")
            values = (layer, server, name, fault, amount, ends)
            found.append(pytest.param(*values, id=case, marks=marks))
    return found


@pytest.mark.parametrize(("layer", "server", "name", "fault", "amount", "ends"), cases())
async def test_every_loss_is_told_and_everybody_comes_back(
    layer: str,
    server: str,
    name: str,
    fault: Fault,
    amount: int,
    ends: frozenset[str],
    garage: Garage,
    demo: Site,
    table: list[str],
) -> None:
    rig = garage.get((layer, server), lambda: Rig(demo, layer=layer, server=SERVERS[server]))
    run = Run(rig, expected_ends=ends, doubts=DOUBTS.get((layer, name), 0))
    with recorded(table, run, f"{layer:<7} {server:<8} {name:<19}"):
        async with run:
            await fault(run, amount)
        run.check()
