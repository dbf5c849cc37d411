"""A session that ends on one worker ends on all of them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import replace
from http.cookiejar import CookieJar

import pytest

from gcrypt_channels.client import DjangoSession
from gcrypt_channels.client.connection import ClientConnection
from gcrypt_channels.exceptions import ConnectionClosed
from tests.cluster.processes import Cluster
from tests.servers import Daphne, Site, Uvicorn, WebServer, demo_site

pytestmark = pytest.mark.cluster

DEADLINE = 20.0
"""Seconds: below the interval of the sweep, so that only a message can have closed what closed."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return demo_site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module", params=[Daphne, Uvicorn], ids=["daphne", "uvicorn"])
def cluster(request: pytest.FixtureRequest, site: Site) -> Iterator[Cluster]:
    with Cluster(site, server=request.param) as cluster:
        yield cluster


class Page:
    """A login that is used on any worker, and can be ended: they are one site to its cookies."""

    def __init__(self, worker: WebServer) -> None:
        self._sessions = {worker.url: DjangoSession(worker.url)}

    @classmethod
    async def of(cls, user: str, worker: WebServer) -> Page:
        page = cls(worker)
        await page._at(worker).login(user, f"{user}-demo")
        return page

    @property
    def cookies(self) -> CookieJar:
        (first, *_) = self._sessions.values()
        return first._cookies

    def _at(self, worker: WebServer) -> DjangoSession:
        if worker.url not in self._sessions:
            (first, *_) = self._sessions.values()
            session = self._sessions[worker.url] = DjangoSession(worker.url)
            session._cookies, session._opener = first._cookies, first._opener
        return self._sessions[worker.url]

    @asynccontextmanager
    async def sockets(self, *workers: WebServer) -> AsyncIterator[list[ClientConnection]]:
        """One socket of this login on each worker; each is in use."""
        async with AsyncExitStack() as stack:
            opened = []
            for worker in workers:
                connecting = self._at(worker).connect("/ws/counter/")
                socket = await stack.enter_async_context(connecting)
                await socket.send_json({"id": 1})
                assert await socket.receive_json() == {"id": 2}
                opened.append(socket)
            yield opened

    async def log_out(self, worker: WebServer) -> None:
        session = self._at(worker)
        status, _ = await asyncio.to_thread(session._post, f"{worker.url}/accounts/logout/", {})
        assert status == 302


async def end_of(socket: ClientConnection) -> tuple[int, str, bool]:
    with pytest.raises(ConnectionClosed) as caught:
        await asyncio.wait_for(socket.receive(), DEADLINE)
    return caught.value.code, caught.value.reason, caught.value.authentic


async def test_a_logout_on_one_worker_closes_the_sockets_on_all_and_nobody_elses(
    cluster: Cluster,
) -> None:
    alice = await Page.of("alice", cluster.workers[0])
    bob = await Page.of("bob", cluster.workers[1])
    async with alice.sockets(*cluster.workers) as sockets, bob.sockets(*cluster.workers) as others:
        await alice.log_out(cluster.workers[2])
        for socket in sockets:
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
    cluster: Cluster, site: Site, what: str, reason: str
) -> None:
    alice = await Page.of("alice", cluster.workers[0])
    async with alice.sockets(*cluster.workers) as sockets:
        script = "; ".join(
            [
                "from django.contrib.auth.models import User",
                "from django.contrib.sessions.models import Session",
                "from gcrypt_channels.revocation.revocation import disconnect_user_sync",
                "alice = User.objects.get(username='alice')",
                what,
            ]
        )
        process = Site(site.directory, env={"REDIS_URL": cluster.redis.url})
        await asyncio.to_thread(process.manage, "shell", "-c", script)
        for socket in sockets:
            assert await end_of(socket) == (4401, reason, True)


@pytest.mark.parametrize("server", [Daphne, Uvicorn])
async def test_what_only_the_database_knows_is_found_by_the_sweep(
    site: Site, server: type[WebServer]
) -> None:
    sweeping = replace(site, settings="tests.cluster.quick_sweeps")
    with server("demo_project.asgi:application", sweeping) as worker:
        alice, bob = await Page.of("alice", worker), await Page.of("bob", worker)
        async with alice.sockets(worker, worker) as sockets, bob.sockets(worker) as (other,):
            keys = [each.value for each in alice.cookies if each.name == "sessionid"]
            with closing(sqlite3.connect(site.directory / "demo.sqlite3")) as database, database:
                database.execute("DELETE FROM django_session WHERE session_key = ?", keys)
            for socket in sockets:
                assert await end_of(socket) == (4401, "session ended", True)
            await other.send_json({"id": 7})
            assert await other.receive_json() == {"id": 8}
