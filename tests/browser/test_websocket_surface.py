"""`EncryptedWebSocket` and the browser's own class, observed by the same cases in one page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route

from tests.servers import ROOT, Site, Uvicorn

from .helpers import LogIn

CASES = Path(__file__).with_name("surface.js")


@pytest.fixture(scope="module")
def server(site: Site) -> Iterator[Uvicorn]:
    # Unlike daphne it sends empty messages, and answers a close with its code.
    with Uvicorn("tests.browser.both_sockets:application", site) as uvicorn:
        yield uvicorn


@pytest.fixture
def page(server: Uvicorn, log_in: LogIn) -> Page:
    return log_in(server.url, "alice")


def documented() -> set[str]:
    """The cases in the table of docs/javascript.md."""
    text = (ROOT / "docs" / "javascript.md").read_text(encoding="utf-8")
    _, _, section = text.partition(
        "| case | a `WebSocket` | an `EncryptedWebSocket` |\n|---|---|---|\n"
    )
    table, _, _ = section.partition("\n\n")
    return {row.split(" | ")[0].removeprefix("| ") for row in table.splitlines()}


def test_the_two_differ_in_what_the_documentation_names(page: Page) -> None:
    def serve(route: Route) -> None:
        route.fulfill(path=CASES, content_type="text/javascript")

    page.route("**/surface.js", serve)
    page.set_default_timeout(120_000)
    native, ours = page.evaluate(
        """async () => {
            const { EncryptedWebSocket } = await import("gcrypt_channels");
            const { observe } = await import("/surface.js");
            return [
                await observe(WebSocket, "/plain/"),
                await observe(EncryptedWebSocket, "/sealed/"),
            ];
        }"""
    )
    failed = {name: value for name, value in native.items() if value.startswith("failed:")}
    differences = {name for name in native if native[name] != ours[name]}
    assert failed == {}
    assert len(native) >= 100
    assert differences == documented(), {name: (native[name], ours[name]) for name in differences}
