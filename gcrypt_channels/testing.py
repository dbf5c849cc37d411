"""``EncryptedWebsocketCommunicator``: Channels' test communicator, with the encryption done."""

from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64decode
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from string import punctuation
from typing import Any
from urllib.parse import quote

from channels.auth import UserLazyObject, get_user
from channels.db import database_sync_to_async
from channels.testing import WebsocketCommunicator
from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpResponse
from django.test import AsyncClient
from django.utils.functional import LazyObject

from . import keys
from .conf import conf
from .connection.inbox import GAP_EVENT, Receive
from .exceptions import LocalError, MessageTooBig
from .middleware import TICKET_PREFIX
from .outbox import Send
from .protocol.classic import ClassicSession
from .protocol.events import (
    Accepted,
    Binding,
    Bytes,
    Closed,
    Gap,
    GroupText,
    HelloReceived,
    Joined,
    Left,
    Position,
    Text,
)
from .protocol.profiles import PROFILES, V1, Profile, SecureProfile, secure_profiles
from .protocol.secure import SecureSession
from .sessions.identity import prepare_session

__all__ = ["EncryptedWebsocketCommunicator"]

Message = dict[str, Any]

_FAILED = "gcrypt.failed"
"""The type of the event that wakes the test when the application has raised."""

_JOINED = "gcrypt.joined"

_LEFT = "gcrypt.left"

_NO_KEY = (
    "The middleware has another key for this connection: pass user= or session=, or as resolver= "
    "what the middleware was given."
)


class EncryptedWebsocketCommunicator(WebsocketCommunicator):
    """Talks to a consumer behind ``GcryptMiddleware`` as a client that holds the session's key.

    Everything is as with Channels' ``WebsocketCommunicator``, in plaintext: ``connect`` returns
    ``(True, subprotocol)`` or ``(False, close code)`` as the consumer decided,
    ``receive_output`` returns the events that the consumer sent, and what the application raises
    is raised by the next call. A gap is the event ``{"type": "gcrypt.gap", "group", "missed"}``.

    With ``resume`` it is a client that knows of positions: ``receive_output`` returns
    ``{"type": "gcrypt.joined", "group", "position", "recovered"}`` where the consumer has joined a
    group with history, ``{"type": "gcrypt.left", "group"}`` where it has left one, and the events
    of such a group's messages have its ``group`` and their ``position`` as well.

    The application may be ``GcryptMiddleware(…)`` by itself or the whole stack: the login is in
    the scope and in the cookie, and the middlewares around replace the former by the latter.

    Args:
        application: the ASGI application.
        path: the path of the WebSocket, with its query string.
        headers: further headers of the request.
        subprotocols: those of the consumer; with ``gcrypt.v1`` its choice is not told.
        spec_version: as Channels' communicator takes it.
        user: a saved user, who is logged in for this connection as by ``force_login``.
        session: a session to use instead of a new one.
        profile: the only profile that is offered. By default the middleware chooses between
            ``gcrypt.v3``, where the installed libraries have ML-KEM-768, and ``gcrypt.v2``.
        resolver: what the middleware was given as ``resolver``, if it was given one.
        ticket: what :func:`~gcrypt_channels.tickets.ticket_response` returned, or the ticket
            endpoint answered to Django's test client: the client offers this ticket, with its key,
            in place of a login by session.
        resume: the ``positions`` of an earlier connection, or ``()``; by default the client knows
            nothing of positions.

    Attributes:
        user: the argument, or the user of ``session`` once the connection was opened.
        session: the argument, or the session that was made for ``user``.
        positions: up to where this client has the messages of each group with history that the
            consumer has joined, for the ``resume`` of the next.
    """

    def __init__(
        self,
        application: Any,
        path: str,
        headers: Iterable[tuple[bytes, bytes]] | None = None,
        subprotocols: Iterable[str] | None = None,
        spec_version: Any = None,
        *,
        user: AbstractBaseUser | None = None,
        session: SessionBase | None = None,
        profile: Profile | None = None,
        resolver: str | Callable[..., Any] | None = None,
        ticket: HttpResponse | None = None,
        resume: Iterable[Position] | None = None,
    ) -> None:
        positions = None if resume is None else tuple(resume)
        self._client = _Client(application, profile, resolver, user, session, positions)
        super().__init__(
            self._client,
            path,
            _with_host(list(headers or ())),
            list(subprotocols or ()),
            spec_version,
        )
        if profile not in (None, *PROFILES):
            raise ValueError(f"The profiles are {PROFILES}.")
        if profile == V1 and ticket is not None:
            raise ValueError("A ticket does not serve gcrypt.v1.")
        if ticket is not None:
            self._client.take_ticket(ticket)
        # As a client writes it: a request line is ASCII.
        self.scope["query_string"] = quote(self.scope["query_string"], safe=punctuation).encode()

    @property
    def user(self) -> Any:
        """Who is logged in for this connection; ``None`` for nobody."""
        return self._client.user

    @property
    def session(self) -> SessionBase | None:
        """The session of this connection; ``None`` if it has none."""
        return self._client.session

    @property
    def positions(self) -> tuple[Position, ...]:
        """Up to where this client has the messages of each group with history."""
        return tuple(self._client.positions.values())

    async def send_input(self, message: Message) -> None:
        """Send an event to the consumer.

        Raises:
            MessageTooBig: the message is over what the server accepts.
            LocalError: the connection is not open, or its profile cannot carry the message.
        """
        if message["type"] == "websocket.receive":
            text = message.get("text")
            self._client.check(message["bytes"] if text is None else text)
        await super().send_input(message)

    async def receive_output(self, timeout: float = 1) -> Message:
        """Wait ``timeout`` seconds for the next event that the consumer sends."""
        event = await super().receive_output(timeout)
        if event["type"] == _FAILED:
            await self.wait(timeout)  # raises what the application raised
        if event["type"] == "websocket.accept" and self._client.is_classic:
            # A refusal of gcrypt.v1 is an accept with a close directly behind it.
            waiting = [self.output_queue.get_nowait() for _ in range(self.output_queue.qsize())]
            if waiting and waiting[0]["type"] == "websocket.close":
                event = waiting.pop(0)
            for each in waiting:
                self.output_queue.put_nowait(each)
        return event


class _Client:
    """An ASGI application around another one: the client's side of the wire.

    What it receives and sends is plaintext; what the inner application receives and sends are
    frames.
    """

    def __init__(
        self,
        application: Any,
        profile: Profile | None,
        resolver: str | Callable[..., Any] | None,
        user: AbstractBaseUser | None,
        session: SessionBase | None,
        resume: tuple[Position, ...] | None,
    ) -> None:
        self.is_classic = profile == V1
        self.user: Any = user
        self.session = session
        self.positions: dict[str, Position] = {}
        self._resume = resume
        self._application = application
        self._resolver = resolver
        self._profiles: tuple[SecureProfile, ...] = secure_profiles()
        if profile is not None:
            self._profiles = () if profile == V1 else (profile,)
        self._keyring: keys.Keyring | None = None
        self._token: str | None = None
        self._wire: SecureSession | ClassicSession | None = None
        self._subprotocols: tuple[str, ...] = ()
        self._binding = Binding((), "", "/")
        self._frames: deque[Message] = deque()
        self._is_open = False
        self._closed: Closed | None = None
        self._withheld: Message | None = None
        self._error: AssertionError | None = None

    def check(self, message: str | bytes) -> None:
        """Raise what keeps ``message`` from being sent."""
        if self._wire is None or not self._is_open:
            raise LocalError("the connection is not open")
        size = len(message.encode()) if isinstance(message, str) else len(message)
        if size > self._wire.peer_max_message:
            raise MessageTooBig

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Run the inner application until it returns or the test has made a mistake."""
        self._receive_plain, self._send_plain = receive, send
        self._frames.append(dict(await receive()))
        await self._prepare(scope)
        wire_scope = {**scope, "subprotocols": list(self._binding.offered)}
        running = asyncio.ensure_future(
            self._application(wire_scope, self._receive_frame, self._send_frame)
        )
        self._running = running
        try:
            await asyncio.wait([running])
            if self._error is not None:
                raise self._error
            await running
        except BaseException as error:
            if isinstance(error, Exception):
                await send({"type": _FAILED})
            raise
        else:
            if self._withheld is not None:
                await send(self._withheld)
        finally:
            running.cancel()

    # The login

    async def _prepare(self, scope: Message) -> None:
        """Log in, find the keys as the server will, and offer the profile."""
        if self.user is not None and self.session is None:
            client = AsyncClient()
            await client.aforce_login(self.user)
            self.session = await client.asession()
        if self.session is not None:
            await database_sync_to_async(prepare_session)(self.session)
            if self.session.modified:
                await self.session.asave()
            scope["session"] = LazyObject()
            scope["session"]._wrapped = self.session
            self.user = self.user or await get_user(scope)  # type: ignore[arg-type]
            scope["user"] = UserLazyObject()
            scope["user"]._wrapped = self.user
            scope["headers"] = _with_session_cookie(scope["headers"], self.session)
        resolver = conf.resolver if self._resolver is None else self._resolver
        if self._token is None and (self.session is not None or resolver != "session"):
            self._keyring = await keys.resolve(scope, resolver)
        self._subprotocols = tuple(scope["subprotocols"])
        self._binding = _binding(scope, self._offer())
        if self.is_classic and self._keyring is not None:
            self._wire = ClassicSession(self._keyring.passphrases)

    def _offer(self) -> tuple[str, ...]:
        if self.is_classic:
            return (V1, *self._subprotocols)
        if self._keyring is None:
            return self._profiles
        kid = self._keyring.session_keys[0].kid
        return (*self._profiles, self._token or f"gcrypt.kid.{kid.hex()}")

    def take_ticket(self, response: HttpResponse) -> None:
        """Have the key and the ticket of the ticket endpoint's answer."""
        if response.status_code != 200:
            raise ValueError(f"The ticket endpoint answered {response.status_code}, no ticket.")
        answer = json.loads(response.content)
        kid, psk = answer["session"]["kid"], answer["session"]["psk"]
        key = keys.SessionKey(bytes.fromhex(kid), urlsafe_b64decode(f"{psk}="))
        self._keyring = keys.Keyring(passphrases=(), session_keys=(key,))
        self._token = TICKET_PREFIX + answer["ticket"]

    # The wire

    async def _receive_frame(self) -> Message:
        if self._is_open and self._wire is None:
            self._fail(_NO_KEY)
        while not self._frames:
            event = dict(await self._receive_plain())
            if event["type"] == "websocket.receive":
                text = event.get("text")
                self._put(self._session.seal(event["bytes"] if text is None else text))
                continue
            if event["type"] == "websocket.disconnect":
                with suppress(LocalError):  # it has ended already, or never begun
                    code = event.get("code")
                    self._put(self._session.seal_close(1000 if code is None else code, ""))
            self._frames.append(event)
        return self._frames.popleft()

    async def _send_frame(self, event: Message) -> None:
        if self._error is not None:
            return
        if event["type"] == "websocket.accept":
            await self._on_accept(event)
        elif event["type"] == "websocket.send":
            frame = event.get("bytes")
            await self._on_frame(event["text"] if frame is None else frame)
        elif event["type"] == "websocket.close" and self._closed is not None:
            await self._close({**event, "code": self._closed.code, "reason": self._closed.reason})
        else:
            await self._close(event)

    async def _close(self, event: Message) -> None:
        if event.get("code") == 1011:
            self._withheld = event  # what the application raises says more
        else:
            await self._send_plain(event)

    async def _on_accept(self, event: Message) -> None:
        selected: Any = event.get("subprotocol")
        offered = self._profiles or (V1,)
        if selected not in offered:
            self._fail(
                f"The connection was accepted without {' or '.join(offered)}: is GcryptMiddleware "
                "around this application, and is the profile enabled?"
            )
        elif not self.is_classic:  # the consumer decides behind the handshake
            self._wire = SecureSession(selected, role="client")
        else:
            self._is_open = True
            if self._wire is not None:  # else a refusal follows, or the test lacks the key
                await self._send_plain({**event, "subprotocol": None})

    async def _on_frame(self, frame: str | bytes) -> None:
        match self._session.receive(frame):
            case HelloReceived(kid):
                self._reply(kid)
            case Accepted(subprotocol):
                self._is_open = True
                await self._send_plain({"type": "websocket.accept", "subprotocol": subprotocol})
            case Text(data):
                await self._send_plain({"type": "websocket.send", "text": data})
            case Bytes(data):
                await self._send_plain({"type": "websocket.send", "bytes": data})
            case Gap(group, missed):
                await self._send_plain({"type": GAP_EVENT, "group": group, "missed": missed})
            case Joined(_, position, recovered):
                self.positions[position.group] = position
                joined = {"group": position.group, "position": position.n, "recovered": recovered}
                await self._send_plain({"type": _JOINED, **joined})
            case Left(_, group):
                del self.positions[group]
                await self._send_plain({"type": _LEFT, "group": group})
            case GroupText(data, position):
                self.positions[position.group] = position
                place = {"group": position.group, "position": position.n}
                await self._send_plain({"type": "websocket.send", "text": data, **place})
            case Closed() as closed:
                self._closed = closed

    def _reply(self, kid: bytes) -> None:
        key = None if self._keyring is None else self._keyring.session_key(kid)
        if key is None or key.kid != kid or not isinstance(self._wire, SecureSession):
            self._fail(_NO_KEY)
        else:
            reply = self._wire.reply(key.psk, self._subprotocols, self._binding, self._resume)
            self._put([reply])

    @property
    def _session(self) -> SecureSession | ClassicSession:
        if self._wire is None:
            raise LocalError("the connection is not open")
        return self._wire

    def _put(self, frames: Iterable[str | bytes]) -> None:
        for frame in frames:
            kind = "text" if isinstance(frame, str) else "bytes"
            self._frames.append({"type": "websocket.receive", kind: frame})

    def _fail(self, mistake: str) -> None:
        """End the application over a mistake of the test."""
        self._error = AssertionError(mistake)
        self._running.cancel()


def _binding(scope: Message, offered: tuple[str, ...]) -> Binding:
    host = next(value for name, value in scope["headers"] if name.lower() == b"host")
    query = scope["query_string"].decode("ascii")
    target = quote(scope["path"]) + (f"?{query}" if query else "")
    return Binding(offered, host.decode("ascii").lower(), target)


def _with_host(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """``headers`` with the host of Django's test client, where they name none."""
    if any(name.lower() == b"host" for name, _ in headers):
        return headers
    return [*headers, (b"host", b"testserver")]


def _with_session_cookie(
    headers: Iterable[tuple[bytes, bytes]], session: SessionBase
) -> list[tuple[bytes, bytes]]:
    """``headers`` with the session's cookie first in their one ``Cookie`` header."""
    cookies = [value for name, value in headers if name == b"cookie"]
    own = f"{settings.SESSION_COOKIE_NAME}={session.session_key}".encode()
    others = [(name, value) for name, value in headers if name != b"cookie"]
    return [*others, (b"cookie", b"; ".join([own, *cookies]))]
