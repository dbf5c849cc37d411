"""What the health view says of this process, and what the doctor makes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from django.core.checks import ERROR, INFO, CheckMessage
from django.core.management import CommandError, call_command
from django.test import RequestFactory

from gcrypt_channels import GcryptMiddleware, drain
from gcrypt_channels.doctor.probe import examine_process
from gcrypt_channels.exceptions import TryAgainLater
from gcrypt_channels.health import health
from gcrypt_channels.hub.hub import current_hub
from tests.channel_layers import core
from tests.servers import Redis
from tests.wire import Wire, resolver

if TYPE_CHECKING:
    from typing_extensions import Self


async def echo(scope: Any, receive: Any, send: Any) -> None:
    while (event := await receive())["type"] != "websocket.disconnect":
        if event["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})


async def opened() -> Wire:
    server = Wire(GcryptMiddleware(echo, resolver=resolver, seal_outbound=True))
    await server.open()
    return server


async def closed(server: Wire) -> None:
    server.leave()
    await server.end()


def look() -> tuple[int, dict[str, Any]]:
    response: Any = health(RequestFactory().get("/health/"))
    assert response["Cache-Control"] == "no-store"
    return response.status_code, json.loads(response.content)


async def test_a_process_without_connections_is_healthy() -> None:
    current_hub()
    status, figures = look()
    assert status == 200
    assert figures == {
        "healthy": True,
        "layer_up": None,
        "probe_age": None,
        "sweep_failures": 0,
        "connections": 0,
        "draining": False,
    }


async def test_connections_are_counted_and_the_age_of_the_last_probe_is_told() -> None:
    servers = [await opened(), await opened()]
    status, figures = look()
    assert status == 200
    assert figures["layer_up"] is True
    assert figures["connections"] == 2
    assert 0 <= figures["probe_age"] < 60
    for server in servers:
        await closed(server)


async def test_it_is_not_healthy_while_the_layer_is_down(settings: Any) -> None:
    with Redis() as redis:
        settings.CHANNEL_LAYERS = {"default": core(redis.url)}
        server = await opened()
        redis.kill()
        with pytest.raises(TryAgainLater):
            await current_hub().join(next(iter(current_hub().members.connections)), "hall")
        status, figures = look()
    assert status == 503
    assert (figures["healthy"], figures["layer_up"]) == (False, False)
    await closed(server)


async def test_it_is_not_healthy_when_it_drains() -> None:
    await drain(0)
    status, figures = look()
    assert status == 503
    assert (figures["healthy"], figures["draining"]) == (False, True)


def test_it_takes_safe_methods_alone() -> None:
    assert health(RequestFactory().post("/health/")).status_code == 405


# The doctor

ANSWER = {
    "healthy": True,
    "layer_up": True,
    "probe_age": 1.5,
    "sweep_failures": 0,
    "connections": 3,
    "draining": False,
}


class Process:
    """Answers every request with `status` and `body`."""

    status = 200
    body = b""

    def __enter__(self) -> Self:
        process = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(process.status)
                self.end_headers()
                self.wfile.write(process.body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/health/"
        self._thread = Thread(target=self._server.serve_forever)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def says(self, **figures: Any) -> list[CheckMessage]:
        """What the doctor finds when the process answers with these figures."""
        self.status = 200 if figures.get("healthy", True) else 503
        self.body = json.dumps({**ANSWER, **figures}).encode()
        return list(examine_process(self.url))


@pytest.fixture
def process() -> Iterator[Process]:
    with Process() as process:
        yield process


def test_the_doctor_finds_a_healthy_process_healthy(process: Process) -> None:
    [message] = process.says()
    assert (message.level, message.msg) == (INFO, "healthy; 3 connections")


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ({"layer_up": False, "probe_age": 17.2}, "the last probe came back 17.2 s ago"),
        ({"sweep_failures": 2}, "2 sweeps in a row"),
        ({"draining": True}, "It drains"),
    ],
)
def test_the_doctor_says_why_a_process_is_not_healthy(
    process: Process, figures: dict[str, Any], words: str
) -> None:
    [message] = process.says(healthy=False, **figures)
    assert message.level == ERROR
    assert words in message.msg
    assert message.hint


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"status": "ok"}', b"[" * 60_000])
def test_what_is_no_health_view_is_an_error(process: Process, body: bytes) -> None:
    process.body = body
    [message] = examine_process(process.url)
    assert message.level == ERROR
    assert "(200) is not that of the health view" in message.msg


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/", "health", ""])
def test_only_http_is_asked(url: str) -> None:
    [message] = examine_process(url)
    assert "neither http nor https" in message.msg


def test_a_process_that_is_not_there_is_an_error(closed_port: int) -> None:
    [message] = examine_process(f"http://127.0.0.1:{closed_port}/")
    assert message.level == ERROR
    assert "refused" in message.msg


@pytest.mark.django_db(transaction=True)
def test_the_command_asks_the_process_that_it_is_given(process: Process) -> None:
    process.body = json.dumps(ANSWER).encode()
    printed = StringIO()
    with suppress(CommandError):  # this project has faults of its own
        call_command("gcrypt_doctor", probe=process.url, stdout=printed)
    assert "healthy; 3 connections" in printed.getvalue()


async def test_the_doctor_reads_the_view_itself(process: Process) -> None:
    server = await opened()
    _, figures = look()
    assert figures.keys() == ANSWER.keys()
    [message] = process.says(**figures)
    assert message.msg == "healthy; 1 connections"
    await closed(server)
