"""The project of the README, copied from it into an empty folder, and used in a browser.

It also serves the page with a classic script of ``docs/javascript.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.documents import ROOT, blocks

from .helpers import watch_frames
from .projects import RunServer, log_in, run, write

README = ROOT / "README.md"
JAVASCRIPT = ROOT / "docs" / "javascript.md"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunServer]:
    directory = tmp_path_factory.mktemp("readme")
    _, start, serve = (block.text.splitlines() for block in blocks(README, "sh"))
    environment, install, *rest = start
    assert environment.startswith("python3 -m venv")  # which the environment of the tests is
    assert install.startswith('pip install "gcrypt_channels[daphne]"')
    run(directory, *rest)
    write(directory, README)
    [classic] = [block.text for block in blocks(JAVASCRIPT, "html") if "import(" in block.text]
    (directory / "templates" / "classic.html").write_text(f"<!DOCTYPE html>{classic}", "utf-8")
    with (directory / "mysite" / "urls.py").open("a", encoding="utf-8") as urls:
        view = 'TemplateView.as_view(template_name="classic.html")'
        urls.write(f'urlpatterns.append(path("classic/", {view}))\n')
    *before, runserver = serve
    with RunServer(
        directory, *before, "python manage.py check --fail-level WARNING", runserver
    ) as server:
        yield server


def count_twice(page: Page, url: str, path: str) -> list[str | bytes]:
    """Log in and count; return the frames of the page's socket."""
    frames = watch_frames(page)
    log_in(page, url, path, "alice")
    for number in ("1", "2"):
        page.get_by_role("button", name="Count on").click()
        expect(page.locator("output")).to_have_text(number)
    return frames


def test_the_project_of_the_readme_counts_after_a_login_and_encrypts(
    running: RunServer, contexts: Callable[[], BrowserContext]
) -> None:
    page = contexts().new_page()
    page.goto(running.url)
    assert "/admin/login/" in page.url
    frames = count_twice(page, running.url, "/")
    # HELLO, REPLY, the accept, and two for each click
    assert [type(frame) for frame in frames] == [bytes] * 7
    assert not any(b'"id"' in frame for frame in frames if isinstance(frame, bytes))


def test_a_classic_script_imports_the_client_and_keeps_its_inline_handlers(
    running: RunServer, contexts: Callable[[], BrowserContext]
) -> None:
    frames = count_twice(contexts().new_page(), running.url, "/classic/")
    assert [type(frame) for frame in frames] == [bytes] * 7
