"""Which profile a page and its server agree on, and that nobody between them can lower it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page

from tests.proxy import Proxy, replaced, unchanged_head
from tests.servers import Daphne, Site

from .helpers import LogIn, in_both_browsers, log_in_by_hand

# Opens a socket, and tells what it has come to: an answer of the echo, or the end.
OUTCOME = """async (options) => {
    const { EncryptedWebSocket } = await import("gcrypt_channels");
    const socket = new EncryptedWebSocket("/ws/echo/", [], options);
    socket.onopen = () => socket.send("hello");
    return new Promise((resolve) => {
        socket.onmessage = ({ data }) => {
            resolve({ profile: socket.profile, data });
            socket.close();
        };
        socket.onclose = ({ code, authentic }) => resolve({ code, authentic });
    });
}"""


def outcome(page: Page, **options: Any) -> Any:
    return page.evaluate(OUTCOME, options)


@pytest.fixture(scope="module")
def proxy(server: Daphne) -> Iterator[Proxy]:
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def page(proxy: Proxy, contexts: Callable[..., BrowserContext]) -> Iterator[Page]:
    page = log_in_by_hand(contexts().new_page(), proxy.url, "alice")
    yield page
    proxy.change_request = unchanged_head


@in_both_browsers
def test_a_page_opens_the_best_profile_of_its_browser(
    page: Page, proxy: Proxy, profile: str
) -> None:
    before = len(proxy.heads)
    assert outcome(page) == {"profile": profile, "data": "hello"}
    offers = {
        "gcrypt.v3": b": gcrypt.v3, gcrypt.v2, gcrypt.kid.",
        "gcrypt.v2": b": gcrypt.v2, gcrypt.kid.",
    }
    assert any(offers[profile] in head for head in proxy.heads[before:])


@pytest.mark.parametrize(
    ("browser", "named"),
    [
        ("chromium", "gcrypt.v3"),
        ("chromium", "gcrypt.v2"),
        ("chromium", "gcrypt.v1"),
        ("firefox", "gcrypt.v2"),
        ("firefox", "gcrypt.v1"),
    ],
    indirect=["browser"],
)
def test_a_page_opens_the_profile_that_it_names(page: Page, named: str) -> None:
    data = '"hello"' if named == "gcrypt.v1" else "hello"
    script = OUTCOME.replace('"hello"', f"{data!r}")
    assert page.evaluate(script, {"profile": named}) == {"profile": named, "data": data}


def test_a_page_whose_v3_is_stripped_on_the_way_ends_in_4400(page: Page, proxy: Proxy) -> None:
    before = len(proxy.heads)
    proxy.change_request = replaced(b"gcrypt.v3, ", b"")
    assert outcome(page) == {"code": 4400, "authentic": True}
    selected = b"sec-websocket-protocol: gcrypt.v2\r\n"
    assert any(selected in head.lower() for head in proxy.heads[before:])


def test_a_page_that_insists_on_v3_gets_nothing_less(page: Page, proxy: Proxy) -> None:
    proxy.change_request = replaced(b"gcrypt.v3, ", b"gcrypt.v2, ")
    assert outcome(page, profile="gcrypt.v3")["code"] == 1006


def test_a_page_on_a_server_without_ml_kem_opens_v2(site: Site, log_in: LogIn) -> None:
    with Daphne("tests.browser.old_library:application", site) as server:
        page = log_in(server.url, "alice")
        assert outcome(page) == {"profile": "gcrypt.v2", "data": "hello"}
        assert outcome(page, profile="gcrypt.v3")["code"] == 1006


def test_a_page_without_ml_kem_opens_v2(page: Page) -> None:
    for name in ("encapsulateKey", "encapsulateBits"):
        page.add_init_script(f"delete SubtleCrypto.prototype.{name}")
    page.reload()
    assert outcome(page) == {"profile": "gcrypt.v2", "data": "hello"}


def test_a_page_that_encapsulates_bits_alone_opens_v3(page: Page) -> None:
    page.add_init_script("delete SubtleCrypto.prototype.encapsulateKey")
    page.reload()
    assert outcome(page) == {"profile": "gcrypt.v3", "data": "hello"}
