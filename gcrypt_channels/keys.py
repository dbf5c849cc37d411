"""Where keys come from: passphrase → root → secret of one purpose → session key; and resolvers.

The root never leaves this module. A connection's keys are derived from the secret of the purpose
"client" and from the login, so they need no storage, differ for every login, and end with the
session. See ``docs/security.md``, *Keys on the server*.

No function here holds a secret in a local variable when it raises: an error report prints the
locals of every frame that the exception passed.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from channels.db import database_sync_to_async
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.backends.signed_cookies import SessionStore as CookieSessionStore
from django.core.exceptions import ImproperlyConfigured
from django.views.decorators.debug import sensitive_variables

from .conf import conf, is_passphrase, load_resolver
from .crypto import primitives
from .crypto.jsontext import SURROGATE
from .crypto.psk import SessionKey
from .sessions.identity import Scope, session_identity
from .sessions.login import Login, login_of

__all__ = ["Keyring", "Purpose", "Scope", "SessionKey", "purpose_secret", "resolve"]

logger = logging.getLogger(__name__)

Purpose = Literal["client", "layer", "control", "ticket", "history"]
"""What a secret is for: keys of clients, group messages, control messages of the hubs, …"""

EXPLICIT_KEY = "gcrypt_passphrase"
"""The session entry with which an application sets a session's passphrase itself."""


@dataclass(frozen=True, slots=True)
class Keyring:
    """Every key that one connection may use, the primary first."""

    passphrases: tuple[str, ...] = field(repr=False)
    session_keys: tuple[SessionKey, ...]

    @classmethod
    @sensitive_variables()
    def derive(cls, *identity: str, passphrases: Iterable[str] | None = None) -> Keyring:
        """Derive the keys of ``identity``, one per passphrase of ``GCRYPT_PASSPHRASE``.

        Args:
            identity: what distinguishes the owner of this connection from every other one, for
                example session key, user and session auth hash. It need not be secret.
            passphrases: the ``gcrypt.v1`` passphrases, where they are chosen instead of derived;
                they then enter into the session keys as well. Those keep their 256 bits from
                the root however weak a chosen passphrase is.

        Raises:
            TypeError: the identity or a passphrase is not a string.
            ValueError: the identity or a passphrase holds a lone surrogate, or a passphrase is
                empty, or there is none.
            ImproperlyConfigured: ``GCRYPT_PASSPHRASE`` cannot be used.
        """
        chosen = None if passphrases is None else (*passphrases,)
        problem = _problem_of_arguments(identity, passphrases, chosen)
        if problem is not None:
            del identity, passphrases, chosen
            raise problem
        secrets = [purpose_secret("client", passphrase) for passphrase in conf.passphrases]
        if chosen is None:
            materials = [_encode(*identity)]
            chosen = tuple(_classic_passphrase(secret, materials[0]) for secret in secrets)
        else:
            materials = [_encode(*identity, passphrase) for passphrase in chosen]
        keys = (_session_key(secret, material) for material in materials for secret in secrets)
        return cls(passphrases=chosen, session_keys=tuple(keys))

    def session_key(self, kid: bytes | None) -> SessionKey:
        """Return the key that the client named, or the primary if it named none of these.

        Raises:
            ImproperlyConfigured: the resolver made a keyring for ``gcrypt.v1`` alone.
        """
        if not self.session_keys:
            raise ImproperlyConfigured(
                "The passphrase resolver returned a Keyring without session_keys, which gcrypt.v3 "
                "and gcrypt.v2 need: use Keyring.derive(), or enable gcrypt.v1 alone."
            )
        for key in self.session_keys:
            if kid is not None and primitives.compare(key.kid, kid):
                return key
        return self.session_keys[0]


def _problem_of_arguments(
    identity: tuple[object, ...], passphrases: object, chosen: tuple[object, ...] | None
) -> Exception | None:
    """Return what is wrong with the arguments of :meth:`Keyring.derive`; it names no value."""
    if isinstance(passphrases, str):
        return TypeError("Keyring.derive: passphrases= takes several, not one str")
    if not all(isinstance(each, str) for each in (*identity, *(chosen or ()))):
        return TypeError("Keyring.derive takes str: convert a primary key with str(user.pk)")
    if any(SURROGATE.search(str(each)) for each in identity):
        return ValueError("Keyring.derive: the identity has a lone surrogate")
    if chosen is not None and not (chosen and all(map(is_passphrase, chosen))):
        return ValueError("Keyring.derive: a passphrase is empty or has a lone surrogate")
    try:
        _ = conf.passphrases
    except ImproperlyConfigured as error:
        return error.with_traceback(None)  # which would lead to the locals of this frame
    return None


@lru_cache(maxsize=80)
@sensitive_variables()
def purpose_secret(purpose: Purpose, passphrase: str) -> bytes:
    """Return the secret (32 bytes) of one purpose, derived from the root of ``passphrase``.

    Computing the root is slow (scrypt), so it is done once in each process. The secret of one
    purpose reveals nothing about another.

    Raises:
        ValueError: the passphrase is not one.
    """
    if not is_passphrase(passphrase):
        del passphrase
        raise ValueError("purpose_secret: the passphrase is empty or has a lone surrogate")
    info = b"gcrypt_channels purpose " + purpose.encode()
    return primitives.hkdf(_root(passphrase), info=info, length=32)


@lru_cache(maxsize=16)
def _root(passphrase: str) -> bytes:
    return primitives.scrypt(passphrase.encode(), salt=b"gcrypt_channels root v1")


def _encode(*parts: str) -> bytes:
    """Join ``parts`` so that no two lists of parts give the same bytes."""
    encoded = [part.encode() for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)


def _classic_passphrase(secret: bytes, material: bytes) -> str:
    return primitives.hkdf(secret, info=b"gcrypt.v1 passphrase" + material, length=32).hex()


def _session_key(secret: bytes, material: bytes) -> SessionKey:
    derived = primitives.hkdf(secret, info=b"gcrypt session key" + material, length=40)
    return SessionKey(kid=derived[:8], psk=derived[8:])


@sensitive_variables()
async def resolve_session(scope: Scope) -> Keyring | None:
    """Return keys that live exactly as long as the login session: the default resolver.

    They are derived from session key, user and session auth hash; a passphrase that the
    application set as ``session["gcrypt_passphrase"]`` replaces the derived ``gcrypt.v1`` one.

    Raises:
        ImproperlyConfigured: that passphrase, or ``GCRYPT_PASSPHRASE``, cannot be used.
        ValueError: the user's primary key has a lone surrogate.
    """
    session: SessionBase | None = scope.get("session")
    if session is None:
        logger.warning("No session in the scope: put AuthMiddlewareStack around GcryptMiddleware.")
        return None
    login = await login_of(scope)
    if not session_identity(session) or not (login.user_id or conf.anonymous):
        return None
    return Keyring.derive(
        "session",
        *_identity(session, login),
        passphrases=_explicit_passphrases(session),
    )


def _identity(session: SessionBase, login: Login) -> tuple[str, ...]:
    if not login.user_id:
        return "anonymous", session_identity(session)
    return "user", session_identity(session), login.user_id, login.auth_hash


def _explicit_passphrases(session: SessionBase) -> list[str] | None:
    if session.get(EXPLICIT_KEY) is None:
        return None
    if isinstance(session, CookieSessionStore):
        raise ImproperlyConfigured(
            f"session[{EXPLICIT_KEY!r}] would be readable in the browser: the signed_cookies "
            "session engine signs a session but does not encrypt it. Use another SESSION_ENGINE."
        )
    if not is_passphrase(session[EXPLICIT_KEY]):
        raise ImproperlyConfigured(
            f"session[{EXPLICIT_KEY!r}] must be a non-empty string without lone surrogates."
        )
    return [session[EXPLICIT_KEY]]


async def resolve_shared(scope: Scope) -> Keyring:
    """Return ``GCRYPT_SHARED_PASSPHRASE``: for g-crypt pages with a built-in passphrase, v1 only.

    Raises:
        ImproperlyConfigured: that setting cannot be used.
    """
    return Keyring(passphrases=conf.shared_passphrases, session_keys=())


_BUILT_IN: Mapping[str, Callable[[Scope], Awaitable[Keyring | None]]] = {
    "session": resolve_session,
    "shared": resolve_shared,
}


@sensitive_variables()
async def resolve(scope: Scope, resolver: str | Callable[..., Any] | None = None) -> Keyring | None:
    """Return the keys of a connection or request; ``None`` if it gets none.

    Args:
        scope: an ASGI scope, or any mapping with ``session`` and ``user``.
        resolver: ``"session"``, ``"shared"``, or a callable or its dotted path. The callable takes
            the scope, is sync or async, and returns a :class:`Keyring`, a passphrase, several
            passphrases (primary first) or ``None``. By default ``GCRYPT["PASSPHRASE_RESOLVER"]``.

    Raises:
        ImproperlyConfigured: the settings, the session or the resolver's answer cannot be used.
        Exception: what the resolver raises.
    """
    chosen = conf.resolver if resolver is None else load_resolver(resolver)
    function = _BUILT_IN[chosen] if isinstance(chosen, str) else chosen
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        type(function).__call__
    ):
        return _keyring_of(await function(scope))
    # In a thread, because a synchronous resolver may well ask the database.
    return _keyring_of(await database_sync_to_async(function)(scope))


@sensitive_variables()
def _keyring_of(answer: Any) -> Keyring | None:
    """Return the keyring that a resolver's answer stands for."""
    if answer is None:
        return None
    if isinstance(answer, Keyring):
        passphrases = answer.passphrases
        if all(map(is_passphrase, passphrases)) and all(map(_is_usable, answer.session_keys)):
            return answer
    else:
        passphrases = tuple(answer) if isinstance(answer, (list, tuple)) else (answer,)
        if passphrases and all(map(is_passphrase, passphrases)):
            return Keyring.derive("resolver", passphrases=passphrases)
    del answer, passphrases
    raise ImproperlyConfigured(
        "The passphrase resolver must return a Keyring, a non-empty string without lone surrogates,"
        " a list of them, or None. GCRYPT['PASSPHRASE_RESOLVER'] names it."
    )


def _is_usable(key: SessionKey) -> bool:
    return len(key.kid) == 8 and len(key.psk) == 32
