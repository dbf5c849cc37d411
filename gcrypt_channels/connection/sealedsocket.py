"""A session bound to one ASGI socket: the one place that seals and sends, in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import suppress
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from ..exceptions import HandshakeTimeout, LocalError, ProtocolError
from ..outbox import Event, Outbox, Outgoing, Send
from ..protocol.classic import ClassicSession
from ..protocol.events import Bytes, Closed, HandshakeDone, Json, Text
from ..protocol.messages import MAX_REASON
from ..protocol.profiles import V2
from ..protocol.secure import SecureSession
from .inbox import Inbox, Receive

logger = logging.getLogger(__name__)

P = ParamSpec("P")
S = TypeVar("S", bound="SealedSocket")


def at_home(
    method: Callable[Concatenate[S, P], Coroutine[object, object, None]],
) -> Callable[Concatenate[S, P], Coroutine[object, object, None]]:
    """Run ``method`` on the socket's own event loop.

    ``async_to_sync`` in a foreign thread brings a loop of its own, and two loops must not
    interleave in one socket.
    """

    @wraps(method)
    async def wrapper(self: S, /, *args: P.args, **kwargs: P.kwargs) -> None:
        call = method(self, *args, **kwargs)
        if asyncio.get_running_loop() is self.loop:
            await call
        else:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call, self.loop))

    return wrapper


class SealedSocket:
    """The two ends of an encrypted WebSocket: the server's below, the application's above.

    Attributes:
        profile: ``"gcrypt.v1"`` or ``"gcrypt.v2"``.
        path: the path of the WebSocket's URL.
        started: whether the application has been started.
        closed: whether the end has begun; nothing is delivered in either direction any more.
        close_code: the code that it ended with; 1006 until then, and when the socket just broke.
        loop: the event loop that the socket lives on.
    """

    def __init__(
        self,
        session: SecureSession | ClassicSession,
        receive: Receive,
        send: Send,
        *,
        path: str = "",
        subprotocol: str | None = None,
    ) -> None:
        """``subprotocol`` is what the accept has to name, whatever the application chooses."""
        self.profile: str = session.profile
        self.path = path
        self.started = False
        self.closed = False
        self.close_code = 1006
        self.loop = asyncio.get_running_loop()
        self._session = session
        self._subprotocol = subprotocol
        self._opened = False
        self._accepted = False
        self._peer_close: Closed | None = None
        self._inbox = Inbox(receive, self._open)
        self._outbox = Outbox(send, on_idle=self._idle, on_lost=self._lost)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.profile} {self.path!r}>"

    # What the application calls

    async def receive(self) -> Event:
        """The ``receive`` of the ASGI application: opened messages, other events, the end."""
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

    def abort(self, code: int, reason: str = "") -> None:
        """Close at once: what still waits is dropped, in both directions."""
        if not self.closed:
            self._inbox.clear()
            self._outbox.discard()
            self._end(code, reason)

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
        if isinstance(opened, Text | Json):
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
        await self._outbox.put(lambda: sends(self._session.seal(data)), len(data)).wait()

    async def _accept(self, event: Event) -> None:
        if self.closed:
            return
        if self._accepted:
            raise LocalError("The application accepted the connection twice.")
        self._accepted = True
        accepted = self._outbox.put(lambda: self._accepting(event))
        self._may_send()
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
        return sends(self._session.seal_accept(subprotocol))

    def _greeting(self, kid: bytes, psk: bytes) -> Iterator[Event]:
        self._opened = True
        yield {"type": "websocket.accept", "subprotocol": self._subprotocol}
        if isinstance(self._session, SecureSession):
            yield from sends([self._session.hello(kid, psk)])

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
            yield from sends(frames)
            if frames:
                reason = ""  # it was told under encryption, and is not for the wire
        yield {"type": "websocket.close", "code": code, "reason": reason}

    def _lost(self) -> None:
        self.closed = True

    # For what is built on it

    def _may_send(self) -> None:
        """Called when the accept is on its way, and anything may follow it."""

    def _idle(self) -> None:
        """Called when everything that was to be sent has been."""


def sends(frames: Iterable[str | bytes]) -> list[Event]:
    """The ASGI events that send ``frames``."""
    return [
        {"type": "websocket.send", "text": frame}
        if isinstance(frame, str)
        else {"type": "websocket.send", "bytes": frame}
        for frame in frames
    ]
