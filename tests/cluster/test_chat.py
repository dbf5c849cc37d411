"""The demo's chat, with a history, keeps its conversation: every message once, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from websockets.exceptions import WebSocketException

from gcrypt_channels.client import DjangoSession
from gcrypt_channels.client.connection import ClientConnection
from gcrypt_channels.exceptions import ConnectionClosed, GcryptError
from gcrypt_channels.protocol.events import Position
from tests.faults.wire import Wire
from tests.servers import Redis, Site, Uvicorn, WebServer, side_by_side

pytestmark = pytest.mark.cluster

DEADLINE = 60.0  # seconds; only a failing test waits as long
PAUSE = 0.1
PATH = "/ws/chat/kitchen/"


class Chatter:
    """A user's page of the chat, which connects again whenever it was cut."""

    def __init__(self, session: DjangoSession) -> None:
        self.heard: list[str] = []
        self.recovered: list[bool] = []
        self.awake = asyncio.Event()
        self.awake.set()
        self._session = session
        self._positions: tuple[Position, ...] = ()
        self._connection: ClientConnection | None = None
        self._changed = asyncio.Condition()

    async def run(self) -> None:
        while True:
            await self.awake.wait()
            with suppress(GcryptError, OSError, WebSocketException, asyncio.TimeoutError):
                await self._listen()
            await self._connected(None)
            await asyncio.sleep(PAUSE)

    async def _listen(self) -> None:
        async with self._session.connect(
            PATH, resume=self._positions, on_joined=self._on_joined
        ) as connection:
            await self._connected(connection)
            try:
                while True:
                    content: Any = await connection.receive_json()
                    self.heard.append(content["message"])
                    await self._connected(connection)
            finally:
                self._positions = connection.positions

    async def _connected(self, connection: ClientConnection | None) -> None:
        async with self._changed:
            self._connection = connection
            self._changed.notify_all()

    def _on_joined(self, group: str, recovered: bool) -> None:
        self.recovered.append(recovered)

    async def say(self, text: str) -> None:
        """Say something until it was heard: once for each connection that has ended."""
        while text not in self.heard:
            await self._until(lambda: self._connection is not None)
            await self._say_once(text)

    async def _say_once(self, text: str) -> None:
        connection = self._connection
        assert connection is not None
        with suppress(ConnectionClosed):
            await connection.send_json({"message": text})
        await self._until(lambda: text in self.heard or self._connection is not connection)

    async def hears(self, text: str) -> None:
        await self._until(lambda: text in self.heard)

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with self._changed:
            await asyncio.wait_for(self._changed.wait_for(condition), DEADLINE)


@pytest.fixture
def redis_of_the_chat() -> Redis:
    return Redis()


@pytest.fixture
def workers(demo: Site, redis_of_the_chat: Redis) -> Iterator[list[WebServer]]:
    site = replace(
        demo,
        settings="tests.cluster.chat_settings",
        env={**demo.env, "REDIS_URL": redis_of_the_chat.url},
    )
    workers: list[WebServer] = [Uvicorn("demo_project.asgi:application", site) for _ in range(2)]
    with side_by_side(redis_of_the_chat, *workers):
        yield workers


async def test_a_conversation_outlives_a_sleep_a_worker_and_redis(
    workers: list[WebServer], redis_of_the_chat: Redis
) -> None:
    with Wire(workers[1].port) as wire:
        sessions = [DjangoSession(url) for url in (workers[0].url, f"http://127.0.0.1:{wire.port}")]
        for session, user in zip(sessions, ("alice", "bob"), strict=True):
            await session.login(user, f"{user}-demo")
        alice, bob = (Chatter(session) for session in sessions)
        running = [asyncio.create_task(each.run()) for each in (alice, bob)]
        try:
            await alice.say("good morning")
            await bob.say("good morning to you")

            bob.awake.clear()  # the laptop sleeps
            wire.cut()
            for number in range(20):
                await alice.say(f"while you slept {number}")
            bob.awake.set()
            await bob.hears("while you slept 19")

            await asyncio.to_thread(workers[1].restart)
            await alice.say("the worker is new")
            await bob.hears("the worker is new")
            assert bob.recovered == [False, True, True]

            await asyncio.to_thread(redis_of_the_chat.kill)
            await asyncio.to_thread(redis_of_the_chat.start)
            await alice.say("Redis is new")
            await bob.say("so it is")
            await alice.hears("so it is")
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
    assert bob.heard[bob.heard.index("good morning to you") :] == alice.heard[1:]
    assert alice.heard == [
        "good morning",
        "good morning to you",
        *(f"while you slept {number}" for number in range(20)),
        "the worker is new",
        "Redis is new",
        "so it is",
    ]
