"""Whose a connection is, and whether that still holds.

A connection outlives the request that opened it, so what Django's session and authentication
middleware found out then is looked up again from time to time: for many connections at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib.auth import (
    BACKEND_SESSION_KEY,
    HASH_SESSION_KEY,
    SESSION_KEY,
    get_user_model,
    load_backend,
)
from django.contrib.sessions.backends import cache as cache_engine
from django.contrib.sessions.backends import db as db_engine
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.backends.signed_cookies import SessionStore as CookieSessionStore
from django.core.cache import caches
from django.core.exceptions import ValidationError
from django.db import router
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from .crypto import primitives
from .keys import Scope, cookie_identity, session_identity

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
        identity = cookie_identity(_peek(store, session_key) or {})
        return session_id(identity) if identity else ""
    return session_id(session_key)


def session_id_now(session: SessionBase) -> str:
    """The :func:`session_id` of a session of HTTP; ``""`` if it has none yet."""
    if isinstance(session, CookieSessionStore):
        identity = cookie_identity(dict(session.items()))
    else:
        identity = session.session_key or ""
    return session_id(identity) if identity else ""


def session_store() -> type[SessionBase]:
    """The class of ``SESSION_ENGINE``."""
    store: type[SessionBase] = import_module(settings.SESSION_ENGINE).SessionStore
    return store


def ended(logins: Collection[Login]) -> set[Login]:
    """Those of ``logins`` that hold no more; blocks.

    It takes at most :data:`BATCH_SIZE` of them, and one query for sessions and one for users where
    they are in the database. Ended is a login whose session is gone, expired or somebody else's,
    and one whose user is gone, deactivated or has another password: what Django would not accept
    with the next request either.

    Raises:
        Exception: the store of the sessions or the database of the users cannot be asked.
    """
    sessions = _load_sessions({login.session_key for login in logins if login.session_key})
    current = [login for login in logins if _is_current(login, sessions)]
    users = _Users(current)
    return set(logins) - {login for login in current if users.accept(login)}


_PROOF = (SESSION_KEY, BACKEND_SESSION_KEY, HASH_SESSION_KEY)


def _proof(data: Mapping[str, Any]) -> tuple[str, str, str]:
    user_id, backend, auth_hash = (str(data.get(name, "")) for name in _PROOF)
    return user_id, backend, auth_hash


def _is_current(login: Login, sessions: Mapping[str, Mapping[str, Any]]) -> bool:
    if not login.session_key:
        return True
    data = sessions.get(login.session_key)
    return data is not None and _proof(data) == login.proof


# Sessions


def _load_sessions(keys: Collection[str]) -> dict[str, Mapping[str, Any]]:
    """The data of those sessions that exist, by key."""
    if not keys:
        return {}
    store = session_store()
    if issubclass(store, db_engine.SessionStore):
        return _load_rows(store, keys)
    if issubclass(store, cache_engine.SessionStore):
        return _load_cached(store, keys)
    loaded = ((key, _peek(store, key)) for key in keys)
    return {key: data for key, data in loaded if data is not None}


def _load_rows(
    store: type[db_engine.SessionStore], keys: Collection[str]
) -> dict[str, Mapping[str, Any]]:
    model = store.get_model_class()
    # From where sessions are written: a replica that lags would end logins that have just begun.
    rows = model.objects.using(router.db_for_write(model)).filter(
        session_key__in=keys, expire_date__gt=timezone.now()
    )
    decode = store().decode
    return {row.session_key: decode(row.session_data) for row in rows}


def _load_cached(
    store: type[cache_engine.SessionStore], keys: Collection[str]
) -> dict[str, Mapping[str, Any]]:
    # Not through the store, which takes a cache that is down for a session that is gone.
    names = {store.cache_key_prefix + key: key for key in keys}
    cached = caches[settings.SESSION_CACHE_ALIAS].get_many(names)
    return {names[name]: data for name, data in cached.items()}


class _GoneError(Exception):
    """A session does not exist any more."""


def _peek(store: type[SessionBase], key: str) -> Mapping[str, Any] | None:
    """Load one session of any engine, without the writing that some engines do meanwhile."""
    session = store(key)
    for name in ("create", "delete", "save"):
        setattr(session, name, _gone)
    try:
        data = session.load()
    except _GoneError:
        return None
    return data if session.session_key == key else None


def _gone(*args: object, **kwargs: object) -> None:
    raise _GoneError


# Users


class _Users:
    """The users of a batch of logins, asked of their backends at most once each."""

    def __init__(self, logins: Iterable[Login]) -> None:
        wanted = {self._source(login) for login in logins} - {None}
        self._rows = _load_users({user_id for _, user_id in filter(None, wanted)})
        self._backends: dict[str, Any] = {}
        self._users: dict[tuple[str, str], AbstractBaseUser | None] = {}
        for source in filter(None, wanted):
            self._users[source] = self._load(*source)

    def accept(self, login: Login) -> bool:
        """Whether the user of ``login`` may still act, and has the password of then."""
        source = self._source(login)
        if source is None:
            return True
        user = self._users[source]
        if user is None:
            return False
        _, backend, auth_hash = login.proof
        if not backend or not hasattr(user, "get_session_auth_hash"):
            return True
        return any(constant_time_compare(auth_hash, each) for each in _auth_hashes(user))

    @staticmethod
    def _source(login: Login) -> tuple[str, str] | None:
        """The backend to ask, ``""`` for none, and for whom; ``None``: there is no one to ask."""
        user_id, backend, _ = login.proof
        if backend:
            return backend, user_id
        return ("", login.user_id) if login.in_database else None

    def _load(self, backend_path: str, user_id: str) -> AbstractBaseUser | None:
        from django.contrib.auth.backends import ModelBackend

        row = self._rows.get(user_id)
        if not backend_path:
            return row if row is not None and row.is_active else None
        if backend_path not in settings.AUTHENTICATION_BACKENDS:
            return None
        if backend_path not in self._backends:
            self._backends[backend_path] = load_backend(backend_path)
        backend = self._backends[backend_path]
        if getattr(type(backend), "get_user", None) is not ModelBackend.get_user:
            key = _primary_key(user_id)
            user: AbstractBaseUser | None = None if key is None else backend.get_user(key)
            return user
        return row if row is not None and backend.user_can_authenticate(row) else None


def _load_users(ids: Collection[str]) -> dict[str, AbstractBaseUser]:
    if not ids:
        return {}
    model = get_user_model()
    keys = {_primary_key(user_id): user_id for user_id in ids}
    users = model._default_manager.using(router.db_for_write(model)).filter(
        pk__in=keys.keys() - {None}
    )
    return {keys[user.pk]: user for user in users}


def _primary_key(user_id: str) -> Any:
    """The key as the user model has it; ``None`` if it is of another model, as it was once."""
    try:
        return get_user_model()._meta.pk.to_python(user_id)
    except ValidationError:
        return None


def _auth_hashes(user: AbstractBaseUser) -> Iterator[str]:
    """What a valid session may hold: made with the secret key, or with a fallback, as for HTTP."""
    yield user.get_session_auth_hash()
    fallbacks: Callable[[], Iterable[str]] = user.get_session_auth_fallback_hash
    yield from fallbacks()
