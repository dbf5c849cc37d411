"""A session that ends on one worker ends on all of them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import replace

import pytest

from gcrypt_channels.client.connection import ClientConnection
from gcrypt_channels.exceptions import ConnectionClosed
from tests.cluster.processes import Cluster
from tests.scriptless import Scriptless
from tests.servers import Daphne, Site, Uvicorn, WebServer

pytestmark = pytest.mark.cluster

DEADLINE = 20.0
"""Seconds: below the interval of the sweep, so that only a message can have closed what closed."""


@pytest.fixture(scope="module", params=[Daphne, Uvicorn], ids=["daphne", "uvicorn"])
def cluster(request: pytest.FixtureRequest, shared_demo: Site) -> Iterator[Cluster]:
    with Cluster(shared_demo, server=request.param) as cluster:
        yield cluster


async def log_in(user: str, worker: WebServer) -> Scriptless:
    browser = Scriptless()
    await asyncio.to_thread(browser.log_in, worker.url, user)
    return browser


@asynccontextmanager
async def sockets(
    browser: Scriptless, *workers: WebServer
) -> AsyncIterator[list[ClientConnection]]:
    """One socket of this login on each worker, with the key from there; each is in use."""
    async with AsyncExitStack() as stack:
        opened = []
        for worker in workers:
            keys = await asyncio.to_thread(browser.fetch_keys, worker.url)
            connecting = browser.connect(worker.url, "/ws/counter/", keys)
            socket = await stack.enter_async_context(connecting)
            await socket.send_json({"id": 1})
            assert await socket.receive_json() == {"id": 2}
            opened.append(socket)
        yield opened


async def end_of(socket: ClientConnection) -> tuple[int, str, bool]:
    with pytest.raises(ConnectionClosed) as caught:
        await asyncio.wait_for(socket.receive(), DEADLINE)
    return caught.value.code, caught.value.reason, caught.value.authentic


async def test_a_logout_on_one_worker_closes_the_sockets_on_all_and_nobody_elses(
    cluster: Cluster,
) -> None:
    alice = await log_in("alice", cluster.workers[0])
    bob = await log_in("bob", cluster.workers[1])
    workers = cluster.workers
    async with sockets(alice, *workers) as on_all, sockets(bob, *workers) as others:
        await asyncio.to_thread(alice.log_out, workers[2].url)
        for socket in on_all:
            assert await end_of(socket) == (4401, "logged out", True)
        for other in others:
            await other.send_json({"id": 7})
            assert await other.receive_json() == {"id": 8}


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("disconnect_user_sync(alice)", "disconnected"),
        ("alice.set_password('alice-demo'); alice.save()", "session ended"),
        ("Session.objects.all().delete()", "session ended"),
    ],
)
async def test_a_process_without_sockets_can_end_sessions(
    cluster: Cluster, shared_demo: Site, what: str, reason: str
) -> None:
    alice = await log_in("alice", cluster.workers[0])
    async with sockets(alice, *cluster.workers) as on_all:
        script = "; ".join(
            [
                "from django.contrib.auth.models import User",
                "from django.contrib.sessions.models import Session",
                "from gcrypt_channels.revocation.revocation import disconnect_user_sync",
                "alice = User.objects.get(username='alice')",
                what,
            ]
        )
        process = Site(shared_demo.directory, env={"REDIS_URL": cluster.redis.url})
        await asyncio.to_thread(process.manage, "shell", "-c", script)
        for socket in on_all:
            assert await end_of(socket) == (4401, reason, True)


@pytest.mark.parametrize("server", [Daphne, Uvicorn])
async def test_what_only_the_database_knows_is_found_by_the_sweep(
    shared_demo: Site, server: type[WebServer]
) -> None:
    sweeping = replace(shared_demo, settings="tests.cluster.quick_sweeps")
    with server("demo_project.asgi:application", sweeping) as worker:
        alice, bob = await log_in("alice", worker), await log_in("bob", worker)
        async with sockets(alice, worker, worker) as both, sockets(bob, worker) as (other,):
            keys = [each.value for each in alice.cookies if each.name == "sessionid"]
            file = shared_demo.directory / "demo.sqlite3"
            with closing(sqlite3.connect(file)) as database, database:
                database.execute("DELETE FROM django_session WHERE session_key = ?", keys)
            for socket in both:
                assert await end_of(socket) == (4401, "session ended", True)
            await other.send_json({"id": 7})
            assert await other.receive_json() == {"id": 8}
