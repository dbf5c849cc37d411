"""Alice and bob, each in a browser of their own, in one room."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from playwright.sync_api import Page, expect

from tests.servers import Daphne, Redis, Site, side_by_side

from .helpers import LogIn


def say(page: Page, text: str) -> None:
    page.get_by_label("Message").fill(text)
    page.get_by_role("button", name="Send").click()


def enter(urls: dict[str, str], log_in: LogIn, profile: str) -> dict[str, Page]:
    """The chat pages of the users at their addresses."""
    pages = {name: log_in(url, name) for name, url in urls.items()}
    for name, page in pages.items():
        page.goto(f"{urls[name]}/chat/")
        expect(page.locator("#status")).to_have_text(f"open, {profile}")
    return pages


@pytest.fixture
def redis() -> Iterator[Redis]:
    with Redis() as server:
        yield server


@pytest.fixture
def two_workers(site: Site, redis: Redis) -> Iterator[dict[str, str]]:
    """The address for each user: two daphne workers with one Redis between them."""
    clustered = replace(site, env={"REDIS_URL": redis.url})
    one, two = (Daphne("demo_project.asgi:application", clustered) for _ in range(2))
    with side_by_side(one, two):
        yield {"alice": one.url, "bob": two.url}


@pytest.fixture
def one_worker(server: Daphne) -> dict[str, str]:
    return {"alice": server.url, "bob": server.url}


@pytest.mark.parametrize(
    ("browser", "workers"),
    [("chromium", "one_worker"), ("chromium", "two_workers"), ("firefox", "one_worker")],
    indirect=["browser"],
)
def test_both_read_every_message_in_one_order_and_no_frame_is_the_same(
    workers: str, request: pytest.FixtureRequest, log_in: LogIn, profile: str
) -> None:
    urls: dict[str, str] = request.getfixturevalue(workers)
    pages = enter(urls, log_in, profile)

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


def test_the_chat_goes_on_after_redis_was_away(
    two_workers: dict[str, str], redis: Redis, log_in: LogIn
) -> None:
    alice, bob = enter(two_workers, log_in, "gcrypt.v3").values()
    say(alice, "before")
    expect(bob.locator(".bubble")).to_have_text(["before"])
    redis.kill()
    say(alice, "into the void")
    expect(alice.locator("#status")).to_have_text(re.compile("^closed 1013"), timeout=20_000)
    redis.start()
    for page in (alice, bob):
        expect(page.locator("#status")).to_have_text("open, gcrypt.v3", timeout=30_000)
    say(alice, "after")
    expect(bob.locator(".bubble").last).to_have_text("after")
    expect(bob.locator(".bubble")).not_to_contain_text(["into the void"])
