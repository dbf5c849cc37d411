"""Real browsers, and the demo site on a real daphne of each test module's own.

The fixtures of a browser live as long as this package's tests: Playwright's synchronous API keeps
an event loop running, beside which no asynchronous test of another package could run.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from playwright.sync_api import Browser, BrowserContext, Playwright, sync_playwright

from tests.proxy import Proxy
from tests.servers import ROOT, Daphne, Site

from .helpers import CHROMIUM_FLAGS, LogIn, log_in_by_hand, makes_ml_kem_keys


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)


def _missing(what: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing")
    pytest.skip(f"{what} is missing")


def program(name: str) -> str:
    """The path of a program, without which these tests are skipped, and fail in CI."""
    path = shutil.which(name)
    if path is None:
        _missing(name)
    return path


@pytest.fixture(scope="package")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="package")
def chromium(playwright: Playwright) -> Iterator[Browser]:
    browser = playwright.chromium.launch(
        executable_path=program("chromium"),
        args=CHROMIUM_FLAGS,
        ignore_default_args=["--disable-back-forward-cache"],  # people have it
    )
    yield browser
    browser.close()


@pytest.fixture(scope="package")
def firefox(playwright: Playwright) -> Iterator[Browser]:
    program("firefox-esr")
    browser = playwright.firefox.launch(
        channel="moz-firefox",
        executable_path=Path(__file__).with_name("firefox.py"),
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    yield browser
    browser.close()


@pytest.fixture
def browser(request: pytest.FixtureRequest) -> Browser:
    """Chromium, or the browser that a test's `in_both_browsers` names."""
    browser: Browser = request.getfixturevalue(getattr(request, "param", "chromium"))
    return browser


@pytest.fixture
def profile(browser: Browser) -> str:
    """The best profile that the browser has: `gcrypt.v3` where its WebCrypto has ML-KEM-768."""
    with_ml_kem = browser.browser_type.name == "chromium" or makes_ml_kem_keys(browser)
    return "gcrypt.v3" if with_ml_kem else "gcrypt.v2"


@pytest.fixture(scope="module")
def site(shared_demo: Site) -> Site:
    return shared_demo


@pytest.fixture(scope="module")
def server(site: Site) -> Iterator[Daphne]:
    with Daphne("demo_project.asgi:application", site) as daphne:
        yield daphne


@pytest.fixture
def wire(server: Daphne) -> Iterator[Proxy]:
    """A way to the server that shows what passes; the browser sends it the server's cookies."""
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def contexts(browser: Browser) -> Iterator[Callable[..., BrowserContext]]:
    """Makes browser profiles with options of Playwright's, each with a cache of its own."""
    made: list[BrowserContext] = []

    def make(**options: Any) -> BrowserContext:
        made.append(browser.new_context(**options))
        return made[-1]

    yield make
    for context in made:
        context.close()


@pytest.fixture
def log_in(contexts: Callable[[], BrowserContext]) -> LogIn:
    """`log_in(url, "alice")` logs a user in by hand; the page of a new profile, at `url`/."""
    return lambda url, user: log_in_by_hand(contexts().new_page(), url, user)


@pytest.fixture(scope="session")
def gcrypt_js() -> None:
    """The original g-crypt and CryptoJS, installed by npm."""
    if not (ROOT / "node_modules" / "g-crypt" / "node_modules" / "crypto-js").is_dir():
        _missing("g-crypt (npm ci)")
