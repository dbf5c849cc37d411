"""Alice and bob, each in a browser of their own, in one room."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.servers import Daphne

from .helpers import LogIn


def say(page: Page, text: str) -> None:
    page.get_by_label("Message").fill(text)
    page.get_by_role("button", name="Send").click()


def test_both_read_every_message_in_one_order_and_no_frame_is_the_same(
    server: Daphne, log_in: LogIn
) -> None:
    pages = {name: log_in(server.url, name) for name in ("alice", "bob")}
    for page in pages.values():
        page.goto(f"{server.url}/chat/")
        expect(page.locator("#status")).to_have_text("open, gcrypt.v2")

    said = [("alice", "Bonjour, Bob"), ("bob", "Grüße, Alice 🔑"), ("alice", "<b>not bold</b>")]
    for count, (name, text) in enumerate(said, start=1):
        say(pages[name], text)
        for page in pages.values():
            expect(page.locator(".bubble")).to_have_count(count)

    for name, page in pages.items():
        assert page.locator(".name").all_text_contents() == [who for who, _ in said]
        assert page.locator(".bubble").all_text_contents() == [text for _, text in said]
        assert page.locator(".own").count() == sum(who == name for who, _ in said)
    frames = [page.locator(".messages .wire").all_text_contents() for page in pages.values()]
    assert len({*frames[0], *frames[1]}) == 2 * len(said)
