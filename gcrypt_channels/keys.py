"""Where keys come from: passphrase → root → session key, and the resolvers that choose.

The root never leaves the server. A connection's keys are derived from it and from who is calling,
so they need no storage, differ for every login, and end with the session.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from channels.db import database_sync_to_async
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.backends.signed_cookies import SessionStore as CookieSessionStore
from django.core.exceptions import ImproperlyConfigured

from .conf import conf, load_resolver
from .crypto import primitives
from .crypto.psk import SessionKey
from .sessions.identity import Scope, session_identity
from .sessions.login import login_of

__all__ = ["Keyring", "Scope", "SessionKey", "resolve", "root"]

logger = logging.getLogger(__name__)

EXPLICIT_KEY = "gcrypt_passphrase"
"""The session entry with which an application sets a session's passphrase itself."""


@dataclass(frozen=True, slots=True)
class Keyring:
    """Every key that one connection may use, the primary first."""

    passphrases: tuple[str, ...] = field(repr=False)
    session_keys: tuple[SessionKey, ...]

    @classmethod
    def derive(cls, *identity: str, passphrases: Iterable[str] | None = None) -> Keyring:
        """Derive the keys of ``identity``, one per root.

        Args:
            identity: what tells this connection's owner from every other one, for example
                session key, user and session auth hash. It need not be secret.
            passphrases: the ``gcrypt.v1`` passphrases, where they are chosen instead of derived;
                they then enter into the ``gcrypt.v2`` keys as well. Those keep their 256 bits from
                the root however weak a chosen passphrase is.
        """
        roots = [root(passphrase) for passphrase in conf.passphrases]
        if passphrases is None:
            materials = [_encode(*identity)]
            classic = tuple(_classic_passphrase(secret, materials[0]) for secret in roots)
        else:
            classic = tuple(passphrases)
            materials = [_encode(*identity, passphrase) for passphrase in classic]
        keys = (_session_key(secret, material) for material in materials for secret in roots)
        return cls(passphrases=classic, session_keys=tuple(keys))

    def session_key(self, kid: bytes | None) -> SessionKey:
        """The key that the client named, or the primary if it named none of ours.

        Raises:
            ImproperlyConfigured: the resolver made a keyring for ``gcrypt.v1`` alone.
        """
        if not self.session_keys:
            raise ImproperlyConfigured(
                "The passphrase resolver returned a Keyring without session_keys, which gcrypt.v2 "
                "needs: use Keyring.derive(), or enable gcrypt.v1 alone."
            )
        for key in self.session_keys:
            if kid is not None and primitives.compare(key.kid, kid):
                return key
        return self.session_keys[0]


@lru_cache(maxsize=16)
def root(passphrase: str) -> bytes:
    """The 32-byte root secret of a passphrase; scrypt, so it is computed once per process."""
    return primitives.scrypt(passphrase.encode(), salt=b"gcrypt_channels root v1")


def _encode(*parts: str) -> bytes:
    """Join ``parts`` so that no two lists of parts give the same bytes."""
    encoded = [part.encode() for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)


def _classic_passphrase(secret: bytes, material: bytes) -> str:
    return primitives.hkdf(secret, info=b"gcrypt.v1 passphrase" + material, length=32).hex()


def _session_key(secret: bytes, material: bytes) -> SessionKey:
    derived = primitives.hkdf(secret, info=b"gcrypt.v2 session key" + material, length=40)
    return SessionKey(kid=derived[:8], psk=derived[8:])


async def resolve_session(scope: Scope) -> Keyring | None:
    """The default resolver: keys that live exactly as long as the login session.

    They are derived from session key, user and session auth hash; a passphrase that the
    application set as ``session["gcrypt_passphrase"]`` replaces the derived ``gcrypt.v1`` one.
    """
    session: SessionBase | None = scope.get("session")
    if session is None:
        logger.warning("No session in the scope: put AuthMiddlewareStack around GcryptMiddleware.")
        return None
    login = await login_of(scope)
    identity = session_identity(session)
    if not identity or not (login.user_id or conf.anonymous):
        return None
    explicit = session.get(EXPLICIT_KEY)
    owner = ["user", identity, login.user_id, login.auth_hash]
    return Keyring.derive(
        "session",
        *(owner if login.user_id else ["anonymous", identity]),
        passphrases=None if explicit is None else [_checked_explicit(session, explicit)],
    )


async def resolve_shared(scope: Scope) -> Keyring:
    """``GCRYPT_PASSPHRASE`` itself, for g-crypt pages with a built-in passphrase; v1 only."""
    return Keyring(passphrases=conf.passphrases, session_keys=())


def _checked_explicit(session: SessionBase, explicit: object) -> str:
    if not isinstance(explicit, str) or not explicit:
        raise ImproperlyConfigured(f"session[{EXPLICIT_KEY!r}] must be a non-empty string.")
    if isinstance(session, CookieSessionStore):
        raise ImproperlyConfigured(
            f"session[{EXPLICIT_KEY!r}] would be readable in the browser: the signed_cookies "
            "session engine signs a session but does not encrypt it. Use another SESSION_ENGINE."
        )
    return explicit


_BUILT_IN: Mapping[str, Callable[[Scope], Awaitable[Keyring | None]]] = {
    "session": resolve_session,
    "shared": resolve_shared,
}


async def resolve(scope: Scope, resolver: str | Callable[..., Any] | None = None) -> Keyring | None:
    """The keys of the connection or request that ``scope`` describes; ``None`` if it gets none.

    Args:
        scope: an ASGI scope, or any mapping with ``session`` and ``user``.
        resolver: ``"session"``, ``"shared"``, or a callable or its dotted path. The callable takes
            the scope, is sync or async, and returns a :class:`Keyring`, a passphrase, several
            passphrases (primary first) or ``None``. By default ``GCRYPT["PASSPHRASE_RESOLVER"]``.

    Raises:
        ImproperlyConfigured: the settings, the session or the resolver's answer cannot be used.
    """
    chosen = conf.resolver if resolver is None else load_resolver(resolver)
    function = _BUILT_IN[chosen] if isinstance(chosen, str) else chosen
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        type(function).__call__
    ):
        answer = await function(scope)
    else:
        # In a thread, because a synchronous resolver may well ask the database.
        answer = await database_sync_to_async(function)(scope)
    return _keyring(answer)


def _keyring(answer: Any) -> Keyring | None:
    if answer is None or isinstance(answer, Keyring):
        return answer
    passphrases = tuple(answer) if isinstance(answer, (list, tuple)) else (answer,)
    if not passphrases or not all(isinstance(each, str) and each for each in passphrases):
        raise ImproperlyConfigured(
            "GCRYPT['PASSPHRASE_RESOLVER'] must return a Keyring, a non-empty string, a list of "
            "them, or None."
        )
    return Keyring.derive("resolver", passphrases=passphrases)
