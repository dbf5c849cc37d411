"""A browser without scripts: cookies, forms and the key endpoint of a real site.

Cookies know no ports, so one such browser is in the same session on all workers of a site.
"""

from __future__ import annotations

import json
from http.cookiejar import CookieJar
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, Request, build_opener

from gcrypt_channels.client import connect
from gcrypt_channels.protocol.profiles import V1, Profile


class Scriptless:
    """`url` is where a site, or one of its workers, is: such as `http://127.0.0.1:8000`."""

    def __init__(self) -> None:
        self.cookies = CookieJar()
        self._opener = build_opener(HTTPCookieProcessor(self.cookies))

    def get(self, url: str, **headers: str) -> str:
        text: str = self._opener.open(Request(url, headers=headers)).read().decode()
        return text

    def post(self, url: str, data: bytes = b"") -> tuple[int, bytes]:
        """Post `data` with the CSRF token; the status and the body of the answer."""
        token = next(cookie.value for cookie in self.cookies if cookie.name == "csrftoken")
        request = Request(url, data, {"X-CSRFToken": str(token)})
        try:
            with self._opener.open(request) as response:
                return int(response.status), response.read()
        except HTTPError as error:
            with error:
                return error.code, error.read()

    def log_in(self, url: str, user: str) -> None:
        self.get(f"{url}/accounts/login/")
        form = urlencode({"username": user, "password": f"{user}-demo"}).encode()
        assert self.post(f"{url}/accounts/login/", form)[0] == 200
        assert f'id="user">{user}<' in self.get(f"{url}/")

    def log_out(self, url: str) -> None:
        assert self.post(f"{url}/accounts/logout/")[0] == 200

    def fetch_keys(self, url: str) -> dict[str, Any]:
        """What the key endpoint answers."""
        status, body = self.post(f"{url}/gcrypt/key/")
        assert status == 200
        keys: dict[str, Any] = json.loads(body)
        return keys

    def connect(
        self, url: str, path: str, keys: dict[str, Any], *, profile: Profile | None = None
    ) -> Any:
        """A connection with exactly these keys: none is fetched on the way."""
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in self.cookies)
        return connect(
            "ws" + url.removeprefix("http") + path,
            profile=profile,
            origin=url,
            additional_headers={"Cookie": cookies},
            **keys[V1 if profile == V1 else "session"],
        )
