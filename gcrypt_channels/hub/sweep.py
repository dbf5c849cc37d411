"""Looks up whether the logins behind live connections still hold, for many of them at a time.

It happens every ``GCRYPT["REVALIDATE_INTERVAL"]`` for all connections of a process, and shortly
after a connection was opened or something was said about its session or user for those concerned.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable
from weakref import WeakKeyDictionary

from channels.db import database_sync_to_async

from ..connection.connection import Connection
from ..exceptions import NoSessionKey, TryAgainLater
from ..sessions.login import BATCH_SIZE, Login, find_ended_logins
from .hub import Hub
from .tasks import on_sweep

logger = logging.getLogger(__name__)

SETTLE_TIME = 0.25
"""Seconds between a cause to look and the look.

Django tells of a logout before it ends the session, and a burst of causes is to be one look.
"""

MAX_FAILURES = 3
"""Sweeps in a row that may fail before connections that cannot be verified are closed."""


class _Watch:
    """What one hub is about to look up, and how that went lately."""

    def __init__(self) -> None:
        self.suspects: set[Connection] = set()
        self.failures = 0


_watches: WeakKeyDictionary[Hub, _Watch] = WeakKeyDictionary()


def recheck_soon(hub: Hub, connections: Iterable[Connection]) -> None:
    """Close those of ``connections`` whose login is found to have ended in a moment's time."""
    suspects = {each for each in connections if each.login.verifiable}
    if not suspects:
        return
    watch = _watches.setdefault(hub, _Watch())
    if not watch.suspects:
        asyncio.get_running_loop().call_later(SETTLE_TIME, _recheck, hub, watch)
    watch.suspects |= suspects


def _recheck(hub: Hub, watch: _Watch) -> None:
    suspects, watch.suspects = watch.suspects, set()
    remaining = suspects & hub.connections
    if remaining:
        hub.start(_revalidate(remaining))


@on_sweep
async def sweep(hub: Hub) -> None:
    """Close every connection of ``hub`` whose login has ended: with 4401.

    While the session store or the database cannot be asked, connections stay open for
    :data:`MAX_FAILURES` - 1 sweeps; the next failure closes with 1013 those that it leaves unknown.
    """
    watch = _watches.setdefault(hub, _Watch())
    connections = {each for each in hub.connections if each.login.verifiable}
    try:
        await _revalidate(connections)
    except Exception:
        watch.failures += 1
        logger.exception("Sessions could not be looked up (%d in a row).", watch.failures)
        if watch.failures >= MAX_FAILURES:
            for connection in connections:
                connection.abort(TryAgainLater.code, TryAgainLater.reason)
    else:
        watch.failures = 0


async def _revalidate(connections: Iterable[Connection]) -> None:
    by_login: defaultdict[Login, list[Connection]] = defaultdict(list)
    for connection in connections:
        by_login[connection.login].append(connection)
    logins = list(by_login)
    for start in range(0, len(logins), BATCH_SIZE):
        batch = logins[start : start + BATCH_SIZE]
        for login in await database_sync_to_async(find_ended_logins)(batch):
            for connection in by_login[login]:
                connection.abort(NoSessionKey.code, "session ended")
