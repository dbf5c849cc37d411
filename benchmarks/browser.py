"""Seal and open a message in Chromium, our client beside g-crypt on CryptoJS, and shake hands.

    python -m benchmarks.browser

``gcrypt.v2`` is ``EncryptedWebSocket`` as a page uses it, with a server session in this process
and no network between; the others are ``encrypt`` and ``decrypt`` of a ``Crypt`` object. Messages
come in bursts. The contestants take turns; each figure is the median over the rounds. The time of
a handshake is that from the arrival of HELLO to REPLY.
"""

from __future__ import annotations

import base64
import os
import shutil
import statistics
from pathlib import Path
from typing import cast

from playwright.sync_api import Page, Route, sync_playwright

from gcrypt_channels.protocol.profiles import SecureProfile, secure_profiles
from gcrypt_channels.protocol.secure import SecureSession

ROOT = Path(__file__).resolve().parent.parent
PAGE = "http://localhost/"  # a secure context, answered by this program: there is no server
MODULES = ROOT / "node_modules"
FILES = {
    "gcrypt.js": ROOT / "gcrypt_channels" / "static" / "gcrypt_channels" / "gcrypt.js",
    "browser.js": ROOT / "benchmarks" / "browser.js",
    "cryptojs3.js": MODULES / "g-crypt" / "node_modules" / "crypto-js" / "crypto-js.js",
    "cryptojs4.js": MODULES / "crypto-js" / "crypto-js.js",
    "g-crypt.js": MODULES / "g-crypt" / "src" / "Crypt.js",
}
DOCUMENT = """<!doctype html><title>benchmark</title>
<script src="cryptojs3.js"></script><script>CryptoJS3 = CryptoJS</script>
<script src="cryptojs4.js"></script><script>CryptoJS4 = CryptoJS</script>
<script src="g-crypt.js"></script><script type="module" src="browser.js"></script>"""
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]

SIZES = {"100 B": (100, 500), "1 KiB": (1024, 500), "64 KiB": (65_536, 10)}  # (bytes, burst)
ROUNDS = 7
WARM_UP = 2
HANDSHAKES = 200
BASELINE = "g-crypt, CryptoJS 4"


class Server:
    """The server's end of the page's connections, one at a time."""

    def __init__(self) -> None:
        self.kid = os.urandom(8)
        self.psk = os.urandom(32)
        self.session: SecureSession

    @property
    def key(self) -> dict[str, str]:
        psk = base64.urlsafe_b64encode(self.psk).rstrip(b"=").decode()
        return {"kid": self.kid.hex(), "psk": psk}

    def answer(self, method: str, argument: str) -> str:
        """Return the frame that the page gets next, in base64."""
        if method == "hello":
            self.session = SecureSession(cast("SecureProfile", argument), role="server")
            frame = self.session.hello(self.kid, self.psk)
        elif method == "reply":
            self.session.receive(base64.b64decode(argument))
            (frame,) = self.session.seal_accept(None)
        else:
            (frame,) = self.session.seal(argument)
        return base64.b64encode(frame).decode()


def serve(route: Route) -> None:
    name = route.request.url.removeprefix(PAGE)
    if name in FILES:
        route.fulfill(path=FILES[name], content_type="text/javascript")
    elif name:
        route.fulfill(status=404)
    else:
        route.fulfill(body=DOCUMENT, content_type="text/html")


def measure(page: Page, names: list[str], size: int, burst: int) -> dict[str, tuple[float, float]]:
    """Return each contestant's median microseconds to seal and to open one message."""
    sealing: dict[str, list[float]] = {name: [] for name in names}
    opening: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(WARM_UP + ROUNDS):
        for name in names:
            seal, open_ = page.evaluate("(call) => run(...call)", [name, size, burst])
            if turn >= WARM_UP:
                sealing[name].append(1000 * seal / burst)
                opening[name].append(1000 * open_ / burst)
    return {
        name: (statistics.median(sealing[name]), statistics.median(opening[name])) for name in names
    }


def report(label: str, figures: dict[str, tuple[float, float]]) -> None:
    for name, (sealing, opening) in figures.items():
        ratio = (sealing + opening) / sum(figures[BASELINE])
        cells = [label, name, f"{sealing:.0f}", f"{opening:.0f}", f"{sealing + opening:.0f}"]
        print(f"| {' | '.join(cells)} | {ratio:.2f} |", flush=True)


def shake_hands(page: Page, key: dict[str, str]) -> None:
    """Print the median milliseconds of a handshake's part in the browser, profile by profile."""
    taken: dict[str, list[float]] = {profile: [] for profile in reversed(secure_profiles())}
    for turn in range(WARM_UP + HANDSHAKES):
        for profile, figures in taken.items():
            milliseconds = page.evaluate("(call) => shakeHands(...call)", [profile, key])
            if turn >= WARM_UP:
                figures.append(milliseconds)
    print("\n| handshake | ms, median (min) |\n|---|--:|")
    for profile, figures in taken.items():
        print(f"| {profile} | {statistics.median(figures):.2f} ({min(figures):.2f}) |", flush=True)


def main() -> None:
    program = shutil.which("chromium")
    if program is None:
        raise SystemExit("This benchmark needs chromium on the PATH.")
    server = Server()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        page = browser.new_page()
        page.route("**/*", serve)
        page.expose_function("session", server.answer)
        page.goto(PAGE)
        page.wait_for_function("globalThis.names")
        page.evaluate("(key) => prepare(key)", server.key)
        names = page.evaluate("names")
        print(f"Chromium {browser.version}; microseconds per message, ratio to {BASELINE}\n")
        print("| message | | seal | open | both | ratio |\n|---|---|--:|--:|--:|--:|")
        for label, (size, burst) in SIZES.items():
            report(label, measure(page, names, size, burst))
        shake_hands(page, server.key)
        browser.close()


if __name__ == "__main__":
    main()
