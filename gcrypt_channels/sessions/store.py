"""Looks up many sessions and users at a time, in Django's session engine and backends. Blocks.

Each answer is the one that the next HTTP request would get, with two differences: nothing is ever
written, and a store that is down is not mistaken for sessions that are gone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from channels.db import database_sync_to_async
from django.conf import settings
from django.contrib.auth import get_user_model, load_backend
from django.contrib.sessions.backends import cache as cache_engine
from django.contrib.sessions.backends import db as db_engine
from django.contrib.sessions.backends.base import SessionBase
from django.core.cache import caches
from django.core.exceptions import ValidationError
from django.db import router
from django.utils import timezone

from ..exceptions import TryAgainLater

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser


def session_store() -> type[SessionBase]:
    """The class of ``SESSION_ENGINE``."""
    store: type[SessionBase] = import_module(settings.SESSION_ENGINE).SessionStore
    return store


def load_sessions(keys: Collection[str]) -> dict[str, Mapping[str, Any]]:
    """Return the data of those sessions that exist, by key; one query if they are in a database."""
    if not keys:
        return {}
    store = session_store()
    if issubclass(store, db_engine.SessionStore):
        return _load_rows(store, keys)
    if issubclass(store, cache_engine.SessionStore):
        return _load_cached(store, keys)
    loaded = ((key, _load_read_only(store, key)) for key in keys)
    return {key: data for key, data in loaded if data is not None}


def _load_rows(
    store: type[db_engine.SessionStore], keys: Collection[str]
) -> dict[str, Mapping[str, Any]]:
    model = store.get_model_class()
    # From the database that is written to: a replica that lags has no logins of this moment.
    rows = model.objects.using(router.db_for_write(model)).filter(
        session_key__in=keys, expire_date__gt=timezone.now()
    )
    decode = store().decode
    return {row.session_key: decode(row.session_data) for row in rows}


def _load_cached(
    store: type[cache_engine.SessionStore], keys: Collection[str]
) -> dict[str, Mapping[str, Any]]:
    # Not by the store's own load, which takes a cache that is down for a session that is gone.
    names = {store.cache_key_prefix + key: key for key in keys}
    cached = caches[settings.SESSION_CACHE_ALIAS].get_many(names)
    return {names[name]: data for name, data in cached.items()}


def check_store(session: SessionBase | None, cookies: Mapping[str, str]) -> None:
    """Find out whether an empty session is empty, before a client is told to log in; blocks.

    Django's cache engine takes a cache that is down for a session that is gone, so its word is
    doubted. The other engines raise by themselves.

    Args:
        session: the session that is about to be refused.
        cookies: those of the request, of which one names the session.

    Raises:
        TryAgainLater: the session is there after all: the store did not answer when it was loaded.
        Exception: the store does not answer now, whatever its library raises.
    """
    if not _hides_outages():
        return
    key = cookies.get(settings.SESSION_COOKIE_NAME) or ""
    is_there = bool(load_sessions([key or "gcrypt_channels"]))
    if is_there and (session is None or session.session_key != key):
        raise TryAgainLater("the session store does not answer")


async def acheck_store(session: SessionBase | None, cookies: Mapping[str, str]) -> None:
    """Do what :func:`check_store` does, in the thread of the synchronous code."""
    if _hides_outages():
        await database_sync_to_async(check_store)(session, cookies)


def _hides_outages() -> bool:
    return issubclass(session_store(), cache_engine.SessionStore)


class _GoneError(Exception):
    """A session does not exist any more."""


def _load_read_only(store: type[SessionBase], key: str) -> Mapping[str, Any] | None:
    """Load one session of any engine; ``None`` if it is gone.

    Some engines create a session in place of one that they do not find, or delete an expired one.
    """
    session = store(key)
    for name in ("create", "delete", "save"):
        setattr(session, name, _raise_gone)
    try:
        data = session.load()
    except _GoneError:
        return None
    return data if session.session_key == key else None


def _raise_gone(*args: object, **kwargs: object) -> None:
    raise _GoneError


class Account(NamedTuple):
    """A user's primary key, and the authentication backend that the user logged in with.

    ``backend`` is a dotted path, or ``""`` for a user who did not come with a session.
    """

    backend: str
    user_id: str


def load_users(accounts: Collection[Account]) -> dict[Account, AbstractBaseUser | None]:
    """Return the active users; ``None`` for one who is not, or is gone.

    Makes one query; a backend with a ``get_user`` of its own is asked for each of its users.
    """
    rows = _load_user_rows({account.user_id for account in accounts})
    paths = {account.backend for account in accounts} & {*settings.AUTHENTICATION_BACKENDS}
    backends = {path: load_backend(path) for path in paths}
    return {
        account: _active_user(backends.get(account.backend), account, rows.get(account.user_id))
        for account in accounts
    }


def _active_user(
    backend: Any, account: Account, row: AbstractBaseUser | None
) -> AbstractBaseUser | None:
    from django.contrib.auth.backends import ModelBackend

    if backend is None:  # no session named one, or it has left the settings
        return row if row is not None and row.is_active and not account.backend else None
    if getattr(type(backend), "get_user", None) is not ModelBackend.get_user:
        key = _primary_key(account.user_id)
        user: AbstractBaseUser | None = None if key is None else backend.get_user(key)
        return user
    return row if row is not None and backend.user_can_authenticate(row) else None


def _load_user_rows(ids: Collection[str]) -> dict[str, AbstractBaseUser]:
    if not ids:
        return {}
    model = get_user_model()
    keys = {_primary_key(user_id): user_id for user_id in ids}
    users = model._default_manager.using(router.db_for_write(model)).filter(
        pk__in=keys.keys() - {None}
    )
    return {keys[user.pk]: user for user in users}


def _primary_key(user_id: str) -> Any:
    """Return the key as the user model has it; ``None`` if it is not one of this model."""
    try:
        return get_user_model()._meta.pk.to_python(user_id)
    except ValidationError:
        return None


def auth_hashes(user: AbstractBaseUser) -> Iterator[str]:
    """Yield the auth hashes that Django accepts: by ``SECRET_KEY`` and by its fallbacks."""
    yield user.get_session_auth_hash()
    fallbacks: Callable[[], Iterable[str]] = user.get_session_auth_fallback_hash
    yield from fallbacks()
