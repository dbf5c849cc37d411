"""The ordered writer of one connection: whoever sends, frames leave in the order of their counters.

A message is sealed, and so takes its counter, in the step that hands its frame to the server, by a
task of the writer's own. Cancelling a sender therefore only stops its waiting: a frame that has its
counter is always sent, and one that was dropped never had any.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, TypeVar

from .exceptions import LocalError, ProtocolError

Event = Mapping[str, Any]
Send = Callable[[Any], Awaitable[None]]
Seal = Callable[[], Iterable[Any]]
"""Seals a message, and yields what `send` takes: the events or frames that carry it."""

T = TypeVar("T")


def start_task(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Run ``work`` in a task of its own, so that cancelling the caller does not cancel it.

    Where Python can (3.12), it runs at once up to its first suspension: a message that the server
    takes without waiting costs no pass of the event loop.
    """
    loop = asyncio.get_running_loop()
    if sys.version_info >= (3, 12):
        return asyncio.Task(work, loop=loop, eager_start=True)
    return loop.create_task(work)


class Outgoing:
    """Something to seal and send when its turn comes."""

    __slots__ = ("_done", "_error", "_waiter", "seal", "size")

    def __init__(self, seal: Seal, size: int) -> None:
        self.seal = seal
        self.size = size
        self._done = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    def finish(self, error: Exception | None = None) -> None:
        """Let those who wait go on, or fail."""
        self._done = True
        self._error = error
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self) -> None:
        """Wait until the server has taken it, which is how a slow client slows its sender."""
        if not self._done:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self._error is not None:
            raise self._error


class Outbox:
    """A queue and its writer.

    Attributes:
        backlog: what waits to be sealed, in bytes of plaintext.
    """

    def __init__(
        self, send: Send, *, on_idle: Callable[[], None], on_lost: Callable[[], None]
    ) -> None:
        """``on_idle`` is called when the queue has run empty, ``on_lost`` when ``send`` failed."""
        self.backlog = 0
        self._send = send
        self._on_idle = on_idle
        self._on_lost = on_lost
        self._queue: deque[Outgoing] = deque()
        self._writing = False
        self._writer: asyncio.Task[None] | None = None

    def put(self, seal: Seal, size: int = 0) -> Outgoing:
        """Queue what ``seal`` will make, ``size`` bytes of plaintext, and see it written."""
        item = Outgoing(seal, size)
        self._queue.append(item)
        self.backlog += size
        if not self._writing:
            self._writing = True
            self._writer = start_task(self._write())
        return item

    def discard(self) -> None:
        """Drop everything that has no counter yet."""
        while self._queue:
            item = self._queue.popleft()
            self.backlog -= item.size
            item.finish()

    async def drained(self) -> None:
        """Wait until the server has taken everything."""
        if self._writing and self._writer is not None:
            await asyncio.wait([self._writer])

    async def _write(self) -> None:
        try:
            while self._queue:
                item = self._queue.popleft()
                try:
                    for event in item.seal():
                        await self._send(event)
                except (LocalError, ProtocolError) as error:
                    item.finish(error)  # it was not sealed: the session is as it was
                except Exception as error:  # noqa: BLE001 - servers raise what they like
                    # A frame that has its counter did not get through: nothing can follow it.
                    self._on_lost()
                    item.finish(error)
                    while self._queue:
                        self._queue.popleft().finish(error)
                else:
                    item.finish()
                self.backlog -= item.size
                if not self._queue:
                    self._on_idle()
        finally:
            self._writing = False
