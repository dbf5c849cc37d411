"""Libraries that construct the global `WebSocket` themselves, in a page that put ours there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route

from tests.servers import ROOT, Daphne

from .helpers import LogIn, in_both_browsers

ESBUILD = ROOT / "node_modules" / ".bin" / "esbuild"
ENTRY = Path(__file__).with_name("libraries.js")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The libraries in one module, which imports our client from the page's import map."""
    path = tmp_path_factory.mktemp("bundle") / "libraries.js"
    options = ["--bundle", "--format=esm", "--external:gcrypt_channels", f"--outfile={path}"]
    define = '--define:process.env.NODE_ENV="production"'
    subprocess.run([ESBUILD, ENTRY, *options, define, "--log-level=error"], check=True)
    return path


@in_both_browsers
@pytest.mark.parametrize("library", ["react", "vue", "htmxWs"])
def test_an_echo_through_a_library_is_encrypted(
    server: Daphne, log_in: LogIn, profile: str, bundle: Path, library: str
) -> None:
    def serve(route: Route) -> None:
        route.fulfill(path=bundle, content_type="text/javascript")

    page: Page = log_in(server.url, "alice")
    page.route("**/libraries.js", serve)
    answer = page.evaluate(
        """async (library) => {
            const { [library]: echo } = await import("/libraries.js");
            return Promise.race([
                echo("/ws/echo/", `through ${library}`),
                new Promise((resolve) => setTimeout(resolve, 10_000, "no answer")),
            ]);
        }""",
        library,
    )
    assert answer == [f"through {library}", profile]
