"""The end of all connections of a process, before it stops."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from gcrypt_channels import GcryptMiddleware, drain
from gcrypt_channels.hub import drain as drain_module
from gcrypt_channels.hub.hub import current_hub
from gcrypt_channels.keys import Keyring
from gcrypt_channels.protocol.events import Closed, Text
from gcrypt_channels.signals import connection_refused
from tests.servers import ROOT
from tests.wire import KEYRING, Wire, resolver

RESTART = Closed(1012, "service restart")
DEADLINE = 20.0  # seconds; only a failing test waits as long


async def echo(scope: Any, receive: Any, send: Any) -> None:
    while (event := await receive())["type"] != "websocket.disconnect":
        if event["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        else:
            await send({**event, "type": "websocket.send"})


def wire(inner: Any = echo, **options: Any) -> Wire:
    return Wire(GcryptMiddleware(inner, **{"resolver": resolver, "seal_outbound": True, **options}))


async def opened(inner: Any = echo) -> Wire:
    server = wire(inner)
    await server.open()
    return server


async def until(condition: Callable[[], Any]) -> None:
    while not condition():  # noqa: ASYNC110 - what it asks for has no event
        await asyncio.sleep(0)


# Those who are connected


async def test_every_client_is_told_a_sealed_1012_behind_what_was_queued() -> None:
    servers = [await opened() for _ in range(3)]
    may_write = asyncio.Event()
    for server in servers:
        server.before = may_write.wait  # type: ignore[assignment]
    for connection in current_hub().members.connections:
        for text in ("1", "2"):
            connection.push("room", text, 1)
    draining = asyncio.create_task(drain(0))
    await until(lambda: all(each.closed for each in current_hub().members.connections))
    may_write.set()
    await draining
    for server in servers:
        await server.end()
        assert server.opened(3) == [Text("1"), Text("2"), RESTART]
        assert (server.close["code"], server.close["reason"]) == (1012, "")


async def test_they_do_not_all_go_at_once() -> None:
    servers = [await opened() for _ in range(8)]
    draining = asyncio.create_task(drain(0.5))
    await asyncio.wait([server.task for server in servers], return_when=asyncio.FIRST_COMPLETED)
    assert not all(server.task.done() for server in servers)
    await draining
    assert all(server.opened(3) == [RESTART] for server in servers)


async def test_one_that_is_about_to_open_opens_and_is_told_last() -> None:
    may_resolve = asyncio.Event()

    async def slow_resolver(scope: Any) -> Keyring:
        await may_resolve.wait()
        return KEYRING

    server = wire(resolver=slow_resolver)
    await until(lambda: current_hub().serving)
    draining = asyncio.create_task(drain(0.5))
    await until(lambda: current_hub().draining)
    may_resolve.set()
    await server.open()
    server.send("hello")
    await draining
    await server.end()
    assert server.opened(3) == [Text("hello"), RESTART]


async def test_a_second_drain_waits_for_the_first() -> None:
    server = await opened()
    first = asyncio.create_task(drain(0.2))
    await asyncio.sleep(0)
    await drain(0)
    assert server.task.done()
    assert server.opened(3) == [RESTART]
    await first


async def test_who_gives_up_waiting_does_not_end_the_drain() -> None:
    server = await opened()
    impatient = asyncio.create_task(drain(0.1))
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.wait_for(server.end(), DEADLINE)
    assert server.opened(3) == [RESTART]


async def test_a_client_that_does_not_read_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(drain_module, "END_TIMEOUT", 0.01)
    server, reads = await opened(), asyncio.Event()
    server.before = reads.wait  # type: ignore[assignment]
    server.send("hello")
    await asyncio.wait_for(drain(0), DEADLINE)
    assert not server.task.done()
    reads.set()
    await asyncio.wait([server.task])


async def test_an_application_that_does_not_end_is_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def endless(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await asyncio.Event().wait()

    monkeypatch.setattr(drain_module, "END_TIMEOUT", 0.01)
    server = await opened(endless)
    await asyncio.wait_for(drain(0), DEADLINE)
    assert server.task.cancelled()
    assert server.opened(3) == [RESTART]


async def test_the_connections_of_other_threads_are_told() -> None:
    is_open, told = threading.Event(), []

    async def elsewhere() -> None:
        server = await opened()
        is_open.set()
        await server.end()
        told.extend(server.opened(3))

    thread = threading.Thread(target=lambda: asyncio.run(elsewhere()))
    thread.start()
    await asyncio.to_thread(is_open.wait, DEADLINE)
    await drain(0)
    await asyncio.to_thread(thread.join, DEADLINE)
    assert told == [RESTART]


# Those who come


async def test_a_new_connection_gets_503_where_the_server_can_answer() -> None:
    codes: list[int] = []

    async def refused(code: int, **arguments: Any) -> None:
        codes.append(code)

    connection_refused.connect(refused)
    await drain(0)
    server = wire()
    server.scope["extensions"] = {"websocket.http.response": {}}
    await server.end()
    start, body = server.sent
    assert start["type"] == "websocket.http.response.start"
    assert start["status"] == 503
    assert body == {"type": "websocket.http.response.body", "body": b""}
    assert codes == [1012]


async def test_elsewhere_it_is_accepted_and_closed_with_1012() -> None:
    await drain(0)
    server = wire()
    await server.end()
    accept, close = server.sent
    assert accept == {"type": "websocket.accept", "subprotocol": "gcrypt.v2"}
    assert close == {"type": "websocket.close", "code": 1012, "reason": ""}


# The handler of SIGTERM

HANDLERS = """
import asyncio, os, signal, threading
import django
django.setup()
from tests.hub.test_drain import opened

async def visit():
    server = await opened()
    server.leave()
    await server.end()

thread = threading.Thread(target=lambda: asyncio.run(visit())) if {off_main} else None
if thread:
    thread.start()
    thread.join()
else:
    asyncio.run(visit())
print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, flush=True)
os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.parametrize("off_main", [False, True])
def test_the_handler_is_installed_in_the_main_thread_alone_and_needs_no_loop(
    off_main: bool,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANDLERS.format(off_main=off_main)],
        env={"DJANGO_SETTINGS_MODULE": "tests.settings", "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )
    assert done.stdout.split() == [str(off_main)], done.stderr
    assert done.returncode == -15
