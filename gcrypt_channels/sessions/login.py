"""Whose a connection is, and whether that still holds.

A connection outlives the request that opened it, so what Django's session and authentication
middleware found out then is looked up again from time to time: for many connections at once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.contrib.auth import (
    BACKEND_SESSION_KEY,
    HASH_SESSION_KEY,
    SESSION_KEY,
    get_user_model,
)
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.backends.signed_cookies import SessionStore as CookieSessionStore
from django.utils.crypto import constant_time_compare

from ..crypto import primitives
from .identity import Scope, cookie_identity, session_identity
from .store import Account, auth_hashes, load_sessions, load_users, peek, session_store

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser

BATCH_SIZE = 500
"""Logins per look-up; below what every database takes as parameters of one query."""


@dataclass(frozen=True, slots=True)
class Login:
    """What a connection's right to exist rests on, as it was when the connection was opened.

    Attributes:
        session_id: names the session without being of use as one (32 bytes of SHA-256 in hex);
            ``""`` if there is none.
        user_id: the primary key of the logged-in user as a string; ``""`` if there is none.
        session_key: the key under which the engine stores the session.
        proof: what the session held about its user then: primary key, backend and auth hash.
        in_database: whether the user is one of ``AUTH_USER_MODEL``.
    """

    session_id: str = ""
    user_id: str = ""
    session_key: str = field(default="", repr=False)
    proof: tuple[str, str, str] = field(default=("", "", ""), repr=False)
    in_database: bool = False

    @property
    def account(self) -> Account | None:
        """The user to look up; ``None`` if there is nobody, or nobody to ask."""
        user_id, backend, _ = self.proof
        if not self.user_id:
            return None
        if backend:
            return Account(backend, user_id)
        return Account("", self.user_id) if self.in_database else None

    @property
    def verifiable(self) -> bool:
        """Whether there is anything that could be looked up again."""
        return bool(self.session_key) or self.in_database


NOBODY = Login()
"""No session and no user: nothing that could end."""


async def login_of(scope: Scope) -> Login:
    """The login that the scope of a new connection stands for; reads no more than is loaded."""
    session: SessionBase | None = scope.get("session")
    user = scope.get("user")
    authenticated = user is not None and user.is_authenticated
    user_id = str(user.pk) if authenticated and user is not None else ""
    in_database = authenticated and isinstance(user, get_user_model())
    if session is None:
        return Login(user_id=user_id, in_database=in_database)
    identity = await session_identity(session)
    return Login(
        session_id=session_id(identity) if identity else "",
        user_id=user_id,
        session_key=session.session_key or "",
        proof=_proof({name: await session.aget(name, "") for name in _PROOF}),
        in_database=in_database,
    )


def session_id(identity: str) -> str:
    """The name under which the hub knows the session that is identified by ``identity``."""
    return primitives.sha256(identity.encode()).hex()


def session_id_of_key(session_key: str) -> str:
    """The :func:`session_id` of the session with this key, or in this cookie."""
    store = session_store()
    if issubclass(store, CookieSessionStore):
        identity = cookie_identity(peek(store, session_key) or {})
        return session_id(identity) if identity else ""
    return session_id(session_key)


def session_id_now(session: SessionBase) -> str:
    """The :func:`session_id` of a session of HTTP; ``""`` if it has none yet."""
    if isinstance(session, CookieSessionStore):
        identity = cookie_identity(dict(session.items()))
    else:
        identity = session.session_key or ""
    return session_id(identity) if identity else ""


def ended(logins: Collection[Login]) -> set[Login]:
    """Those of ``logins`` that hold no more; blocks.

    It takes at most :data:`BATCH_SIZE` of them, and one query for sessions and one for users where
    they are in the database. Ended is a login whose session is gone, expired or somebody else's,
    and one whose user is gone, deactivated or has another password: what Django would not accept
    with the next request either.

    Raises:
        Exception: the store of the sessions or the database of the users cannot be asked.
    """
    sessions = load_sessions({login.session_key for login in logins if login.session_key})
    current = [login for login in logins if _is_current(login, sessions)]
    users = load_users({login.account for login in current if login.account is not None})
    return set(logins) - {login for login in current if _is_accepted(login, users)}


_PROOF = (SESSION_KEY, BACKEND_SESSION_KEY, HASH_SESSION_KEY)


def _proof(data: Mapping[str, Any]) -> tuple[str, str, str]:
    user_id, backend, auth_hash = (str(data.get(name, "")) for name in _PROOF)
    return user_id, backend, auth_hash


def _is_current(login: Login, sessions: Mapping[str, Mapping[str, Any]]) -> bool:
    if not login.session_key:
        return True
    data = sessions.get(login.session_key)
    return data is not None and _proof(data) == login.proof


def _is_accepted(login: Login, users: Mapping[Account, AbstractBaseUser | None]) -> bool:
    """Whether the user of ``login`` may still act, and has the password of then."""
    if login.account is None:
        return True
    user = users[login.account]
    if user is None:
        return False
    auth_hash = login.proof[2]
    if not login.account.backend or not hasattr(user, "get_session_auth_hash"):
        return True
    return any(constant_time_compare(auth_hash, each) for each in auth_hashes(user))
