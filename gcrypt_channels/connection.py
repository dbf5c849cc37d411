"""A session bound to one ASGI socket: the one place that seals and sends, in order."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import suppress
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol

from .conf import V2, conf
from .exceptions import HandshakeTimeout, LocalError, ProtocolError, TryAgainLater
from .inbox import Inbox, Receive
from .logins import NOBODY, Login
from .outbox import Event, Outbox, Outgoing, Send
from .protocol.classic import ClassicSession
from .protocol.events import Bytes, Closed, HandshakeDone, Text
from .protocol.secure import SecureSession

__all__ = ["GAP_EVENT", "Connection", "Event", "Receive", "Send"]

logger = logging.getLogger(__name__)

P = ParamSpec("P")

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


def at_home(
    method: Callable[Concatenate[Connection, P], Coroutine[object, object, None]],
) -> Callable[Concatenate[Connection, P], Coroutine[object, object, None]]:
    """Run ``method`` on the connection's own event loop.

    ``async_to_sync`` in a foreign thread brings a loop of its own, and two loops must not
    interleave in one connection.
    """

    @wraps(method)
    async def wrapper(self: Connection, /, *args: P.args, **kwargs: P.kwargs) -> None:
        call = method(self, *args, **kwargs)
        if asyncio.get_running_loop() is self.loop:
            await call
        else:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call, self.loop))

    return wrapper


class Connection:
    """One encrypted WebSocket; ``scope["gcrypt"]`` of the application.

    Attributes:
        profile: ``"gcrypt.v1"`` or ``"gcrypt.v2"``.
        path: the path of the WebSocket's URL.
        login: whose connection it is.
        session_id: names the login session in the hub; ``""`` if there is none.
        user_id: the primary key of the logged-in user as a string; ``""`` if there is none.
        groups: the groups joined.
        hears_gaps: whether the application has a handler for :data:`GAP_EVENT`.
        started: whether the application has been started.
        closed: whether the end has begun; nothing is delivered in either direction any more.
        close_code: the code that it ended with; 1006 until then, and when the socket just broke.
        loop: the event loop that the connection lives on.
    """

    def __init__(
        self,
        session: SecureSession | ClassicSession,
        receive: Receive,
        send: Send,
        *,
        hub: Switchboard,
        path: str = "",
        subprotocol: str | None = None,
        login: Login = NOBODY,
    ) -> None:
        """``subprotocol`` is what the accept has to name, whatever the application chooses."""
        self.profile: str = session.profile
        self.path = path
        self.login = login
        self.session_id = login.session_id
        self.user_id = login.user_id
        self.groups: set[str] = set()
        self.hears_gaps = False
        self.started = False
        self.closed = False
        self.close_code = 1006
        self.loop = asyncio.get_running_loop()
        self._session = session
        self._hub = hub
        self._subprotocol = subprotocol
        self._opened = False
        self._accepted = False
        self._peer_close: Closed | None = None
        self._inbox = Inbox(receive, self._open)
        self._outbox = Outbox(send, on_idle=self._tell_unsent, on_lost=self._lost)
        self._held: deque[tuple[str, int]] = deque()
        self._held_size = 0
        self._unsent: Counter[str] = Counter()
        self._undelivered: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<Connection {self.profile} {self.path!r}>"

    # What the application calls

    async def receive(self) -> Event:
        """The ``receive`` of the ASGI application: opened messages, group events, the end."""
        if self._undelivered and not self._inbox:
            self._tell(self._undelivered)
        return await self._inbox.get()

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
    async def refuse_plaintext(self, event: Event) -> None:
        """The ``send`` of an application without the mixin: fails closed on the first message."""
        if event["type"] != "websocket.send":
            await self.send(event)
        elif not self.closed:
            logger.error(
                "%r: a consumer sent plaintext; the message was dropped and the connection closed. "
                "Inherit EncryptedJsonConsumer, or use GcryptMiddleware(…, seal_outbound=True).",
                self.path,
            )
            self.abort(1011, "internal error")

    @at_home
    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection behind what was sent so far; does nothing the second time.

        Args:
            code: the close code the client sees.
            reason: told to the client, under encryption with ``gcrypt.v2``; 123 bytes at most.
        """
        item = self._end(code, reason)
        if item is not None:
            await item.wait()

    @at_home
    async def join(self, group: str) -> None:
        """Receive what :func:`~gcrypt_channels.broadcast` and ``group_send`` send to ``group``."""
        await self._hub.join(self, group)

    @at_home
    async def leave(self, group: str) -> None:
        """Undo :meth:`join`; leaving a group that was not joined does nothing."""
        await self._hub.leave(self, group)

    # What the hub calls

    def push(self, group: str, text: str, size: int) -> None:
        """Seal and send a group message of ``size`` bytes without ever waiting for this client.

        Past ``GCRYPT["BACKLOG_SIZE"]`` the message is dropped, and the client is told of a gap as
        soon as it reads again, or is closed with 1013, as ``GCRYPT["BACKLOG_POLICY"]`` says.
        """
        if self.closed:
            return
        if size > self._session.peer_max_message:
            self.tell_gap(group, 1)
        elif not self._accepted:
            self._hold(group, text, size)
        elif self._has_room(group, size):
            self._put(text, size)
        elif conf.backlog_policy == "close":
            self.abort(TryAgainLater.code, "the client reads too slowly")
        else:
            self._unsent[group] += 1

    def deliver(self, group: str, event: Event) -> None:
        """Give the application a group's event, in its turn among those from the socket."""
        if self.closed:
            return
        if len(self._inbox) < INBOX_CAPACITY:
            self._inbox.put(event)
        else:
            self._undelivered[group] += 1

    def tell_gap(self, group: str, missed: int) -> None:
        """Tell the client and the consumer that ``missed`` messages of ``group`` were lost."""
        if self.closed:
            return
        if not self._accepted:
            self._unsent[group] += missed
            return
        self._outbox.put(lambda: _sends(self._session.seal_gap(group, missed)))
        if self.hears_gaps:
            self._inbox.put({"type": GAP_EVENT, "group": group, "missed": missed})

    def abort(self, code: int, reason: str = "") -> None:
        """Close at once: what still waits is dropped, in both directions."""
        if not self.closed:
            self._inbox.clear()
            self._outbox.discard()
            self._end(code, reason)

    def _put(self, text: str, size: int) -> None:
        self._outbox.put(lambda: _sends(self._session.seal(text)), size)

    def _has_room(self, group: str, size: int) -> bool:
        """Whether a group message may wait; once one could not, none may until that was told."""
        backlog = self._outbox.backlog
        return not backlog or (group not in self._unsent and backlog + size <= conf.backlog_size)

    def _hold(self, group: str, text: str, size: int) -> None:
        """Keep a group message for a client that may not hear anything before the accept."""
        if self._held_size + size <= conf.backlog_size:
            self._held.append((text, size))
            self._held_size += size
        else:
            self._unsent[group] += 1

    # What the middleware calls

    async def handshake(self, kid: bytes, psk: bytes, *, timeout: float) -> tuple[str, ...] | None:
        """Greet a ``gcrypt.v2`` client under the session key ``psk`` (32 bytes) named ``kid`` (8).

        Returns the subprotocols that its application offers, or ``None`` if the connection ended
        instead: the client left, did not hold the key, or took more than ``timeout`` seconds.
        """
        await self._outbox.put(lambda: self._greeting(kid, psk)).wait()
        try:
            event = await asyncio.wait_for(self._inbox.get(), timeout)
        except asyncio.TimeoutError:
            self.fail(HandshakeTimeout())
            return None
        return event.get("handshake")

    def start(self) -> None:
        """Open the stream of events with the one that starts the application."""
        self.started = True
        self._inbox.put({"type": "websocket.connect"})

    def fail(self, error: ProtocolError) -> None:
        """End the connection over something the client sent: one log line, one close code."""
        logger.warning("%r: closed with %d.", self.path, error.code)
        self.abort(error.code, error.reason)

    async def finish(self) -> None:
        """Let go of the socket after the application has returned."""
        self._inbox.close()
        self._end(1000, "")
        await self._outbox.drained()

    # Inbound

    def _open(self, event: Event) -> Event | None:
        if event["type"] != "websocket.receive":
            if self._peer_close is not None:
                event = {**event, "code": self._peer_close.code, "reason": self._peer_close.reason}
            if not self.closed:
                self.closed = True
                self.close_code = event.get("code") or 1005  # the default of the ASGI specification
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
        if isinstance(opened, HandshakeDone):
            return {"type": "gcrypt.handshake", "handshake": opened.subprotocols}
        return None

    # Outbound

    async def _send(self, data: str | bytes) -> None:
        if self.closed:
            return
        if not self._accepted:
            raise LocalError("The application must accept the connection before it sends.")
        await self._outbox.put(lambda: _sends(self._session.seal(data)), len(data)).wait()

    async def _accept(self, event: Event) -> None:
        if self.closed:
            return
        if self._accepted:
            raise LocalError("The application accepted the connection twice.")
        self._accepted = True
        accepted = self._outbox.put(lambda: self._accepting(event))
        while self._held:
            self._put(*self._held.popleft())
        await accepted.wait()

    def _accepting(self, event: Event) -> list[Event]:
        subprotocol = event.get("subprotocol")
        if self.profile != V2:
            self._opened = True
            return [{**event, "subprotocol": self._subprotocol or subprotocol}]
        if event.get("headers"):
            logger.warning(
                "%r: headers passed to accept() come after the handshake and are not sent.",
                self.path,
            )
        return _sends(self._session.seal_accept(subprotocol))

    def _greeting(self, kid: bytes, psk: bytes) -> Iterator[Event]:
        self._opened = True
        yield {"type": "websocket.accept", "subprotocol": self._subprotocol}
        if isinstance(self._session, SecureSession):
            yield from _sends([self._session.hello(kid, psk)])

    def _end(self, code: int, reason: str) -> Outgoing | None:
        if self.closed:
            return None
        self.closed = True
        self.close_code = code
        reason = reason.encode()[:MAX_REASON].decode(errors="ignore")
        self._inbox.put({"type": "websocket.disconnect", "code": code, "reason": reason})
        return self._outbox.put(lambda: self._closing(code, reason))

    def _closing(self, code: int, reason: str) -> Iterator[Event]:
        if not self._opened:
            # A browser sees the code of a close only behind an accept.
            yield {"type": "websocket.accept", "subprotocol": self._subprotocol}
        with suppress(LocalError):  # a failed session has no keys: only the socket tells the end
            frames = self._session.seal_close(code, reason)
            yield from _sends(frames)
            if frames:
                reason = ""  # it was told under encryption, and is not for the wire
        yield {"type": "websocket.close", "code": code, "reason": reason}

    def _lost(self) -> None:
        self.closed = True

    def _tell_unsent(self) -> None:
        if self._unsent and self._accepted and not self._held:
            self._tell(self._unsent)

    def _tell(self, missed: Counter[str]) -> None:
        """Report and forget what could not be sent or delivered."""
        told = list(missed.items())
        missed.clear()
        for group, count in told:
            self.tell_gap(group, count)


def _sends(frames: Iterable[str | bytes]) -> list[Event]:
    return [
        {"type": "websocket.send", "text": frame}
        if isinstance(frame, str)
        else {"type": "websocket.send", "bytes": frame}
        for frame in frames
    ]
