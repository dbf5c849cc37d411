"""Takes the pictures of the documentation from the running demo, into `docs/images/`.

    python scripts/screenshots.py

Starts the demo on a free port with a fresh database, drives it in Chromium and stops it again.
"""

from __future__ import annotations

import base64
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.browser.helpers import CHROMIUM_FLAGS  # noqa: E402
from tests.servers import Daphne, Redis, demo_site  # noqa: E402

IMAGES = ROOT / "docs" / "images"
DESK = (940, 786)
FRONT = (1280, 1130)
PHONE = (390, 844)


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as directory,
        Redis() as redis,
        Daphne(
            "demo_project.asgi:application",
            demo_site(Path(directory), DEMO="1", REDIS_URL=redis.url),
        ) as server,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=CHROMIUM_FLAGS
        )
        for scheme in ("light", "dark"):
            alice = Window(browser, server.url, "alice", DESK, scheme)
            bob = Window(browser, server.url, "bob", (520, 720), scheme)
            alice.take_inspector(f"inspector-{scheme}")
            take_chat(alice.resized((520, 720)), bob, f"chat-{scheme}")
            take_front(browser, server.url, FRONT, scheme, f"front-{scheme}")
        take_front(browser, server.url, PHONE, "light", "phone")
        browser.close()
    for image in sorted(IMAGES.glob("*.png")):
        print(f"{image.relative_to(ROOT)}  {image.stat().st_size / 1000:.0f} kB")


class Window:
    """A browser window in which one user is logged in."""

    def __init__(
        self, browser: Browser, url: str, user: str, size: tuple[int, int], scheme: str
    ) -> None:
        self.url = url
        self.context: BrowserContext = browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if scheme == "dark" else "light",
            reduced_motion="reduce",
        )
        self.page: Page = self.context.new_page()
        self.page.goto(f"{url}/accounts/login/")
        self.page.get_by_role("button", name=f"Log in as {user}").click()
        expect(self.page.locator("#user")).to_have_text(user)

    def resized(self, size: tuple[int, int]) -> Window:
        self.page.set_viewport_size({"width": size[0], "height": size[1]})
        return self

    def open(self, path: str) -> None:
        self.page.goto(self.url + path)
        for status in self.page.locator(".status").all():
            expect(status).to_have_attribute("data-state", "open")

    def save(self, name: str, *, full_page: bool = False) -> None:
        self.page.mouse.move(0, 0)
        self.page.screenshot(path=IMAGES / f"{name}.png", full_page=full_page)

    def take_inspector(self, name: str) -> None:
        self.open("/inspector/")
        self.page.get_by_role("button", name="Send").click()
        self.page.get_by_role("button", name="Let others try").click()
        expect(self.page.locator(".attempts tr")).to_have_count(4)
        expect(self.page.locator(".delivered")).to_have_count(2)
        for status in self.page.locator(".status").all():
            expect(status).to_have_attribute("data-state", "open")
        self.save(name, full_page=True)

    def say(self, text: str) -> None:
        self.page.get_by_label("Message").fill(text)
        self.page.get_by_role("button", name="Send").click()


def take_front(browser: Browser, url: str, size: tuple[int, int], scheme: str, name: str) -> None:
    """The front page as a visitor without a login sees it when all attacks have been run."""
    page = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if scheme == "dark" else "light",
        reduced_motion="reduce",
    ).new_page()
    page.goto(url)
    expect(page.locator("html")).to_have_attribute("data-stage", "ready")
    page.get_by_role("button", name="Run all eight").click()
    expect(page.locator("#v-name")).to_have_text("All of them", timeout=60_000)
    page.evaluate("scrollTo(0, 0)")
    page.mouse.move(0, 0)
    page.screenshot(path=IMAGES / f"{name}.png")


def take_chat(alice: Window, bob: Window, name: str) -> None:
    """Both windows in one picture."""
    windows = (alice, bob)
    for window in windows:
        window.open("/chat/")
    talk = [
        (alice, "Is this line safe?"),
        (bob, "Between me and the server, yes."),
        (alice, "Then: the picnic is at noon."),
    ]
    for count, (window, text) in enumerate(talk, start=1):
        window.say(text)
        for each in windows:
            expect(each.page.locator(".bubble")).to_have_count(count)
    shots = [base64.b64encode(window.page.screenshot()).decode() for window in windows]
    page = alice.context.new_page()
    page.set_viewport_size({"width": 1060, "height": 720})
    pictures = "".join(f'<img src="data:image/png;base64,{shot}">' for shot in shots)
    page.set_content(
        f"<style>body {{ margin: 0; display: flex; gap: 20px; background: #8a9099 }}</style>"
        f"{pictures}"
    )
    page.screenshot(path=IMAGES / f"{name}.png")
    page.close()


if __name__ == "__main__":
    main()
