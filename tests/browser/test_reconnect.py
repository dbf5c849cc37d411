"""The server goes away under an open page, and comes back."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.servers import Daphne, Site

from .helpers import LogIn, expect_count, in_both_browsers


@in_both_browsers
def test_the_page_goes_on_after_a_restart_and_after_a_crash(
    site: Site, log_in: LogIn, profile: str
) -> None:
    with Daphne("demo_project.asgi:application", site) as server:
        page = log_in(server.url, "alice")
        page.goto(f"{server.url}/counter/")
        status = page.locator("#status")
        expect(status).to_have_text(f"open, {profile}")
        expect_count(page, 1)
        for number, end in enumerate((server.stop, server.kill), start=2):
            end()
            expect(status).to_have_attribute("data-state", "closed")
            server.start()
            expect(status).to_have_text(f"open, {profile}", timeout=20_000)
            expect_count(page, number)
