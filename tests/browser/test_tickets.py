"""The single-page application of `docs/tickets.md`: from an origin of its own, in a browser."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page

from tests.documents import ROOT
from tests.servers import Daphne
from tests.ticket_site import shown, ticket_site

SECTION = "SimpleJWT from another origin"
CLIENT = ROOT / "gcrypt_channels" / "static" / "gcrypt_channels" / "gcrypt.js"
PAGE = '<script type="importmap">{"imports": {"gcrypt_channels": "/gcrypt.js"}}</script>'
CONNECT = """async ([token]) => {
    const { open } = await import("/open.js");
    const socket = open(() => token);
    const seen = [];
    socket.onerror = (event) => seen.push(event.error.code);
    return new Promise((resolve) => {
        socket.onopen = () => socket.sendJSON({ id: 1 });
        socket.onmessage = (event) => { seen.push(event.data); socket.close(); };
        socket.onclose = () => resolve(seen);
    });
}"""
LOG_IN = """async ([site]) => {
    const response = await fetch(`${site}/api/token/`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ username: "alice", password: "alices password" }),
    });
    return (await response.json()).access;
}"""


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def files(directory: Path) -> Iterator[str]:
    """Serve a folder; the origin."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=directory)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def spa(tmp_path: Path) -> Iterator[tuple[str, Daphne]]:
    """The application's origin, and Django's server."""
    folder = tmp_path / "spa"
    folder.mkdir()
    with files(folder) as origin:
        site = ticket_site(tmp_path, SECTION, **{"app.example.org": origin})
        with Daphne("ticketed.asgi:application", site) as server:
            [script] = [each.text for each in shown(SECTION, "js")]
            (folder / "open.js").write_text(
                script.replace("https://example.org", server.url), "utf-8"
            )
            (folder / "gcrypt.js").write_bytes(CLIENT.read_bytes())
            (folder / "index.html").write_text(PAGE, "utf-8")
            yield origin, server


def page_of(contexts: Callable[..., BrowserContext], origin: str) -> Page:
    page = contexts().new_page()
    page.goto(f"{origin}/index.html")
    return page


def test_the_application_connects_from_its_own_origin_without_a_cookie(
    spa: tuple[str, Daphne], contexts: Callable[..., BrowserContext], tmp_path: Path
) -> None:
    origin, server = spa
    page = page_of(contexts, origin)
    token = page.evaluate(LOG_IN, [server.url])
    [answer] = page.evaluate(CONNECT, [token])
    assert json.loads(answer) == {"id": 2, "user": "alice"}
    assert page.evaluate(CONNECT, ["no token"]) == ["unauthorized"]
    assert page.context.cookies() == []
    with files(tmp_path / "spa") as stranger:
        other = page_of(contexts, stranger)
        assert other.evaluate(CONNECT, [token]) == ["key-unavailable"]  # CORS
