"""``DjangoSession``: log in to a Django site as a browser does, and connect under its session."""

from __future__ import annotations

import asyncio
import json
import ssl as ssl_module
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from http.client import HTTPException, HTTPResponse
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

from websockets.datastructures import Headers

from ..crypto.psk import SessionKey
from ..exceptions import NoProfile, NoSessionKey
from ..protocol.profiles import V1, Profile
from .connection import ClientConnection
from .key import parse_key
from .opening import connect

__all__ = ["DjangoSession"]

HTTP_TIMEOUT = 30
"""Seconds for the site to send anything."""

MAX_ANSWER = 65_536
"""Bytes of an answer that are read; what the key endpoint answers is far below."""

_REDIRECTS = (301, 302, 303, 307, 308)


class DjangoSession:
    """A login session on a Django site, without a browser.

    Args:
        base_url: where the site is, such as ``https://example.org``.
        login_path: its login page, which sets the CSRF cookie and has the login form.
        key_path: its key endpoint.
        fields: the names of the login form's fields for the user's name and the password.
        csrf_cookie: the site's ``CSRF_COOKIE_NAME``.
        ssl: for a site whose certificate the system does not trust by itself.

    Raises:
        ValueError: the URL does not begin with ``http://`` or ``https://``, or it or a path has
            characters that a URL has to escape.
    """

    def __init__(
        self,
        base_url: str,
        *,
        login_path: str = "/accounts/login/",
        key_path: str = "/gcrypt/key/",
        fields: tuple[str, str] = ("username", "password"),
        csrf_cookie: str = "csrftoken",
        ssl: ssl_module.SSLContext | None = None,
    ) -> None:
        site = urlsplit(base_url)
        if site.scheme not in ("http", "https") or not site.netloc:
            raise ValueError("the base URL of a site begins with http:// or https://")
        _check_ascii(base_url + login_path + key_path)
        self._base_url = base_url
        self._login_url = urljoin(base_url, login_path)
        self._key_url = urljoin(base_url, key_path)
        self._fields = fields
        self._csrf_cookie = csrf_cookie
        self._ssl = ssl
        self._cookies = CookieJar()
        self._opener = build_opener(
            HTTPSHandler(context=ssl), HTTPCookieProcessor(self._cookies), _NoRedirects
        )
        self._origin = f"{site.scheme}://{site.netloc}"

    def __repr__(self) -> str:
        return f"<DjangoSession {self._origin}>"

    async def login(self, username: str, password: str) -> None:
        """Log in through the site's login form.

        Raises:
            NoSessionKey: the site refused the login, or sets no CSRF cookie.
            OSError: the site was not reached, or has no login page there.
        """
        password = _HiddenStr(password)
        await asyncio.to_thread(self._login, username, password)

    async def fetch_keys(self) -> dict[str, Any]:
        """Return what the key endpoint answers; see ``docs/protocol.md``, *Keys*.

        Raises:
            NoSessionKey: nobody is logged in, or the session may have no key.
            OSError: the site was not reached, has no key endpoint there, or refused the request as
                a forgery (CSRF).
        """
        return await asyncio.to_thread(self._fetch_keys)

    @asynccontextmanager
    async def connect(
        self, path: str, *, profile: Profile | None = None, **options: Any
    ) -> AsyncIterator[ClientConnection]:
        """Fetch this session's key and connect to ``path``.

        ``options`` and errors are those of :func:`~gcrypt_channels.client.connect`, to which come
        those of :meth:`fetch_keys`. A key that the site has rotated meanwhile is fetched again.
        """
        _check_ascii(path)
        if self._ssl is not None:
            options["ssl"] = self._ssl
        headers = Headers(options.pop("additional_headers", None) or {})
        options.setdefault("origin", self._origin)
        async with connect(
            "ws" + urljoin(self._base_url, path).removeprefix("http"),
            profile=profile,
            **self._key_options(profile, await self.fetch_keys()),
            additional_headers=self._with_cookies(headers, path),  # of that answer as well
            **options,
        ) as connection:
            yield connection

    def _key_options(self, profile: Profile | None, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of ``connect`` that an answer of the key endpoint stands for."""
        members = answer.get(V1 if profile == V1 else "session")
        try:
            if not isinstance(members, dict):
                raise NoProfile(f"the site does not enable {profile or 'gcrypt.v3 or gcrypt.v2'}")
            if profile == V1:
                return {"passphrase": members.get("passphrase")}
            key = parse_key(members.get("kid"), members.get("psk"))
            return {"kid": key.kid, "psk": key.psk, "key_source": self._fetch_key}
        except ValueError:
            raise OSError(f"{self._key_url} answered without a key") from None
        finally:
            del answer, members  # an error report prints local variables

    async def _fetch_key(self) -> SessionKey:
        options = self._key_options(None, await self.fetch_keys())
        return SessionKey(kid=options["kid"], psk=options["psk"])

    def _with_cookies(self, headers: Headers, path: str) -> Headers:
        headers["Cookie"] = self._cookie_header(path)
        return headers

    def _cookie_header(self, path: str) -> str:
        request = self._build_request(urljoin(self._base_url, path))
        self._cookies.add_cookie_header(request)
        return request.get_header("Cookie") or ""

    # In a thread of their own, because they block

    def _login(self, username: str, password: str) -> None:
        form = dict(zip(self._fields, (username, password), strict=True))
        status, _ = self._post(self._login_url, form)
        # A Django login form redirects after a login, and is shown again otherwise.
        if status not in (302, 303):
            raise NoSessionKey(
                f"{self._login_url} refused the login ({status}): check name, password and fields"
            )

    def _fetch_keys(self) -> dict[str, Any]:
        status, body = self._post(self._key_url, {})
        try:
            keys = json.loads(body)
        except (ValueError, RecursionError):
            keys = None
        if status == 403 and isinstance(keys, dict) and keys.get("error") == "csrf":
            raise OSError(f"{self._key_url} answered 403: {keys.get('detail')}")
        if status in (401, 403, *_REDIRECTS):  # a redirect leads to the login page
            raise NoSessionKey(f"{self._key_url} gives this session no key ({status}): log in")
        if not isinstance(keys, dict):
            raise OSError(
                f"{self._key_url} answered no JSON object: it is not the key endpoint, which "
                "key_path names"
            )
        return keys

    def _post(self, url: str, form: Mapping[str, str]) -> tuple[int, bytes]:
        fields = {"csrfmiddlewaretoken": self._csrf_token(), **form}
        headers = {"Origin": self._origin, "Referer": url}
        request = self._build_request(url, headers=headers, method="POST")
        # What UTF-8 cannot express is for the site to refuse, as any other wrong password.
        request.data = urlencode(fields, errors="surrogatepass").encode()
        return self._fetch(request)

    def _csrf_token(self) -> str:
        """Return the value of the CSRF cookie, which the login page sets."""
        if not (token := self._cookie_token()):
            self._fetch(self._build_request(self._login_url))
            token = self._cookie_token()
        if not token:
            raise NoSessionKey(
                f"{self._login_url} sets no cookie {self._csrf_cookie!r}: check login_path and "
                "csrf_cookie"
            )
        return token

    def _cookie_token(self) -> str:
        named = (cookie.value for cookie in self._cookies if cookie.name == self._csrf_cookie)
        return next(named, None) or ""

    def _build_request(self, url: str, **options: Any) -> Request:
        return Request(url, **options)  # noqa: S310 - the scheme has been checked

    def _fetch(self, request: Request) -> tuple[int, bytes]:
        """Return status and body. Raises ``OSError`` for an error that is not about the login."""
        url = request.full_url
        try:
            response: HTTPResponse | HTTPError = self._opener.open(request, timeout=HTTP_TIMEOUT)
        except HTTPError as error:
            response = error
        except (HTTPException, OSError) as error:
            raise OSError(f"{url} was not reached: {error}") from None  # its frames have the form
        with closing(response):
            status = response.status or 0
            if status >= 400 and status not in (401, 403):
                raise OSError(f"{url} answered {status}: check base URL, login_path and key_path")
            try:
                return status, response.read(MAX_ANSWER)
            except (HTTPException, OSError) as error:
                raise OSError(f"{url} did not answer in full: {error}") from None


def _check_ascii(url: str) -> None:
    if not all("!" <= each <= "~" for each in url):
        raise ValueError("URL and paths are ASCII: use percent-encoding, and IDNA for a host")


class _HiddenStr(str):
    """A string that no error report prints, wherever it is a local variable."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'…'"


class _NoRedirects(HTTPRedirectHandler):
    """Returns a redirect as an answer: after a login it means that the login succeeded."""

    def redirect_request(self, *args: Any) -> None:
        return None
