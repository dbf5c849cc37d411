"""`DjangoSession` and sites that are not as it expects them: only documented errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from websockets.exceptions import InvalidHandshake

from gcrypt_channels.client import DjangoSession
from gcrypt_channels.exceptions import NoProfile, NoSessionKey
from tests.hostile import ANY_TEXT

PAGE = (200, b"<html>a page</html>")
COOKIE = {"Set-Cookie": "csrftoken=the-token; Path=/"}


class Site(ThreadingHTTPServer):
    """A site whose answers a test decides: status, body and headers by method and path."""

    answers: dict[str, tuple[Any, ...]]
    posted: dict[str, list[str]]
    keys_given = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Site

    def answer(self) -> None:
        status, body, *headers = self.server.answers.get(f"{self.command} {self.path}", (404, b""))
        if status is None:  # no answer at all
            self.wfile.write(body)
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in (headers[0] if headers else {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.posted = parse_qs(text, keep_blank_values=True)
        self.server.keys_given += self.path == "/gcrypt/key/"
        self.answer()

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def serving(**answers: tuple[Any, ...]) -> Iterator[Site]:
    """A site with a login page, and with `login`, `key` as answers to a POST there."""
    with Site(("127.0.0.1", 0), Handler) as site:
        site.answers = {
            "GET /accounts/login/": answers.get("page", (*PAGE, COOKIE)),
            "POST /accounts/login/": answers.get("login", (302, b"", {"Location": "/"})),
            "POST /gcrypt/key/": answers.get("key", (200, b"{}")),
        }
        thread = Thread(target=site.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield site
        finally:
            site.shutdown()
            thread.join()


def key_answer(answer: object) -> tuple[int, bytes]:
    return 200, json.dumps(answer).encode()


# Logging in


@pytest.mark.parametrize("fields", [("username", "password"), ("login", "password")])
async def test_the_form_has_the_fields_that_the_site_names_and_the_cookies_token(
    fields: tuple[str, str],
) -> None:
    with serving() as site:
        await DjangoSession(site.url, fields=fields).login("alice", "her password")
    expected = dict(zip(fields, ("alice", "her password"), strict=True))
    assert site.posted == {
        "csrfmiddlewaretoken": ["the-token"],
        **{name: [value] for name, value in expected.items()},
    }


async def test_another_name_of_the_cookie_is_used_where_it_is_given() -> None:
    with serving(page=(*PAGE, {"Set-Cookie": "mine=its-token"})) as site:
        await DjangoSession(site.url, csrf_cookie="mine").login("alice", "her password")
    assert site.posted["csrfmiddlewaretoken"] == ["its-token"]


async def test_a_site_that_sets_no_csrf_cookie_is_named() -> None:
    with (
        serving(page=PAGE) as site,
        pytest.raises(NoSessionKey, match="/accounts/login/ sets no cookie 'csrftoken'"),
    ):
        await DjangoSession(site.url).login("alice", "her password")


@pytest.mark.parametrize("answer", [PAGE, (403, b""), (401, b""), (301, b"", {"Location": "/"})])
async def test_a_login_that_is_not_followed_by_a_page_is_refused(answer: Any) -> None:
    with (
        serving(login=answer) as site,
        pytest.raises(NoSessionKey, match="/accounts/login/ refused the login"),
    ):
        await DjangoSession(site.url).login("alice", "wrong")


@pytest.fixture(scope="module")
def patient_site() -> Iterator[Site]:
    with serving() as site:
        yield site


@given(username=ANY_TEXT, password=ANY_TEXT)
async def test_any_name_and_password_are_sent(
    patient_site: Site, username: str, password: str
) -> None:
    await DjangoSession(patient_site.url).login(username, password)
    assert patient_site.posted.keys() == {"csrfmiddlewaretoken", "username", "password"}


# Keys


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_key_endpoint_that_redirects_gives_no_key(status: int) -> None:
    with (
        serving(key=(status, b"", {"Location": "/accounts/login/?next=/gcrypt/key/"})) as site,
        pytest.raises(NoSessionKey, match="/gcrypt/key/"),
    ):
        await DjangoSession(site.url).fetch_keys()


@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_endpoint_that_refuses_gives_no_key(status: int) -> None:
    with (
        serving(key=(status, b'{"error": "login"}')) as site,
        pytest.raises(NoSessionKey, match="/gcrypt/key/"),
    ):
        await DjangoSession(site.url).fetch_keys()


async def test_a_csrf_refusal_is_no_matter_of_the_login_and_says_what_the_site_says() -> None:
    answer = {"error": "csrf", "detail": "Origin checking failed. Set SECURE_PROXY_SSL_HEADER."}
    with (
        serving(key=(403, json.dumps(answer).encode())) as site,
        pytest.raises(OSError, match="/gcrypt/key/ answered 403: Origin checking failed"),
    ):
        await DjangoSession(site.url).fetch_keys()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(PAGE, id="a page"),
        pytest.param((200, b""), id="nothing"),
        pytest.param((200, b"[]"), id="a list"),
        pytest.param((200, b"\xff\xfe"), id="no text"),
        pytest.param((200, b"[" * 60_000), id="nested"),
        pytest.param((200, b'{"a": "' + b"x" * 200_000 + b'"}'), id="endless"),
        pytest.param((404, b"not here"), id="404"),
        pytest.param((405, b""), id="405"),
        pytest.param((500, b"<html>"), id="500"),
        pytest.param((None, b"no HTTP at all\r\n"), id="no HTTP"),
        pytest.param((None, b""), id="hung up"),
        pytest.param((200, b'{"gcrypt', {"Content-Length": "50"}), id="cut"),
    ],
)
async def test_what_is_no_key_endpoint_is_an_oserror_that_names_the_url(answer: Any) -> None:
    with serving(key=answer) as site, pytest.raises(OSError, match=f"{site.url}/gcrypt/key/"):
        await DjangoSession(site.url).fetch_keys()


async def test_a_site_that_cannot_be_reached_is_named() -> None:
    with pytest.raises(OSError, match=r"http://127\.0\.0\.1:1/accounts/login/"):
        await DjangoSession("http://127.0.0.1:1").login("alice", "her password")


@pytest.mark.parametrize(
    ("member", "error"),
    [
        (None, NoProfile),
        ("text", NoProfile),
        ({}, OSError),
        ({"kid": "00" * 8}, OSError),
        ({"kid": "00" * 8, "psk": "short"}, OSError),
        ({"kid": 1, "psk": 2}, OSError),
    ],
)
async def test_an_answer_without_a_usable_key_is_named(member: object, error: Any) -> None:
    with serving(key=key_answer({"session": member})) as site, pytest.raises(error):
        async with DjangoSession(site.url).connect("/ws/"):
            pass


async def test_an_answer_cannot_choose_where_to_connect() -> None:
    hostile = {"kid": "00" * 8, "psk": "A" * 43, "proxy": "http://127.0.0.1:1", "ssl": "x"}
    with (
        serving(key=key_answer({"session": hostile})) as site,
        pytest.raises(InvalidHandshake),
    ):  # by the site itself, which has no such socket
        async with DjangoSession(site.url).connect("/ws/", proxy=None):
            pass


# Addresses


@pytest.mark.parametrize(
    "wrong",
    [
        {"base_url": "file:///etc/passwd"},
        {"base_url": "https://"},
        {"base_url": "https://exämple.org"},
        {"base_url": "https://example.org", "login_path": "/log in/"},
        {"base_url": "https://example.org", "key_path": "/\ud800/"},
        {"base_url": "https://example.org\r\nX-Header: 1"},
    ],
)
def test_an_address_that_is_none_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"URL"):
        DjangoSession(**wrong)
