"""The stage of the front page: nothing on it is faked, and its score is true."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal
from urllib.error import HTTPError

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from demo_project.stage.listing import files_to_change
from tests.scriptless import Scriptless
from tests.servers import Daphne, Redis, demo_site

from .helpers import LogIn
from .test_accessibility import violations
from .test_layout import overhang

# The tone of each attack's verdict: plain Channels, gcrypt_channels.
SCORE = {
    "Steal the cookie": ("open", "open"),
    "Log alice out": ("open", "refused"),
    "Flip a bit": ("open", "refused"),
    "Replay": ("open", "refused"),
    "Change the URL": ("open", "refused"),
    "Downgrade it": ("none", "refused"),
    "Read Redis": ("open", "sealed"),
    "Forge in Redis": ("open", "refused"),
}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daphne]:
    with Redis() as redis:
        site = demo_site(tmp_path_factory.mktemp("stage"), DEMO="1", REDIS_URL=redis.url)
        with Daphne("demo_project.asgi:application", site) as daphne:
            yield daphne
            daphne.kill()  # SIGTERM would drain the sockets of all sandboxes for three seconds


@pytest.fixture
def page(stage: Daphne, contexts: Callable[..., BrowserContext]) -> Page:
    # With reduced motion the page sends nothing by itself but its first message.
    page = contexts(reduced_motion="reduce").new_page()
    open_stage(page, stage)
    return page


def open_stage(page: Page, stage: Daphne) -> None:
    page.goto(stage.url)
    expect(page.locator("html")).to_have_attribute("data-stage", "ready")


def attack(page: Page, name: str) -> tuple[str, str]:
    """Press a button; the tones of the two verdicts."""
    page.get_by_role("button", name=name).click()
    expect(page.locator("#v-name")).to_have_text(name)
    plain, gcrypt = (
        re.search(r"\bs-(\w+)", page.locator(f'[data-side="{side}"]').get_attribute("class") or "")
        for side in ("plain", "gcrypt")
    )
    assert plain is not None
    assert gcrypt is not None
    return plain[1], gcrypt[1]


@pytest.mark.parametrize("name", SCORE)
def test_each_attack_ends_as_the_page_says_it_does(page: Page, name: str) -> None:
    assert attack(page, name) == SCORE[name]


def test_all_eight_one_after_the_other_have_the_published_score(page: Page) -> None:
    page.get_by_role("button", name="Run all eight").click()
    said = page.locator("#said")
    expect(said).to_have_text(
        "All were run. Plain Channels: 7 of 8 worked. gcrypt_channels: 1 of 8 worked.",
        timeout=60_000,
    )
    marks = page.locator(".attack").evaluate_all(
        "buttons => buttons.map((each) => [each.querySelector('b').textContent,"
        " ...[...each.querySelectorAll('.marks > span')].map((mark) => mark.className.slice(2))])"
    )
    assert {name: tuple(tones) for name, *tones in marks} == SCORE


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_has_nothing_to_object_to_before_and_after_an_attack(
    page: Page, scheme: Literal["light", "dark"]
) -> None:
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    assert violations(page) == []
    attack(page, "Flip a bit")
    assert violations(page) == []


def test_what_a_visitor_writes_is_read_in_between_on_one_side_only(page: Page) -> None:
    words = "midnight, behind the mill"
    page.get_by_label("Write as alice").fill(words)
    page.get_by_role("button", name="Send").click()
    row = page.locator("#rows > li").first
    for side in ("plain", "gcrypt"):
        expect(row.locator(f".bob .is-{side} .bubble")).to_have_text(words)
        expect(row.locator(f".redis .is-{side} .frame")).to_have_count(1)
        expect(row.locator(f".onwire .is-{side} .frame")).to_have_count(1)
    for cell in ("onwire", "redis"):
        assert words in "".join(row.locator(f".{cell} .is-plain").all_text_contents())
    between = page.locator("#rows .mid .is-gcrypt").all_text_contents()
    assert not any(word in text for text in between for word in ("midnight", "mill", "alice"))


def test_a_visitor_who_is_logged_in_is_alice_and_stays_who_he_is(
    stage: Daphne, log_in: LogIn
) -> None:
    page = log_in(stage.url, "bob")
    expect(page.locator("html")).to_have_attribute("data-stage", "ready")
    assert attack(page, "Flip a bit") == SCORE["Flip a bit"]
    page.goto(f"{stage.url}/counter/")
    expect(page.locator("#user")).to_have_text("bob")


def test_nobody_sees_or_attacks_a_sandbox_of_someone_else(page: Page, stage: Daphne) -> None:
    with page.expect_request("**/attacks/**") as request:
        page.get_by_role("button", name="Replay").click()
    stranger = Scriptless()
    stranger.log_in(stage.url, "bob")
    with pytest.raises(HTTPError, match="404"):
        stranger.get(re.sub("attacks/.*", "events/", request.value.url))


def test_without_redis_the_layer_is_named_and_nothing_is_forged_in_it(
    tmp_path: Path, contexts: Callable[..., BrowserContext]
) -> None:
    with Daphne("demo_project.asgi:application", demo_site(tmp_path, DEMO="1")) as stage:
        page = contexts(reduced_motion="reduce").new_page()
        open_stage(page, stage)
        expect(page.get_by_role("heading", name="Channel layer").first).to_be_visible()
        expect(page.get_by_role("button", name="Forge in Redis")).to_be_disabled()
        assert attack(page, "Read Redis") == SCORE["Read Redis"]


def test_a_site_without_the_stage_says_how_to_start_it(
    server: Daphne, contexts: Callable[..., BrowserContext]
) -> None:
    page = contexts().new_page()
    page.goto(server.url)
    expect(page.get_by_text("make demo")).to_be_visible()
    assert page.request.post(f"{server.url}/stage/").status == 403


def test_the_lines_to_add_are_those_of_the_readme(page: Page) -> None:
    shown = page.locator(".pane code").all_text_contents()
    files = files_to_change()
    assert {"mysite/settings.py", "mysite/asgi.py"} <= {file.name for file in files}
    assert shown == ["".join(f"{line.text}\n" for line in file.lines) for file in files]


def test_the_files_are_tabs_that_the_keyboard_reaches(page: Page) -> None:
    tabs = page.get_by_role("tab")
    tabs.first.focus()
    page.keyboard.press("End")
    expect(tabs.last).to_be_focused()
    expect(tabs.last).to_have_attribute("aria-selected", "true")
    expect(page.locator(".pane").last).to_be_visible()


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_the_stage_fits_its_window(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    attack(page, "Flip a bit")
    assert overhang(page) <= 0
