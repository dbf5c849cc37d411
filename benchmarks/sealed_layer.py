"""One event through a channel layer, plain and sealed: what sealing the layer costs.

    python -m benchmarks.sealed_layer

An event of 120 bytes goes to a group of 1 or 100 of Channels' own consumers in one process. "To the
last" is the time from the call of ``group_send`` to the handler of the last of them, "CPU" what the
process needs for it, which says the same on a busy machine. Plain and sealed take turns in one
process and on one Redis, and who goes first alternates, so that a machine whose speed drifts slows
both alike.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from typing import Any

from channels.consumer import AsyncConsumer
from channels.layers import get_channel_layer
from django.conf import settings
from django.test import override_settings

if not settings.configured:
    settings.configure(
        GCRYPT_PASSPHRASE="a passphrase for measuring only, no secret",  # noqa: S106
    )

from tests.channel_layers import Config, core, core_json, pubsub, sealed
from tests.servers import Redis

EVENT = {"type": "chat.message", "room": "lobby", "sender": "alice", "text": "x" * 60}
CONSUMERS = (1, 100)
WARM_UP = 50
ROUNDS = 500
TIMEOUT = 10.0  # seconds for one message
LAYERS: dict[str, Callable[[str], Config]] = {
    "core, msgpack": core,
    "core, JSON": core_json,
    "pubsub, msgpack": pubsub,
}


class Audience:
    """Consumers in one process that are all members of one group of one layer."""

    def __init__(self, alias: str) -> None:
        self.layer: Any = get_channel_layer(alias)
        self._tasks: list[asyncio.Task[None]] = []
        self._missing = 0
        self._all_there = asyncio.Event()
        audience = self

        class Member(AsyncConsumer):
            channel_layer_alias = alias

            async def bench_start(self, event: dict[str, Any]) -> None:
                await self.channel_layer.group_add("lobby", self.channel_name)
                audience._arrived()

            async def chat_message(self, event: dict[str, Any]) -> None:
                audience._arrived()

        self._application: Any = Member.as_asgi()

    def _arrived(self) -> None:
        self._missing -= 1
        if not self._missing:
            self._all_there.set()

    def _expect(self, consumers: int) -> None:
        self._missing = consumers
        self._all_there.clear()

    async def gather(self, consumers: int) -> None:
        for _ in range(consumers):
            events: asyncio.Queue[Any] = asyncio.Queue()
            events.put_nowait({"type": "bench.start"})
            running = self._application({"type": "bench"}, events.get, events.put)
            self._expect(1)  # one by one: redis-py allows 100 connections
            self._tasks.append(asyncio.create_task(running))
            await asyncio.wait_for(self._all_there.wait(), TIMEOUT)

    async def round(self) -> tuple[float, float]:
        """Milliseconds from the call to the last handler, and of CPU."""
        self._expect(len(self._tasks))
        started, cpu = time.perf_counter(), time.process_time()
        await self.layer.group_send("lobby", EVENT)
        await asyncio.wait_for(self._all_there.wait(), TIMEOUT)
        return (time.perf_counter() - started) * 1e3, (time.process_time() - cpu) * 1e3

    async def leave(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.layer.flush()


async def measure(consumers: int) -> dict[str, list[tuple[float, float]]]:
    """What each round of both took."""
    contestants = {alias: Audience(alias) for alias in ("plain", "sealed")}
    figures: dict[str, list[tuple[float, float]]] = {alias: [] for alias in contestants}
    for audience in contestants.values():
        await audience.gather(consumers)
    for number in range(WARM_UP + ROUNDS):
        for alias in sorted(contestants, reverse=bool(number % 2)):
            took = await contestants[alias].round()
            if number >= WARM_UP:
                figures[alias].append(took)
    for audience in contestants.values():
        await audience.leave()
    return figures


def spread(times: list[float]) -> str:
    first, median, third = statistics.quantiles(times, n=4)
    return f"{median:.2f} ({first:.2f} - {third:.2f})"


def main() -> None:
    print("| layer | consumers | figure | plain, ms | sealed, ms | sealed / plain |")
    print("|---|--:|---|---|---|--:|")
    for label, make in LAYERS.items():
        for consumers in CONSUMERS:
            with Redis() as redis:
                outside, inside = make(redis.url), make(redis.url)
                outside["CONFIG"]["prefix"], inside["CONFIG"]["prefix"] = "plain", "sealed"
                layers = {"plain": outside, "sealed": sealed(inside)}
                with override_settings(CHANNEL_LAYERS=layers):
                    figures = asyncio.run(measure(consumers))
            for index, figure in enumerate(("to the last", "CPU")):
                theirs, ours = ([each[index] for each in figures[name]] for name in figures)
                ratio = statistics.median(ours) / statistics.median(theirs)
                row = f"{spread(theirs)} | {spread(ours)} | {ratio:.2f}"
                print(f"| {label} | {consumers} | {figure} | {row} |", flush=True)


if __name__ == "__main__":
    main()
