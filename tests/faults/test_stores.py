"""Faults of the session store: nobody is told to log in again, and nobody stays unverified."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.faults.cases import OUTAGE, SERVERS, command, recorded
from tests.faults.garage import Garage
from tests.faults.rig import Rig, Run
from tests.servers import Redis, Site

pytestmark = pytest.mark.cluster

ENDS = OUTAGE | {
    "1013?",
    "HTTPError 500",
    "HTTPError 503",
    "TimeoutError",
    "HandshakeTimeout 4408",
    "1006?",
}
"""The key endpoint of a site whose store is away fails as all of the site does.

Who had got a key just before is refused without it, since the key is looked up again.
"""


def cache_rig(demo: Site, layer: str, server: str) -> Rig:
    # What it holds outlives its process, or everybody would have been logged out.
    sessions = Redis("--appendonly", "yes", "--appendfsync", "always", "--dir", str(demo.directory))
    return Rig(demo, layer=layer, server=SERVERS[server], sessions=sessions)


def database_of(run: Run) -> Path:
    return run.rig.site.directory / "demo.sqlite3"


async def kill_cache(run: Run) -> None:
    assert run.rig.sessions is not None
    await asyncio.to_thread(run.rig.sessions.kill)
    await run.lose_everyone()
    await asyncio.to_thread(run.rig.sessions.start)
    await run.recover()


async def hang_cache(run: Run) -> None:
    assert run.rig.sessions is not None
    run.rig.sessions.suspend()
    await run.lose_everyone()
    run.rig.sessions.resume()
    await run.recover()


async def make_cache_read_only(run: Run) -> None:
    assert run.rig.sessions is not None
    command(run.rig.sessions, "REPLICAOF", "127.0.0.1", "1")
    await run.published(100)
    command(run.rig.sessions, "REPLICAOF", "NO", "ONE")
    await run.recover()


async def lock_database(run: Run) -> None:
    with closing(sqlite3.connect(database_of(run), timeout=30)) as database:
        database.execute("BEGIN EXCLUSIVE")
        await run.lose_everyone()
    await run.recover()


async def make_database_read_only(run: Run) -> None:
    """Who holds the lock for writing lets others read."""
    with closing(sqlite3.connect(database_of(run), timeout=30)) as database:
        database.execute("BEGIN IMMEDIATE")
        await run.published(100)
    await run.recover()


async def lose_database(run: Run) -> None:
    """The directory of the database has gone."""
    directory = run.rig.site.directory
    away = directory.rename(directory.with_name("away"))
    await run.lose_everyone()
    away.rename(directory)
    await run.recover()


Fault = Callable[[Run], Awaitable[None]]
CACHE: list[tuple[str, Fault]] = [
    ("cache dead", kill_cache),
    ("cache hung", hang_cache),
    ("cache read-only", make_cache_read_only),
]
DATABASE: list[tuple[str, Fault]] = [
    ("database locked", lock_database),
    ("database read-only", make_database_read_only),
    ("database dead", lose_database),
]
QUICK = {
    ("core", "uvicorn", "cache dead"),
    ("core", "uvicorn", "cache read-only"),
    ("pubsub", "daphne", "database locked"),
    ("pubsub", "daphne", "database read-only"),
    ("pubsub", "daphne", "database dead"),
}
"""What `make test` tries; the campaign tries each fault everywhere."""


def cases() -> list[Any]:
    found = []
    for layer in ("core", "pubsub"):
        for server in SERVERS:
            for kind, faults in (("cache", CACHE), ("database", DATABASE)):
                for name, fault in faults:
                    marks = [] if (layer, server, name) in QUICK else [pytest.mark.campaign]
                    case = f"{layer}-{server}-{name}".replace(" ", "-")
                    found.append(
                        pytest.param(layer, server, kind, name, fault, id=case, marks=marks)
                    )
    return found


@pytest.mark.parametrize(("layer", "server", "kind", "name", "fault"), cases())
async def test_a_store_that_does_not_answer_is_not_a_logout(
    layer: str,
    server: str,
    kind: str,
    name: str,
    fault: Fault,
    garage: Garage,
    demo: Site,
    table: list[str],
) -> None:
    def make() -> Rig:
        if kind == "cache":
            return cache_rig(demo, layer, server)
        return Rig(demo, layer=layer, server=SERVERS[server])

    of_its_own = (kind,) if kind == "cache" else ()
    run = Run(garage.get((layer, server, *of_its_own), make), expected_ends=ENDS)
    with recorded(table, run, f"{layer:<7} {server:<8} {name:<19}"):
        async with run:
            await fault(run)
        run.check()
