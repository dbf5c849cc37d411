"""Nothing of a group with history is lost unsaid and nothing comes twice, whatever befalls it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from channels.layers import channel_layers
from django.utils.module_loading import import_string

from gcrypt_channels.conf import HistoryLimits
from gcrypt_channels.hub import subscription
from gcrypt_channels.layers import history as histories
from gcrypt_channels.layers.history import Place, RedisStore
from tests.channel_layers import core, pubsub
from tests.faults.histories import Record, Run, Store
from tests.faults.streams import StreamRun
from tests.servers import Redis

LONG = bool(os.environ.get("HISTORIES"))
SEEDS = range(int(os.environ.get("HISTORIES", "1")))
MESSAGES = 500 if LONG else 120


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _settings(settings: Any, store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    kept = {"messages": 20, "seconds": 300}
    settings.GCRYPT = {"HISTORY": {"URL": store.url, "GROUPS": {"chat.": kept}}}
    monkeypatch.setattr(subscription, "PROBE_INTERVAL", 0.2)
    yield
    channel_layers.backends.clear()


def play(layer: Any, redis: Redis, store: Store, seed: int, kind: type[Run] = Run) -> Run:
    config = layer(redis.url)
    return kind(seed, lambda: import_string(config["BACKEND"])(**config["CONFIG"]), store)


@pytest.mark.cluster
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("layer", [core, pubsub])
async def test_every_client_has_what_was_published(
    layer: Any, seed: int, redis: Redis, store: Store
) -> None:
    await play(layer, redis, store, seed).play(MESSAGES)


class CounterAlone(RedisStore):
    """Positions as others have them: a random epoch and a counter, of whatever run."""

    async def append(self, tag: str, sealed: bytes, limits: HistoryLimits) -> Place:
        async def call(client: Any, *, again: bool) -> Any:
            async with client.redis.pipeline() as pipeline:
                pipeline.set(f"{tag}:epoch", os.urandom(8).hex(), nx=True)
                pipeline.get(f"{tag}:epoch")
                pipeline.incr(f"{tag}:n")
                pipeline.rpush(f"{tag}:messages", sealed)
                pipeline.ltrim(f"{tag}:messages", -limits.messages, -1)
                return await pipeline.execute()

        _, epoch, n, *_ = await self._run(call)
        return Place(epoch.decode(), n)

    async def read(
        self, tag: str, limits: HistoryLimits, epoch: str, after: int
    ) -> tuple[Place, Sequence[bytes]]:
        async def call(client: Any, *, again: bool) -> Any:
            async with client.redis.pipeline() as pipeline:
                pipeline.set(f"{tag}:epoch", os.urandom(8).hex(), nx=True)
                pipeline.get(f"{tag}:epoch")
                pipeline.get(f"{tag}:n")
                pipeline.lrange(f"{tag}:messages", 0, -1)
                return await pipeline.execute()

        _, own, n, kept = await self._run(call)
        place = Place(own.decode(), int(n or 0))
        if epoch == place.epoch:
            kept = kept[max(0, len(kept) - max(0, place.n - after)) :]
        return place, kept if epoch else []

    async def places(self, tags: Sequence[str]) -> list[Place | None]:
        return [(await self.read(tag, HistoryLimits(1, 1), "", 0))[0] for tag in tags]


@pytest.mark.cluster
async def test_a_counter_without_the_run_it_is_of_fails(
    redis: Redis, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same check finds what is wrong with it, in one of a few histories."""
    monkeypatch.setattr(histories, "RedisStore", CounterAlone)
    histories.forget_histories()
    await fail(redis, store, Run)


@pytest.mark.cluster
async def test_stream_ids_as_positions_fail(redis: Redis, store: Store) -> None:
    """They lose messages unsaid when the store comes back without its last ones."""
    await fail(redis, store, StreamRun)


async def fail(redis: Redis, store: Store, kind: type[Run]) -> None:
    """Find a history that breaks the promise."""
    for seed in range(1, 9):
        store.wipe()
        try:
            await play(core, redis, store, seed, kind).play(500)
        except (AssertionError, TimeoutError):
            return
    pytest.fail("nothing was found")


@pytest.mark.parametrize(
    ("heard", "is_right"),
    [
        ([None, 0, 1, 2, 3], True),
        ([None, 1, 2], True),
        ([None, 0, None, 3], True),
        ([None, 0, 2, 3], True),  # 1 may not have been counted
        ([None, 0, 1, 3], False),
        ([None, 0, 1, 1], False),
        ([None, 1, 0], False),
        ([1, 2], True),
    ],
)
def test_the_check_of_a_record(heard: list[int | None], is_right: bool) -> None:
    record = Record()
    record.heard = heard
    if is_right:
        record.check([0, 1, 2, 3], {1} if heard != [1, 2] else {0})
    else:
        with pytest.raises(AssertionError):
            record.check([0, 1, 2, 3], set())
