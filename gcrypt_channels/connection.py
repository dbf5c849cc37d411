"""A session bound to one ASGI socket: the one place that seals and sends, in order."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from .conf import V2, conf
from .exceptions import LocalError, ProtocolError, TryAgainLater
from .protocol.classic import ClassicSession
from .protocol.events import Bytes, Closed, Text
from .protocol.secure import SecureSession

logger = logging.getLogger(__name__)

Event = Mapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Session = SecureSession | ClassicSession

P = ParamSpec("P")
T = TypeVar("T")

GAP_EVENT = "gcrypt.gap"
"""The event by which a consumer hears that group messages were lost."""

INBOX_CAPACITY = 100
"""Group events that may wait for one consumer; the default capacity of a Channels layer."""


MAX_REASON = 123
"""Bytes of UTF-8 that fit beside the code in a WebSocket close frame (RFC 6455, section 5.5)."""


class Switchboard(Protocol):
    """What a connection needs of the hub."""

    async def join(self, connection: Connection, group: str) -> None: ...

    async def leave(self, connection: Connection, group: str) -> None: ...


def start_task(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Run ``work`` in a task of its own, so that cancelling the caller does not cancel it.

    Where Python can (3.12), it runs at once up to its first suspension: a message that the server
    takes without waiting costs no pass of the event loop.
    """
    if sys.version_info >= (3, 12):
        return asyncio.Task(work, loop=asyncio.get_running_loop(), eager_start=True)
    return asyncio.get_running_loop().create_task(work)


def at_home(
    method: Callable[Concatenate[Connection, P], Coroutine[Any, Any, None]],
) -> Callable[Concatenate[Connection, P], Coroutine[Any, Any, None]]:
    """Run ``method`` on the connection's own event loop.

    ``async_to_sync`` in a foreign thread brings a loop of its own, and two loops must not interleave
    in one connection.
    """

    @wraps(method)
    async def wrapper(self: Connection, /, *args: P.args, **kwargs: P.kwargs) -> None:
        call = method(self, *args, **kwargs)
        if asyncio.get_running_loop() is self.loop:
            await call
        else:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call, self.loop))

    return wrapper


class _Outgoing:
    """Something to seal and send when its turn comes."""

    __slots__ = ("done", "error", "seal", "size", "waiter")

    def __init__(self, seal: Callable[[], Iterable[Event]], size: int) -> None:
        self.seal = seal
        self.size = size
        self.done = False
        self.error: Exception | None = None
        self.waiter: asyncio.Future[None] | None = None

    def finish(self, error: Exception | None = None) -> None:
        self.done = True
        self.error = error
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


class Connection:
    """One encrypted WebSocket; ``scope["gcrypt"]`` of the application.

    Messages are sealed by one writer, in the order in which they were queued, and a message's
    counter is taken in the step that hands its frame to the server. Cancelling a sender therefore
    only stops its waiting: the frame that has its counter is still sent.

    Attributes:
        profile: ``"gcrypt.v1"`` or ``"gcrypt.v2"``.
        session_id: names the login session in the hub; ``""`` if there is none.
        user_id: the primary key of the logged-in user as a string; ``""`` if there is none.
        groups: the groups joined.
        hears_gaps: whether the application has a handler for :data:`GAP_EVENT`.
        loop: the event loop that the connection lives on.
    """

    def __init__(
        self,
        session: Session,
        receive: Receive,
        send: Send,
        *,
        hub: Switchboard,
        path: str = "",
        subprotocol: str | None = None,
        session_id: str = "",
        user_id: str = "",
    ) -> None:
        self.profile: str = session.profile
        self.session_id = session_id
        self.user_id = user_id
        self.path = path
        self.groups: set[str] = set()
        self.hears_gaps = False
        self.closed = False
        self.loop = asyncio.get_running_loop()
        self._session = session
        self._server_receive = receive
        self._server_send = send
        self._hub = hub
        self._subprotocol = subprotocol
        self._accepted = False
        self._queue: deque[_Outgoing] = deque()
        self._backlog = 0
        self._writing = False
        self._writer: asyncio.Task[None] | None = None
        self._unsent: Counter[str] = Counter()
        self._inbox: deque[Event] = deque()
        self._undelivered: Counter[str] = Counter()
        self._reader: asyncio.Task[Event] | None = None
        self._wakeup: asyncio.Future[None] | None = None
        self._peer_close: Closed | None = None

    def __repr__(self) -> str:
        return f"<Connection {self.profile} {self.path!r}>"

    # What the application calls ------------------------------------------------------------------

    @at_home
    async def send(self, event: Event) -> None:
        """The sealing ``send`` of the ASGI application.

        Raises:
            MessageTooBig: the message is over what the client accepts; nothing was sent.
            LocalError: the message cannot be carried by this profile, or precedes the accept.
            OSError: the server says that the client is gone.
        """
        kind = event["type"]
        if kind == "websocket.send":
            text = event.get("text")
            data = text if text is not None else event.get("bytes")
            if data is None:
                raise ValueError("A websocket.send event needs 'text' or 'bytes'.")
            await self._send(data)
        elif kind == "websocket.accept":
            await self._accept(event)
        elif kind == "websocket.close":
            await self.close(event.get("code", 1000), event.get("reason") or "")
        else:
            raise ValueError(f"{kind!r} cannot be sent over an encrypted WebSocket.")

    @at_home
    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection behind what was sent so far; does nothing the second time.

        Args:
            code: the close code the client sees.
            reason: told to the client under encryption (``gcrypt.v2``), 123 bytes at most.
        """
        item = self._end(code, reason)
        if item is not None:
            await self._written(item)

    @at_home
    async def join(self, group: str) -> None:
        """Receive what :func:`~gcrypt_channels.broadcast` and ``group_send`` send to ``group``."""
        await self._hub.join(self, group)

    @at_home
    async def leave(self, group: str) -> None:
        """Undo :meth:`join`; leaving a group that was not joined does nothing."""
        await self._hub.leave(self, group)

    async def refuse_plaintext(self, event: Event) -> None:
        """The ``send`` of an application without the mixin: fails closed on every message."""
        if event["type"] != "websocket.send":
            await self.send(event)
            return
        logger.error(
            "%s: a consumer sent plaintext; the message was dropped and the connection closed. "
            "Inherit EncryptedJsonConsumer first, or use GcryptMiddleware(…, seal_outbound=True).",
            self.path,
        )
        self.abort(1011, "internal error")

    # What the hub calls --------------------------------------------------------------------------

    def push(self, group: str, text: str, size: int) -> None:
        """Seal and send a group message of ``size`` bytes without ever waiting for this client.

        Past ``GCRYPT["BACKLOG_SIZE"]`` the message is dropped, and the client is told of a gap as
        soon as it reads again, or is closed with 1013, as ``GCRYPT["BACKLOG_POLICY"]`` says.
        """
        if self.closed or not self._accepted:
            return
        if size > self._session.peer_max_message:
            self.tell_gap(group, 1)
        elif not self._backlog or self._backlog + size <= conf.backlog_size:
            self._put(_Outgoing(lambda: self._frames(self._session.seal(text)), size))
        elif conf.backlog_policy == "close":
            self.abort(TryAgainLater.code, "the client reads too slowly")
        else:
            self._unsent[group] += 1

    def deliver(self, group: str, event: Event) -> None:
        """Give the application a group's event, in its turn among those from the socket."""
        if self.closed:
            return
        if len(self._inbox) >= INBOX_CAPACITY:
            self._undelivered[group] += 1
            return
        self._inbox.append(event)
        self._wake()

    def tell_gap(self, group: str, missed: int) -> None:
        """Tell the client and the consumer that ``missed`` messages of ``group`` were lost."""
        if self.closed or not self._accepted:
            return
        self._put(_Outgoing(lambda: self._frames(self._session.seal_gap(group, missed)), 0))
        if self.hears_gaps:
            self._inbox.append({"type": GAP_EVENT, "group": group, "missed": missed})
            self._wake()

    def abort(self, code: int, reason: str = "") -> None:
        """Close at once: what still waits to be sent is dropped, nothing more is delivered."""
        self._inbox.clear()
        self._end(code, reason, discard=True)

    # What the middleware calls -------------------------------------------------------------------

    def start(self) -> None:
        """Open the inbox: the application's first event is ``websocket.connect``."""
        self._inbox.append({"type": "websocket.connect"})

    async def receive(self) -> Event:
        """The ``receive`` of the ASGI application: opened messages, group events, the end."""
        while True:
            if self._inbox:
                return self._inbox.popleft()
            if self._undelivered:
                self._tell(self._undelivered)
                continue
            if self._reader is None:
                self._reader = start_task(self._read())
            if self._reader.done():
                reader, self._reader = self._reader, None
                opened = self._open(reader.result())
                if opened is not None:
                    return opened
            elif not self._inbox:
                self._wakeup = self.loop.create_future()
                await self._wakeup

    async def finish(self) -> None:
        """Let go of the socket after the application has returned."""
        if self._reader is not None:
            self._reader.cancel()
        self._end(1000, "")
        if self._writing and self._writer is not None:
            await asyncio.wait([self._writer])

    # Inbound -------------------------------------------------------------------------------------

    async def _read(self) -> Event:
        try:
            event: Event = await self._server_receive()
            return event
        finally:
            self._wake()

    def _wake(self) -> None:
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    def _open(self, event: Event) -> Event | None:
        if event["type"] != "websocket.receive":
            self.closed = True
            if self._peer_close is not None:
                return {**event, "code": self._peer_close.code, "reason": self._peer_close.reason}
            return event
        if self.closed:
            return None
        frame = event.get("bytes")
        try:
            opened = self._session.receive(event["text"] if frame is None else frame)
        except ProtocolError as error:
            self.fail(error)
            return None
        if isinstance(opened, Text):
            return {"type": "websocket.receive", "text": opened.data}
        if isinstance(opened, Bytes):
            return {"type": "websocket.receive", "bytes": opened.data}
        if isinstance(opened, Closed):
            self._peer_close = opened
        return None

    def fail(self, error: ProtocolError) -> None:
        """End the connection over something the client sent: one log line, one close code."""
        logger.warning("%s: closed with %d.", self.path, error.code)
        self.abort(error.code, error.reason)

    # Outbound ------------------------------------------------------------------------------------

    async def _send(self, data: str | bytes) -> None:
        if self.closed:
            return
        if not self._accepted:
            raise LocalError("The application must accept the connection before it sends.")
        item = _Outgoing(lambda: self._frames(self._session.seal(data)), len(data))
        self._put(item)
        await self._written(item)

    async def _accept(self, event: Event) -> None:
        if self.closed:
            return
        if self._accepted:
            raise LocalError("The application accepted the connection twice.")
        self._accepted = True
        subprotocol = event.get("subprotocol")
        if self.profile == V2:
            if event.get("headers"):
                logger.warning(
                    "%s: the headers passed to accept() come after the handshake and are not sent.",
                    self.path,
                )
            item = _Outgoing(lambda: self._frames(self._session.seal_accept(subprotocol)), 0)
        else:
            accept = {**event, "subprotocol": self._subprotocol or subprotocol}
            item = _Outgoing(lambda: [accept], 0)
        self._put(item)
        await self._written(item)

    def _frames(self, frames: Iterable[str | bytes]) -> list[Event]:
        return [
            {"type": "websocket.send", "text": frame}
            if isinstance(frame, str)
            else {"type": "websocket.send", "bytes": frame}
            for frame in frames
        ]

    def _end(self, code: int, reason: str, *, discard: bool = False) -> _Outgoing | None:
        if self.closed:
            return None
        self.closed = True
        if discard:
            self._backlog = 0
            while self._queue:
                self._queue.popleft().finish()
        reason = reason.encode()[:MAX_REASON].decode(errors="ignore")
        item = _Outgoing(lambda: self._closing(code, reason), 0)
        self._inbox.append({"type": "websocket.disconnect", "code": code, "reason": reason})
        self._wake()
        self._put(item)
        return item

    def _closing(self, code: int, reason: str) -> Iterable[Event]:
        if not self._accepted and self.profile != V2:
            # A browser sees the code of a close only behind an accept.
            yield {"type": "websocket.accept", "subprotocol": self._subprotocol}
        try:
            yield from self._frames(self._session.seal_close(code, reason))
        except LocalError:
            pass  # the session failed: its keys are gone, and only the socket can tell the end
        yield {"type": "websocket.close", "code": code, "reason": reason}

    def _put(self, item: _Outgoing) -> None:
        self._queue.append(item)
        self._backlog += item.size
        if not self._writing:
            self._writing = True
            self._writer = start_task(self._write())

    async def _written(self, item: _Outgoing) -> None:
        """Wait until the server has taken ``item``, which is how a slow client slows its sender."""
        if not item.done:
            item.waiter = self.loop.create_future()
            await item.waiter
        if item.error is not None:
            raise item.error

    async def _write(self) -> None:
        try:
            while self._queue:
                item = self._queue.popleft()
                try:
                    for event in item.seal():
                        await self._server_send(event)
                except (LocalError, ProtocolError) as error:
                    item.finish(error)  # not sealed: the session is as it was
                except Exception as error:
                    # The server could not take a frame that has its counter: nothing can follow it.
                    self.closed = True
                    item.finish(error)
                    while self._queue:
                        self._queue.popleft().finish(error)
                else:
                    item.finish()
                self._backlog = max(0, self._backlog - item.size)
                if not self._queue:
                    self._tell(self._unsent)
        finally:
            self._writing = False

    def _tell(self, missed: Counter[str]) -> None:
        """Report and forget what could not be sent or delivered."""
        told = list(missed.items())
        missed.clear()
        for group, count in told:
            self.tell_gap(group, count)
