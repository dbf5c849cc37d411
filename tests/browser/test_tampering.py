"""Somebody on the wire changes, repeats, drops or cuts: the page learns of it and gets nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, StorageState

from tests.proxy import Direction, Frame, Proxy, flip_bit, unchanged
from tests.servers import Daphne

from .helpers import log_in_by_hand

# Sends three messages to the echo and tells everything that the page hears, until the close.
TRANSCRIPT = """async () => {
    const { EncryptedWebSocket } = await import("gcrypt_channels");
    const socket = new EncryptedWebSocket("/ws/echo/");
    const heard = { opened: false, messages: [], error: null };
    socket.onopen = () => {
        heard.opened = true;
        for (const text of ["one", "two", "three"]) socket.send(text);
    };
    socket.onmessage = ({ data }) => {
        heard.messages.push(data);
        if (data === "three") socket.close();
    };
    socket.onerror = ({ error }) => (heard.error = error.code);
    const { code, authentic } = await new Promise((resolve) => (socket.onclose = resolve));
    return { ...heard, code, authentic };
}"""


@pytest.fixture(scope="module")
def proxy(server: Daphne) -> Iterator[Proxy]:
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def login(chromium: Browser, proxy: Proxy) -> StorageState:
    """The cookies of one login, which does not end between the tests."""
    with chromium.new_context() as context:
        log_in_by_hand(context.new_page(), proxy.url, "alice")
        return context.storage_state()


@pytest.fixture
def page(
    proxy: Proxy, contexts: Callable[..., BrowserContext], login: StorageState
) -> Iterator[Page]:
    proxy.change = unchanged
    page = contexts(storage_state=login).new_page()
    page.goto(f"{proxy.url}/")
    yield page
    proxy.change = unchanged


def hear(page: Page) -> dict[str, Any]:
    heard: dict[str, Any] = page.evaluate(TRANSCRIPT)
    return heard


def change_frame(
    proxy: Proxy, direction: Direction, index: int, change: Callable[[bytes], list[bytes]]
) -> None:
    def apply(frame: Frame) -> list[bytes]:
        if (frame.direction, frame.index) == (direction, index):
            return change(frame.payload)
        return [frame.payload]

    proxy.change = apply


def test_an_honest_wire_delivers_everything(page: Page) -> None:
    assert hear(page) == {
        "opened": True,
        "messages": ["one", "two", "three"],
        "error": None,
        "code": 1000,
        "authentic": True,
    }


@pytest.mark.parametrize("bit", [3, 8, 60, -1], ids=["type", "first", "ciphertext", "tag"])
def test_a_bit_flipped_towards_the_page_ends_the_socket_and_delivers_nothing(
    page: Page, proxy: Proxy, bit: int
) -> None:
    # 0 is HELLO, 1 the application's accept, 2 and 3 are the first two answers.
    change_frame(proxy, "outbound", 3, lambda payload: [flip_bit(payload, bit)])
    heard = hear(page)
    assert heard["messages"] == ["one"]
    assert heard["error"] == "invalid-frame"
    assert (heard["code"], heard["authentic"]) == (4400, False)


@pytest.mark.parametrize(
    ("direction", "index"),
    [("outbound", 0), ("inbound", 0), ("outbound", 1)],
    ids=["HELLO", "REPLY", "accept"],
)
def test_a_bit_flipped_in_the_handshake_keeps_the_socket_from_opening(
    page: Page, proxy: Proxy, direction: Direction, index: int
) -> None:
    change_frame(proxy, direction, index, lambda payload: [flip_bit(payload, -9)])
    heard = hear(page)
    assert (heard["opened"], heard["messages"]) == (False, [])
    # A close that the server sends because of a bad frame is not under encryption.
    assert heard["code"] == (4400 if direction == "outbound" else 1006)
    assert heard["error"] is not None
    assert heard["authentic"] is False


def test_a_bit_flipped_towards_the_server_is_refused_there(page: Page, proxy: Proxy) -> None:
    change_frame(proxy, "inbound", 2, lambda payload: [flip_bit(payload, 40)])  # "two"
    heard = hear(page)
    assert heard["messages"] in ([], ["one"])  # the end drops what still waits to be sent
    assert (heard["code"], heard["authentic"]) == (1006, False)


@pytest.mark.parametrize("direction", ["outbound", "inbound"])
def test_a_repeated_frame_is_not_delivered_twice(
    page: Page, proxy: Proxy, direction: Direction
) -> None:
    change_frame(proxy, direction, 2, lambda payload: [payload, payload])
    heard = hear(page)
    assert heard["messages"] == sorted(set(heard["messages"]), key=["one", "two"].index)
    assert heard["code"] == (4400 if direction == "outbound" else 1006)


@pytest.mark.parametrize("direction", ["outbound", "inbound"])
def test_a_dropped_frame_is_noticed_at_the_next_one(
    page: Page, proxy: Proxy, direction: Direction
) -> None:
    change_frame(proxy, direction, 2, lambda payload: [])
    heard = hear(page)
    assert "three" not in heard["messages"]
    assert heard["code"] == (4400 if direction == "outbound" else 1006)


def test_a_cut_connection_is_told_from_an_authentic_end(page: Page, proxy: Proxy) -> None:
    def cut(frame: Frame) -> list[bytes]:
        if (frame.direction, frame.index) == ("outbound", 4):
            proxy.abort()
            return []
        return [frame.payload]

    proxy.change = cut
    heard = hear(page)
    assert heard["messages"] == ["one", "two"]
    assert (heard["code"], heard["authentic"]) == (1006, False)
