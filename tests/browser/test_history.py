"""Back and forward, also over the end of a session."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.servers import Daphne

from .helpers import LogIn, expect_count


def expect_live_counter(page: Page) -> None:
    expect(page.locator("#status")).to_have_text("open, gcrypt.v2")
    number = int(page.locator("#number").inner_text())
    expect_count(page, number + 1)


def test_the_counter_is_live_again_after_back_and_forward(server: Daphne, log_in: LogIn) -> None:
    page = log_in(server.url, "alice")
    page.goto(f"{server.url}/counter/")
    expect_live_counter(page)
    page.goto(f"{server.url}/accounts/login/")  # a page without a socket
    page.go_back()
    expect_live_counter(page)
    page.go_forward()
    page.go_back()
    expect_live_counter(page)


def test_back_to_the_page_of_another_login_uses_the_key_of_this_one(
    server: Daphne, log_in: LogIn
) -> None:
    page = log_in(server.url, "alice")
    page.goto(f"{server.url}/counter/")
    expect_live_counter(page)
    page.get_by_role("button", name="Log out").click()
    page.get_by_role("link", name="Log in as alice or bob").click()
    page.get_by_role("button", name="Log in as bob").click()
    expect(page.locator("#user")).to_have_text("bob")
    while "/counter/" not in page.url:
        page.go_back()
    expect_live_counter(page)
