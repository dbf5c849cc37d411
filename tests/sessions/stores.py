"""Sessions whose content a test gives, without a database."""

from __future__ import annotations

from typing import Any

from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.backends.signed_cookies import SessionStore as CookieStore


class _Given(SessionBase):
    given: dict[str, Any]

    def load(self) -> dict[str, Any]:
        return self.given

    async def aload(self) -> dict[str, Any]:
        return self.given


class GivenSession(_Given, SessionStore):
    """One of the engine `db`."""

    def __init__(self, session_key: str, **given: Any) -> None:
        super().__init__(session_key)
        self.given = given


class GivenCookie(_Given, CookieStore):
    """One of the engine `signed_cookies`."""

    def __init__(self, session_key: str, **given: Any) -> None:
        super().__init__(session_key)
        self.given = given
