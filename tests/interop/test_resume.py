"""Both clients get what they missed of a group with history, from real servers."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gcrypt_channels.client import ClientConnection, connect
from tests.room_site import KEYRING
from tests.servers import ROOT, Daphne, Redis, Site, Uvicorn, WebServer

pytestmark = pytest.mark.interop

DEADLINE = 30
KEY = KEYRING.session_keys[0]


@pytest.fixture(params=[(Daphne, True), (Uvicorn, True), (Uvicorn, False)])
def server(request: pytest.FixtureRequest, redis: Redis, tmp_path: Path) -> Iterator[WebServer]:
    kind, with_redis = request.param
    env = {"HISTORY": "1", **({"REDIS_URL": redis.url} if with_redis else {})}
    with kind("tests.room_site:application", Site(tmp_path, settings="", env=env)) as server:
        yield server


@asynccontextmanager
async def member(server: WebServer, **options: Any) -> AsyncIterator[ClientConnection]:
    url = f"{server.websocket_url}/ws/"
    async with connect(url, kid=KEY.kid, psk=KEY.psk, **options) as connection:
        yield connection


async def say(connection: ClientConnection, *numbers: int) -> None:
    """Have numbers broadcast, and hear them."""
    await connection.send_json({"numbers": numbers, "size": 0})
    assert [(await connection.receive_json())[0] for _ in numbers] == list(numbers)


async def test_a_python_client_that_comes_back_hears_what_it_missed_once(
    server: WebServer,
) -> None:
    joined: list[tuple[str, bool]] = []

    def on_joined(group: str, recovered: bool) -> None:
        joined.append((group, recovered))

    async with member(server) as publisher:
        async with member(server, resume=(), on_joined=on_joined) as first:
            await say(first, 1, 2)
        assert [await publisher.receive_json() for _ in range(2)] == [[1, ""], [2, ""]]
        await say(publisher, 3, 4)
        async with member(server, resume=first.positions, on_joined=on_joined) as again:
            await say(publisher, 5)
            assert [(await again.receive_json())[0] for _ in range(3)] == [3, 4, 5]
    assert joined == [("room", False), ("room", True)]


async def test_a_page_that_comes_back_hears_what_it_missed_once(server: WebServer) -> None:
    node = Path(sys.executable).with_name("node")
    url = f"{server.websocket_url}/ws/"
    psk = urlsafe_b64encode(KEY.psk).decode().rstrip("=")
    script = Path(__file__).with_name("resume.mjs")
    page = await asyncio.create_subprocess_exec(
        node, script, url, KEY.kid.hex(), psk, cwd=ROOT, stdin=PIPE, stdout=PIPE
    )
    assert page.stdin is not None
    assert page.stdout is not None
    ask, answers = page.stdin, page.stdout

    async def do(action: str, events: int) -> list[dict[str, Any]]:
        ask.write(f"{action} {events}\n".encode())
        line = await asyncio.wait_for(answers.readline(), DEADLINE)
        heard: list[dict[str, Any]] = json.loads(line)
        return heard

    try:
        async with member(server) as publisher:
            [joined] = await do("connect", 1)
            assert joined == {"group": "room", "recovered": False}
            await say(publisher, 1, 2)
            one, two = await do("wait", 2)
            assert [one["number"], two["number"]] == [1, 2]
            assert two["position"] == one["position"] + 1
            assert await do("leave", 1) == [{"closed": True}]
            await say(publisher, 3, 4)
            joined, *missed = await do("comeBack", 3)
            assert joined == {"group": "room", "recovered": True}
            assert [each["number"] for each in missed] == [3, 4]
            assert [each["position"] for each in missed] == [
                one["position"] + 2,
                one["position"] + 3,
            ]
    finally:
        ask.close()
        await asyncio.wait_for(page.wait(), DEADLINE)
