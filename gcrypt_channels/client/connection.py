"""The client's side of one encrypted WebSocket."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from websockets.asyncio.client import ClientConnection as Socket
from websockets.exceptions import ConnectionClosed as SocketClosed
from websockets.exceptions import WebSocketException

from ..asynctasks import start_task
from ..crypto import jsontext
from ..crypto.psk import SessionKey
from ..exceptions import ConnectionClosed, LocalError, NoProfile, NoSessionKey, ProtocolError
from ..outbox import Outbox, Outgoing
from ..protocol import events
from ..protocol.classic import ClassicSession
from ..protocol.messages import MAX_RESUME, check_close
from ..protocol.profiles import V1, Profile
from ..protocol.secure import SecureSession

__all__ = ["ClientConnection"]

logger = logging.getLogger(__name__)

GapHandler = Callable[[str, int], None]
JoinedHandler = Callable[[str, bool], None]


class ClientConnection:
    """An encrypted WebSocket; :func:`~gcrypt_channels.client.connect` makes it.

    Any number of tasks may send; one at a time may receive. A cancelled ``send`` or ``receive``
    leaves the connection in step.

    Attributes:
        profile: the one that the server selected, such as ``"gcrypt.v3"``.
        subprotocol: the one that the application chose; ``None`` with ``gcrypt.v1``.
    """

    def __init__(
        self,
        socket: Socket,
        session: SecureSession | ClassicSession,
        *,
        on_gap: GapHandler | None = None,
        on_joined: JoinedHandler | None = None,
        resume: Sequence[events.Position] | None = None,
    ) -> None:
        self.profile: Profile = session.profile
        self.subprotocol: str | None = None
        self._socket = socket
        self._session = session
        self._on_gap = on_gap
        self._on_joined = on_joined
        self._resume = None if resume is None else tuple(resume)[-MAX_RESUME:]
        self._positions = {each.group: each for each in self._resume or ()}
        self._outbox = Outbox(socket.send, seal=session.seal)
        self._end: events.Closed | None = None
        self._authentic = False
        self._has_keys = False

    def __repr__(self) -> str:
        return f"<ClientConnection {self.profile} {'open' if self._end is None else 'closed'}>"

    @property
    def positions(self) -> tuple[events.Position, ...]:
        """Up to where this client has the messages of each group with history.

        Those heard of last are at the end. The next connection takes them as ``resume``.
        """
        return tuple(self._positions.values())

    @property
    def end(self) -> ConnectionClosed | None:
        """How the connection ended; ``None`` as long as nobody has received that or closed."""
        return None if self._end is None else self._closed()

    # Messages

    async def send(self, message: str | bytes) -> None:
        """Send a text or binary message, of JSON text with ``gcrypt.v1``.

        Raises:
            ConnectionClosed: the connection has ended.
            MessageTooBig: the message is over what the server accepts; nothing was sent.
            LocalError: this profile cannot carry the message; nothing was sent.
        """
        self._check_open()
        await self._written(self._outbox.put(message))

    async def send_json(self, value: object) -> None:
        """Send a value as JSON text.

        Raises ``TypeError`` or ``ValueError`` when JSON cannot express it, and what :meth:`send`
        raises.
        """
        await self.send(jsontext.serialize(value))

    async def receive(self) -> str | bytes:
        """Wait for the next message.

        Raises:
            ConnectionClosed: the connection has ended.
            ProtocolError: a message was not valid, or too big; the connection has been closed.
        """
        while True:
            try:
                event = await self._next_event()
            except ProtocolError as error:
                await self.fail(error)
                raise
            if isinstance(event, events.Text | events.Bytes):
                return event.data
            if isinstance(event, events.GroupText):
                self._move_to(event.position)
                return event.data
            if isinstance(event, events.Joined):
                self._move_to(event.position)
                if self._on_joined is not None:
                    self._on_joined(event.position.group, event.recovered)
            if isinstance(event, events.Left):
                self._positions.pop(event.group, None)
            if isinstance(event, events.Gap):
                self._report_gap(event)

    async def receive_json(self) -> Any:
        """Wait for the next message, and return the value of its JSON text.

        Raises ``ValueError`` when it is not JSON text, and what :meth:`receive` raises.
        """
        message = await self.receive()
        if isinstance(message, bytes):
            raise ValueError("a binary message is not JSON text")
        return jsontext.parse(message)

    async def __aiter__(self) -> AsyncIterator[str | bytes]:
        """Iterate over the messages until the server closes with 1000 or 1001.

        Any other end raises :class:`ConnectionClosed`, and so does one that the server did not
        authenticate, since messages may be missing; ``gcrypt.v1`` cannot tell.
        """
        while True:
            try:
                message = await self.receive()
            except ConnectionClosed as error:
                if error.code in (1000, 1001) and (error.authentic or self.profile == V1):
                    return
                raise
            yield message

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close after what was sent so far; does nothing when the connection has ended.

        Takes at most the ``close_timeout`` of ``websockets.connect``, 10 seconds by default.

        Args:
            code: 1000, or 3000 to 4999 for the application's own.
            reason: sent to the server, in clear with ``gcrypt.v1`` alone; at most 123 bytes of
                UTF-8.

        Raises:
            LocalError: the code or the reason cannot be sent; nothing has changed.
        """
        check_close(code, reason)
        if code != 1000 and code < 3000:
            raise LocalError("a client closes with 1000 or 3000 to 4999")
        if self._end is None:
            await self._close(events.Closed(code, reason))

    # Opening and ending

    async def handshake(
        self,
        key: SessionKey | None,
        renew: Callable[[], Awaitable[SessionKey | None]] | None,
        subprotocols: Sequence[str],
        binding: events.Binding,
    ) -> None:
        """Check the profile and, but for ``gcrypt.v1``, handshake and wait for the accept.

        See ``docs/protocol.md``, *Negotiation* and *Handshake*.
        """
        if self._socket.subprotocol != self.profile:
            raise NoProfile(
                f"the server did not select {self.profile}: is it in GCRYPT['PROFILES'], and "
                "GcryptMiddleware around this route?"
            )
        session = self._session
        if not isinstance(session, SecureSession) or key is None:
            return
        hello = await self._next_event()
        kid = hello.kid if isinstance(hello, events.HelloReceived) else None
        if kid != key.kid and renew is not None:
            key = await renew()
        if key is None or kid != key.kid:
            raise NoSessionKey(
                "the server uses another session key: fetch it anew, or pass key_source="
            )
        named: SessionKey = key  # not its psk: an error report prints local variables
        self._has_keys = True
        await self._write(lambda: [session.reply(named.psk, subprotocols, binding, self._resume)])
        event: events.SessionEvent | None = None
        while not isinstance(event, events.Accepted):
            event = await self._next_event()
        self.subprotocol = event.subprotocol

    async def fail(self, error: ProtocolError) -> None:
        """Close because of what the server sent or does not have."""
        await self._close(events.Closed(error.code, error.reason))

    def _check_open(self) -> None:
        if self._end is not None:
            raise self._closed()

    def _closed(self, error: SocketClosed | None = None) -> ConnectionClosed:
        """Return the end of the connection: see ``docs/protocol.md``, *The end*.

        Where keys exist, a close of the WebSocket that is not sealed says nothing: its code counts
        only if the WebSocket library itself closed, over a frame too big or a ping unanswered.
        """
        if self._end is not None:
            return ConnectionClosed(*self._end, authentic=self._authentic)
        if error is None:
            return ConnectionClosed()
        if error.sent is not None and not error.rcvd_then_sent:
            return ConnectionClosed(error.sent.code, error.sent.reason)
        if error.rcvd is None or self._has_keys:
            return ConnectionClosed()
        return ConnectionClosed(error.rcvd.code, error.rcvd.reason if self.profile == V1 else "")

    async def _close(self, end: events.Closed) -> None:
        """Seal a close as long as there are keys, and close the WebSocket."""
        self._end = end
        deadline = self._abort_after_timeout()
        with suppress(ConnectionClosed, LocalError):
            await self._write(lambda: self._session.seal_close(*end))
            self._authentic = self.profile != V1
        await self._close_socket(end.code, end.reason if self.profile == V1 else "")
        if deadline is not None:
            deadline.cancel()

    def _abort_after_timeout(self) -> asyncio.TimerHandle | None:
        """Bound a close: a server that does not read would block it for ever."""
        timeout = self._socket.close_timeout
        if timeout is None:
            return None
        return asyncio.get_running_loop().call_later(timeout, self._socket.transport.abort)

    async def _close_socket(self, code: int, reason: str = "") -> None:
        closing = start_task(self._socket.close(code, reason))
        await self._discard_messages()
        await closing

    async def _discard_messages(self) -> None:
        """Read what still comes: unread, it would keep the server's close frame from being read."""
        with suppress(WebSocketException):  # the end, or another task that reads and discards
            while True:
                await self._socket.recv()

    # Frames

    async def _write(self, make: Callable[[], Iterable[str | bytes]]) -> None:
        await self._written(self._outbox.put_made(make))

    async def _written(self, item: Outgoing) -> None:
        try:
            await item.wait()
        except SocketClosed as error:
            # What came before the end may still be unread, and so may a sealed close.
            raise self._closed(error) from None

    async def _next_event(self) -> events.SessionEvent | None:
        self._check_open()
        try:
            frame = await self._socket.recv()
        except SocketClosed as error:
            closed = self._closed(error)
            self._end = events.Closed(closed.code, closed.reason)
            raise closed from None
        if self._end is not None:  # another task has closed meanwhile
            await self._discard_messages()
            raise self._closed()
        event = self._session.receive(frame)
        if isinstance(event, events.Closed):
            self._end, self._authentic = event, True
            await self._close_socket(event.code)
            raise self._closed()
        return event

    def _move_to(self, position: events.Position) -> None:
        self._positions.pop(position.group, None)
        self._positions[position.group] = position

    def _report_gap(self, gap: events.Gap) -> None:
        if self._on_gap is None:
            logger.warning("%d messages of the group %r were lost.", gap.missed, gap.group)
        else:
            self._on_gap(gap.group, gap.missed)
