"""axe-core finds nothing to object to on any page of the demo, in light and in dark."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.servers import ROOT, Daphne

from .helpers import PATHS, log_in_by_hand

AXE = ROOT / "node_modules/axe-core/axe.min.js"


def violations(page: Page) -> list[str]:
    """What axe-core objects to, as `rule: element`."""
    page.evaluate(AXE.read_text())
    found: list[dict[str, Any]] = page.evaluate("axe.run().then(({ violations }) => violations)")
    return [f"{each['id']}: {node['html']}" for each in found for node in each["nodes"]]


@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1280)])
def test_no_page_has_a_violation(
    server: Daphne,
    contexts: Callable[..., BrowserContext],
    scheme: Literal["light", "dark"],
    width: int,
) -> None:
    context = contexts(
        color_scheme=scheme,
        viewport={"width": width, "height": 800},
        reduced_motion="reduce",
    )
    page = context.new_page()
    found = []
    page.goto(f"{server.url}/accounts/login/")
    found += violations(page)
    log_in_by_hand(page, server.url, "alice")
    for path in PATHS[:-1]:
        page.goto(server.url + path)
        for status in page.locator(".status").all():
            expect(status).to_have_attribute("data-state", "open")
        found += [f"{path} {each}" for each in violations(page)]
    assert found == []


def test_a_violation_is_found(contexts: Callable[..., BrowserContext]) -> None:
    page = contexts().new_page()
    page.set_content("<html lang=en><title>A page</title><main><h1>A</h1><img src=a.png></main>")
    assert violations(page) == ['image-alt: <img src="a.png">']
