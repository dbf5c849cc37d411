"""``GcryptMiddleware``: negotiate, handshake, open inbound frames, refuse plaintext outbound."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from . import keys
from .conf import conf, load_resolver, problems
from .connection.connection import Connection, Receive, Send
from .connection.daphne import completed
from .exceptions import NoProfile, NoSessionKey, ProtocolError, TryAgainLater
from .hub.hub import current_hub
from .hub.sweep import recheck_soon
from .layers.envelope import is_outage
from .protocol.classic import ClassicSession
from .protocol.profiles import PROFILES, V1, V2, Profile
from .protocol.secure import SecureSession
from .sessions.login import Login, login_of
from .signals import connection_closed, connection_opened, connection_refused

logger = logging.getLogger(__name__)

Scope = dict[str, Any]
Application = Callable[[Any, Any, Any], Awaitable[None]]

_KID_TOKEN = re.compile(r"gcrypt\.kid\.([0-9a-f]{16})", re.ASCII)


class GcryptMiddleware:
    """Encrypt every WebSocket below this point of the ASGI application.

    Args:
        inner: the ASGI application, usually a ``URLRouter``.
        profiles: the profiles offered here, preferred first; by default ``GCRYPT["PROFILES"]``.
        resolver: the passphrase resolver used here, as in ``GCRYPT["PASSPHRASE_RESOLVER"]``, which
            is the default.
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
        profiles: Iterable[Profile] | None = None,
        resolver: str | Callable[..., Any] | None = None,
        seal_outbound: bool = False,
    ) -> None:
        self.inner = inner
        self.profiles = None if profiles is None else tuple(profiles)
        self.resolver = None if resolver is None else load_resolver(resolver)
        self.seal_outbound = seal_outbound
        self._check()

    def _check(self) -> None:
        if self.profiles is not None and (
            not self.profiles or any(profile not in PROFILES for profile in self.profiles)
        ):
            known = " and ".join(repr(profile) for profile in PROFILES)
            raise ImproperlyConfigured(f"GcryptMiddleware: profiles= takes {known}.")
        found = problems(profiles=self.profiles, resolver=self.resolver)
        if found:
            raise ImproperlyConfigured(" ".join(f"{each.message} {each.hint}" for each in found))
        for passphrase in conf.passphrases:
            keys.purpose_secret("client", passphrase)  # not in the first connection: it takes long

    def _profiles(self) -> tuple[str, ...]:
        return conf.profiles if self.profiles is None else self.profiles

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a WebSocket; pass everything else on untouched."""
        if scope["type"] != "websocket":
            await self.inner(scope, receive, send)
            return
        send = completed(send)
        if (await receive())["type"] != "websocket.connect":
            return  # the client left before the application could answer
        offered = list(scope.get("subprotocols") or ())
        profile = ""
        try:
            profile = negotiate(offered, self._profiles())
            keyring, login = await self._resolve(scope)
        except ProtocolError as error:
            await _refuse(scope, send, error, offered)
            await connection_refused.asend_robust(
                GcryptMiddleware,
                profile=profile,
                path=scope.get("path", ""),
                user_id="",
                code=error.code,
            )
            return
        session: SecureSession | ClassicSession
        if profile == V2:
            session = SecureSession(
                role="server", max_message=conf.max_message_size, padding=conf.padding
            )
        else:
            session = ClassicSession(keyring.passphrases, max_message=conf.max_message_size)
        hub = current_hub()
        connection = Connection(
            session,
            receive,
            send,
            hub=hub,
            path=scope.get("path", ""),
            subprotocol=profile if profile in offered else None,
            login=login,
        )
        try:
            # Before its first frame, so that no logout misses it.
            await hub.add(connection)
            recheck_soon(hub, [connection])  # a logout just before that was not told to it
            await self._serve(connection, scope, keyring, offered)
        except TryAgainLater as error:
            connection.fail(error)
        except Exception as error:
            if is_outage(error):  # which is no fault of the application's own
                connection.fail(TryAgainLater())
            else:
                connection.abort(1011, "internal error")
                raise
        finally:
            await hub.discard(connection)
            await connection.finish()
            ended = connection_closed if connection.started else connection_refused
            await ended.asend_robust(
                GcryptMiddleware, **_facts(connection), code=connection.close_code
            )

    async def _resolve(self, scope: Scope) -> tuple[keys.Keyring, Login]:
        try:
            keyring = await keys.resolve(scope, self.resolver)
            login = await login_of(scope)
        except ImproperlyConfigured:
            raise
        except Exception as error:
            logger.exception("%r: the passphrase resolver failed.", scope.get("path", ""))
            raise TryAgainLater from error
        if keyring is None:
            raise NoSessionKey
        return keyring, login

    async def _serve(
        self, connection: Connection, scope: Scope, keyring: keys.Keyring, offered: list[str]
    ) -> None:
        """Handshake where the profile has one, then run the application."""
        if connection.profile == V2:
            key = keyring.session_key(_named_kid(offered))
            subprotocols = await connection.handshake(
                key.kid, key.psk, timeout=conf.handshake_timeout
            )
            if subprotocols is None:
                return
        else:
            subprotocols = tuple(each for each in offered if not each.startswith("gcrypt."))
        outbound = connection.send if self.seal_outbound else connection.refuse_plaintext
        await current_hub().join_user(connection)
        connection.start()
        await connection_opened.asend_robust(GcryptMiddleware, **_facts(connection))
        await self.inner(
            _inner_scope(scope, connection, subprotocols), connection.receive, outbound
        )


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


def _facts(connection: Connection) -> dict[str, str]:
    """What the signals tell of a connection."""
    return {
        "profile": connection.profile,
        "path": connection.path,
        "user_id": connection.user_id,
    }


def _inner_scope(scope: Scope, connection: Connection, subprotocols: Iterable[str]) -> Scope:
    """The application's scope: its own subprotocols, and no HTTP response, which is long sent."""
    extensions = dict(scope.get("extensions") or {})
    extensions.pop("websocket.http.response", None)
    return {
        **scope,
        "gcrypt": connection,
        "subprotocols": list(subprotocols),
        "extensions": extensions,
    }


async def _refuse(scope: Scope, send: Send, error: ProtocolError, offered: list[str]) -> None:
    """Accept, so that a browser sees the code, then close.

    The accept names one of the offered subprotocols, or Chromium would fail the connection before
    it saw the close.
    """
    logger.warning("%r: refused with %d.", scope.get("path", ""), error.code)
    profiles = [each for each in offered if each in PROFILES] or offered
    await send({"type": "websocket.accept", "subprotocol": profiles[0] if profiles else None})
    await send({"type": "websocket.close", "code": error.code, "reason": error.reason})
