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
from ..exceptions import TryAgainLater
from ..sessions.login import BATCH_SIZE, Login, find_ended_logins
from .members import Members

logger = logging.getLogger(__name__)

RECHECK_DELAY: Final = 0.25
"""Seconds before a re-check, so that many causes make one look-up.

Django also announces a logout before it ends the session.
"""

LOOKUP_TIMEOUT: Final = 5.0
"""Seconds that the session store and the database have for one look-up."""

RETRY_DELAY: Final = 2.0
"""Seconds before a re-check that failed is tried again."""

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
        self._retry_logged = False
        self._members = members
        self._start = start
        self._suspects: set[Connection] = set()
        self._unverified: set[Connection] = set()
        self._verifying = asyncio.Lock()

    async def run(self, *, is_periodic: bool = True) -> None:
        """Close every connection whose login has ended: with 4401.

        While the session store or the database cannot be asked, connections stay open for
        :data:`MAX_FAILURES` - 1 sweeps; the next failure closes with 1013 those left unknown. Only
        periodic sweeps count: one that follows an outage of the channel layer is no more reason.
        """
        connections = {each for each in self._members.connections if each.login.verifiable}
        try:
            await self._close_ended(connections)
        except Exception:
            self.failures += is_periodic
            logger.exception("Sessions could not be looked up (%d in a row).", self.failures)
            if self.failures >= MAX_FAILURES:
                logger.warning(
                    "Closed with 1013: %d connections. The session store or the database does "
                    "not say whether their logins still hold.",
                    len(connections),
                )
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

    async def verify(self, connection: Connection) -> None:
        """Look up the login of ``connection`` now, and close it if that has ended.

        Those that ask while a look-up is under way share the next one.

        Raises:
            TryAgainLater: the session store or the database cannot be asked.
        """
        if not connection.login.verifiable:
            return
        self._unverified.add(connection)
        try:
            await asyncio.wait_for(self._verify(connection), LOOKUP_TIMEOUT)
        except Exception as error:
            logger.warning("A login could not be looked up: %r.", error)
            raise TryAgainLater from error
        finally:
            self._unverified.discard(connection)

    async def _verify(self, connection: Connection) -> None:
        async with self._verifying:
            if connection not in self._unverified:
                return  # another has looked it up as well
            waiting, self._unverified = self._unverified, set()
            try:
                await self._close_ended(waiting)
            except BaseException:
                self._unverified |= waiting
                raise

    def _recheck(self) -> None:
        suspects, self._suspects = self._suspects, set()
        remaining = suspects & self._members.connections
        if remaining:
            self._start(self._look_up(remaining))

    async def _look_up(self, suspects: set[Connection]) -> None:
        try:
            await self._close_ended(suspects)
            self._retry_logged = False
        except Exception as error:  # noqa: BLE001 - stores raise what they like
            if not self._retry_logged:
                self._retry_logged = True
                logger.warning("Logins could not be looked up, which is tried again: %r", error)
            await asyncio.sleep(RETRY_DELAY)
            self.recheck_soon(suspects & self._members.connections)

    async def _close_ended(self, connections: Iterable[Connection]) -> None:
        by_login: defaultdict[Login, list[Connection]] = defaultdict(list)
        for connection in connections:
            by_login[connection.login].append(connection)
        logins = list(by_login)
        for start in range(0, len(logins), BATCH_SIZE):
            batch = logins[start : start + BATCH_SIZE]
            look_up = database_sync_to_async(find_ended_logins)(batch)
            for login in await asyncio.wait_for(look_up, LOOKUP_TIMEOUT):
                for connection in by_login[login]:
                    self._members.revoke(connection, "session ended")
