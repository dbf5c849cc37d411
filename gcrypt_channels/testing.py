"""``EncryptedWebsocketCommunicator``: Channels' test communicator, with the encryption done."""

from __future__ import annotations

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
from django.test import AsyncClient
from django.utils.functional import LazyObject

from . import keys
from .conf import conf
from .connection.inbox import GAP_EVENT
from .exceptions import LocalError
from .protocol.classic import ClassicSession
from .protocol.events import Accepted, Binding, Bytes, Closed, Gap, HelloReceived, Json, Text
from .protocol.profiles import PROFILES, V1, V2, Profile
from .protocol.secure import SecureSession
from .sessions.identity import prepare_session

__all__ = ["EncryptedWebsocketCommunicator"]

Message = dict[str, Any]

_NO_KEY = (
    "The middleware has another key for this connection: pass user= or session=, or as resolver= "
    "what the middleware was given."
)


class EncryptedWebsocketCommunicator(WebsocketCommunicator):
    """Talks to a consumer behind ``GcryptMiddleware`` as a client that holds the session's key.

    Everything is as with Channels' ``WebsocketCommunicator``, in plaintext: ``connect`` returns
    ``(True, subprotocol)`` or ``(False, close code)`` as the consumer decided, and
    ``receive_output`` returns the events that the consumer sent. A gap is the event
    ``{"type": "gcrypt.gap", "group", "missed"}``.

    The application may be ``GcryptMiddleware(…)`` by itself or the whole stack: the login is in
    the scope and in the cookie, and the middlewares around replace the former by the latter.

    Args:
        application: the ASGI application.
        path: the path of the WebSocket, with its query string.
        headers: further headers of the request.
        subprotocols: those of the consumer; with ``gcrypt.v1`` its choice is not told.
        user: a saved user, who is logged in for this connection as by ``force_login``.
        session: a session to use instead of a new one.
        profile: ``"gcrypt.v2"`` or ``"gcrypt.v1"``.
        resolver: what the middleware was given as ``resolver``, if it was given one.
    """

    def __init__(
        self,
        application: Any,
        path: str,
        headers: Iterable[tuple[bytes, bytes]] | None = None,
        subprotocols: Iterable[str] | None = None,
        *,
        user: AbstractBaseUser | None = None,
        session: SessionBase | None = None,
        profile: Profile = V2,
        resolver: str | Callable[..., Any] | None = None,
    ) -> None:
        super().__init__(application, path, _with_host(list(headers or ())))
        # As a client writes it: a request line is ASCII.
        self.scope["query_string"] = quote(self.scope["query_string"], safe=punctuation).encode()
        if profile not in PROFILES:
            raise ValueError(f"The profiles are {PROFILES}.")
        self._user = user
        self._session = session
        self._profile = profile
        self._resolver = resolver
        self._subprotocols = tuple(subprotocols or ())
        self._keyring: keys.Keyring | None = None
        self._wire: SecureSession | ClassicSession = SecureSession(role="client")
        self._closed: Closed | None = None

    async def send_input(self, message: Message) -> None:
        """Send an event to the consumer, a message sealed."""
        if message["type"] == "websocket.connect":
            await self._prepare()
        elif message["type"] == "websocket.receive":
            text = message.get("text")
            data: str | bytes = message["bytes"] if text is None else text
            await self._send_frames(self._wire.seal(data))
            return
        elif message["type"] == "websocket.disconnect":
            with suppress(LocalError):  # it has ended already, or never begun
                await self._send_frames(self._wire.seal_close(message.get("code", 1000), ""))
        await super().send_input(message)

    async def receive_output(self, timeout: float = 1) -> Message:
        """Wait for the next event that the consumer sends, ``timeout`` seconds for each frame."""
        while True:
            event = await super().receive_output(timeout)
            if event["type"] == "websocket.accept":
                opened = self._open_accept(event)
            elif event["type"] == "websocket.send":
                opened = await self._open_frame(event)
            elif event["type"] == "websocket.close" and self._closed is not None:
                return {**event, "code": self._closed.code, "reason": self._closed.reason}
            else:
                return event
            if opened is not None:
                return opened

    # The login

    async def _prepare(self) -> None:
        """Log in, find the keys as the server will, and offer the profile."""
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]  # typed without user, session
        if self._user is not None and self._session is None:
            client = AsyncClient()
            await client.aforce_login(self._user)  # type: ignore[arg-type]  # any user model
            self._session = await client.asession()
        if self._session is not None:
            await database_sync_to_async(prepare_session)(self._session)
            if self._session.modified:
                await self._session.asave()
            scope["session"] = LazyObject()
            scope["session"]._wrapped = self._session
            scope["user"] = UserLazyObject()
            scope["user"]._wrapped = self._user or await get_user(scope)  # type: ignore[arg-type]
            scope["headers"] = _with_session_cookie(scope["headers"], self._session)
        resolver = conf.resolver if self._resolver is None else self._resolver
        if self._session is not None or resolver != "session":
            self._keyring = await keys.resolve(scope, resolver)
        scope["subprotocols"] = self._offer()

    def _offer(self) -> list[str]:
        if self._profile == V1:
            return [V1, *self._subprotocols]
        if self._keyring is None:
            return [V2]
        return [V2, f"gcrypt.kid.{self._keyring.session_keys[0].kid.hex()}"]

    # The wire

    async def _send_frames(self, frames: Iterable[str | bytes]) -> None:
        for frame in frames:
            kind = "text" if isinstance(frame, str) else "bytes"
            await super().send_input({"type": "websocket.receive", kind: frame})

    def _open_accept(self, event: Message) -> Message | None:
        if event.get("subprotocol") != self._profile:
            raise AssertionError(
                f"The connection was accepted without {self._profile}: is GcryptMiddleware around "
                "this application, and is the profile enabled?"
            )
        if self._profile == V2:
            return None  # by the middleware; the consumer decides behind the handshake
        refusal = self._refusal()
        if refusal is not None:
            return refusal
        if self._keyring is None:
            raise AssertionError(_NO_KEY)
        self._wire = ClassicSession(self._keyring.passphrases)
        return {**event, "subprotocol": None}

    def _refusal(self) -> Message | None:
        """The close that stands directly behind an accept, which is how ``gcrypt.v1`` refuses."""
        waiting = [self.output_queue.get_nowait() for _ in range(self.output_queue.qsize())]
        refusal = waiting.pop(0) if waiting and waiting[0]["type"] == "websocket.close" else None
        for event in waiting:
            self.output_queue.put_nowait(event)
        return refusal

    async def _open_frame(self, event: Message) -> Message | None:
        frame = event.get("bytes")
        match self._wire.receive(event["text"] if frame is None else frame):
            case HelloReceived(kid):
                await self._send_frames([self._reply(kid)])
            case Accepted(subprotocol):
                return {"type": "websocket.accept", "subprotocol": subprotocol}
            case Text(data) | Json(data):
                return {"type": "websocket.send", "text": data}
            case Bytes(data):
                return {"type": "websocket.send", "bytes": data}
            case Gap(group, missed):
                return {"type": GAP_EVENT, "group": group, "missed": missed}
            case Closed() as closed:
                self._closed = closed
        return None

    def _reply(self, kid: bytes) -> bytes:
        key = None if self._keyring is None else self._keyring.session_key(kid)
        if key is None or key.kid != kid or not isinstance(self._wire, SecureSession):
            raise AssertionError(_NO_KEY)
        return self._wire.reply(key.psk, self._subprotocols, self._binding())

    def _binding(self) -> Binding:
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]  # typed as another protocol's
        host = next(value for name, value in scope["headers"] if name.lower() == b"host")
        query = scope["query_string"].decode("ascii")
        target = quote(scope["path"]) + (f"?{query}" if query else "")
        return Binding(tuple(scope["subprotocols"]), host.decode("ascii").lower(), target)


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
