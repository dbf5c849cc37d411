"""What a history costs: publishing with and without, and a thousand members that come back at once.

    python -m benchmarks.history

A broadcast of 120 bytes goes through the core layer of channels_redis to one member in this
process; with and without history take turns on one Redis. Then 1,000 members of one group, each
with a handshake of its own, are away for 100 messages and come back at once: the time from the
first join to the last message, and how many commands Redis got meanwhile.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any

from channels.layers import channel_layers
from django.conf import settings
from django.test import override_settings

if not settings.configured:
    settings.configure(
        GCRYPT_PASSPHRASE="a passphrase for measuring only, no secret",  # noqa: S106
    )

from redis import Redis as RedisClient

from gcrypt_channels.connection.connection import Connection
from gcrypt_channels.crypto.psk import SessionKey
from gcrypt_channels.groups import broadcast
from gcrypt_channels.hub.hub import current_hub
from gcrypt_channels.protocol.events import Binding, GroupText, HelloReceived, Joined, Position
from gcrypt_channels.protocol.secure import SecureSession
from tests.channel_layers import core
from tests.servers import Redis

CONTENT = {"room": "lobby", "sender": "alice", "text": "x" * 75}
ROUNDS = 2000
MEMBERS = 1000
MISSED = 100
KEY = SessionKey(kid=bytes(8), psk=bytes(32))


class Member:
    """One client of this process, and what it gets."""

    def __init__(self, position: Position | None, counts: asyncio.Semaphore) -> None:
        self.position = position
        self.heard = 0
        self._client = SecureSession(role="client")
        self._frames: asyncio.Queue[Any] = asyncio.Queue()
        self._counts = counts
        self._connection = Connection(
            SecureSession(role="server"),
            self._frames.get,
            self._send,
            hub=current_hub(),
            key=KEY,
        )

    async def connect(self) -> None:
        await current_hub().add(self._connection)
        await self._connection.handshake(timeout=60)
        await self._connection.send({"type": "websocket.accept"})

    async def join(self, group: str = "chat.lobby") -> None:
        await self._connection.join(group)

    async def leave(self) -> None:
        await current_hub().discard(self._connection)
        self._connection.end(1000)
        await self._connection.finish()

    async def _send(self, event: Any) -> None:
        if event.get("bytes") is None:
            return
        match self._client.receive(event["bytes"]):
            case HelloReceived():
                offered = [] if self.position is None else [self.position]
                reply = self._client.reply(KEY.psk, (), Binding((), "h", "/"), offered)
                self._frames.put_nowait({"type": "websocket.receive", "bytes": reply})
            case Joined(_, position, _):
                self.position = position
            case GroupText(_, position):
                self.position = position
                self._counts.release()


async def publish(_: Redis) -> None:
    times: dict[str, list[float]] = {"hall": [], "chat.lobby": []}
    member = Member(None, asyncio.Semaphore(0))
    await member.connect()
    for group in times:
        await member.join(group)
    for number in range(ROUNDS):
        for group in sorted(times, reverse=bool(number % 2)):
            started = time.perf_counter()
            await broadcast(group, CONTENT)
            times[group].append(time.perf_counter() - started)
    await member.leave()
    plain, kept = (statistics.median(each[100:]) * 1e6 for each in times.values())
    print(f"broadcast without history  {plain:6.0f} µs")
    print(f"broadcast with history     {kept:6.0f} µs   {kept / plain:.2f} times")


async def come_back(redis: Redis) -> None:
    heard = asyncio.Semaphore(0)
    first = Member(None, heard)
    await first.connect()
    await first.join()
    await first.leave()
    for _ in range(MISSED):
        await broadcast("chat.lobby", CONTENT)
    members = [Member(first.position, heard) for _ in range(MEMBERS)]
    for member in members:
        await member.connect()
    with RedisClient(port=redis.port) as client:
        client.config_resetstat()
        started = time.perf_counter()
        await asyncio.gather(*(member.join() for member in members))
        for _ in range(MEMBERS * MISSED):
            await heard.acquire()
        seconds = time.perf_counter() - started
        stats: dict[str, Any] = client.info("commandstats")
    calls = {name.removeprefix("cmdstat_"): each["calls"] for name, each in stats.items()}
    print(
        f"{MISSED} messages to {MEMBERS} members  {seconds:5.2f} s, "
        f"reads of the history: {calls['evalsha']}"
    )
    commands = " ".join(f"{name}:{count}" for name, count in sorted(calls.items()))
    print(f"commands of Redis, those in scripts and of the channel layer too: {commands}")
    for member in members:
        await member.leave()


def main() -> None:
    with Redis() as redis:
        kept = {"messages": MISSED, "seconds": 300}
        with override_settings(
            CHANNEL_LAYERS={"default": core(redis.url)},
            GCRYPT={
                "HISTORY": {"URL": redis.url, "GROUPS": {"chat.": kept}},
                "BACKLOG_SIZE": 16 * 1_048_576,
            },
        ):
            for measure in (publish, come_back):
                channel_layers.backends.clear()
                asyncio.run(measure(redis))


if __name__ == "__main__":
    main()
