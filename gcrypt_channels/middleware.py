"""``GcryptMiddleware``: negotiate, handshake, open inbound frames, refuse plaintext outbound."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from . import keys
from .conf import PROFILES, V1, V2, conf, problems
from .connection import Connection, Receive, Send
from .exceptions import (
    HandshakeTimeout,
    InvalidFrame,
    NoProfile,
    NoSessionKey,
    ProtocolError,
    TryAgainLater,
)
from .hub import Hub, current_hub
from .protocol.classic import ClassicSession
from .protocol.events import HandshakeDone
from .protocol.secure import SecureSession

logger = logging.getLogger(__name__)

Scope = dict[str, Any]
Application = Callable[[Any, Any, Any], Awaitable[None]]

_KID_TOKEN = re.compile(r"gcrypt\.kid\.([0-9a-f]{16})", re.ASCII)


class GcryptMiddleware:
    """Encrypt every WebSocket below this point of the ASGI application.

    Args:
        inner: the ASGI application, usually a ``URLRouter``.
        profiles: the profiles offered here, preferred first; by default ``GCRYPT["PROFILES"]``.
        resolver: the passphrase resolver used here; by default ``GCRYPT["PASSPHRASE_RESOLVER"]``.
        seal_outbound: seal what any consumer below sends, for consumers that cannot inherit
            ``EncryptedJsonConsumer``. Otherwise plaintext from a consumer without the mixin is
            refused.

    Raises:
        ImproperlyConfigured: the settings are incomplete or wrong. An ASGI server runs no system
            checks, so they are looked at here, when the routing is imported.
    """

    def __init__(
        self,
        inner: Application,
        *,
        profiles: Iterable[str] | None = None,
        resolver: str | Callable[..., Any] | None = None,
        seal_outbound: bool = False,
    ) -> None:
        self.inner = inner
        self.profiles = None if profiles is None else tuple(profiles)
        self.resolver = resolver
        self.seal_outbound = seal_outbound
        self._check()

    def _check(self) -> None:
        if self.profiles is not None and (
            not self.profiles or any(profile not in PROFILES for profile in self.profiles)
        ):
            known = " and ".join(repr(profile) for profile in PROFILES)
            raise ImproperlyConfigured(f"GcryptMiddleware: profiles= takes {known}.")
        found = [
            problem
            for problem in problems()
            # E007 is about the pair that the arguments may replace; it is looked at below.
            if problem.id != "gcrypt_channels.E007"
        ]
        if found:
            raise ImproperlyConfigured(" ".join(f"{each.message} {each.hint}" for each in found))
        if "shared" in (self.resolver, self.resolver or conf.resolver) and V2 in self._profiles():
            raise ImproperlyConfigured(
                "The 'shared' passphrase resolver serves gcrypt.v1 alone: use "
                "profiles=['gcrypt.v1'], or the 'session' resolver."
            )
        for passphrase in conf.passphrases:
            keys.root(passphrase)  # here rather than in the first connection: it takes a while

    def _profiles(self) -> tuple[str, ...]:
        return conf.profiles if self.profiles is None else self.profiles

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a WebSocket; pass everything else on untouched."""
        if scope["type"] != "websocket":
            await self.inner(scope, receive, send)
            return
        if (await receive())["type"] != "websocket.connect":
            return  # the client left before the application could answer
        offered = list(scope.get("subprotocols") or ())
        try:
            profile = negotiate(offered, self._profiles())
            keyring = await self._resolve(scope)
        except ProtocolError as error:
            await _refuse(scope, send, error, offered)
            return
        serve = self._serve_v2 if profile == V2 else self._serve_v1
        await serve(scope, receive, send, keyring, offered)

    async def _resolve(self, scope: Scope) -> keys.Keyring:
        try:
            keyring = await keys.resolve(scope, self.resolver)
        except ImproperlyConfigured:
            raise
        except Exception as error:
            logger.exception("%s: the passphrase resolver failed.", scope.get("path", ""))
            raise TryAgainLater from error
        if keyring is None:
            raise NoSessionKey
        return keyring

    async def _serve_v1(
        self, scope: Scope, receive: Receive, send: Send, keyring: keys.Keyring, offered: list[str]
    ) -> None:
        session = ClassicSession(keyring.passphrases, max_message=conf.max_message_size)
        connection = await _connect(
            session, scope, receive, send, subprotocol=V1 if V1 in offered else None
        )
        others = [each for each in offered if not each.startswith("gcrypt.")]
        await self._run(connection, scope, others)

    async def _serve_v2(
        self, scope: Scope, receive: Receive, send: Send, keyring: keys.Keyring, offered: list[str]
    ) -> None:
        key = keyring.session_key(_named_kid(offered))
        session = SecureSession(
            role="server", max_message=conf.max_message_size, padding=conf.padding
        )
        connection = await _connect(session, scope, receive, send)
        try:
            await send({"type": "websocket.accept", "subprotocol": V2})
            await send({"type": "websocket.send", "bytes": session.hello(key.kid, key.psk)})
            subprotocols = await asyncio.wait_for(
                _handshake(session, receive), conf.handshake_timeout
            )
        except (ProtocolError, asyncio.TimeoutError) as error:
            connection.fail(error if isinstance(error, ProtocolError) else HandshakeTimeout())
        else:
            if subprotocols is not None:
                await self._run(connection, scope, list(subprotocols))
                return
            connection.closed = True
        await _disconnect(connection)

    async def _run(self, connection: Connection, scope: Scope, subprotocols: list[str]) -> None:
        """Run the application, and see the connection off whatever becomes of it."""
        inner_scope = {**scope, "gcrypt": connection, "subprotocols": subprotocols}
        # Whatever would go out with the HTTP response comes too late behind the handshake.
        inner_scope["extensions"] = {
            name: value
            for name, value in (scope.get("extensions") or {}).items()
            if name != "websocket.http.response"
        }
        outbound = connection.send if self.seal_outbound else connection.refuse_plaintext
        connection.start()
        try:
            await self.inner(inner_scope, connection.receive, outbound)
        except Exception:
            connection.abort(1011, "internal error")
            raise
        finally:
            await _disconnect(connection)


def negotiate(offered: list[str], enabled: Iterable[str]) -> str:
    """The profile for a client's offered subprotocols, in the server's order of preference.

    A client that names no ``gcrypt.*`` subprotocol is an existing g-crypt page: ``gcrypt.v1``.

    Raises:
        NoProfile: nothing acceptable was offered.
    """
    named = [each for each in offered if each.startswith("gcrypt.")]
    for profile in enabled:
        if profile in named or (profile == V1 and not named):
            return profile
    raise NoProfile


def _named_kid(offered: list[str]) -> bytes | None:
    for token in offered:
        match = _KID_TOKEN.fullmatch(token)
        if match:
            return bytes.fromhex(match[1])
    return None


async def _handshake(session: SecureSession, receive: Receive) -> tuple[str, ...] | None:
    """Wait for REPLY; ``None`` if the client left instead."""
    event = await receive()
    if event["type"] != "websocket.receive":
        return None
    frame = event.get("bytes")
    done = session.receive(event["text"] if frame is None else frame)
    if not isinstance(done, HandshakeDone):
        raise InvalidFrame
    return done.subprotocols


async def _connect(
    session: SecureSession | ClassicSession,
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    subprotocol: str | None = None,
) -> Connection:
    """Make the connection known to the hub before its first frame, so that no logout misses it."""
    hub: Hub = current_hub()
    connection = Connection(
        session,
        receive,
        send,
        hub=hub,
        path=scope.get("path", ""),
        subprotocol=subprotocol,
        **await keys.owner(scope),
    )
    await hub.add(connection)
    return connection


async def _disconnect(connection: Connection) -> None:
    await current_hub().discard(connection)
    await connection.finish()


async def _refuse(scope: Scope, send: Send, error: ProtocolError, offered: list[str]) -> None:
    """Accept, so that a browser sees the code, then close.

    The accept names one of the offered subprotocols, or Chromium would fail the connection before
    it saw the close.
    """
    logger.warning("%s: refused with %d.", scope.get("path", ""), error.code)
    profiles = [each for each in offered if each in PROFILES] or offered
    await send({"type": "websocket.accept", "subprotocol": profiles[0] if profiles else None})
    await send({"type": "websocket.close", "code": error.code, "reason": error.reason})
