"""Background work of a hub: control messages and the periodic sweep."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from typing import Any

from ..asynctasks import end_task
from ..conf import conf
from .members import Members
from .sweep import Sweep

logger = logging.getLogger(__name__)

Work = Coroutine[Any, Any, None]


class Tasks:
    """The tasks of one hub, from its first connection to its last.

    Attributes:
        sweep: looks up the logins of the connections.
    """

    def __init__(self, members: Members) -> None:
        self.sweep = Sweep(members, self.start)
        self._members = members
        self._sweep_now = asyncio.Event()
        self._sweeper = asyncio.create_task(self._sweep_periodically())
        self._working: set[asyncio.Task[None]] = set()

    def handle_control(self, message: Mapping[str, Any]) -> None:
        """Carry out a control message; one that this version does not know does nothing."""
        if message.get("op") == "revoke":
            self._revoke(message)

    def start(self, work: Work) -> None:
        """Run ``work`` beside everything else; what it raises is logged."""
        task = asyncio.create_task(self._guard(work))
        self._working.add(task)
        task.add_done_callback(self._working.discard)
        task.add_done_callback(lambda _: work.close())  # it may have been cancelled unstarted

    def sweep_soon(self) -> None:
        """Sweep now, unless that has been asked for already and has not begun."""
        self._sweep_now.set()

    def end(self) -> asyncio.Future[Any]:
        """Cancel everything at once; the future is done when all of it has ended.

        Once may not be enough: before Python 3.12, ``wait_for`` swallows a cancellation that comes
        together with the result.
        """
        tasks = [self._sweeper, *self._working]
        for task in tasks:
            task.cancel()
        return asyncio.gather(*(end_task(task) for task in tasks))

    def _revoke(self, message: Mapping[str, Any]) -> None:
        """Close the connections that the message names, and look up those that it casts doubt on.

        ``{"op": "revoke", "sessions": {session_id: reason}, "users": {user_id: reason},
        "recheck": [user_id, …]}``
        """
        by_session, by_user = self._members.by_session, self._members.by_user
        for index, ended in ((by_session, message["sessions"]), (by_user, message["users"])):
            for subject, reason in ended.items():
                for connection in list(index.get(subject, ())):
                    self._members.revoke(connection, reason)
        for user_id in message["recheck"]:
            self.sweep.recheck_soon(by_user.get(user_id, ()))

    async def _guard(self, work: Work) -> None:
        try:
            await work
        except Exception:
            logger.exception("Work on the connections of this process failed.")

    async def _sweep_periodically(self) -> None:
        now = asyncio.get_running_loop().time
        due = now() + conf.revalidate_interval
        while True:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._sweep_now.wait(), due - now())
            self._sweep_now.clear()
            is_periodic = now() >= due
            if is_periodic:
                due = now() + conf.revalidate_interval
            await self._guard(self.sweep.run(is_periodic=is_periodic))
