"""Ends the connections of this process before it stops, so that every client knows and returns.

See ``docs/deployment.md`` and ``docs/protocol.md``, *Close codes*.
"""

from __future__ import annotations

import asyncio
import logging
from random import SystemRandom
from typing import Any, Final

from ..connection.connection import Connection
from ..connection.transport import drop_transport, is_open
from ..exceptions import ServiceRestart
from .hub import Hub, current_hub, hubs_by_loop

logger = logging.getLogger(__name__)

LATE: Final = 0.5
"""Seconds behind the grace after which a client that does not read is dropped."""

END_TIMEOUT: Final = 1.0
"""Seconds that an application has to end when its client was dropped, before it is cancelled."""

CANCEL_TIMEOUT: Final = 0.5
"""Seconds that a cancelled application has to end."""

LONGEST: Final = LATE + END_TIMEOUT + CANCEL_TIMEOUT
"""Seconds behind the grace after which a drain is over, whatever clients and applications do."""

POLL_INTERVAL: Final = 0.02
"""Seconds between two looks at the TCP connections, whose end no server tells."""

_drains: dict[Hub, asyncio.Task[None]] = {}
_random = SystemRandom()


async def drain(grace: float = 3.0) -> None:
    """End every connection of this process with an authentic 1012, and take no new ones.

    Each ends at a random moment of the next ``grace`` seconds, behind what was sent to it, so that
    clients do not all return at once. One that does not read is dropped half a second after that.
    Whoever asks for a connection from now on gets HTTP 503, which a proxy takes for a cause to ask
    another process. It returns when all have ended, two seconds behind the grace at the latest.

    The process never takes connections again. A second call waits for the first one. It runs by
    itself at SIGTERM; see ``docs/deployment.md``.
    """
    running = asyncio.get_running_loop()
    drains: list[asyncio.Future[None]] = [_begin(current_hub(), grace)]
    for loop in hubs_by_loop():
        if loop is not running and loop.is_running():  # that of another thread
            elsewhere = asyncio.run_coroutine_threadsafe(_drain_here(grace), loop)
            drains.append(asyncio.wrap_future(elsewhere))
    await asyncio.wait(drains, timeout=grace + LONGEST + LATE)


async def _drain_here(grace: float) -> None:
    await _begin(current_hub(), grace)


def _begin(hub: Hub, grace: float) -> asyncio.Task[None]:
    """The one drain of ``hub``; it goes on when who waits for it is cancelled."""
    if hub not in _drains:
        hub.draining = True
        for each in [hub for hub, task in _drains.items() if task.get_loop().is_closed()]:
            del _drains[each]
        _drains[hub] = asyncio.create_task(_drain(hub, grace))
    return _drains[hub]


async def _drain(hub: Hub, grace: float) -> None:
    loop = asyncio.get_running_loop()
    serving = dict(hub.serving)
    logger.info("Draining: %d connections end within %g seconds.", len(serving), grace)
    deadline = loop.time() + grace + LATE
    for connection in list(hub.members.connections):
        if connection.started:
            loop.call_later(_random.uniform(0, grace), _end, connection)
    loop.call_later(grace, _end_all, hub)  # a close during a handshake would look like a refusal
    if serving:
        await asyncio.wait(serving, timeout=grace + LATE)
    sends = serving.values()
    while loop.time() < deadline and any(map(is_open, sends)):  # noqa: ASYNC110 - no server tells
        await asyncio.sleep(POLL_INTERVAL)
    left = [send for task, send in serving.items() if not task.done() or is_open(send)]
    for send in left:
        drop_transport(send)
    late = await _wait({task for task in serving if not task.done()}, END_TIMEOUT)
    for task in late:
        task.cancel()
    await _wait(late, CANCEL_TIMEOUT)
    if left:
        logger.warning(
            "Draining: dropped clients that did not read: %d; cancelled applications: %d.",
            len(left),
            len(late),
        )


def _end(connection: Connection) -> None:
    connection.end(ServiceRestart.code, ServiceRestart.reason)


def _end_all(hub: Hub) -> None:
    for connection in list(hub.members.connections):
        _end(connection)


async def _wait(tasks: set[asyncio.Task[Any]], timeout: float) -> set[asyncio.Task[Any]]:
    """Wait for ``tasks``; return those that have not ended after ``timeout`` seconds."""
    if tasks:
        _, tasks = await asyncio.wait(tasks, timeout=timeout)
    return tasks
