"""One encrypted WebSocket between its ASGI server and its application."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from contextvars import copy_context
from functools import wraps
from threading import get_ident
from typing import Concatenate, Final, ParamSpec, Protocol, cast

from ..asynctasks import CANCEL_INTERVAL, start_task
from ..crypto.psk import SessionKey
from ..exceptions import DecryptionFailed, HandshakeTimeout, LocalError, ProtocolError
from ..outbox import Event, Outbox, Outgoing, Send, as_event
from ..protocol.classic import ClassicSession
from ..protocol.events import Bytes, Closed, HandshakeDone, Text
from ..protocol.messages import check_close
from ..protocol.profiles import V1, Profile
from ..protocol.secure import SecureSession
from ..sessions.login import NOBODY, Login
from .backlog import Backlog
from .inbox import Inbox, Receive

logger = logging.getLogger(__name__)

P = ParamSpec("P")

END_TIMEOUT: Final = 5.0
"""Seconds that the server has to report the end of a socket that has in effect ended."""

WRITE_TIMEOUT: Final = 5.0
"""Seconds that a client has to take the next frame, once the connection is to end."""

ACCEPT_TIMEOUT: Final = 10.0
"""Seconds that an application has to accept or to close."""

APPLICATION_TIMEOUT: Final = 10.0
"""Seconds that an application without the mixin has to return behind the end."""


class GroupRegistry(Protocol):
    """What a connection needs of the hub."""

    async def join(self, connection: Connection, group: str) -> None:
        """Make ``connection`` a member of ``group``."""

    async def leave(self, connection: Connection, group: str) -> None:
        """End its membership."""


def on_own_loop(
    method: Callable[Concatenate[Connection, P], Coroutine[object, object, None]],
) -> Callable[Concatenate[Connection, P], Coroutine[object, object, None]]:
    """Run ``method`` on the connection's own event loop.

    ``async_to_sync`` in a foreign thread brings a loop of its own, and two loops must not
    interleave in one connection.
    """

    @wraps(method)
    async def wrapper(self: Connection, /, *args: P.args, **kwargs: P.kwargs) -> None:
        call = method(self, *args, **kwargs)
        if get_ident() == self._thread:
            await call
        else:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call, self.loop))

    return wrapper


class Connection:
    """A session bound to one ASGI socket, with its login and its groups.

    Attributes:
        profile: the profile that was agreed on.
        path: the path of the WebSocket's URL.
        login: the login that the connection was opened with.
        session_id: names the login session in the hub; ``""`` if there is none.
        user_id: the primary key of the logged-in user as a string; ``""`` if there is none.
        groups: the groups joined, each with the inboxes that its events go to.
        inbox: what the application receives.
        seals: whether messages are sealed; else plaintext of the application is refused.
        started: whether the application has been started.
        closed: whether the end has begun; nothing is delivered in either direction any more.
        close_code: the code that it ended with; 1006 until then.
        authentic: whether the end was told under encryption, by either side.
        forged: whether it ended over a frame that its key did not open.
        handshake_time: seconds from HELLO to the client's reply; 0 until then.
        loop: the event loop that the connection lives on.
        ends_itself: whether the application is sure to return behind the end.
        forgotten: the task that :meth:`on_closed` has started.
    """

    __slots__ = (
        "__weakref__",
        "_accept_timer",
        "_accepted",
        "_application",
        "_backlog",
        "_context",
        "_drop",
        "_hub",
        "_is_overdue",
        "_key",
        "_lost",
        "_on_closed",
        "_opened",
        "_outbox",
        "_peer_close",
        "_session",
        "_subprotocol",
        "_thread",
        "_undelivered",
        "authentic",
        "close_code",
        "closed",
        "ends_itself",
        "forged",
        "forgotten",
        "groups",
        "handshake_time",
        "inbox",
        "login",
        "loop",
        "path",
        "profile",
        "seals",
        "session_id",
        "started",
        "user_id",
    )

    def __init__(
        self,
        session: SecureSession | ClassicSession,
        receive: Receive,
        send: Send,
        *,
        hub: GroupRegistry,
        path: str = "",
        subprotocol: str | None = None,
        login: Login = NOBODY,
        key: SessionKey | None = None,
        drop: Callable[[], bool] | None = None,
        on_closed: Callable[[Connection], Coroutine[object, object, None]] | None = None,
    ) -> None:
        """Make the connection; it does nothing by itself.

        Args:
            session: the protocol's side of it.
            receive: the server's.
            send: the server's.
            hub: where groups are joined.
            path: the path of the WebSocket's URL.
            subprotocol: what the accept has to name, whatever the application chooses.
            login: the login that the scope stands for.
            key: the key of the handshake; it is dropped with it.
            drop: drops the TCP connection; false where the server does not let it.
            on_closed: run in a task when the end begins.
        """
        self.profile: Profile = session.profile
        self.path = path
        self.login = login
        self.session_id = login.session_id
        self.user_id = login.user_id
        self.groups: dict[str, tuple[Inbox, ...]] = {}
        self.seals = False
        self.started = False
        self.closed = False
        self.close_code = 1006
        self.authentic = False
        self.forged = False
        self.handshake_time = 0.0
        self.loop = asyncio.get_running_loop()
        self.ends_itself = False
        self.forgotten: asyncio.Task[None] | None = None
        self.inbox = Inbox(receive, self._open)
        self._thread = get_ident()  # a thread runs one loop at a time
        self._hub = hub
        self._drop = drop
        self._on_closed = on_closed
        self._context = copy_context()
        self._application: asyncio.Task[None] | None = None
        self._is_overdue = False
        self._session = session
        self._subprotocol = subprotocol
        self._key = key
        self._opened = False
        self._accept_timer: asyncio.TimerHandle | None = None
        self._accepted = False
        self._lost = False
        self._peer_close: Closed | None = None
        self._undelivered: Counter[str] | None = None
        self._outbox = Outbox(
            send,
            seal=session.seal,
            wrap=as_event,
            on_idle=self._on_idle,
            on_lost=self._on_lost,
            on_refused=self._on_refused,
        )
        self._backlog = Backlog(self._outbox, session)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.profile} {self.path!r}>"

    # The application

    @property
    def receive(self) -> Receive:
        """The ``receive`` of the application: opened messages, group events, the end."""
        return self.inbox.get

    async def send(self, event: Event) -> None:
        """The ``send`` of the application. What is sent behind the end is dropped.

        Raises:
            MessageTooBig: the message is over what the client accepts; nothing was sent.
            LocalError: the event cannot be sent now, or not by this profile; nothing was sent.
            ValueError: it is no event that an application sends over a WebSocket.
        """
        if event["type"] != "websocket.send" or get_ident() != self._thread:
            await self._send_event(event)
        elif not self.closed:
            await self._send_message(event)
        else:
            await asyncio.sleep(0)  # one that sends in a loop must not keep the event loop

    @on_own_loop
    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection behind what was sent so far; does nothing the second time.

        Args:
            code: the close code that the client sees.
            reason: told to the client, under encryption but with ``gcrypt.v1``; at most 123 bytes.

        Raises:
            LocalError: the code or the reason cannot be sent; nothing has happened.
        """
        check_close(code, reason)
        item = self._end(code, reason)
        if item is not None:
            await self._written(item)

    @on_own_loop
    async def join(self, group: str, inbox: Inbox | None = None) -> None:
        """Receive what :func:`~gcrypt_channels.broadcast` and ``group_send`` send to ``group``.

        Its events go to ``inbox``, which is the connection's own unless a consumer has another.

        Raises:
            TryAgainLater: the channel layer is down.
            LocalError: the name cannot be a group's.
        """
        await self._hub.join(self, group)
        if inbox is None:
            inbox = self.inbox
        inboxes = self.groups.get(group)
        if inboxes is not None and inbox not in inboxes:
            self.groups[group] = (*inboxes, inbox)

    @on_own_loop
    async def leave(self, group: str, inbox: Inbox | None = None) -> None:
        """Undo :meth:`join`; leaving a group that was not joined does nothing."""
        left = self.inbox if inbox is None else inbox
        inboxes = tuple(each for each in self.groups.get(group, ()) if each is not left)
        if inboxes:
            self.groups[group] = inboxes
        else:
            await self._hub.leave(self, group)

    # The middleware

    async def handshake(self, *, timeout: float) -> HandshakeDone | None:
        """Greet the client under the key, and wait for its reply for ``timeout`` seconds.

        Returns ``None`` if the connection ended instead: the client left, did not hold the key, or
        took too long.
        """
        await self._written(self._outbox.put_made(self._greeting))
        started = self.loop.time()
        overdue = HandshakeTimeout(
            cause=f"the client did not answer HELLO within {timeout:g} s, "
            "which GCRYPT['HANDSHAKE_TIMEOUT'] sets"
        )
        timer = self.loop.call_later(timeout, self.fail, overdue)
        try:
            event = await self.inbox.get()
        finally:
            timer.cancel()
        self.handshake_time = self.loop.time() - started
        done: HandshakeDone | None = event.get("handshake")
        return done

    def start(self) -> None:
        """Open the stream of events with the one that starts the application."""
        self.started = True
        self._accept_timer = self.loop.call_later(ACCEPT_TIMEOUT, self._on_accept_overdue)
        self.inbox.put({"type": "websocket.connect"})

    def fail(self, error: ProtocolError) -> None:
        """End the connection over ``error``: one close code; the log alone tells its cause."""
        if not self.closed:
            cause = error.cause or error.reason
            logger.warning("%r: closed with %d: %s.", self.path, error.code, cause)
            self.forged = isinstance(error, DecryptionFailed)
            self.abort(error.code, error.reason)

    def _on_accept_overdue(self) -> None:
        self.ends_itself = False  # its connect() may wait for ever
        self.fail(
            HandshakeTimeout(
                cause=f"the application neither accepted nor closed within {ACCEPT_TIMEOUT:g} s: "
                "call accept() before anything slow"
            )
        )

    def end(self, code: int, reason: str = "") -> None:
        """Close behind what was sent so far, and do not wait for the client."""
        self._end(code, reason)

    def abort(self, code: int, reason: str = "") -> None:
        """Close at once: what still waits is dropped, in both directions."""
        if not self.closed:
            self.inbox.clear()
            self._outbox.discard()
            self._end(code, reason)

    async def run(self, application: Awaitable[None]) -> None:
        """Run the application; one that goes on long behind the end is cancelled."""
        self._application = cast("asyncio.Task[None]", asyncio.current_task())
        try:
            await application
        except asyncio.CancelledError:
            if not self._is_overdue:
                raise  # it was not cancelled by this connection
        finally:
            self._application = None

    async def finish(self) -> None:
        """End the connection if it has not ended, and wait until the server has taken the end."""
        self.inbox.close()
        self._end(1000, "")
        try:
            await self._outbox.drained()
        finally:
            self._session.forget()  # the application may keep the connection's facade for long
        if self.forgotten is not None:
            await asyncio.shield(self.forgotten)

    # The hub

    def push(self, group: str, text: str, size: int) -> bool:
        """Seal and send a group message of ``size`` bytes without ever waiting for this client.

        False if it is dropped, which the client is told.
        """
        if self.closed or self._backlog.push(group, text, size):
            return True
        self._tell_consumers(group, 1)
        return False

    def deliver(self, group: str, event: Event) -> None:
        """Give the application a group's event, in its turn among those from the socket."""
        if self.closed:
            return
        for inbox in self.groups.get(group) or (self.inbox,):
            if not inbox.full:
                inbox.put(event)
                continue
            inbox.add_gap(group, 1)
            if self._undelivered is None:
                self._undelivered = Counter()
            self._undelivered[group] += 1
            inbox.on_room = self._report_undelivered

    def tell_gap(self, group: str, missed: int) -> None:
        """Tell the client and the consumer that ``missed`` messages of ``group`` were lost."""
        if self.closed:
            return
        self._backlog.add_gap(group, missed)
        self._tell_consumers(group, missed)

    def _tell_consumers(self, group: str, missed: int) -> None:
        for inbox in self.groups.get(group) or (self.inbox,):
            inbox.add_gap(group, missed)

    def _report_undelivered(self) -> None:
        undelivered, self._undelivered = self._undelivered, None
        for group, missed in (undelivered or {}).items():
            self._backlog.add_gap(group, missed)

    # Inbound

    def _open(self, event: Event) -> Event | None:
        """The application's event for one of the server."""
        if event["type"] != "websocket.receive":
            return self._on_disconnect(event)
        if self.closed:
            return None
        frame = event.get("bytes")
        try:
            opened = self._session.receive(event["text"] if frame is None else frame)
        except ProtocolError as error:
            self.fail(error)
            return None
        if type(opened) is Text:
            return {"type": "websocket.receive", "text": opened.data}
        if type(opened) is Bytes:
            return {"type": "websocket.receive", "bytes": opened.data}
        if type(opened) is HandshakeDone:
            return {"type": "gcrypt.handshake", "handshake": opened}
        if type(opened) is Closed:
            self._peer_close = opened
            self.authentic = True
            self._await_end()
        return None

    def _on_disconnect(self, event: Event) -> Event:
        """The end as the server reports it, which a client of ``gcrypt.v1`` alone is believed."""
        if self.closed:
            return _disconnect(self.close_code, "")
        if self._peer_close is not None:
            code, reason = self._peer_close
        elif self.profile == V1:
            code, reason = event.get("code") or 1005, event.get("reason") or ""
        else:
            code, reason = 1006, ""
        self._begin_end(code)
        self._limit_writing()
        return _disconnect(code, reason)

    def _begin_end(self, code: int) -> None:
        self.closed = True
        self.close_code = code
        self._cancel_accept_timer()
        if self._on_closed is not None:
            # In the connection's own context: a synchronous consumer that closes runs in one whose
            # thread is gone when the task asks for it.
            self.forgotten = self._context.run(start_task, self._on_closed(self))
        if not self.ends_itself:
            self.loop.call_later(APPLICATION_TIMEOUT, self._cancel_application)

    def _cancel_accept_timer(self) -> None:
        if self._accept_timer is not None:
            self._accept_timer.cancel()
            self._accept_timer = None

    def _cancel_application(self) -> None:
        """Cancel an application that has not returned, again and again until it does."""
        if self._application is None or self.ends_itself:
            return
        if not self._is_overdue:
            self._is_overdue = True
            logger.warning("%r: the application did not end and is cancelled.", self.path)
        self._application.cancel()
        self.loop.call_later(CANCEL_INTERVAL, self._cancel_application)

    def _await_end(self) -> None:
        """End the connection soon, if the server does not report it."""
        self.loop.call_later(END_TIMEOUT, self._on_end_overdue)

    def _on_end_overdue(self) -> None:
        if not self.closed:
            self.inbox.put(self._on_disconnect({"type": "websocket.disconnect"}))

    # Outbound

    @on_own_loop
    async def _send_event(self, event: Event) -> None:
        kind = event["type"]
        if kind == "websocket.send":
            if not self.closed:
                await self._send_message(event)
        elif kind == "websocket.accept":
            await self._accept(event)
        elif kind == "websocket.close":
            code = event.get("code")
            await self.close(1000 if code is None else code, event.get("reason") or "")
        else:
            raise ValueError(f"{kind!r} cannot be sent over an encrypted WebSocket.")

    async def _send_message(self, event: Event) -> None:
        message = event.get("text")
        if message is None:
            message = event.get("bytes")
            if message is None:
                raise ValueError("A websocket.send event needs 'text' or 'bytes'.")
        if not self.seals:
            self._refuse_plaintext()
        elif not self._accepted:
            raise LocalError("The application must accept the connection before it sends.")
        elif not self._lost:
            await self._written(self._outbox.put(message))

    def _refuse_plaintext(self) -> None:
        logger.error(
            "%r: closed with 1011: a consumer sent plaintext, which was dropped. "
            "Inherit EncryptedJsonConsumer, or use GcryptMiddleware(…, seal_outbound=True).",
            self.path,
        )
        self.abort(1011, "internal error")

    async def _written(self, item: Outgoing) -> None:
        try:
            await item.wait()
        except (LocalError, ProtocolError):
            raise
        except Exception as error:  # noqa: BLE001 - servers raise what they like
            # The client has gone, and the application hears of it by its disconnect event.
            logger.debug("%r: the server did not take a frame: %r.", self.path, error)

    async def _accept(self, event: Event) -> None:
        if self.closed:
            return
        if self._accepted:
            raise LocalError("The application accepted the connection twice.")
        accepted = self._outbox.put_made(lambda: self._accepting(event))
        self._accepted = True
        self._cancel_accept_timer()
        self._backlog.start()
        await self._written(accepted)

    def _accepting(self, event: Event) -> list[Event]:
        subprotocol = event.get("subprotocol")
        if self.profile == V1:
            self._opened = True
            return [{**event, "subprotocol": self._subprotocol or subprotocol}]
        if event.get("headers"):
            logger.warning(
                "%r: headers passed to accept() come after the handshake and are not sent.",
                self.path,
            )
        return [as_event(frame) for frame in self._session.seal_accept(subprotocol)]

    def _greeting(self) -> Iterator[Event]:
        key, self._key = self._key, None
        self._opened = True
        yield {"type": "websocket.accept", "subprotocol": self._subprotocol}
        if isinstance(self._session, SecureSession) and key is not None:
            yield as_event(self._session.hello(key.kid, key.psk))

    def _end(self, code: int, reason: str) -> Outgoing | None:
        """Begin the end with this side's close."""
        if self.closed:
            return None
        told = Closed(code, reason) if self._peer_close is None else self._peer_close
        self._begin_end(told.code)
        self.inbox.put(_disconnect(told.code, told.reason))
        item = self._outbox.put_made(lambda: self._closing(code, reason))
        self._limit_writing()
        return item

    def _closing(self, code: int, reason: str) -> Iterator[Event]:
        if not self._opened:
            # A browser sees the code of a close only behind an accept.
            yield {"type": "websocket.accept", "subprotocol": self._subprotocol}
        # A failed session has no keys, and a message that was given up hides what follows it: then
        # only the socket tells the end.
        with suppress(LocalError):
            frames = [] if self._outbox.interrupted else self._session.seal_close(code, reason)
            for frame in frames:
                yield as_event(frame)
                self.authentic = True
        # A reason travels in clear only where nothing is told under encryption.
        yield {
            "type": "websocket.close",
            "code": code,
            "reason": reason if self.profile == V1 else "",
        }

    # The outbox

    def _limit_writing(self) -> None:
        """Give up a client that takes no frame for :data:`WRITE_TIMEOUT` seconds."""
        if not self._outbox.idle:
            self.loop.call_later(WRITE_TIMEOUT, self._on_write_overdue, self._outbox.sent)

    def _on_write_overdue(self, sent: int) -> None:
        if self._outbox.idle:
            return
        if self._outbox.sent != sent:
            self._limit_writing()
            return
        dropped = self._drop is not None and self._drop()
        logger.warning(
            "%r: the client does not read; its socket %s.",
            self.path,
            "was dropped" if dropped else "stays open, which this server does not let one change",
        )
        self._outbox.cancel()

    def _on_idle(self) -> None:
        self._backlog.report()

    def _on_lost(self) -> None:
        """The client has gone while something was sent; what it had sent before is still read."""
        self._lost = True
        self._await_end()

    def _on_refused(self, group: str, error: Exception) -> None:
        logger.warning("%r: a message of group %r cannot be sent: %s", self.path, group, error)
        self.tell_gap(group, 1)


def _disconnect(code: int, reason: str) -> Event:
    return {"type": "websocket.disconnect", "code": code, "reason": reason}
