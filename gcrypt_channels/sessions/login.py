"""The login that a connection was opened with, and whether it is still valid.

A connection outlives the request that opened it. So what Django's session and authentication
middleware found for that request is looked up again periodically, for many connections at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
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
from django.views.decorators.debug import sensitive_variables

from ..crypto import primitives
from .identity import Scope, session_identity
from .store import Account, auth_hashes, load_sessions, load_users, session_store
from .token import Token, held_tokens, token_id

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser

BATCH_SIZE = 500
"""Logins per look-up; below what every database takes as parameters of one query."""


@dataclass(frozen=True, slots=True)
class Login:
    """The session or token and the user of a connection, as they were when it was opened.

    Attributes:
        session_id: the :func:`session_id` of the session, or with a ticket the :func:`token_id`
            of its token; ``""`` if there is none.
        user_id: the primary key of the logged-in user as a string; ``""`` if there is none.
        session_key: the key under which the engine stores the session.
        auth_snapshot: what session or ticket said about its user: primary key, backend and auth
            hash.
        in_database: whether the user is one of ``AUTH_USER_MODEL``.
        token: the token with which the ticket was issued; ``None`` if there is none.
    """

    session_id: str = ""
    user_id: str = ""
    session_key: str = field(default="", repr=False)
    auth_snapshot: tuple[str, str, str] = field(default=("", "", ""), repr=False)
    in_database: bool = False
    token: Token | None = field(default=None, repr=False)

    @property
    def auth_hash(self) -> str:
        """The session auth hash, which changes with the password; ``""`` if there is none."""
        return self.auth_snapshot[2]

    @property
    def account(self) -> Account | None:
        """The user to look up; ``None`` if there is none, or nowhere to look."""
        user_id, backend, _ = self.auth_snapshot
        if not self.user_id:
            return None
        if backend:
            return Account(backend, user_id)
        return Account("", self.user_id) if self.in_database else None

    @property
    def verifiable(self) -> bool:
        """Whether there is anything to look up again."""
        return bool(self.session_key) or self.in_database or self.token is not None


NOBODY = Login()
"""No session and no user, so nothing that can end."""


@sensitive_variables()
async def login_of(scope: Scope) -> Login:
    """Return the login of a new connection or request; loads the session if that is not loaded.

    ``scope`` has ``session`` and ``user``, as Channels' ``AuthMiddlewareStack`` puts them there.
    """
    session: SessionBase | None = scope.get("session")
    user = scope.get("user")
    authenticated = user is not None and user.is_authenticated
    user_id = str(user.pk) if authenticated and user is not None else ""
    in_database = authenticated and isinstance(user, get_user_model())
    if session is None:
        return Login(user_id=user_id, in_database=in_database)
    await session.aget(HASH_SESSION_KEY)  # loads it
    return Login(
        session_id=session_id(session),
        user_id=user_id,
        session_key=session.session_key or "",
        auth_snapshot=_auth_snapshot(session),
        in_database=in_database,
    )


@sensitive_variables()
def login_of_ticket(
    account: Account, auth_digest: bytes, identity: str
) -> tuple[Login, AbstractBaseUser] | None:
    """Return the login that a ticket stands for, with its user; ``None`` if it has ended. Blocks.

    Args:
        account: whose ticket it is.
        auth_digest: the :func:`auth_digest` of the user when the ticket was issued.
        identity: names the token with which it was issued; ``""`` for none.

    Raises:
        ImproperlyConfigured: ``GCRYPT["TOKEN_RESOLVER"]`` cannot be used.
        Exception: the database, or what the resolver asks, cannot be asked.
    """
    user = load_users({account})[account]
    if user is None:
        return None
    for auth_hash in _auth_hashes(user):
        if primitives.compare(_digest(auth_hash), auth_digest):
            break
    else:
        return None
    token = Token(account.user_id, identity) if identity else None
    if token is not None and token not in held_tokens({token}):
        return None
    login = Login(
        session_id=token_id(identity or f"user {account.user_id}"),
        user_id=account.user_id,
        auth_snapshot=(account.user_id, account.backend, auth_hash),
        in_database=isinstance(user, get_user_model()),
        token=token,
    )
    return login, user


def auth_digest(user: AbstractBaseUser) -> bytes:
    """Return what a ticket says of the session auth hash of ``user`` (16 bytes)."""
    return _digest(next(iter(_auth_hashes(user))))


def _digest(auth_hash: str) -> bytes:
    return primitives.sha256(auth_hash.encode())[:16]


def _auth_hashes(user: AbstractBaseUser) -> Iterable[str]:
    return auth_hashes(user) if hasattr(user, "get_session_auth_hash") else ("",)


@sensitive_variables()
def session_id(session: SessionBase | str) -> str:
    """Return the name of a session in the hub: the SHA-256 of its identity in hex, 64 characters.

    It does not lead to the session. ``""`` if the session is not stored on the server.

    Args:
        session: the session, loaded, or its session key.
    """
    if not isinstance(session, str):
        identity = session_identity(session)
    elif issubclass(store := session_store(), CookieSessionStore):
        identity = session_identity(store(session))
    else:
        identity = session
    # A session key comes from the client, and may be any string.
    return primitives.sha256(identity.encode(errors="surrogatepass")).hex() if identity else ""


@sensitive_variables()
def find_ended_logins(logins: Collection[Login]) -> set[Login]:
    """Return those of ``logins`` that are no longer valid. Blocks.

    Takes at most :data:`BATCH_SIZE` of them, and makes one query for the sessions and one for the
    users where they are in a database. A login has ended when its session is gone, has expired or
    belongs to another user, when its user is gone, inactive or has another password, and when its
    token no longer holds: when Django would not accept it with the next request either.

    Raises:
        Exception: the store of the sessions, the database of the users, or what
            ``GCRYPT["TOKEN_RESOLVER"]`` asks, cannot be asked.
    """
    sessions = load_sessions({login.session_key for login in logins if login.session_key})
    current = [login for login in logins if _is_current(login, sessions)]
    users = load_users({login.account for login in current if login.account is not None})
    accepted = {login for login in current if _is_accepted(login, users)}
    held = held_tokens({login.token for login in accepted if login.token is not None})
    return set(logins) - {login for login in accepted if login.token is None or login.token in held}


def _auth_snapshot(data: SessionBase | Mapping[str, Any]) -> tuple[str, str, str]:
    names = (SESSION_KEY, BACKEND_SESSION_KEY, HASH_SESSION_KEY)
    user_id, backend, auth_hash = (str(data.get(name, "")) for name in names)
    return user_id, backend, auth_hash


def _is_current(login: Login, sessions: Mapping[str, Mapping[str, Any]]) -> bool:
    """Tell whether the session is still there, and of the same user."""
    if not login.session_key:
        return True
    data = sessions.get(login.session_key)
    return data is not None and _auth_snapshot(data) == login.auth_snapshot


def _is_accepted(login: Login, users: Mapping[Account, AbstractBaseUser | None]) -> bool:
    """Tell whether the user of ``login`` is still active, and has the same password."""
    if login.account is None:
        return True
    user = users[login.account]
    if user is None:
        return False
    if not (login.account.backend or login.auth_hash):
        return True  # nothing was said about it: the user did not come with a session or a ticket
    return any(constant_time_compare(login.auth_hash, each) for each in _auth_hashes(user))
