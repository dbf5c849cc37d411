"""The chat of Channels' tutorial, changed as ``docs/tutorial.md`` and ``docs/migrating.md`` say."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import BrowserContext, Page, expect

from tests.documents import ROOT, blocks
from tests.servers import Redis

from .helpers import watch_frames
from .projects import RUNSERVER, RunServer, apply, log_in, run, write

CHAT = Path(__file__).with_name("tutorial_chat.md")
TUTORIAL = ROOT / "docs" / "tutorial.md"
MIGRATING = ROOT / "docs" / "migrating.md"
COMMANDS = ("python manage.py migrate", "python manage.py createsuperuser", RUNSERVER)

LAYER = """
ASGI_APPLICATION = "mysite.asgi.application"
CHANNEL_LAYERS = {{
    "default": {{
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {{"hosts": [{{"address": "{url}", "socket_timeout": 15}}]}},
    }},
}}
"""


def chat(directory: Path, redis: Redis) -> None:
    """The project as Channels' tutorial leaves it."""
    run(directory, "django-admin startproject mysite .", "mkdir -p chat", "touch chat/__init__.py")
    write(directory, CHAT)
    settings = directory / "mysite" / "settings.py"
    text = settings.read_text("utf-8")
    apps = 'INSTALLED_APPS = [\n    "daphne",\n    "chat",'
    text = text.replace("INSTALLED_APPS = [", apps) + LAYER.format(url=redis.url)
    settings.write_text(text, "utf-8")


def fill_in_the_passphrase(directory: Path) -> None:
    settings = directory / "mysite" / "settings.py"
    text = settings.read_text("utf-8")
    passphrase = run(directory, "python manage.py gcrypt_keygen").strip()
    settings.write_text(
        text.replace('GCRYPT_PASSPHRASE = "…"', f'GCRYPT_PASSPHRASE = "{passphrase}"'), "utf-8"
    )


@contextmanager
def monitored(redis: Redis) -> Iterator[list[str]]:
    """Everything that a Redis is told meanwhile, in a list that has it when the block ends."""
    told: list[str] = []
    with (
        socket.create_connection(("127.0.0.1", redis.port), timeout=30) as monitor,
        socket.create_connection(("127.0.0.1", redis.port), timeout=30) as marking,
        monitor.makefile("rb") as lines,
    ):
        monitor.sendall(b"MONITOR\r\n")
        assert lines.readline() == b"+OK\r\n"
        yield told
        marking.sendall(b'ECHO "that is all"\r\n')
        for line in lines:
            told.append(line.decode())
            if "that is all" in told[-1]:
                break


def say(page: Page, text: str) -> None:
    page.fill("#chat-message-input", text)
    page.click("#chat-message-submit")


def enter(page: Page, url: str, path: str, user: str) -> None:
    log_in(page, url, path, user)
    expect(page.locator("#chat-log")).to_have_attribute("placeholder", "open")


def expect_said(page: Page, *texts: str) -> None:
    expect(page.locator("#chat-log")).to_have_value("".join(f"{text}\n" for text in texts))


def expect_metrics(metrics: Page, *, plain: int, encrypted: int) -> None:
    """So many sockets are open on either route, or soon will be; one was ever on the plain one."""
    for line in (
        f"gcrypt_plain_connections {plain}.0",
        "gcrypt_plain_connections_opened_total 1.0",
        f'gcrypt_connections{{profile="gcrypt.v3"}} {encrypted}.0',
    ):
        expect(metrics.locator("body")).to_contain_text(line)


def test_the_tutorial_changes_at_most_ten_lines() -> None:
    added = [line for diff in blocks(TUTORIAL, "diff") for line in diff.text.splitlines()]
    assert sum(line.startswith("+") for line in added) <= 10


def test_the_chat_of_the_tutorial_shows_no_word_on_the_wire_and_in_redis(
    tmp_path: Path, contexts: Callable[[], BrowserContext]
) -> None:
    with Redis() as redis:
        chat(tmp_path, redis)
        for diff in blocks(TUTORIAL, "diff"):
            apply(tmp_path, diff)
        fill_in_the_passphrase(tmp_path)
        alice, bob = contexts().new_page(), contexts().new_page()
        frames = watch_frames(bob)
        with RunServer(tmp_path, *COMMANDS) as server, monitored(redis) as told:
            enter(alice, server.url, "/chat/lobby/", "alice")
            enter(bob, server.url, "/chat/lobby/", "bob")
            say(alice, "the umbrella is yellow")
            for page in (alice, bob):
                expect_said(page, "the umbrella is yellow")
            say(bob, "understood")
            for page in (alice, bob):
                expect_said(page, "the umbrella is yellow", "understood")
    commands = "".join(told)
    said = re.findall(r"umbrella|yellow|understood|lobby|chat|message|alice|bob", commands)
    assert said == []
    assert "asgi:group:sealed." in commands  # Redis did carry it
    assert [frame for frame in frames if isinstance(frame, str)] == []
    assert len(frames) >= 6


def test_pages_are_converted_one_by_one_and_talk_to_each_other_meanwhile(
    tmp_path: Path, contexts: Callable[[], BrowserContext]
) -> None:
    with Redis() as redis:
        chat(tmp_path, redis)
        pages = tmp_path / "chat" / "templates" / "chat"
        (pages / "other.html").write_text((pages / "room.html").read_text("utf-8"), "utf-8")
        with (tmp_path / "mysite" / "urls.py").open("a", encoding="utf-8") as urls:
            urls.write(OTHER_PAGES)
        for diff in blocks(MIGRATING, "diff"):
            apply(tmp_path, diff)
        fill_in_the_passphrase(tmp_path)
        old, new = contexts().new_page(), contexts().new_page()
        frames = watch_frames(new)
        with RunServer(tmp_path, *COMMANDS) as server, monitored(redis) as told:
            enter(old, server.url, "/other/lobby/", "alice")
            enter(new, server.url, "/chat/lobby/", "bob")
            say(old, "from a page of before")
            say(new, "and from a converted one")
            for page in (old, new):
                expect(page.locator("#chat-log")).to_have_value(re.compile("before\n"))
                expect(page.locator("#chat-log")).to_have_value(re.compile("converted one\n"))

            metrics = contexts().new_page()
            metrics.goto(f"{server.url}/metrics/")
            expect_metrics(metrics, plain=1, encrypted=1)
            old.close()  # Chromium's back/forward cache keeps a socket for a while
            enter(contexts().new_page(), server.url, "/chat/lobby/", "alice")
            expect_metrics(metrics, plain=0, encrypted=2)
    assert re.findall("before|converted|lobby", "".join(told)) == []
    assert "asgi:group:sealed." in "".join(told)  # Redis did carry it
    assert [frame for frame in frames if isinstance(frame, str)] == []


OTHER_PAGES = """
from django.http import HttpResponse
from django.shortcuts import render
from prometheus_client import generate_latest


def other(request, room_name):
    return render(request, "chat/other.html", {"room_name": room_name})


def metrics(request):
    text = generate_latest()
    return HttpResponse(text, content_type="text/plain", headers={"Refresh": "1"})


urlpatterns += [
    path("other/<str:room_name>/", other),
    path("metrics/", metrics),
]
"""
