"""Back and forward: the browser freezes a page, socket and all, and brings it back as it was."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.servers import Daphne

from .helpers import LogIn, expect_count


@pytest.fixture
def page(server: Daphne, log_in: LogIn) -> Page:
    """A counter page of alice's that has been in use, and can tell whether it was frozen."""
    page = log_in(server.url, "alice")
    page.add_init_script(
        "addEventListener('pageshow', ({ persisted }) => (window.persisted = persisted))"
    )
    page.goto(f"{server.url}/counter/")
    expect_live_counter(page)
    return page


def expect_live_counter(page: Page) -> None:
    expect(page.locator("#status")).to_have_text("open, gcrypt.v2")
    number = int(page.locator("#number").inner_text())
    expect_count(page, number + 1)


def back_to_counter(page: Page) -> None:
    while "/counter/" not in page.url:
        page.go_back(wait_until="commit")  # a thawed page fires no load event
    page.wait_for_function("window.persisted === true")


def test_the_counter_is_live_again_after_back_and_forward(page: Page, server: Daphne) -> None:
    for number in (2, 3):
        page.goto(f"{server.url}/accounts/login/")  # a page without a socket
        back_to_counter(page)
        expect_live_counter(page)
        expect(page.locator("#number")).to_have_text(str(number))
        page.go_forward(wait_until="commit")
        back_to_counter(page)


def test_a_thawed_page_of_an_ended_session_gets_no_socket(page: Page, server: Daphne) -> None:
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url(f"{server.url}/")
    back_to_counter(page)
    expect(page.locator("#status")).to_have_text("closed 4401: session ended")
    page.get_by_role("button", name="Count on").click()
    expect(page.locator("#number")).to_have_text("1")


def test_a_thawed_page_of_an_earlier_login_uses_the_key_of_this_one(page: Page) -> None:
    page.get_by_role("button", name="Log out").click()
    page.get_by_role("link", name="Log in as alice or bob").click()
    page.get_by_role("button", name="Log in as bob").click()
    expect(page.locator("#user")).to_have_text("bob")
    back_to_counter(page)
    expect_live_counter(page)
