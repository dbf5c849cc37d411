"""``DjangoSession``: log in to a Django site as a browser does, and connect under its session."""

from __future__ import annotations

import asyncio
import json
import ssl as ssl_module
from collections.abc import Mapping
from contextlib import closing
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
from .key import KeyRefusedError, parse_key
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

    def connect(self, path: str, *, profile: Profile | None = None, **options: Any) -> connect:
        """Connect to ``path`` with this session's key, which is fetched when it is needed.

        What is returned is used as :func:`~gcrypt_channels.client.connect`, with ``async with`` or
        ``async for``. ``options`` and errors are of that as well, to which come those of
        :meth:`fetch_keys`. A key that the site has rotated meanwhile is fetched again.
        """
        return _SiteConnect(self, path, profile, options)

    def key_members(self, answer: Mapping[str, Any], profile: Profile | None) -> dict[str, Any]:
        """Return what an answer of the key endpoint has for a profile, as ``connect`` takes it."""
        members = answer.get(V1 if profile == V1 else "session")
        try:
            if not isinstance(members, dict):
                raise NoProfile(f"the site does not enable {profile or 'gcrypt.v3 or gcrypt.v2'}")
            if profile == V1 and isinstance(members.get("passphrase"), str):
                return {"passphrase": members["passphrase"]}
            key = parse_key(members.get("kid"), members.get("psk"))
            return {"kid": key.kid, "psk": key.psk}
        except ValueError:
            raise KeyRefusedError(f"{self._key_url} answered without a key") from None
        finally:
            del answer, members  # an error report prints local variables

    def socket_options(self, path: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Return the URL of a WebSocket, and what ``connect`` takes for this site."""
        _check_ascii(path)
        own = {} if self._ssl is None else {"ssl": self._ssl}
        url = "ws" + urljoin(self._base_url, path).removeprefix("http")
        return url, {"origin": self._origin, **options, **own}

    def cookie_header(self, path: str) -> str:
        """Return the cookies that a request for ``path`` carries."""
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
            raise KeyRefusedError(f"{self._key_url} answered 403: {keys.get('detail')}")
        if status in (401, 403, *_REDIRECTS):  # a redirect leads to the login page
            raise NoSessionKey(f"{self._key_url} gives this session no key ({status}): log in")
        if not isinstance(keys, dict):
            raise KeyRefusedError(
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
                failed = f"{url} answered {status}: check base URL, login_path and key_path"
                raise KeyRefusedError(failed) if status < 500 else OSError(failed)
            try:
                return status, response.read(MAX_ANSWER)
            except (HTTPException, OSError) as error:
                raise OSError(f"{url} did not answer in full: {error}") from None


class _SiteConnect(connect):
    """Connects with the key and the cookies of a site's session."""

    def __init__(
        self, site: DjangoSession, path: str, profile: Profile | None, options: dict[str, Any]
    ) -> None:
        url, options = site.socket_options(path, options)
        super().__init__(url, profile=profile, key_source=self._fetch_members, **options)
        self._site = site
        self._path = path
        self._profile = profile

    async def _fetch_members(self) -> dict[str, Any]:
        return self._site.key_members(await self._site.fetch_keys(), self._profile)

    async def _obtain_key(self) -> SessionKey | None:
        if self._profile != V1:
            return await super()._obtain_key()
        self._passphrase = (await self._fetch_members())["passphrase"]
        return None

    def _request_headers(self) -> Headers:
        headers = self._headers.copy()
        headers["Cookie"] = self._site.cookie_header(self._path)  # of the key's answer as well
        return headers


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
