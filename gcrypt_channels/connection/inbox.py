"""What an application receives: events from its socket and from the process, in one stream."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from ..outbox import Event, start_task

Receive = Callable[[], Awaitable[Event]]


class Inbox:
    """The two sources of a connection's events.

    At most one read of the socket is under way, and it survives the delivery of an event from
    elsewhere: no frame is lost, and none is read before the application asks for it.
    """

    def __init__(self, receive: Receive, open_event: Callable[[Event], Event | None]) -> None:
        """``open_event`` turns an event of the socket into one for the application, or ``None``."""
        self._receive = receive
        self._open = open_event
        self._events: deque[Event] = deque()
        self._reader: asyncio.Task[Event] | None = None
        self._wakeup: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._events)

    def put(self, event: Event) -> None:
        """Add an event that does not come from the socket."""
        self._events.append(event)
        self._wake()

    def clear(self) -> None:
        """Forget the events that were not asked for yet."""
        self._events.clear()

    async def get(self) -> Event:
        """The next event for the application."""
        while True:
            if self._events:
                return self._events.popleft()
            if self._reader is None:
                self._reader = start_task(self._read())
            if self._reader.done():
                reader, self._reader = self._reader, None
                opened = self._open(reader.result())
                if opened is not None:
                    return opened
            elif not self._events:
                self._wakeup = asyncio.get_running_loop().create_future()
                await self._wakeup

    def close(self) -> None:
        """Stop reading the socket."""
        if self._reader is not None:
            self._reader.cancel()

    async def _read(self) -> Event:
        try:
            return await self._receive()
        finally:
            self._wake()

    def _wake(self) -> None:
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)
