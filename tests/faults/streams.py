"""What others do, for a proof that the checks find what is wrong with it: stream ids as positions.

Each message is added to a Redis stream. A client reads from the id of its last message on, and when
it comes back it is told that it may have missed something unless the stream still has that message.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from redis import RedisError
from redis import asyncio as redis

from gcrypt_channels.exceptions import TryAgainLater
from tests.faults.histories import PATIENCE, Client, Run, Store, Worker

STREAM = "stream"
START = "0-0"
KEPT = 20


class StreamClient(Client):
    """Reads the stream by itself; workers do not matter to it."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store
        self._last = START
        self._reading: asyncio.Task[None] | None = None

    async def connect(self, worker: Worker) -> None:
        self.worker = worker
        self._reading = asyncio.create_task(self._read())

    async def cut(self) -> None:
        reading, self._reading, self.worker = self._reading, None, None
        if reading is not None:
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading

    async def _read(self) -> None:
        while True:
            with suppress(RedisError, OSError):
                async with redis.Redis.from_url(self._store.url) as store:
                    if not await store.xrange(STREAM, self._last, self._last):
                        self.record.heard.append(None)
                    await self._follow(store)

    async def _follow(self, store: redis.Redis) -> None:
        while True:
            found: Any = await store.xread({STREAM: self._last}, block=int(PATIENCE * 1000))
            for _, entries in found:
                for position, fields in entries:
                    self._last = position.decode()
                    self.record.heard.append(int(fields[b"number"]))
                    self._heard.set()


class StreamRun(Run):
    """A random history, with messages in a stream."""

    def make_clients(self) -> list[Client]:
        return [StreamClient(self.store) for _ in range(4)]

    async def send(self, number: int) -> None:
        with suppress(RedisError, OSError):
            async with redis.Redis.from_url(self.store.url) as store:
                await store.xadd(STREAM, {"number": number}, maxlen=KEPT, approximate=False)
                return
        raise TryAgainLater
