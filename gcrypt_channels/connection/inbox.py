"""The stream of events that an application receives: from its socket, and from its process."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from threading import get_ident
from typing import Any, Final

from ..asynctasks import end_task
from ..outbox import Event

Receive = Callable[[], Awaitable[Event]]
"""An ASGI ``receive``."""

GAP_EVENT: Final = "gcrypt.gap"
"""The type of the event by which a consumer hears that group messages were lost."""

CAPACITY: Final = 100
"""Group events that may wait for one application; the default capacity of a Channels layer."""


def is_reserved(kind: str) -> bool:
    """Whether events of this type come from the application's own connection alone.

    Channels calls the same handler for dots and underscores.
    """
    return kind.replace(".", "_").startswith(("websocket_", "gcrypt_"))


class Inbox:
    """Merges the events of one ``receive`` with those that are put.

    One task reads as long as the socket lives. It does not read a frame before the application
    asks for one, and a read survives the delivery of an event from elsewhere: no frame is lost.

    Attributes:
        on_room: called once when the application has received an event.
        has_gap_handler: whether the application has a handler for gap events.
    """

    __slots__ = (
        "_channel_event",
        "_convert",
        "_events",
        "_feed_ended",
        "_feeder",
        "_frame",
        "_loop",
        "_reader",
        "_receive",
        "_resume",
        "_thread",
        "_wakeup",
        "has_gap_handler",
        "on_room",
    )

    def __init__(
        self, receive: Receive, convert: Callable[[Event], Event | None] | None = None
    ) -> None:
        """Make the stream; ``convert`` turns what was read into an event, or ``None``."""
        self.on_room: Callable[[], None] | None = None
        self.has_gap_handler = False
        self._loop = asyncio.get_running_loop()
        self._thread = get_ident()  # a thread runs one loop at a time
        self._receive = receive
        self._convert = convert
        self._events: deque[Any] | None = None  # made when something has to wait
        self._frame: Event | None = None
        self._reader: asyncio.Task[None] | None = None
        self._wakeup: asyncio.Future[None] | None = None
        self._resume: asyncio.Future[None] | None = None
        self._feeder: asyncio.Task[None] | None = None
        self._feed_ended = False
        self._channel_event: tuple[Event, asyncio.Future[None]] | None = None

    def __len__(self) -> int:
        return 0 if self._events is None else len(self._events)

    @property
    def full(self) -> bool:
        """Whether no further group event may wait."""
        return len(self) >= CAPACITY

    def put(self, event: Event) -> None:
        """Add an event that does not come from the socket."""
        if self._events is None:
            self._events = deque()
        self._events.append(event)
        self._wake()

    def add_gap(self, group: str, missed: int) -> None:
        """Tell the application, if it wants to know, that ``missed`` messages were lost.

        A gap that it has not received yet grows, so that gaps do not pile up.
        """
        if not self.has_gap_handler:
            return
        for event in self._events or ():
            if event["type"] == GAP_EVENT and event["group"] == group:
                event["missed"] += missed
                return
        self.put({"type": GAP_EVENT, "group": group, "missed": missed})

    def clear(self) -> None:
        """Drop the events that were put and not received yet."""
        self._events = None

    async def get(self) -> Event:
        """The next event for the application."""
        while True:
            if self._events:
                event: Event = self._events.popleft()
                if not self._events:
                    self._events = None
                if self.on_room is not None:
                    on_room, self.on_room = self.on_room, None
                    on_room()
                if self._channel_event is not None and self._channel_event[0] is event:
                    self._channel_event[1].set_result(None)
                    self._channel_event = None
                return event
            frame = self._frame
            if frame is not None:
                self._frame = None
                event_of_frame = frame if self._convert is None else self._convert(frame)
                if event_of_frame is not None:
                    return event_of_frame
                continue
            if self._feeder is not None and self._feeder.done():
                self._feeder.result()
            if self._resume is not None:
                resume, self._resume = self._resume, None
                resume.set_result(None)
            elif self._reader is None:
                self._reader = self._loop.create_task(self._read())
            elif self._reader.done():
                reader, self._reader = self._reader, None
                reader.result()
                continue
            self._wakeup = self._loop.create_future()
            try:
                await self._wakeup
            finally:
                self._wakeup = None

    def feed(self, receive: Receive) -> None:
        """Put the events of another source as well, one at a time; what it raises, ``get`` raises.

        The next event is not awaited before the application has received the last one. May be
        called from any thread.
        """
        if get_ident() == self._thread:
            self._start_feed(receive)
        else:
            self._loop.call_soon_threadsafe(self._start_feed, receive)

    async def end_feed(self) -> None:
        """End what :meth:`feed` began, or is about to begin."""
        self._feed_ended = True
        await end_task(self._feeder)

    def _start_feed(self, receive: Receive) -> None:
        if not self._feed_ended:
            self._feeder = self._loop.create_task(self._feed(receive))

    def close(self) -> None:
        """Stop reading."""
        if self._reader is not None:
            self._reader.cancel()

    async def _read(self) -> None:
        receive, loop = self._receive, self._loop
        try:
            while True:
                event = await receive()
                self._frame = event
                wakeup = self._wakeup
                if wakeup is not None and not wakeup.done():
                    wakeup.set_result(None)
                if event["type"] == "websocket.disconnect":
                    return
                del event  # it is the application's now
                self._resume = loop.create_future()
                await self._resume
        finally:
            self._wake()

    async def _feed(self, receive: Receive) -> None:
        try:
            while True:
                event = await receive()
                taken = self._loop.create_future()
                self._channel_event = event, taken
                self.put(event)
                del event
                await taken
        finally:
            self._wake()

    def _wake(self) -> None:
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)
