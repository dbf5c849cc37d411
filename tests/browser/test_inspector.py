"""The wire inspector: two profiles side by side, and a captured frame in other hands."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.servers import Daphne

from .helpers import LogIn, in_both_browsers


@in_both_browsers
def test_a_captured_frame_is_worth_nothing_to_anyone_else(
    server: Daphne, log_in: LogIn, profile: str
) -> None:
    page = log_in(server.url, "alice")
    page.goto(f"{server.url}/inspector/")
    opened = {"#status-best": f"open, {profile}", "#status-classic": "open, gcrypt.v1"}
    for status, text in opened.items():
        expect(page.locator(status)).to_have_text(text)
    page.get_by_role("button", name="Send").click()

    card = page.locator("#log > li")
    expect(card.get_by_role("heading")).to_have_text('{"message":"meet me at noon"}')
    expect(card.locator(".wire")).to_have_count(4)  # there and back, in each profile
    expect(card.locator(".f-type")).to_have_text(["10", "10"])

    card.get_by_role("button", name="Let others try").click()
    expect(card.locator("th")).to_have_text(["who sends it", profile, "gcrypt.v1"])
    rows = card.locator("tr")
    expect(rows).to_have_count(4)
    expect(rows.locator("td:nth-child(1)")).to_have_text(
        [
            "bob, on a socket of bob's own",
            "alice, on a second connection",
            "alice, a second time on the same one",
        ]
    )
    refused = re.compile("^refused, close 4400")
    expect(rows.locator("td:nth-child(2)")).to_have_text([refused] * 3)
    # The classic profile keeps bob out, but nothing in it tells a repeated frame from a new one.
    replayed = "delivered: no replay protection"
    expect(rows.locator("td:nth-child(3)")).to_have_text([refused, replayed, replayed])
    for status, text in opened.items():
        expect(page.locator(status)).to_have_text(text)
