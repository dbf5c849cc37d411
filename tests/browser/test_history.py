"""Back and forward: the browser freezes a page, socket and all, and brings it back as it was.

Firefox does not: there a page with a socket is loaded anew.
"""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.servers import Daphne

from .helpers import LogIn, expect_count


@pytest.fixture
def page(server: Daphne, log_in: LogIn) -> Page:
    """A counter page of alice's that has been in use, and can tell how often it was thawed."""
    page = log_in(server.url, "alice")
    page.add_init_script(
        """sessionStorage.thaws ??= 0;
        addEventListener("pageshow", ({ persisted }) => (sessionStorage.thaws -= -persisted));"""
    )
    page.goto(f"{server.url}/counter/")
    expect_live_counter(page)
    page.evaluate("sessionStorage.place = history.length")
    return page


def expect_live_counter(page: Page) -> None:
    expect(page.locator("#status")).to_have_text("open, gcrypt.v3")
    number = int(page.locator("#number").inner_text())
    expect_count(page, number + 1)


def back_to_counter(page: Page) -> None:
    thaws = page.evaluate("+sessionStorage.thaws")
    page.evaluate("history.go(sessionStorage.place - history.length)")
    page.wait_for_function("thaws => +sessionStorage.thaws === thaws + 1", arg=thaws)


def test_the_counter_is_live_again_after_back_and_forward(page: Page, server: Daphne) -> None:
    for number in (2, 3):
        page.goto(f"{server.url}/accounts/login/")  # a page without a socket
        back_to_counter(page)
        expect_live_counter(page)
        expect(page.locator("#number")).to_have_text(str(number))


def test_a_thawed_page_of_an_ended_session_leads_to_the_login(page: Page, server: Daphne) -> None:
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url(f"{server.url}/")
    back_to_counter(page)
    expect(page).to_have_url(f"{server.url}/accounts/login/?next=/counter/")


def test_a_thawed_page_of_an_earlier_login_becomes_one_of_this(page: Page) -> None:
    page.get_by_role("button", name="Log out").click()
    page.get_by_role("link", name="Log in").click()
    page.get_by_role("button", name="Log in as bob").click()
    expect(page.locator("#user")).to_have_text("bob")
    back_to_counter(page)
    expect(page.locator("#user")).to_have_text("bob")
    expect_live_counter(page)
