"""``GcryptMiddleware``: negotiate, handshake, open inbound frames, refuse plaintext outbound."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterable
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple

from channels.routing import ProtocolTypeRouter, URLRouter
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.dispatch import Signal
from django.views.decorators.debug import sensitive_variables

from . import keys
from .conf import conf, find_weakness, load_resolver, problems
from .connection.binding import is_same_request
from .connection.connection import Connection
from .connection.daphne import deny, has_foreign_root_path, patch_daphne_send
from .connection.facade import connection_of, facade_of
from .connection.inbox import Receive
from .connection.transport import drop_transport
from .crypto.psk import SessionKey
from .exceptions import (
    InvalidFrame,
    NoProfile,
    NoSessionKey,
    ProtocolError,
    ServiceRestart,
    TryAgainLater,
)
from .hub.hub import Hub, current_hub
from .hub.sigterm import install_handler, prepare_granian
from .layers.envelope import is_outage
from .outbox import Send
from .protocol.classic import ClassicSession
from .protocol.profiles import PROFILES, V1, Profile, is_available
from .protocol.secure import SecureSession
from .sessions.login import Login, login_of
from .sessions.store import acheck_store
from .signals import connection_closed, connection_opened, connection_refused

logger = logging.getLogger(__name__)

Scope = dict[str, Any]
Application = Callable[[Any, Any, Any], Awaitable[None]]

LOOKUP_TIMEOUT: Final = 5.0
"""Seconds that the resolver, the session store and the database have for a new connection."""

MAX_SHOWN: Final = 200
"""Characters of what a client offered that the log shows."""

_NESTED: Final = (
    "One GcryptMiddleware is inside another, where everything would be encrypted twice: put one of "
    "them around the URLRouter, and remove the other."
)

TICKET_PREFIX: Final = "gcrypt.ticket."
"""What a subprotocol begins with that carries a ticket."""

TICKET_ENTRY: Final = "gcrypt.ticket"
"""The entry of the scope in which ``TicketMiddleware`` leaves a function that admits the ticket.

It returns an awaitable of :class:`Admission`, and raises what a resolver may raise, and
``NoSessionKey``.
"""

_KID_TOKEN = re.compile(r"gcrypt\.kid\.([0-9a-f]{16})", re.ASCII)


class Admission(NamedTuple):
    """Under which keys and with which login a connection may be opened.

    ``entries`` replaces entries of the application's scope.
    """

    keyring: keys.Keyring
    login: Login
    entries: Scope


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
        ImproperlyConfigured: the settings are incomplete or wrong, ``gcrypt_channels`` is not
            installed, or there is another ``GcryptMiddleware`` inside. An ASGI server runs no
            system checks, so all this is looked at here, when the routing is imported.
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
        prepare_granian()

    def _check(self) -> None:
        if self.profiles is not None and (
            not self.profiles or any(profile not in PROFILES for profile in self.profiles)
        ):
            known = " and ".join(repr(profile) for profile in PROFILES)
            raise ImproperlyConfigured(f"GcryptMiddleware: profiles= takes {known}.")
        found = problems(profiles=self.profiles, resolver=self.resolver)
        if found:
            raise ImproperlyConfigured(" ".join(f"{each.message} {each.hint}" for each in found))
        if not apps.is_installed("gcrypt_channels"):
            raise ImproperlyConfigured(
                "gcrypt_channels is not in INSTALLED_APPS, so no socket would end at a logout: add "
                "it there."
            )
        if _holds_encryption(self.inner):
            raise ImproperlyConfigured(_NESTED)
        _warn_of_weakness(conf.passphrases)
        for passphrase in conf.passphrases:
            keys.purpose_secret("client", passphrase)  # not in the first connection: it takes long

    def _profiles(self) -> tuple[Profile, ...]:
        return conf.profiles if self.profiles is None else self.profiles

    @sensitive_variables()
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a WebSocket; pass everything else on untouched."""
        if scope["type"] != "websocket":
            await self.inner(scope, receive, send)
            return
        if connection_of(scope.get("gcrypt")) is not None:
            raise ImproperlyConfigured(_NESTED)  # behind a wrapper that hides what is inside
        task = asyncio.current_task()
        if task is None:  # granian with --task-impl rust
            await asyncio.create_task(self(scope, receive, send))
            return
        install_handler(send)
        hub = current_hub()
        if hub.draining:
            await _turn_away(scope, receive, send)
            return
        hub.serving[task] = send
        try:
            await self._call(scope, receive, send, hub)
        finally:
            del hub.serving[task]

    @sensitive_variables()
    async def _call(self, scope: Scope, receive: Receive, send: Send, hub: Hub) -> None:
        if (await receive())["type"] != "websocket.connect":
            return  # the client left before the application could answer
        admitted = await self._admit(scope, receive, send)
        if admitted is None:
            return
        connection, scope = admitted
        try:
            await hub.add(connection)  # before its first frame, so that no logout misses it
            is_misrouted = has_foreign_root_path(scope, send)
            subprotocols = await _handshake(connection, scope, is_misrouted=is_misrouted)
            if subprotocols is not None:
                await self._serve(connection, scope, subprotocols)
        except TryAgainLater as error:
            connection.fail(error)
        except asyncio.CancelledError:
            connection.abort(ServiceRestart.code, ServiceRestart.reason)  # the server stops
            raise
        except Exception as error:
            if is_outage(error):  # which is no fault of the application's own
                connection.fail(TryAgainLater(cause=f"the channel layer is down: {error!r}"))
            else:
                logger.error(
                    "%r: closed with 1011: the application raised %s.",
                    connection.path,
                    type(error).__name__,
                )
                connection.abort(1011, "internal error")
                raise
        finally:
            await connection.finish()

    @sensitive_variables()
    async def _admit(
        self, scope: Scope, receive: Receive, send: Send
    ) -> tuple[Connection, Scope] | None:
        """Negotiate the profile and find the keys; refuse the client if either is missing.

        Returns the connection and the scope of its application.
        """
        offered = list(scope.get("subprotocols") or ())
        path = scope.get("path", "")
        patched_send = patch_daphne_send(send)
        profile: Profile | None = None
        try:
            profile = negotiate(offered, self._profiles())
            keyring, login, entries = await self._resolve(scope, profile, offered)
            session, key = _session(profile, keyring, offered)
        except ProtocolError as error:
            cause = error.cause or error.reason
            logger.warning("%r: refused with %d: %s.", path, error.code, cause)
            await _refuse(patched_send, path, profile, offered, error.code, error.reason)
            return None
        except ImproperlyConfigured as error:
            logger.error("%r: refused with 1011: %s", path, error)
            await _refuse(patched_send, path, profile, offered, 1011, "internal error")
            raise
        connection = Connection(
            session,
            receive,
            patched_send,
            drop=partial(drop_transport, send),
            hub=current_hub(),
            path=path,
            subprotocol=profile if profile in offered else None,
            login=login,
            key=key,
            on_closed=_forget,
        )
        return connection, {**scope, **entries}

    @sensitive_variables()
    async def _resolve(self, scope: Scope, profile: Profile, offered: list[str]) -> Admission:
        has_ticket = any(each.startswith(TICKET_PREFIX) for each in offered)
        admitted = _admit_ticket(scope, profile) if has_ticket else self._look_up(scope)
        try:
            return await asyncio.wait_for(admitted, LOOKUP_TIMEOUT)
        except (ImproperlyConfigured, NoSessionKey):
            raise
        except Exception as error:
            if has_ticket:
                logger.exception("%r: the ticket could not be looked up.", scope.get("path", ""))
                asked = "the database or GCRYPT['TOKEN_RESOLVER']"
            else:
                logger.exception("%r: the passphrase resolver failed.", scope.get("path", ""))
                asked = "the passphrase resolver, the session store or the database"
            cause = f"{asked} failed or took over {LOOKUP_TIMEOUT:g} s ({type(error).__name__})"
            raise TryAgainLater(cause=cause) from error

    @sensitive_variables()
    async def _look_up(self, scope: Scope) -> Admission:
        keyring = await keys.resolve(scope, self.resolver)
        if keyring is None:
            await acheck_store(scope.get("session"), scope.get("cookies") or {})
            raise NoSessionKey(cause=self._why_no_key(scope))
        return Admission(keyring, await login_of(scope), {})

    def _why_no_key(self, scope: Scope) -> str:
        resolver = conf.resolver if self.resolver is None else self.resolver
        if resolver != "session":
            return "the passphrase resolver returned None for this connection"
        if scope.get("session") is None:
            return "there is no session: put AuthMiddlewareStack around GcryptMiddleware"
        return (
            "nobody is logged in: the request has no session cookie, or that of an ended session, "
            "and GCRYPT['ANONYMOUS'] is False"
            if not conf.anonymous
            else "the visitor has no session: the page has to call the key endpoint first"
        )

    async def _serve(
        self, connection: Connection, scope: Scope, subprotocols: Iterable[str]
    ) -> None:
        """Run the application."""
        connection.seals = self.seal_outbound
        await current_hub().join_user(connection)
        connection.start()
        await _send_signal(connection_opened, connection, handshake=connection.handshake_time)
        inner_scope = _inner_scope(scope, connection, subprotocols)
        await connection.run(self.inner(inner_scope, connection.receive, connection.send))


def inner_applications(application: Any) -> list[tuple[str, Any]]:
    """What is inside an ASGI application, each with its part of the route; nothing in a consumer.

    It is found by the attributes in which Channels and its middleware keep it.
    """
    if isinstance(application, ProtocolTypeRouter):
        websocket = application.application_mapping.get("websocket")
        return [] if websocket is None else [("", websocket)]
    if isinstance(application, URLRouter):
        routes: Iterable[Any] = application.routes
        return [(str(each.pattern), each.callback) for each in routes]
    if hasattr(application, "consumer_class"):
        return []
    inner = getattr(application, "inner", None) or getattr(application, "application", None)
    return [] if inner is None else [("", inner)]


def _holds_encryption(application: Any) -> bool:
    return isinstance(application, GcryptMiddleware) or any(
        _holds_encryption(inner) for _, inner in inner_applications(application)
    )


@lru_cache(maxsize=16)
def _warn_of_weakness(passphrases: tuple[str, ...]) -> None:
    """Log what W001 says, once for these passphrases."""
    weakness = find_weakness(passphrases)
    if weakness is not None:
        logger.warning("%s %s", weakness.message, weakness.hint)


def negotiate(offered: list[str], enabled: Iterable[Profile]) -> Profile:
    """The profile for a client's offered subprotocols, in the server's order of preference.

    A profile whose cryptography is not installed is passed over.

    A client that names no ``gcrypt.*`` subprotocol is an existing g-crypt page: ``gcrypt.v1``.

    Raises:
        NoProfile: nothing acceptable was offered.
    """
    named = [each for each in offered if each.startswith("gcrypt.")]
    usable = [each for each in enabled if is_available(each)]
    for profile in usable:
        if profile in named or (profile == V1 and not named):
            return profile
    here = f"; {', '.join(usable)} can be used here"
    if named:
        raise NoProfile(cause=f"the client offered {', '.join(named)[:MAX_SHOWN]!r}{here}")
    raise NoProfile(
        cause="the client offered no profile: open the socket with EncryptedWebSocket of gcrypt.js,"
        f" not with WebSocket{here}"
    )


@sensitive_variables()
async def _admit_ticket(scope: Scope, profile: Profile) -> Admission:
    """Admit the holder of the request's ticket, whatever session the request has."""
    admit = scope.get(TICKET_ENTRY)
    if admit is None:
        logger.warning("A ticket was offered: put TicketMiddleware around GcryptMiddleware.")
    elif profile == V1:
        logger.warning("A ticket was offered, and tickets do not serve gcrypt.v1.")
    else:
        admission: Admission = await admit()
        return admission
    raise NoSessionKey


def _named_kid(offered: list[str]) -> bytes | None:
    for token in offered:
        match = _KID_TOKEN.fullmatch(token)
        if match:
            return bytes.fromhex(match[1])
    return None


@sensitive_variables()
def _session(
    profile: Profile, keyring: keys.Keyring, offered: list[str]
) -> tuple[SecureSession | ClassicSession, SessionKey | None]:
    """The protocol's side of a connection, and the key of its handshake if it has one."""
    if profile == V1:
        return ClassicSession(keyring.passphrases, max_message=conf.max_message_size), None
    session = SecureSession(
        profile, role="server", max_message=conf.max_message_size, padding=conf.padding
    )
    return session, keyring.session_key(_named_kid(offered))


async def _handshake(
    connection: Connection, scope: Scope, *, is_misrouted: bool
) -> Iterable[str] | None:
    """The subprotocols that the client offers the application; ``None`` if the connection ended."""
    subprotocols: Iterable[str]
    if connection.profile == V1:
        offered = scope.get("subprotocols") or ()
        subprotocols = [each for each in offered if not each.startswith("gcrypt.")]
    else:
        done = await connection.handshake(timeout=conf.handshake_timeout)
        if done is None:
            return None
        if not is_same_request(done.binding, scope):
            connection.fail(InvalidFrame("", cause="the client made another request"))
            return None
        subprotocols = done.subprotocols
    if is_misrouted:
        connection.fail(InvalidFrame("", cause="the header Daphne-Root-Path changes the route"))
        return None
    return subprotocols


async def _forget(connection: Connection) -> None:
    """Take a connection that has ended out of the hub, and tell of its end.

    This does not wait for the application, which may go on for a while.
    """
    await current_hub().discard(connection)
    ended = connection_closed if connection.started else connection_refused
    more = {"code": connection.close_code, "forged": connection.forged}
    await _send_signal(ended, connection, **more)


async def _send_signal(signal: Signal, connection: Connection, **more: Any) -> None:
    await signal.asend_robust(
        GcryptMiddleware,
        profile=connection.profile,
        path=connection.path,
        user_id=connection.user_id,
        **more,
    )


def _inner_scope(scope: Scope, connection: Connection, subprotocols: Iterable[str]) -> Scope:
    """The application's scope: its own subprotocols, and no HTTP response, which is long sent."""
    extensions = dict(scope.get("extensions") or {})
    extensions.pop("websocket.http.response", None)
    return {
        **{name: value for name, value in scope.items() if name != TICKET_ENTRY},
        "gcrypt": facade_of(connection),
        "subprotocols": list(subprotocols),
        "extensions": extensions,
    }


async def _turn_away(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer 503, for which a proxy asks another process; where no server can, close with 1012."""
    if (await receive())["type"] != "websocket.connect":
        return
    path = scope.get("path", "")
    if "websocket.http.response" in (scope.get("extensions") or {}):
        headers = [(b"content-length", b"0")]
        await send({"type": "websocket.http.response.start", "status": 503, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": b""})
    elif not deny(send, 503, "Service Unavailable"):
        offered = list(scope.get("subprotocols") or ())
        code, reason = ServiceRestart.code, ServiceRestart.reason
        await _refuse(patch_daphne_send(send), path, None, offered, code, reason)
        return
    await connection_refused.asend_robust(
        GcryptMiddleware,
        profile="",
        path=path,
        user_id="",
        code=ServiceRestart.code,
        forged=False,
    )


async def _refuse(
    send: Send, path: str, profile: Profile | None, offered: list[str], code: int, reason: str
) -> None:
    """Accept, so that a browser sees the code, then close, and tell of it.

    The accept names one of the offered subprotocols, or Chromium would fail the connection before
    it saw the close. The close has a reason with ``gcrypt.v1`` alone.
    """
    names = [each for each in offered if each in PROFILES] or offered
    await send({"type": "websocket.accept", "subprotocol": names[0] if names else None})
    told = reason if profile == V1 else ""
    await send({"type": "websocket.close", "code": code, "reason": told})
    await connection_refused.asend_robust(
        GcryptMiddleware,
        profile=profile or "",
        path=path,
        user_id="",
        code=code,
        forged=False,
    )
