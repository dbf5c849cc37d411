"""The parts of the demo project that need no browser."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, Request, build_opener

import pytest

from demo_project.local_secrets import local_secret
from tests.servers import Daphne, Site, demo_site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return demo_site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def server(site: Site) -> Iterator[Daphne]:
    with Daphne("demo_project.asgi:application", site) as daphne:
        yield daphne


class Visitor:
    """A browser without scripts."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.cookies = CookieJar()
        self.opener = build_opener(HTTPCookieProcessor(self.cookies))

    def get(self, path: str, **headers: str) -> str:
        text: str = self.opener.open(Request(self.url + path, headers=headers)).read().decode()
        return text

    def post(self, path: str, body: bytes) -> int:
        token = next(cookie.value for cookie in self.cookies if cookie.name == "csrftoken")
        request = Request(self.url + path, body, {"X-CSRFToken": str(token)})
        try:
            with self.opener.open(request) as response:
                return int(response.status)
        except HTTPError as error:
            return error.code

    def log_in(self, user: str) -> None:
        self.get("/accounts/login/")
        form = urlencode({"username": user, "password": f"{user}-demo"}).encode()
        assert self.post("/accounts/login/", form) == 200
        assert f'id="user">{user}<' in self.get("/")


@pytest.fixture(scope="module")
def alice(server: Daphne) -> Visitor:
    visitor = Visitor(server.url)
    visitor.log_in("alice")
    return visitor


def test_a_local_secret_is_drawn_once_however_many_ask(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    with ThreadPoolExecutor(8) as workers:
        secrets = set(workers.map(lambda _: local_secret(path), range(32)))
    assert secrets == {path.read_text()}
    assert len(path.read_text()) == 64  # 48 bytes in base64url
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_the_demo_users_are_created_once_and_can_log_in(site: Site, server: Daphne) -> None:
    assert site.manage("demo_users") == ""  # they exist, and keep their passwords
    Visitor(server.url).log_in("bob")


def test_the_login_buttons_are_gone_without_debug(site: Site) -> None:
    public = Site(site.directory, env={"DJANGO_DEBUG": "0"})
    with Daphne("demo_project.asgi:application", public) as server:
        page = Visitor(server.url).get("/accounts/login/")
    assert "Log in as alice" not in page
    assert "alice-demo" not in page


def test_the_second_window_has_the_machines_other_name(server: Daphne, alice: Visitor) -> None:
    assert f"http://localhost:{server.port}/chat/" in alice.get("/chat/")
    assert f"http://127.0.0.1:{server.port}/chat/" in alice.get(
        "/chat/", Host=f"localhost:{server.port}"
    )


@pytest.mark.parametrize("body", [b"", b"[]", b'{"bytes": "0g"}', b'{"bytes": 1}', b"\xff"])
def test_what_is_no_frame_is_not_tried(alice: Visitor, body: bytes) -> None:
    assert alice.post("/inspector/trespass/", body) == 400


def test_a_visitor_cannot_have_frames_tried(server: Daphne) -> None:
    visitor = Visitor(server.url)
    visitor.get("/accounts/login/")
    assert visitor.post("/inspector/trespass/", b'{"text": "{}"}') == 200  # the login page
    assert "WSCONNECT" not in server.log
