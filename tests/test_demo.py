"""The parts of the demo project that need no browser."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from demo_project.local_secrets import local_secret
from tests.scriptless import Scriptless
from tests.servers import Daphne, Site, demo_site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return demo_site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def server(site: Site) -> Iterator[Daphne]:
    with Daphne("demo_project.asgi:application", site) as daphne:
        yield daphne


@pytest.fixture(scope="module")
def alice(server: Daphne) -> Scriptless:
    browser = Scriptless()
    browser.log_in(server.url, "alice")
    return browser


def test_a_local_secret_is_drawn_once_however_many_ask(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    with ThreadPoolExecutor(8) as workers:
        secrets = set(workers.map(lambda _: local_secret(path), range(32)))
    assert secrets == {path.read_text()}
    assert len(path.read_text()) == 64  # 48 bytes in base64url
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_the_demo_users_are_created_once_and_can_log_in(site: Site, server: Daphne) -> None:
    assert site.manage("demo_users", "--skip-checks") == ""  # they exist, and keep their passwords
    Scriptless().log_in(server.url, "bob")


def test_the_login_buttons_are_gone_without_debug(site: Site) -> None:
    public = Site(site.directory, env={"DJANGO_DEBUG": "0"})
    with Daphne("demo_project.asgi:application", public) as server:
        page = Scriptless().get(f"{server.url}/accounts/login/")
    assert "Log in as alice" not in page
    assert "alice-demo" not in page


def test_the_second_window_has_the_machines_other_name(server: Daphne, alice: Scriptless) -> None:
    chat = f"{server.url}/chat/"
    assert f"http://localhost:{server.port}/chat/" in alice.get(chat)
    assert f"http://127.0.0.1:{server.port}/chat/" in alice.get(
        chat, Host=f"localhost:{server.port}"
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"bytes": "00"}',
        b'{"bytes": "0g", "profile": "gcrypt.v2"}',
        b'{"bytes": 1, "profile": "gcrypt.v2"}',
        b'{"bytes": "00", "profile": "gcrypt.v1"}',
        b"\xff",
    ],
)
def test_what_is_no_frame_is_not_tried(server: Daphne, alice: Scriptless, body: bytes) -> None:
    assert alice.post(f"{server.url}/inspector/trespass/", body)[0] == 400


def test_nothing_is_tried_without_debug(site: Site) -> None:
    public = Site(site.directory, env={"DJANGO_DEBUG": "0"})
    with Daphne("demo_project.asgi:application", public) as server:
        alice = Scriptless()
        alice.log_in(server.url, "alice")
        assert "data-trespass" not in alice.get(f"{server.url}/inspector/")
        assert alice.post(f"{server.url}/inspector/trespass/", b'{"text": "{}"}')[0] == 404
        assert server.log.count("WSCONNECT") == 0


def test_a_visitor_cannot_have_frames_tried(server: Daphne) -> None:
    visitor = Scriptless()
    visitor.get(f"{server.url}/accounts/login/")
    status, _ = visitor.post(f"{server.url}/inspector/trespass/", b'{"text": "{}"}')
    assert status == 200  # the login page
    assert "WSCONNECT" not in server.log
