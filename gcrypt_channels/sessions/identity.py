"""The identity of a login session: keys are derived from it, and connections are found by it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.backends.signed_cookies import SessionStore as CookieSessionStore

Scope = Mapping[str, Any]

COOKIE_IDENTITY_KEY = "_gcrypt_identity"
"""The session entry that identifies a session which is stored in the cookie alone."""


def session_identity(session: SessionBase) -> str:
    """Return what identifies ``session`` on the server; ``""`` if it is not stored there.

    It is the session key, except with signed cookies: there the session key is the cookie, which
    changes whenever the session is saved. A random value inside it stays. That value also survives
    a login, at which other engines change the session key, so the user's primary key is added.

    ``session`` has to be loaded: a session that is gone loses its key only then.
    """
    if not isinstance(session, CookieSessionStore):
        return session.session_key or ""
    value = session.get(COOKIE_IDENTITY_KEY, "")
    return f"{value}:{session.get(SESSION_KEY, '')}" if value else ""


def prepare_session(session: SessionBase) -> None:
    """Ensure that the session has a stable identifier to derive keys from. Blocks."""
    if isinstance(session, CookieSessionStore):
        if COOKIE_IDENTITY_KEY not in session:
            session[COOKIE_IDENTITY_KEY] = secrets.token_hex(16)
    elif not session.session_key:
        session.create()
