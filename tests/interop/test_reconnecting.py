"""A Python client in `async for` outlives the restart of a real server, and misses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from gcrypt_channels.client import connect
from gcrypt_channels.exceptions import ConnectionClosed
from tests.room_site import KEYRING
from tests.servers import Daphne, Redis, Site, Uvicorn, WebServer

pytestmark = pytest.mark.interop

DEADLINE = 60
KEY = KEYRING.session_keys[0]


def short_delays() -> Iterator[float]:
    while True:
        yield 0.05


@pytest.mark.parametrize(("end", "code"), [("stop", 1012), ("kill", 1006)])
@pytest.mark.parametrize("kind", [Daphne, Uvicorn])
async def test_what_was_said_while_it_was_away_arrives_once_after_a_restart(
    kind: type[WebServer], end: str, code: int, redis: Redis, tmp_path: Path
) -> None:
    env = {"HISTORY": "1", "REDIS_URL": redis.url}
    joined: list[bool] = []
    heard: list[int] = []
    ends: list[ConnectionClosed] = []
    with kind("tests.room_site:application", Site(tmp_path, settings="", env=env)) as server:
        url = f"{server.websocket_url}/ws/"

        async def publish(*numbers: int) -> None:
            async with connect(url, kid=KEY.kid, psk=KEY.psk) as publisher:
                await publisher.send_json({"numbers": numbers, "size": 0})
                for _ in numbers:
                    await publisher.receive()

        async def listen() -> None:
            async for socket in connect(
                url,
                kid=KEY.kid,
                psk=KEY.psk,
                resume=(),
                on_joined=lambda group, recovered: joined.append(recovered),
                reconnect_delays=short_delays,
            ):
                try:
                    await socket.send_json({"numbers": [] if heard else [1, 2], "size": 0})
                    while len(heard) < 2:
                        heard.append((await socket.receive_json())[0])
                    if not ends:
                        await asyncio.to_thread(getattr(server, end))
                    while len(heard) < 4:
                        heard.append((await socket.receive_json())[0])
                    return
                except ConnectionClosed as error:
                    ends.append(error)
                    await asyncio.to_thread(server.start)
                    await publish(3, 4)

        await asyncio.wait_for(listen(), DEADLINE)
    assert heard == [1, 2, 3, 4]
    assert joined == [False, True]
    assert [(each.code, each.authentic) for each in ends] == [(code, code == 1012)]


async def test_it_finds_a_server_that_starts_late(tmp_path: Path) -> None:
    server = Uvicorn("tests.room_site:application", Site(tmp_path, settings=""))
    first_delay = asyncio.Event()

    def delays() -> Iterator[float]:
        first_delay.set()
        yield from short_delays()

    async def listen() -> None:
        async for socket in connect(
            f"{server.websocket_url}/ws/", kid=KEY.kid, psk=KEY.psk, reconnect_delays=delays
        ):
            await socket.send_json({"numbers": [1], "size": 0})
            assert await socket.receive_json() == [1, ""]
            return

    listening = asyncio.create_task(listen())
    await asyncio.wait_for(first_delay.wait(), DEADLINE)
    with server:
        await asyncio.wait_for(listening, DEADLINE)
