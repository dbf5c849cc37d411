"""The demo's counter page: our client in both profiles, on the real wire."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.proxy import Proxy
from tests.servers import Daphne

from .helpers import LogIn, expect_count, in_both_browsers

TEXT, BINARY = 0x01, 0x02  # opcodes of WebSocket messages

pytestmark = in_both_browsers


@pytest.fixture
def page(server: Daphne, log_in: LogIn) -> Page:
    return log_in(server.url, "alice")


def count_to(page: Page, number: int) -> None:
    for expected in range(1, number + 1):
        expect_count(page, expected)


def test_counts_in_the_secure_profile_without_a_readable_byte(
    page: Page, wire: Proxy, profile: str
) -> None:
    page.goto(f"{wire.url}/counter/")
    expect(page.locator("#status")).to_have_text(f"open, {profile}")
    count_to(page, 3)

    assert {frame.opcode for frame in wire.frames} == {BINARY}
    assert [frame.payload[0] for frame in wire.frames] == [0x01, 0x02, 0x12, *[0x10] * 6]
    assert wire.shows(b'"id"') == []


def test_counts_in_the_classic_profile_when_asked_to(page: Page, wire: Proxy) -> None:
    page.goto(f"{wire.url}/counter/")
    page.get_by_label("gcrypt.v1").check()
    expect(page.locator("#status")).to_have_text("open, gcrypt.v1")
    count_to(page, 3)

    texts = [frame.payload for frame in wire.frames if frame.opcode == TEXT]
    assert len(texts) == 6
    assert all(re.fullmatch(rb'\{"ct":"[^"]+","iv":"[^"]+","s":"[^"]+"\}', text) for text in texts)


def test_a_visitor_gets_no_socket_and_is_asked_to_log_in(
    wire: Proxy, contexts: Callable[[], BrowserContext]
) -> None:
    page = contexts().new_page()
    page.goto(f"{wire.url}/counter/")
    expect(page).to_have_url(re.compile(r"/accounts/login/\?next=/counter/$"))
    assert wire.heads == []


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
