"""The sockets of a session die with it, in whatever tab they are."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.servers import Daphne

from .helpers import LogIn, in_both_browsers


@in_both_browsers
def test_logging_out_in_one_tab_ends_the_sockets_of_the_others(
    server: Daphne, log_in: LogIn, profile: str
) -> None:
    page = log_in(server.url, "alice")
    bystander = log_in(server.url, "bob")
    other_tabs = [page.context.new_page() for _ in range(2)]
    for tab in (*other_tabs, bystander):
        tab.goto(f"{server.url}/counter/")
        expect(tab.locator("#status")).to_have_text(f"open, {profile}")
    other_tabs[1].get_by_label("gcrypt.v1").check()
    expect(other_tabs[1].locator("#status")).to_have_text("open, gcrypt.v1")

    page.get_by_role("button", name="Log out").click()
    for tab in other_tabs:
        expect(tab.locator("#status")).to_have_text(re.compile("^closed 4401: "))
        tab.get_by_role("button", name="Count on").click()
        expect(tab.locator("#number")).to_have_text("0")
    expect(bystander.locator("#status")).to_have_text(f"open, {profile}")
