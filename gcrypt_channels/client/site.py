"""``DjangoSession``: log in to a Django site as a browser does, and connect under its session."""

from __future__ import annotations

import asyncio
import json
import re
import ssl as ssl_module
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from html import unescape
from http.client import HTTPResponse
from http.cookiejar import CookieJar
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urljoin, urlsplit
from urllib.request import (
    HTTPCookieProcessor,
    HTTPRedirectHandler,
    HTTPSHandler,
    Request,
    build_opener,
)

from ..crypto.psk import SessionKey
from ..exceptions import NoProfile, NoSessionKey
from ..protocol.profiles import V2, Profile
from .connection import ClientConnection
from .key import parse_key
from .opening import connect

__all__ = ["DjangoSession"]

Response = HTTPResponse | HTTPError

HTTP_TIMEOUT = 30
"""Seconds."""

_FORM_TOKEN = re.compile(r'name="csrfmiddlewaretoken"\s+value="([^"]+)"')


class DjangoSession:
    """A login session on a Django site, without a browser.

    Args:
        base_url: where the site is, such as ``https://example.org``.
        login_path: its login page, with the fields ``username`` and ``password``.
        key_path: its key endpoint.
        csrf_cookie: the site's ``CSRF_COOKIE_NAME``.
        ssl: for a site whose certificate the system does not trust by itself.
    """

    def __init__(
        self,
        base_url: str,
        *,
        login_path: str = "/accounts/login/",
        key_path: str = "/gcrypt/key/",
        csrf_cookie: str = "csrftoken",
        ssl: ssl_module.SSLContext | None = None,
    ) -> None:
        site = urlsplit(base_url)
        if site.scheme not in ("http", "https"):
            raise ValueError("the base URL of a site begins with http:// or https://")
        self._base_url = base_url
        self._login_url = urljoin(base_url, login_path)
        self._key_url = urljoin(base_url, key_path)
        self._csrf_cookie = csrf_cookie
        self._ssl = ssl
        self._cookies = CookieJar()
        self._opener = build_opener(
            HTTPSHandler(context=ssl),
            HTTPCookieProcessor(self._cookies),
            _NoRedirects,
        )
        self._origin = f"{site.scheme}://{site.netloc}"

    def __repr__(self) -> str:
        return f"<DjangoSession {self._origin}>"

    async def login(self, username: str, password: str) -> None:
        """Log in through the site's login form.

        Raises:
            NoSessionKey: the site refused the login.
            OSError: the site was not reached, or has no such page.
        """
        await asyncio.to_thread(self._login, username, password)

    async def fetch_keys(self) -> dict[str, Any]:
        """What the key endpoint answers: the keys of this session, by profile.

        Raises:
            NoSessionKey: nobody is logged in, or the session may have no key.
            OSError: the site was not reached, or has no key endpoint there.
        """
        return await asyncio.to_thread(self._fetch_keys)

    @asynccontextmanager
    async def connect(
        self, path: str, *, profile: Profile = V2, **options: Any
    ) -> AsyncIterator[ClientConnection]:
        """Fetch this session's key and connect to ``path``.

        ``options`` and errors are those of :func:`~gcrypt_channels.client.connect`; a key that the
        site has rotated meanwhile is fetched again.
        """
        members = (await self.fetch_keys()).get(profile)
        if members is None:
            raise NoProfile(f"the site does not enable {profile}")
        if self._ssl is not None:
            options["ssl"] = self._ssl
        async with connect(
            "ws" + urljoin(self._base_url, path).removeprefix("http"),
            profile=profile,
            key_source=self._session_key,
            origin=self._origin,
            additional_headers={"Cookie": self._cookie_header(path)},
            **members,
            **options,
        ) as connection:
            yield connection

    async def _session_key(self) -> SessionKey:
        return parse_key(**(await self.fetch_keys())[V2])

    def _cookie_header(self, path: str) -> str:
        request = self._request(urljoin(self._base_url, path))
        self._cookies.add_cookie_header(request)
        return request.get_header("Cookie") or ""

    # In a thread of their own, because they block

    def _login(self, username: str, password: str) -> None:
        form = {"username": username, "password": password}
        with self._post(self._login_url, form, token=self._form_token()) as response:
            # A Django login form redirects when it lets one in, and is shown again otherwise.
            if response.status not in (302, 303):
                raise NoSessionKey("the site refused the login")

    def _fetch_keys(self) -> dict[str, Any]:
        token = self._cookie_token() or self._form_token()
        with self._post(self._key_url, {}, token=token) as response:
            if response.status in (401, 403):
                raise NoSessionKey("the site gives this session no key")
            keys: dict[str, Any] = json.load(response)
            return keys

    def _cookie_token(self) -> str:
        named = (cookie.value for cookie in self._cookies if cookie.name == self._csrf_cookie)
        return next(named, None) or ""

    def _form_token(self) -> str:
        """The CSRF token of the login form, which is there with ``CSRF_USE_SESSIONS`` as well."""
        with self._open(self._request(self._login_url)) as response:
            found = _FORM_TOKEN.search(response.read().decode(errors="replace"))
        return unescape(found[1]) if found else ""

    def _post(self, url: str, form: Mapping[str, str], *, token: str) -> Response:
        headers = {"Origin": self._origin, "Referer": url, "X-CSRFToken": token}
        data = urlencode(form).encode()
        return self._open(self._request(url, data=data, headers=headers, method="POST"))

    def _request(self, url: str, **options: Any) -> Request:
        return Request(url, **options)  # noqa: S310 - the scheme has been checked

    def _open(self, request: Request) -> Response:
        try:
            response: HTTPResponse = self._opener.open(request, timeout=HTTP_TIMEOUT)
        except HTTPError as error:
            if error.code in (302, 303, 401, 403):
                return error
            error.close()  # or its socket stays open for as long as somebody holds the error
            raise
        return response


class _NoRedirects(HTTPRedirectHandler):
    """Makes a redirect an answer like any other: that of a login tells that it succeeded."""

    def redirect_request(self, *args: Any) -> None:
        return None
