"""Groups across workers: who is where makes no difference, and nothing that fails is silent."""

from __future__ import annotations

import asyncio
import re
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from gcrypt_channels.client import DjangoSession
from gcrypt_channels.client.connection import ClientConnection
from gcrypt_channels.exceptions import ConnectionClosed
from tests.cluster.processes import Cluster
from tests.servers import ROOT, Daphne, Redis, Site, Uvicorn, WebServer

pytestmark = pytest.mark.cluster

DEADLINE = 60.0  # seconds; only a failing test waits as long
ROOM = "canary-room"
PATH = f"/ws/chat/{ROOM}/"


@pytest.fixture
def server() -> type[WebServer]:
    return Daphne


@pytest.fixture
def layer() -> str:
    return "core"


@pytest.fixture
def cluster(server: type[WebServer], layer: str, demo: Site) -> Iterator[Cluster]:
    site = replace(demo, settings="tests.cluster.settings", env={"LAYER": layer})
    with Cluster(site, server=server) as cluster:
        yield cluster
    for worker in cluster.workers:
        # channels_redis itself forgets this task, and with it the error of a Redis that is away.
        log = re.sub(
            r"Task exception was never retrieved\nfuture: <[^\n]*\._clean_receive_backup\(\)",
            "",
            worker.log,
        )
        for complaint in ("was destroyed", "never retrieved", "never awaited", "too long"):
            assert complaint not in log


async def log_in(url: str, user: str) -> DjangoSession:
    session = DjangoSession(url)
    await session.login(user, f"{user}-demo")
    return session


class Client:
    """A page of the chat, and what it was told of gaps since it last heard something."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.missed = 0

    async def hear(self) -> Any:
        return await asyncio.wait_for(self.connection.receive_json(), DEADLINE)

    async def say(self, text: str) -> None:
        await self.connection.send_json({"message": text})


@asynccontextmanager
async def chatting(session: DjangoSession) -> AsyncIterator[Client]:
    client: Client

    def on_gap(group: str, missed: int) -> None:
        assert group == f"chat.{ROOM}"
        client.missed += missed

    async with session.connect(PATH, on_gap=on_gap) as connection:
        client = Client(connection)
        yield client


async def announce(worker: WebServer, text: str) -> int:
    """Have a view of `worker` broadcast `text`; return the HTTP status."""

    def post() -> int:
        body = urlencode({"text": text}).encode()
        try:
            with urlopen(f"{worker.url}/announce/{ROOM}/", body, timeout=DEADLINE) as answer:
                return int(answer.status)
        except HTTPError as error:
            error.close()
            return error.code

    return await asyncio.to_thread(post)


@contextmanager
def monitor(redis: Redis) -> Iterator[bytearray]:
    """Everything that Redis is told within the context."""
    seen = bytearray()
    with socket.create_connection(("127.0.0.1", redis.port)) as connection:
        connection.sendall(b"MONITOR\r\n")
        assert connection.recv(5) == b"+OK\r\n"

        def collect() -> None:
            while data := connection.recv(65536):
                seen.extend(data)

        collector = threading.Thread(target=collect)
        collector.start()
        yield seen
        connection.shutdown(socket.SHUT_RDWR)
        collector.join()


async def test_users_and_a_view_on_three_workers_meet_in_one_room_and_redis_reads_nothing(
    cluster: Cluster,
) -> None:
    first, second, third = cluster.workers
    alice, bob = await log_in(first.url, "alice"), await log_in(second.url, "bob")
    with monitor(cluster.redis) as seen:
        async with chatting(alice) as on_first, chatting(bob) as on_second:
            await on_first.say("canary-from-alice")
            await on_second.hear()
            await on_second.say("canary-from-bob")
            assert await announce(third, "canary-from-a-view") == 200
            heard = [await on_first.hear() for _ in range(3)]
            assert heard[0] == {"user": "alice", "message": "canary-from-alice"}
            assert {"user": "bob", "message": "canary-from-bob"} in heard
            assert {"announcement": "canary-from-a-view"} in heard
            assert [await on_second.hear() for _ in range(2)] == heard[1:]
            assert on_first.missed == on_second.missed == 0
    assert re.search(rb"gcrypt\.[0-9a-f]{32}", seen)  # it does see our messages
    assert b"gcrypt.layer" in seen
    assert b"canary" not in seen
    assert b"announcement" not in seen


SOCKETLESS = f"""
import django
django.setup()
from gcrypt_channels import broadcast_sync
for number in range(20):
    broadcast_sync("chat.{ROOM}", number)
"""


async def test_a_process_without_a_socket_reaches_all_workers_in_order(cluster: Cluster) -> None:
    first, second, third = cluster.workers
    alice, bob = await log_in(first.url, "alice"), await log_in(second.url, "bob")
    async with chatting(alice) as on_first, chatting(bob) as on_second:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", SOCKETLESS, env=third.env, cwd=ROOT
        )
        assert await process.wait() == 0
        for client in (on_first, on_second):
            assert [await client.hear() for _ in range(20)] == list(range(20))
            assert client.missed == 0


async def test_a_worker_that_is_killed_takes_nobody_else_along(cluster: Cluster) -> None:
    first, second, third = cluster.workers
    alice, bob = await log_in(first.url, "alice"), await log_in(second.url, "bob")
    async with chatting(alice) as on_first, chatting(bob) as on_second:
        first.kill()
        with pytest.raises(ConnectionClosed) as caught:
            await on_first.hear()
        assert not caught.value.authentic
        assert await announce(third, "still here") == 200
        assert await on_second.hear() == {"announcement": "still here"}
        alice = await log_in(cluster.url, "alice")  # nginx knows who is left
        async with chatting(alice) as again:
            await again.say("back")
            for client in (again, on_second):
                assert await client.hear() == {"user": "alice", "message": "back"}


async def test_a_redis_that_stays_away_closes_nobody_and_lets_nobody_in(
    cluster: Cluster,
) -> None:
    first, second, third = cluster.workers
    alice, bob = await log_in(first.url, "alice"), await log_in(second.url, "bob")
    async with chatting(alice) as on_first, chatting(bob) as on_second:
        assert await announce(third, "before") == 200
        for client in (on_first, on_second):
            assert await client.hear() == {"announcement": "before"}
        cluster.redis.kill()
        assert await announce(third, "lost") == 503
        with pytest.raises(ConnectionClosed) as caught:
            async with chatting(alice):
                pass
        assert (caught.value.code, caught.value.authentic) == (1013, True)
        cluster.redis.start()
        for worker in (first, second):
            await asyncio.to_thread(worker.wait_for_log, "The channel layer works again")
        assert await announce(third, "after") == 200
        for client in (on_first, on_second):
            assert await client.hear() == {"announcement": "after"}


class Listener:
    """A page that compares what it hears with what was announced."""

    def __init__(self, session: DjangoSession, answers: dict[int, int]) -> None:
        self.heard: list[int] = []
        self.missed = 0
        self._session = session
        self._answers = answers  # the HTTP status of each announcement
        self._news = asyncio.Event()

    async def listen(self) -> None:
        async with chatting(self._session) as client:
            await self._follow(client)

    async def _follow(self, client: Client) -> None:
        last = None
        while True:
            number = int((await client.hear())["announcement"])
            assert not self.heard or number > self.heard[-1], "twice, or out of order"
            if last is not None:
                silent = [each for each in range(last + 1, number) if self._answers[each] == 200]
                assert len(silent) <= client.missed <= number - last - 1
                self.missed += client.missed
            client.missed = 0
            last = number
            self.heard.append(number)
            self._news.set()

    async def hears(self, condition: Callable[[int], bool], listening: asyncio.Task[None]) -> None:
        """Wait until a number fulfils `condition`, or raise what ended `listening`."""

        async def wait() -> None:
            while not self.heard or not condition(self.heard[-1]):
                self._news.clear()
                await self._news.wait()

        waiting = asyncio.create_task(wait())
        try:
            await asyncio.wait(
                {waiting, listening}, timeout=DEADLINE, return_when=asyncio.FIRST_COMPLETED
            )
            if listening.done():
                await listening
            assert waiting.done(), f"nothing after {self.heard[-1:]} of {len(self._answers)}"
        finally:
            waiting.cancel()


@pytest.mark.parametrize(
    ("server", "layer"), [(Daphne, "core"), (Uvicorn, "core"), (Daphne, "pubsub")]
)
async def test_a_redis_that_is_killed_under_load_closes_nobody_and_loses_nothing_without_a_word(
    cluster: Cluster,
) -> None:
    first, second, third = cluster.workers
    answers: dict[int, int] = {}
    refused = asyncio.Event()

    async def load() -> None:
        while True:
            number = len(answers)
            answers[number] = 200  # it may be heard before the view has answered
            answers[number] = await announce(third, str(number))
            if answers[number] == 503:
                refused.set()

    listeners = [
        Listener(await log_in(worker.url, user), answers)
        for worker, user in ((first, "alice"), (second, "bob"))
    ]
    listening = [asyncio.create_task(each.listen()) for each in listeners]
    tasks = [*listening, asyncio.create_task(load())]
    try:
        for each, task in zip(listeners, listening, strict=True):
            await each.hears(lambda number: number > 5, task)
        cluster.redis.kill()
        killed_at = len(answers)
        await asyncio.wait_for(refused.wait(), DEADLINE)
        cluster.redis.start()
        for each, task in zip(listeners, listening, strict=True):
            await each.hears(lambda number: number > killed_at + 20, task)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in results] == [asyncio.CancelledError] * 3
    assert 500 not in answers.values()
    for each in listeners:
        assert each.missed
