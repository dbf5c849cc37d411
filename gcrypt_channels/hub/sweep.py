"""Looks up whether the logins behind live connections are still valid, many at a time.

This happens every ``GCRYPT["REVALIDATE_INTERVAL"]`` for all connections of a process, and shortly
after a connection was opened or its session or user changed for those concerned.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final

from channels.db import database_sync_to_async

from ..connection.connection import Connection
from ..exceptions import NoSessionKey, TryAgainLater
from ..sessions.login import BATCH_SIZE, Login, find_ended_logins
from .members import Members

logger = logging.getLogger(__name__)

RECHECK_DELAY: Final = 0.25
"""Seconds before a re-check, so that many causes make one look-up.

Django also announces a logout before it ends the session.
"""

MAX_FAILURES: Final = 3
"""Sweeps in a row that may fail before connections that cannot be verified are closed."""


class Sweep:
    """The look-ups of one hub.

    Attributes:
        failures: how many sweeps in a row have failed.
    """

    def __init__(
        self, members: Members, start: Callable[[Coroutine[Any, Any, None]], None]
    ) -> None:
        """Look after ``members``; ``start`` runs a coroutine in the background."""
        self.failures = 0
        self._members = members
        self._start = start
        self._suspects: set[Connection] = set()

    async def run(self) -> None:
        """Close every connection whose login has ended: with 4401.

        While the session store or the database cannot be asked, connections stay open for
        :data:`MAX_FAILURES` - 1 sweeps; the next failure closes with 1013 those left unknown.
        """
        connections = {each for each in self._members.connections if each.login.verifiable}
        try:
            await _close_ended(connections)
        except Exception:
            self.failures += 1
            logger.exception("Sessions could not be looked up (%d in a row).", self.failures)
            if self.failures >= MAX_FAILURES:
                for connection in connections:
                    connection.abort(TryAgainLater.code, TryAgainLater.reason)
        else:
            self.failures = 0

    def recheck_soon(self, connections: Iterable[Connection]) -> None:
        """Look up the logins of ``connections`` in :data:`RECHECK_DELAY` seconds."""
        suspects = {each for each in connections if each.login.verifiable}
        if not suspects:
            return
        if not self._suspects:
            asyncio.get_running_loop().call_later(RECHECK_DELAY, self._recheck)
        self._suspects |= suspects

    def _recheck(self) -> None:
        suspects, self._suspects = self._suspects, set()
        remaining = suspects & self._members.connections
        if remaining:
            self._start(_close_ended(remaining))


async def _close_ended(connections: Iterable[Connection]) -> None:
    by_login: defaultdict[Login, list[Connection]] = defaultdict(list)
    for connection in connections:
        by_login[connection.login].append(connection)
    logins = list(by_login)
    for start in range(0, len(logins), BATCH_SIZE):
        batch = logins[start : start + BATCH_SIZE]
        for login in await database_sync_to_async(find_ended_logins)(batch):
            for connection in by_login[login]:
                connection.abort(NoSessionKey.code, "session ended")
