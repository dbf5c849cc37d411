"""What names a login session, so that keys can be derived from it and connections found by it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.backends.signed_cookies import SessionStore as CookieSessionStore

Scope = Mapping[str, Any]

COOKIE_IDENTITY_KEY = "_gcrypt_identity"
"""The session entry that names a login where the session lives in the cookie alone."""


async def session_identity(session: SessionBase) -> str:
    """What names this session on the server, or ``""`` if it does not exist there."""
    await session.aget(HASH_SESSION_KEY)  # loads it: a session that is gone loses its key here
    if isinstance(session, CookieSessionStore):
        return cookie_identity({name: await session.aget(name, "") for name in _COOKIE_IDENTITY})
    return session.session_key or ""


_COOKIE_IDENTITY = (COOKIE_IDENTITY_KEY, SESSION_KEY)


def cookie_identity(data: Mapping[str, Any]) -> str:
    """What names the session whose data are in a signed cookie; ``""`` before it had a key.

    The cookie is the session, and changes whenever that is saved: a random name inside it stays.
    It also survives a login, at which other engines give a session another key: so the user counts.
    """
    drawn, user_id = (str(data.get(name, "")) for name in _COOKIE_IDENTITY)
    return f"{drawn}:{user_id}" if drawn else ""


def prepare_session(session: SessionBase) -> None:
    """Give ``session`` what its keys hang on, if it has none yet; for synchronous HTTP code."""
    if isinstance(session, CookieSessionStore):
        if COOKIE_IDENTITY_KEY not in session:
            session[COOKIE_IDENTITY_KEY] = secrets.token_hex(16)
    elif not session.session_key:
        session.create()
