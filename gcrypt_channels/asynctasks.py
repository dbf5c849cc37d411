"""Starts and ends asyncio tasks."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")

CANCEL_INTERVAL: Final = 0.1
"""Seconds after which a task that goes on is cancelled again."""

CANCEL_ATTEMPTS: Final = 50
"""How often a task is cancelled before it is given up."""


def start_task(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Run ``work`` in a task of its own, so that cancelling the caller does not cancel it.

    Where Python can (3.12), it runs at once up to its first suspension: a message that the server
    takes without waiting costs no pass of the event loop.
    """
    loop = asyncio.get_running_loop()
    if sys.version_info >= (3, 12):
        return asyncio.Task(work, loop=loop, eager_start=True)
    return loop.create_task(work)


async def end_task(task: asyncio.Task[Any] | None) -> None:
    """Cancel ``task`` until it ends, and ignore its result.

    Once is not enough for a channel layer: redis-py may swallow a cancellation, and the task goes
    on receiving.
    """
    for _ in range(CANCEL_ATTEMPTS):
        if task is None or task.done():
            return
        task.cancel()
        await asyncio.wait([task], timeout=CANCEL_INTERVAL)
    logger.error("A task did not end although it was cancelled %d times.", CANCEL_ATTEMPTS)
