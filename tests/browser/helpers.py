"""What several browser tests do on a page."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
from playwright.sync_api import Browser, Page, WebSocket, expect

LogIn = Callable[[str, str], Page]

in_both_browsers = pytest.mark.parametrize("browser", ["chromium", "firefox"], indirect=True)

PATHS = ["/", "/counter/", "/chat/", "/inspector/", "/classic/", "/accounts/login/"]

CHROMIUM_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@cache
def makes_ml_kem_keys(browser: Browser) -> bool:
    """Whether the browser's WebCrypto has ML-KEM-768."""
    with browser.new_context() as context:
        page = context.new_page()
        page.route("**/*", lambda route: route.fulfill(body="", content_type="text/html"))
        page.goto("http://localhost/")  # a secure context
        makes: bool = page.evaluate(
            """crypto.subtle
                .generateKey({ name: "ML-KEM-768" }, false, ["encapsulateKey", "decapsulateKey"])
                .then(() => true, () => false)"""
        )
    return makes


def log_in_by_hand(page: Page, url: str, user: str) -> Page:
    page.goto(f"{url}/accounts/login/")
    form = page.locator("#login")
    form.get_by_label("User name").fill(user)
    form.get_by_label("Password").fill(f"{user}-demo")
    form.get_by_role("button").click()
    page.wait_for_url(f"{url}/")
    return page


def expect_count(page: Page, number: int) -> None:
    """On the counter page: one message there and back leads to `number`."""
    page.get_by_role("button", name="Count on").click()
    expect(page.locator("#number")).to_have_text(str(number))


def watch_frames(page: Page) -> list[str | bytes]:
    """The data frames of every socket that the page will open, in the order seen; in Chromium.

    It leaves the address that it is at first, so that a socket there plays no part.
    """
    page.goto("about:blank")
    frames: list[str | bytes] = []

    def record(frame: str | bytes) -> None:
        frames.append(frame)

    def watch(socket: WebSocket) -> None:
        socket.on("framesent", record)
        socket.on("framereceived", record)

    page.on("websocket", watch)
    return frames
