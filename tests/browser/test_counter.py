"""The demo's counter page: our client in both profiles, on the real wire."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.servers import Daphne

from .helpers import LogIn, expect_count, watch_frames


@pytest.fixture
def page(server: Daphne, log_in: LogIn) -> Page:
    return log_in(server.url, "alice")


def count_to(page: Page, number: int) -> None:
    for expected in range(1, number + 1):
        expect_count(page, expected)


def test_counts_in_the_secure_profile_without_a_readable_byte(page: Page, server: Daphne) -> None:
    frames = watch_frames(page)
    page.goto(f"{server.url}/counter/")
    expect(page.locator("#status")).to_have_text("open, gcrypt.v3")
    count_to(page, 3)

    kinds = [frame[0] for frame in frames if isinstance(frame, bytes)]
    assert kinds == [0x01, 0x02, 0x12, *[0x10] * 6]
    assert len(kinds) == len(frames)
    assert not any(b'"id"' in bytes(frame) for frame in frames if isinstance(frame, bytes))


def test_counts_in_the_classic_profile_when_asked_to(page: Page, server: Daphne) -> None:
    frames = watch_frames(page)
    page.goto(f"{server.url}/counter/")
    page.get_by_label("gcrypt.v1").check()
    expect(page.locator("#status")).to_have_text("open, gcrypt.v1")
    count_to(page, 3)

    texts = [frame for frame in frames if isinstance(frame, str)]
    assert len(texts) == 6
    assert all(re.match(r'\{"ct":"[^"]+","iv":"[^"]+","s":"[^"]+"\}$', text) for text in texts)


def test_a_visitor_gets_no_socket_and_is_asked_to_log_in(
    server: Daphne, contexts: Callable[[], BrowserContext]
) -> None:
    page = contexts().new_page()
    frames = watch_frames(page)
    page.goto(f"{server.url}/counter/")
    expect(page).to_have_url(re.compile(r"/accounts/login/\?next=/counter/$"))
    assert frames == []


def test_the_consumers_own_close_arrives_with_code_and_reason(page: Page, server: Daphne) -> None:
    close = page.evaluate(
        """async () => {
            const { EncryptedWebSocket } = await import("gcrypt_channels");
            const socket = new EncryptedWebSocket("/ws/counter/");
            socket.onopen = () => socket.sendJSON({ id: "one" });
            const { code, reason, authentic } = await new Promise((r) => (socket.onclose = r));
            return { code, reason, authentic };
        }"""
    )
    assert close == {"code": 4000, "reason": 'expected {"id": number}', "authentic": True}
