"""A real Chromium, and the demo site on a real daphne of each test module's own.

The fixtures of a browser live as long as this package's tests: Playwright's synchronous API keeps
an event loop running, beside which no asynchronous test of another package could run.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from tests.servers import ROOT, Daphne, Site

from .helpers import CHROMIUM_FLAGS, LogIn, log_in_by_hand


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)


def _missing(what: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing")
    pytest.skip(f"{what} is missing")


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    program = shutil.which("chromium")
    if program is None:
        _missing("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program,
            args=CHROMIUM_FLAGS,
            ignore_default_args=["--disable-back-forward-cache"],  # people have it
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site(shared_demo: Site) -> Site:
    return shared_demo


@pytest.fixture(scope="module")
def server(site: Site) -> Iterator[Daphne]:
    with Daphne("demo_project.asgi:application", site) as daphne:
        yield daphne


@pytest.fixture
def contexts(chromium: Browser) -> Iterator[Callable[..., BrowserContext]]:
    """Makes browser profiles with options of Playwright's, each with a cache of its own."""
    made: list[BrowserContext] = []

    def make(**options: Any) -> BrowserContext:
        made.append(chromium.new_context(**options))
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
