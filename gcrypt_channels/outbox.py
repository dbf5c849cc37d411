"""Serialises the writes of one connection.

A message is sealed immediately before it is sent, so nonces follow the send order, whichever task
or thread sends. Cancelling a sender does not cancel the write.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

from .asynctasks import start_task
from .exceptions import LocalError, ProtocolError

Event = Mapping[str, Any]
"""An ASGI event."""

Send = Callable[[Any], Awaitable[None]]
"""The server's ``send``, which takes an ASGI event; for a client, that of its socket."""

MIN_CHARGE: Final = 256
"""Bytes that a waiting item counts at least, so that many small ones are bounded as well."""


def as_event(frame: str | bytes) -> Event:
    """The ASGI event that sends ``frame``."""
    if isinstance(frame, str):
        return {"type": "websocket.send", "text": frame}
    return {"type": "websocket.send", "bytes": frame}


class Outgoing:
    """An item of the queue: a message to seal, or a function that makes what is sent.

    Attributes:
        message: what ``seal`` takes; ``None`` where ``make`` is given.
        make: yields what ``send`` takes, already sealed.
        group: the group whose message it is; ``""`` if it is the application's own.
        charge: bytes that it counts while it waits.
    """

    __slots__ = ("_done", "_error", "_waiter", "charge", "group", "make", "message")

    def __init__(
        self,
        message: Any,
        make: Callable[[], Iterable[Any]] | None,
        charge: int,
        group: str,
    ) -> None:
        self.message = message
        self.make = make
        self.charge = charge
        self.group = group
        self._done = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    def finish(self, error: Exception | None = None) -> None:
        """Wake the sender, which raises ``error`` if there is one."""
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
    """A queue of messages and the one task that writes them.

    Attributes:
        backlog: bytes of plaintext that wait, each item counting at least :data:`MIN_CHARGE`.
        sent: how many frames were handed on.
        interrupted: whether a message was given up between two of its frames.
    """

    __slots__ = (
        "_on_idle",
        "_on_lost",
        "_on_refused",
        "_queue",
        "_seal",
        "_send",
        "_stop",
        "_wrap",
        "_writer",
        "_writing",
        "backlog",
        "interrupted",
        "sent",
    )

    def __init__(
        self,
        send: Send,
        *,
        seal: Callable[[Any], Iterable[Any]],
        wrap: Callable[[Any], Any] | None = None,
        on_idle: Callable[[], None] | None = None,
        on_lost: Callable[[], None] | None = None,
        on_refused: Callable[[str, Exception], None] | None = None,
    ) -> None:
        """Make an empty queue.

        Args:
            send: takes what is written.
            seal: turns a message into its frames.
            wrap: turns a frame into what ``send`` takes, where that is something else.
            on_idle: called when the queue has become empty.
            on_lost: called when ``send`` raised; nothing can follow.
            on_refused: called with the group when a group's message could not be sealed.
        """
        self.backlog = 0
        self.sent = 0
        self.interrupted = False
        self._stop = False
        self._send = send
        self._seal = seal
        self._wrap = wrap
        self._on_idle = on_idle
        self._on_lost = on_lost
        self._on_refused = on_refused
        self._queue: deque[Outgoing] | None = None  # made when something has to wait
        self._writing = False
        self._writer: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing is being written."""
        return not self._writing

    def put(self, message: Any, group: str = "", size: int | None = None) -> Outgoing:
        """Queue a message of ``size`` bytes, by default its length; start the writer if idle."""
        charge = max(len(message) if size is None else size, MIN_CHARGE)
        return self._put(Outgoing(message, None, charge, group))

    def put_made(self, make: Callable[[], Iterable[Any]], group: str = "") -> Outgoing:
        """Queue what ``make`` yields when its turn comes, and start the writer if it is idle."""
        return self._put(Outgoing(None, make, MIN_CHARGE, group))

    def _put(self, item: Outgoing) -> Outgoing:
        self.backlog += item.charge
        if self._writing:
            if self._queue is None:
                self._queue = deque()
            self._queue.append(item)
        else:
            self._writing = True
            self._writer = start_task(self._write(item))
        return item

    def discard(self) -> None:
        """Drop everything that was not sealed yet, and the frames left of the message under way."""
        self._stop = True
        queue, self._queue = self._queue, None
        for item in queue or ():
            self.backlog -= item.charge
            item.finish()

    async def drained(self, timeout: float | None = None) -> bool:
        """Wait until the server has taken everything; false if ``timeout`` seconds passed first."""
        if not self._writing or self._writer is None:
            return True
        done, _ = await asyncio.wait([self._writer], timeout=timeout)
        return bool(done)

    def cancel(self) -> None:
        """Give up what is being written; :meth:`drained` tells when that has ended."""
        self.discard()
        if self._writing and self._writer is not None:
            self._writer.cancel()

    async def _write(self, item: Outgoing) -> None:
        try:
            while True:
                await self._write_one(item)
                self.backlog -= item.charge
                if not self._queue and self._on_idle is not None:
                    self._on_idle()
                if not self._queue:
                    return
                item = self._queue.popleft()
        except BaseException as error:
            # A sealed frame did not get through: nothing can follow it.
            failure = error if isinstance(error, Exception) else OSError("the write was cancelled")
            queue, self._queue = self._queue, None
            for each in (item, *(queue or ())):
                self.backlog -= each.charge
                each.finish(failure)
            if self._on_lost is not None:
                self._on_lost()
            if not isinstance(error, Exception):
                raise
        finally:
            self._queue = None
            self._writing = False

    async def _write_one(self, item: Outgoing) -> None:
        send, wrap = self._send, self._wrap
        try:
            if item.make is not None:
                for event in item.make():
                    await send(event)
            else:
                for frame in self._seal(item.message):
                    if self._stop:
                        self.interrupted = True
                        break
                    await send(frame if wrap is None else wrap(frame))
                    self.sent += 1
        except (LocalError, ProtocolError) as error:
            item.finish(error)  # it was not sealed, and the session is as it was
            if item.group and self._on_refused is not None:
                self._on_refused(item.group, error)
        else:
            item.finish()
