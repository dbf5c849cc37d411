"""The pages fit a phone."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.servers import Daphne

from .helpers import PATHS, LogIn


@pytest.mark.parametrize("width", [320, 390, 768])
def test_no_page_is_wider_than_its_window(server: Daphne, log_in: LogIn, width: int) -> None:
    page = log_in(server.url, "alice")
    page.set_viewport_size({"width": width, "height": 800})
    for path in PATHS:
        page.goto(server.url + path)
        for status in page.locator(".status").all():
            expect(status).to_have_attribute("data-state", "open")
        if path == "/inspector/":
            page.get_by_role("button", name="Send").click()
            page.get_by_role("button", name="Let others try").click()
            expect(page.locator(".delivered")).to_have_count(2)
        assert overhang(page) <= 0, path


def overhang(page: Page) -> int:
    """Pixels by which the page can be scrolled sideways."""
    pixels: int = page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    return pixels
