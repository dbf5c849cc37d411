"""`SealedChannelLayer`: what consumers, views and packages rely on, over every layer inside.

Two layer objects on one Redis are two processes to each other. What a writer to Redis can do is in
`test_sealed_attacks.py`; what is remembered, and for how long, in `test_sealed_state.py`.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import json
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import date
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from channels.exceptions import ChannelFull, InvalidChannelLayerError
from channels.layers import get_channel_layer
from channels_redis.core import RedisChannelLayer
from django.test import override_settings

from gcrypt_channels import layers
from gcrypt_channels.layers import sealed as sealing
from gcrypt_channels.layers.sealed import unwrap
from tests.channel_layers import LAYERS, REDIS_LAYERS, core, core_json, in_memory, pubsub, sealed
from tests.layers.redis_traffic import PATIENCE, Monitor, make, received
from tests.servers import Redis

Make = Callable[[str], Any]

EVENT = {"type": "chat.message", "text": "für alle", "numbers": [1, 2.5, None, True]}


@pytest.fixture
async def two(request: pytest.FixtureRequest, redis: Redis) -> AsyncIterator[tuple[Any, Any]]:
    """Two processes; over the in-memory layer it is one."""
    one = make(request.param(redis.url))
    other = one if request.param is in_memory else make(request.param(redis.url))
    yield one, other
    for each in {one, other}:
        await each.flush()


every_layer = pytest.mark.parametrize("two", LAYERS, indirect=True)
redis_layers = pytest.mark.parametrize("two", REDIS_LAYERS, indirect=True)
core_layers = pytest.mark.parametrize("two", [core, core_json], indirect=True)
one_core = pytest.mark.parametrize("two", [core], indirect=True)


# What Channels and its users call


@every_layer
async def test_a_group_message_reaches_every_member_as_what_was_sent(two: Any) -> None:
    layer, other = two
    channels = [await layer.new_channel() for _ in range(3)]
    for channel in channels:
        await layer.group_add("room", channel)
    await layer.group_discard("room", channels[1])
    await other.group_send("room", EVENT)
    await other.send(channels[1], {"type": "last"})
    assert await received(layer, channels[0]) == EVENT
    assert await received(layer, channels[2]) == EVENT
    assert await received(layer, channels[1]) == {"type": "last"}
    assert layer.dropped == 0


@every_layer
async def test_a_direct_message_reaches_its_channel_as_what_was_sent(two: Any) -> None:
    layer, other = two
    channel = await layer.new_channel()
    await other.send(channel, EVENT)
    assert await received(layer, channel) == EVENT


@core_layers
async def test_a_message_reaches_a_worker_on_a_channel_with_a_fixed_name(two: Any) -> None:
    layer, other = two
    await other.send("thumbnails", EVENT)
    assert await received(layer, "thumbnails") == EVENT


@pytest.mark.parametrize("two", [in_memory, core, pubsub], indirect=True)
async def test_bytes_arrive_as_bytes(two: Any) -> None:
    layer, other = two
    channel = await layer.new_channel()
    await other.send(channel, {"type": "blob", "data": bytes(range(256))})
    assert (await received(layer, channel))["data"] == bytes(range(256))


@every_layer
async def test_consumers_get_copies_of_their_own(two: Any) -> None:
    layer, other = two
    channels = [await layer.new_channel() for _ in range(2)]
    for channel in channels:
        await layer.group_add("room", channel)
    await other.group_send("room", EVENT)
    (await received(layer, channels[0]))["numbers"].append("mine")
    assert await received(layer, channels[1]) == EVENT


@every_layer
async def test_every_other_attribute_is_that_of_the_layer_inside(two: Any) -> None:
    layer, _ = two
    assert layer.extensions == ["groups", "flush"]
    assert not hasattr(layer, "no_such_attribute")
    assert (await layer.new_channel("mine")).find("mine") >= 0


@one_core
async def test_the_settings_and_helpers_of_core_are_passed_on(two: Any) -> None:
    layer, _ = two
    assert (layer.expiry, layer.group_expiry, layer.capacity) == (60, 86_400, 100)
    assert layer.hosts == layer.inner.hosts
    assert layer.client_prefix == layer.inner.client_prefix
    assert layer.deserialize(layer.serialize({"a": 1})) == {"a": 1}
    await layer.close_pools()


def test_a_copy_is_made_of_the_layer_inside_as_well() -> None:
    layer = make(core("redis://127.0.0.1:1"))
    assert copy.copy(layer).inner is layer.inner


@redis_layers
async def test_the_methods_are_coroutine_functions(two: Any) -> None:
    layer, _ = two
    for name in ("send", "receive", "group_send", "group_add", "group_discard"):
        assert inspect.iscoroutinefunction(getattr(layer, name)), name


async def test_over_the_in_memory_layer_nothing_changes() -> None:
    layer = make(in_memory(""))
    channel = await layer.new_channel()
    await layer.group_add("room", channel)
    assert list(layer.inner.groups) == ["room"]
    assert layer.group_name("room") == "room"
    await layer.group_send("room", EVENT)
    assert await layer.inner.receive(channel) == EVENT


@redis_layers
async def test_a_group_has_a_name_of_39_harmless_characters_in_the_layer_inside(two: Any) -> None:
    layer, other = two
    name = layer.group_name("room")
    assert name.startswith("sealed.")
    assert len(name) == 39
    assert name[7:] == bytes.fromhex(name[7:]).hex()
    assert other.group_name("room") == name
    assert layer.group_name("Room") != name


@one_core
async def test_who_counts_members_asks_for_the_group_by_its_name_inside(
    two: Any, redis: Redis
) -> None:
    layer, _ = two
    for _ in range(3):
        await layer.group_add("room", await layer.new_channel())
    key = layer._group_key(layer.group_name("room"))
    assert await layer.connection(0).zcard(key) == 3


def test_the_setting_names_the_class_and_channels_makes_it(settings: Any) -> None:
    settings.CHANNEL_LAYERS = {"default": sealed(core("redis://127.0.0.1:1"))}
    layer: Any = get_channel_layer()
    assert isinstance(layer, layers.SealedChannelLayer)
    assert unwrap(layer) is layer.inner
    assert unwrap(layer.inner) is layer.inner
    assert unwrap(None) is None


@pytest.mark.parametrize(
    "config", [{}, {"layer": {}}, {"layer": sealed(core("")), "expiry": 1}, {"layer": sealed({})}]
)
def test_a_configuration_that_is_wrong_makes_no_layer(config: Any) -> None:
    with pytest.raises(InvalidChannelLayerError, match="layer"):
        layers.SealedChannelLayer(**config)


class ForeignLayer:
    """A layer as some package might have it: it carries text alone."""

    def __init__(self) -> None:
        self.queues: dict[str, list[str]] = {}

    async def send(self, channel: str, message: Any) -> None:
        self.queues.setdefault(channel, []).append(json.dumps(message))

    async def receive(self, channel: str) -> Any:
        return json.loads(self.queues[channel].pop(0))


@pytest.mark.parametrize("installed", [True, False])
async def test_a_layer_of_another_package_is_given_text(
    monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    if not installed:
        monkeypatch.setitem(sys.modules, "channels_redis.serializers", None)
    layer = make({"BACKEND": f"{__name__}.ForeignLayer"})
    await layer.send("channel", EVENT)
    assert "für" not in str(layer.queues)
    assert await received(layer, "channel") == EVENT


class Stamped(RedisChannelLayer):  # type: ignore[misc]
    """A project's own class, which carries what channels_redis does not."""

    def serialize(self, message: Any) -> bytes:
        if isinstance(message.get("when"), date):
            message = {**message, "when": message["when"].isoformat()}
        data: bytes = super().serialize(message)
        return data

    def deserialize(self, data: bytes) -> Any:
        message = super().deserialize(data)
        if "when" in message:
            message["when"] = date.fromisoformat(message["when"])
        return message


async def test_a_class_that_overrides_the_serializer_keeps_its_own(redis: Redis) -> None:
    layer = make({**core(redis.url), "BACKEND": f"{__name__}.Stamped"})
    event = {"type": "x", "when": date(2026, 2, 3)}
    await layer.send("channel", event)
    assert await received(layer, "channel") == event
    await layer.flush()


# Errors of the caller


@core_layers
@pytest.mark.parametrize("name", ["", "with space", "=+135!", "ü", "x" * 100, None, 5])
async def test_a_name_that_core_refuses_is_the_callers_error(two: Any, name: Any) -> None:
    layer, _ = two
    channel = await layer.new_channel()
    for call in (
        layer.send(name, EVENT),
        layer.receive(name),
        layer.group_send(name, EVENT),
        layer.group_add(name, channel),
        layer.group_add("room", name),
        layer.group_discard(name, channel),
        layer.group_discard("room", name),
    ):
        with pytest.raises(TypeError, match="name must be a valid"):
            await call
    with pytest.raises(TypeError, match="name must be a valid"):
        layer.group_name(name)


@one_core
async def test_receiving_on_another_process_s_channel_is_the_callers_error(two: Any) -> None:
    layer, other = two
    with pytest.raises(AssertionError, match="Wrong client prefix"):
        await layer.receive(await other.new_channel())


@pytest.mark.parametrize("two", [pubsub], indirect=True)
async def test_adding_another_process_s_channel_is_the_callers_error_with_pubsub(two: Any) -> None:
    layer, other = two
    with pytest.raises(RuntimeError, match="exist in-process"):
        await layer.group_add("room", await other.new_channel())


@core_layers
async def test_what_is_no_dictionary_is_the_callers_error(two: Any) -> None:
    layer, _ = two
    for call in (layer.send("channel", "text"), layer.group_send("room", ["a"])):
        with pytest.raises(AssertionError, match="not a dict"):
            await call


@redis_layers
async def test_what_the_serializer_does_not_know_is_the_callers_error(two: Any) -> None:
    layer, _ = two
    for call in (
        layer.send("channel", {"type": "x", "value": object()}),
        layer.group_send("room", {"type": "x", "value": object()}),
    ):
        with pytest.raises(TypeError):
            await call


async def test_a_mistake_in_the_settings_is_no_garbage(redis: Redis) -> None:
    config = core(redis.url)
    config["CONFIG"]["hosts"] = [{"address": redis.url, "no_such_option": 1}]
    layer = make(config)
    with pytest.raises(TypeError, match="no_such_option"):
        await received(layer, "channel")


@core_layers
async def test_a_full_channel_is_the_senders_error(two: Any) -> None:
    _, other = two
    for _ in range(100):
        await other.send("thumbnails", EVENT)
    with pytest.raises(ChannelFull):
        await other.send("thumbnails", EVENT)


# Channels of other processes


@core_layers
async def test_another_process_can_add_a_channel_to_a_group_and_remove_it(two: Any) -> None:
    layer, other = two
    channel = await layer.new_channel()
    await other.group_add("room", channel)
    await other.group_send("room", EVENT)
    assert await received(layer, channel) == EVENT
    await other.group_discard("room", channel)
    await other.group_send("room", EVENT)
    await other.send(channel, {"type": "last"})
    assert await received(layer, channel) == {"type": "last"}
    assert layer.dropped == 0


@one_core
async def test_a_full_channel_of_another_process_cannot_be_added_but_can_be_removed(
    two: Any, caplog: pytest.LogCaptureFixture
) -> None:
    layer, other = two
    channel = await layer.new_channel()
    await other.group_add("old", channel)
    for _ in range(99):
        await other.send(channel, EVENT)
    with pytest.raises(ChannelFull):
        await other.group_add("room", channel)
    await other.group_discard("old", channel)
    assert await other.connection(0).zcard(other._group_key(other.group_name("old"))) == 0
    assert "could not be told that it left" in caplog.text


@one_core
async def test_on_a_fixed_name_only_processes_that_called_group_add_deliver(
    two: Any, caplog: pytest.LogCaptureFixture
) -> None:
    layer, other = two
    await layer.group_add("jobs", "thumbnails")
    await layer.group_send("jobs", EVENT)
    assert await received(layer, "thumbnails") == EVENT

    await layer.group_send("jobs", EVENT)
    await layer.send("thumbnails", {"type": "last"})
    assert await received(other, "thumbnails") == {"type": "last"}
    assert other.dropped == 1
    assert "only processes that called group_add" in caplog.text


# Senders at once


@redis_layers
async def test_concurrent_senders_lose_nothing(two: Any) -> None:
    layer, other = two
    channel = await layer.new_channel()
    await layer.group_add("room", channel)
    arrived: Counter[int] = Counter()
    for begin in range(0, 300, 50):  # a channel of core holds 100
        numbers = range(begin, begin + 50)
        sends = (other.group_send("room", {"type": "x", "number": number}) for number in numbers)
        await asyncio.gather(*sends)
        for _ in numbers:
            arrived[(await received(layer, channel))["number"]] += 1
    assert arrived == Counter(range(300))
    assert layer.dropped == 0


@redis_layers
async def test_eight_threads_with_async_to_sync_lose_nothing(two: Any) -> None:
    layer, other = two
    channels = [await layer.new_channel() for _ in range(2)]
    for channel in channels:
        await layer.group_add("room", channel)
    failures: list[BaseException] = []

    def work(thread: int) -> None:
        try:
            for number in range(10):
                event = {"type": "x", "number": 10 * thread + number}
                async_to_sync(other.group_send)("room", event)
        except BaseException as error:  # noqa: BLE001 - shown by the test
            failures.append(error)

    threads = [threading.Thread(target=work, args=(each,)) for each in range(8)]
    for each in threads:
        each.start()
    for channel in channels:
        arrived = [(await received(layer, channel))["number"] for _ in range(80)]
        assert sorted(arrived) == list(range(80))
    for each in threads:
        each.join(60)
    assert failures == []
    assert layer.dropped == 0


@core_layers
async def test_eight_threads_add_and_remove_members_at_once(two: Any) -> None:
    layer, _ = two
    failures: list[BaseException] = []

    def work(thread: int) -> None:
        try:
            for number in range(10):
                channel = async_to_sync(layer.new_channel)()
                async_to_sync(layer.group_add)(f"room{number}", channel)
                async_to_sync(layer.group_discard)(f"room{number}", channel)
        except BaseException as error:  # noqa: BLE001 - shown by the test
            failures.append(error)

    threads = [threading.Thread(target=work, args=(each,)) for each in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        await asyncio.to_thread(each.join, 60)
    assert failures == []


@pytest.mark.parametrize("targets", [3, 10])
def test_no_two_messages_of_a_process_share_a_number(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, targets: int
) -> None:
    monkeypatch.setattr(sealing, "MAX_TARGETS", targets)
    switch_interval = sys.getswitchinterval()
    request.addfinalizer(lambda: sys.setswitchinterval(switch_interval))
    sys.setswitchinterval(1e-6)  # threads take turns as often as they can
    sent: list[bytes] = []

    async def carry(name: str, message: Any) -> None:
        sent.append(message["data"])

    ours = [make(make_layer("redis://127.0.0.1:1")) for make_layer in (core, core, pubsub, core)]
    for each in ours:
        monkeypatch.setattr(each.inner, "group_send", carry, raising=False)

    def work(layer: Any) -> None:
        for number in range(1000):
            with pytest.raises(StopIteration):  # it waits for nothing, so this is all of it
                layer.group_send(f"room{number % 5}", EVENT).send(None)

    threads = [threading.Thread(target=work, args=(each,)) for each in ours]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    serials = {data[17:41] for data in sent}  # sender and serial number: key and nonce
    numbers = {data[1:33] + data[41:49] for data in sent}  # target, sender and number
    assert len(sent) == len(serials) == len(numbers) == 4000
    senders = {data[17:33] for data in sent}
    assert (len(senders) > 100) == (targets == 3)  # it begins anew for the fourth of five groups


def test_a_forked_process_is_a_sender_of_its_own(redis: Redis) -> None:
    layer = make(core(redis.url))

    async def send() -> bytes:
        carried: list[bytes] = []
        original = layer.inner.send

        async def carry(channel: str, message: Any) -> None:
            carried.append(message["data"])
            await original(channel, message)

        layer.inner.send = carry
        await layer.send("from.both", EVENT)
        layer.inner.send = original
        return carried[0]

    ours = asyncio.run(send())
    read, write = os.pipe()
    lock = sealing._lock
    lock.acquire()  # as another thread of the parent may have it
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(int(PATIENCE))  # rather than wait for a lock that nobody has
            os.write(write, asyncio.run(send()))
        finally:
            os._exit(0)
    lock.release()
    os.waitpid(pid, 0)
    os.close(write)
    theirs = os.read(read, 1000)
    os.close(read)
    assert theirs[1:17] == ours[1:17]
    assert theirs[17:33] != ours[17:33]

    async def hear() -> list[Any]:
        heard = [await received(layer, "from.both") for _ in range(2)]
        await layer.flush()
        return heard

    assert asyncio.run(hear()) == [EVENT, EVENT]


# Rotation of the passphrase

OLD, NEW = "the old passphrase " * 3, "the new passphrase " * 3


class Process:
    """A process with its own settings: a layer, used under one value of GCRYPT_PASSPHRASE."""

    def __init__(self, config: Any) -> None:
        self.layer = make(config)

    async def run(self, passphrases: list[str], name: str, *arguments: Any) -> Any:
        with override_settings(GCRYPT_PASSPHRASE=passphrases):
            return await getattr(self.layer, name)(*arguments)

    async def hear(self, passphrases: list[str], channel: str) -> Any:
        with override_settings(GCRYPT_PASSPHRASE=passphrases):
            return await received(self.layer, channel)


@pytest.mark.parametrize("layer", REDIS_LAYERS)
@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param([OLD], [OLD, NEW], id="the new one is added"),
        pytest.param([OLD, NEW], [NEW, OLD], id="the new one becomes the first"),
        pytest.param([NEW, OLD], [NEW], id="the old one is removed"),
    ],
)
async def test_each_step_of_a_rotation_can_be_deployed_worker_by_worker(
    redis: Redis, layer: Make, before: list[str], after: list[str]
) -> None:
    workers = {"before": Process(layer(redis.url)), "after": Process(layer(redis.url))}
    settings = {"before": before, "after": after}
    channels = {}
    for age, worker in workers.items():
        channels[age] = await worker.run(settings[age], "new_channel")
        await worker.run(settings[age], "group_add", "room", channels[age])
    for age, worker in workers.items():
        await worker.run(settings[age], "group_send", "room", {"type": "group", "from": age})
        for each in workers:
            await worker.run(settings[age], "send", channels[each], {"type": "direct", "from": age})
    for age, worker in workers.items():
        heard = [await worker.hear(settings[age], channels[age]) for _ in range(4)]
        told = Counter((each["type"], each["from"]) for each in heard)
        assert told == Counter(
            {(kind, sender): 1 for kind in ("group", "direct") for sender in workers}
        )
        assert worker.layer.dropped == 0
    for age, worker in workers.items():
        await worker.run(settings[age], "group_discard", "room", channels[age])
        await worker.run(settings[age], "flush")


@pytest.mark.parametrize("layer", [core, core_json])
async def test_a_grant_is_understood_during_a_rotation(redis: Redis, layer: Make) -> None:
    old, new = Process(layer(redis.url)), Process(layer(redis.url))
    channel = await old.run([OLD, NEW], "new_channel")
    await new.run([NEW, OLD], "group_add", "room", channel)
    await new.run([NEW, OLD], "group_send", "room", EVENT)
    await old.run([OLD, NEW], "group_send", "room", EVENT)
    assert await old.hear([OLD, NEW], channel) == EVENT
    assert await old.hear([OLD, NEW], channel) == EVENT
    await old.run([OLD, NEW], "flush")
    await new.run([NEW, OLD], "flush")


# What Redis sees

SECRETS = ("geheim", "chat.message", "Treffpunkt")


@pytest.mark.parametrize("layer", REDIS_LAYERS)
async def test_redis_sees_no_message_and_no_name_of_a_group(redis: Redis, layer: Make) -> None:
    async def converse(config: Any) -> str:
        process, other = make(config), make(config)
        async with Monitor(redis) as monitor:
            channel = await process.new_channel()
            await process.group_add("geheim", channel)
            if layer is not pubsub:
                await other.group_add("geheim", channel)
            await other.group_send("geheim", {"type": "chat.message", "text": "Treffpunkt"})
            await other.send(channel, {"type": "chat.message", "text": "Treffpunkt"})
            for _ in range(2):
                assert (await received(process, channel))["text"] == "Treffpunkt"
            await process.group_discard("geheim", channel)
        await process.flush()
        await other.flush()
        return monitor.text

    assert not [each for each in SECRETS if each in await converse(layer(redis.url))]


@pytest.mark.parametrize("layer", REDIS_LAYERS)
async def test_without_it_redis_sees_both(redis: Redis, layer: Make) -> None:
    """Proves that the test above can see."""
    process = make(layer(redis.url)).inner
    async with Monitor(redis) as monitor:
        channel = await process.new_channel()
        await process.group_add("geheim", channel)
        await process.group_send("geheim", {"type": "chat.message", "text": "Treffpunkt"})
        await received(process, channel)
    await process.flush()
    assert all(each in monitor.text for each in SECRETS)


@pytest.mark.parametrize("layer", REDIS_LAYERS)
async def test_two_prefixes_on_one_redis_are_two_layers(redis: Redis, layer: Make) -> None:
    configs = [layer(redis.url), layer(redis.url)]
    for config, prefix in zip(configs, ("one", "two"), strict=True):
        config["CONFIG"]["prefix"] = prefix
    one, two = (make(config) for config in configs)
    assert one.group_name("room") != two.group_name("room")
    channel, other = await one.new_channel(), await two.new_channel()
    await one.group_add("room", channel)
    await two.group_add("room", other)
    await two.group_send("room", EVENT)
    await one.group_send("room", {"type": "mine"})
    assert await received(one, channel) == {"type": "mine"}
    assert await received(two, other) == EVENT
    await one.flush()
    await two.flush()


# Receiving as Channels does it


@redis_layers
async def test_a_receive_that_is_cancelled_loses_neither_memberships_nor_messages(
    two: Any,
) -> None:
    layer, other = two
    channel = await layer.new_channel()
    await layer.group_add("room", channel)
    waiting = asyncio.create_task(layer.receive(channel))
    await asyncio.sleep(0)  # it begins
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    hearing = asyncio.create_task(layer.receive(channel))
    await asyncio.sleep(0)  # it begins
    await other.group_send("room", EVENT)
    assert await asyncio.wait_for(hearing, PATIENCE) == EVENT


@pytest.mark.parametrize("two", [pubsub], indirect=True)
async def test_pubsub_carries_what_is_no_dictionary_as_it_does_without(two: Any) -> None:
    layer, other = two
    channel = await layer.new_channel()
    await other.send(channel, "text")
    await other.send(channel, None)
    assert await received(layer, channel) == "text"
    assert await received(layer, channel) is None
