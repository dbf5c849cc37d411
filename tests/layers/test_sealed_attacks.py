"""`SealedChannelLayer`: what somebody who can write to Redis can make of it, and what he cannot.

The attacker is a plain layer on the same Redis, with the same prefix: he sends whatever he likes to
any channel, and he has recorded what went by.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgpack
import pytest
from channels.consumer import AsyncConsumer
from channels.layers import channel_layers
from redis import asyncio as aioredis

from gcrypt_channels.asynctasks import end_task
from gcrypt_channels.layers import sealed as sealing
from tests.channel_layers import REDIS_LAYERS, core, core_json, pubsub
from tests.clock import SECOND, SteadyClock
from tests.layers.redis_traffic import PATIENCE, make, received, tap
from tests.servers import Redis

Make = Callable[[str], Any]

EVENT = {"type": "chat.message", "text": "genuine"}
LAST = {"type": "last"}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SteadyClock:
    stopped = SteadyClock()
    monkeypatch.setattr(sealing, "time", stopped)
    return stopped


class Scene:
    """A process, another one, and the attacker between them."""

    def __init__(self, config: Any) -> None:
        self.layer = make(config)
        self.other = make(config)
        self.attacker = make(config).inner
        self.recorded = tap(self.other)

    async def member(self, *groups: str) -> str:
        channel: str = await self.layer.new_channel()
        for group in groups:
            await self.layer.group_add(group, channel)
        return channel

    async def genuine(self, group: str = "room", event: Any = EVENT) -> Any:
        """What went to the layer inside for a genuine group message."""
        await self.other.group_send(group, event)
        return self.recorded[-1]

    async def genuine_to(self, channel: str, event: Any = EVENT) -> Any:
        await self.other.send(channel, event)
        return self.recorded[-1]

    async def only_last_arrives(self, channel: str) -> None:
        """What the attacker has sent reaches nobody, and what comes after it does."""
        await self.other.send(channel, LAST)
        assert await received(self.layer, channel) == LAST

    async def close(self) -> None:
        for each in (self.layer, self.other, self.attacker):
            await each.flush()


@pytest.fixture(params=REDIS_LAYERS)
async def scene(request: pytest.FixtureRequest, redis: Redis) -> AsyncIterator[Scene]:
    acted = Scene(request.param(redis.url))
    yield acted
    await acted.close()


@pytest.fixture(params=[core, core_json])
async def core_scene(request: pytest.FixtureRequest, redis: Redis) -> AsyncIterator[Scene]:
    acted = Scene(request.param(redis.url))
    yield acted
    await acted.close()


def data_of(message: Any) -> bytes:
    data: bytes | str = message["data"]
    return base64.b64decode(data) if isinstance(data, str) else data


def with_data(message: Any, data: bytes) -> Any:
    as_text = isinstance(message["data"], str)
    return {**message, "data": base64.b64encode(data).decode() if as_text else data}


# Forging


async def test_plaintext_reaches_no_handler(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    channel = await scene.member("room")
    await scene.attacker.send(channel, {"type": "chat.message", "text": "forged"})
    await scene.only_last_arrives(channel)
    assert scene.layer.dropped == 1
    assert "it is not sealed" in caplog.text


@pytest.mark.parametrize("position", [0, 1, 16, 17, 33, 40, 41, 48, 49, 56, 57, -17, -16, -1])
async def test_a_message_with_a_flipped_bit_reaches_no_handler(scene: Scene, position: int) -> None:
    channel = await scene.member("room")
    message = await scene.genuine()
    assert await received(scene.layer, channel) == EVENT
    data = bytearray(data_of(message))
    data[position] ^= 1
    await scene.attacker.send(channel, with_data(message, bytes(data)))
    await scene.only_last_arrives(channel)
    assert scene.layer.dropped == 1


async def test_a_message_that_is_cut_off_reaches_no_handler(scene: Scene) -> None:
    channel = await scene.member("room")
    message = await scene.genuine()
    assert await received(scene.layer, channel) == EVENT
    data = data_of(message)
    for end in (0, 1, 56, 57, 72, 73, len(data) - 1):
        await scene.attacker.send(channel, with_data(message, data[:end]))
    await scene.only_last_arrives(channel)
    assert scene.layer.dropped == 7


async def test_a_message_under_another_passphrase_reaches_no_handler(
    scene: Scene, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    channel = await scene.member("room")
    own = settings.GCRYPT_PASSPHRASE
    settings.GCRYPT_PASSPHRASE = "a passphrase of another project " * 2
    await scene.genuine_to(channel)
    settings.GCRYPT_PASSPHRASE = own
    await scene.only_last_arrives(channel)
    assert "no passphrase of GCRYPT_PASSPHRASE opens it" in caplog.text


# Redirecting


async def test_a_direct_message_is_delivered_on_its_channel_alone(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    channel, victim = await scene.member(), await scene.member()
    message = await scene.genuine_to(channel)
    await scene.attacker.send(victim, message)
    await scene.only_last_arrives(victim)
    assert await received(scene.layer, channel) == EVENT
    assert "it was sent to another channel" in caplog.text


async def test_a_group_message_is_delivered_to_members_alone(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    member, stranger = await scene.member("room"), await scene.member("other")
    message = await scene.genuine()
    await scene.attacker.send(stranger, message)
    await scene.only_last_arrives(stranger)
    assert await received(scene.layer, member) == EVENT
    assert "does not know the channel as a member" in caplog.text


async def test_a_membership_made_in_redis_counts_for_nothing(core_scene: Scene) -> None:
    scene = core_scene
    stranger = await scene.member()
    await scene.attacker.group_add(scene.other.group_name("room"), stranger)
    await scene.genuine()
    await scene.only_last_arrives(stranger)
    assert scene.layer.dropped == 1


async def test_a_grant_for_one_channel_makes_no_other_a_member(core_scene: Scene) -> None:
    scene = core_scene
    granted, stranger = await scene.member(), await scene.member()
    await scene.other.group_add("room", granted)
    grant = scene.recorded[0]
    await scene.attacker.send(stranger, grant)
    await scene.attacker.group_add(scene.other.group_name("room"), stranger)
    await scene.genuine()
    assert await received(scene.layer, granted) == EVENT
    await scene.only_last_arrives(stranger)
    assert scene.layer.dropped == 2


async def test_a_grant_that_was_taken_back_cannot_be_repeated(core_scene: Scene) -> None:
    scene = core_scene
    channel = await scene.member()
    await scene.other.group_add("room", channel)
    grant = scene.recorded[0]
    await scene.other.group_discard("room", channel)
    await scene.only_last_arrives(channel)
    await scene.attacker.send(channel, grant)
    await scene.attacker.group_add(scene.other.group_name("room"), channel)
    await scene.genuine()
    await scene.only_last_arrives(channel)
    assert scene.layer.dropped == 1  # the grant; the message may have been on its way


async def test_a_message_of_one_prefix_is_none_of_another(redis: Redis) -> None:
    config = core(redis.url)
    config["CONFIG"]["prefix"] = "other"
    scene = Scene(core(redis.url))
    neighbours = make(config)
    taps = tap(neighbours)
    channel = await scene.member("room")
    await neighbours.group_send("room", EVENT)
    await neighbours.send(channel, EVENT)
    for message in taps:
        await scene.attacker.send(channel, message)
    await scene.only_last_arrives(channel)
    assert scene.layer.dropped == 2
    await neighbours.flush()
    await scene.close()


async def test_a_group_and_a_channel_of_one_name_are_two_targets(core_scene: Scene) -> None:
    scene = core_scene
    await scene.layer.group_add("jobs", "jobs")
    direct = await scene.genuine_to("jobs")
    assert await received(scene.layer, "jobs") == EVENT
    group = await scene.genuine("jobs")
    assert await received(scene.layer, "jobs") == EVENT
    assert data_of(direct)[1:17] != data_of(group)[1:17]


# Repeating


async def test_a_message_is_delivered_once(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    channel = await scene.member("room")
    messages = [await scene.genuine(), await scene.genuine_to(channel)]
    for _ in messages:
        assert await received(scene.layer, channel) == EVENT
    for message in messages * 3:
        await scene.attacker.send(channel, message)
    await scene.only_last_arrives(channel)
    assert scene.layer.dropped == 6
    assert "it arrived before" in caplog.text


async def test_a_message_is_delivered_once_whatever_text_carries_it(redis: Redis) -> None:
    """Base64 has several spellings of the same bytes."""
    scene = Scene(core_json(redis.url))
    channel = await scene.member("room")
    data, message = "", {}
    while not data.endswith("="):  # a length whose last character has bits to spare
        message = await scene.genuine(event={**EVENT, "text": "x" * len(scene.recorded)})
        data = message["data"]
        await received(scene.layer, channel)
    stem, padding = data.rstrip("="), "=" * (len(data) - len(data.rstrip("=")))
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = alphabet[alphabet.index(stem[-1]) + 1]
    respelt = stem[:-1] + other + padding
    assert base64.b64decode(respelt) == base64.b64decode(data)
    await scene.attacker.send(channel, {**message, "data": respelt})
    await scene.only_last_arrives(channel)
    assert scene.layer.dropped == 1
    await scene.close()


async def test_messages_may_overtake_each_other_within_the_window(redis: Redis) -> None:
    scene = Scene(pubsub(redis.url))
    channel = await scene.member("room")
    messages = [await scene.genuine(event={"number": number}) for number in range(6)]
    for number in range(6):
        assert await received(scene.layer, channel) == {"number": number}
    late = await scene.member("room")
    for number in (5, 0, 3, 1, 3, 4, 0, 2, 5):
        await scene.attacker.send(late, messages[number])
    await scene.other.send(late, LAST)
    heard = [await received(scene.layer, late) for _ in range(7)]
    assert heard == [{"number": number} for number in (5, 0, 3, 1, 4, 2)] + [LAST]
    assert scene.layer.dropped == 3
    await scene.close()


# Delaying


@pytest.mark.parametrize(
    ("delay", "arrives"), [(61.9, True), (62.1, False), (-61.9, True), (-62.1, False)]
)
async def test_a_message_is_not_delivered_after_the_expiry_and_two_seconds(
    scene: Scene, clock: SteadyClock, delay: float, arrives: bool
) -> None:
    channel = await scene.member("room")
    for message in (await scene.genuine(), await scene.genuine_to(channel)):
        assert message
    if delay > 0:
        clock.pass_seconds(delay)
    else:  # the sender's clock is fast
        clock.set_back(-delay)
    await scene.other.send(channel, LAST)
    heard = [await received(scene.layer, channel) for _ in range(3 if arrives else 1)]
    assert heard == ([EVENT, EVENT, LAST] if arrives else [LAST])
    assert scene.layer.dropped == (0 if arrives else 2)


async def test_the_expiry_is_that_of_the_layer_inside(redis: Redis, clock: SteadyClock) -> None:
    config = core(redis.url)
    config["CONFIG"]["expiry"] = 10
    scene = Scene(config)
    channel = await scene.member()
    await scene.genuine_to(channel)
    clock.pass_seconds(12.1)
    await scene.only_last_arrives(channel)
    await scene.close()


@pytest.mark.parametrize(("earlier", "arrives"), [(1.9, True), (2.1, False)])
async def test_a_group_message_from_before_the_join_is_not_delivered(
    scene: Scene,
    clock: SteadyClock,
    earlier: float,
    arrives: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    message = await scene.genuine()
    clock.pass_seconds(earlier)
    channel = await scene.member("room")
    clock.pass_seconds(20)
    await scene.attacker.send(channel, message)
    await scene.other.send(channel, LAST)
    assert await received(scene.layer, channel) == (EVENT if arrives else LAST)
    assert ("sent before the channel joined" in caplog.text) is not arrives


async def test_joining_again_loses_nothing(scene: Scene, clock: SteadyClock) -> None:
    channel = await scene.member("room")
    clock.pass_seconds(10)
    await scene.genuine()
    clock.pass_seconds(10)
    await scene.layer.group_add("room", channel)
    assert await received(scene.layer, channel) == EVENT


async def test_a_group_message_from_before_a_grant_is_not_delivered(
    core_scene: Scene, clock: SteadyClock
) -> None:
    scene = core_scene
    message = await scene.genuine()
    clock.pass_seconds(2.1)
    channel = await scene.member()
    await scene.other.group_add("room", channel)
    await scene.attacker.send(channel, message)
    await scene.only_last_arrives(channel)
    assert scene.layer.dropped == 1


async def test_what_was_on_its_way_when_a_group_was_left_is_not_counted(
    scene: Scene, clock: SteadyClock
) -> None:
    channel = await scene.member("room")
    message = await scene.genuine()
    await scene.layer.group_discard("room", channel)
    await scene.only_last_arrives(channel)
    assert scene.layer.dropped == 0
    await scene.attacker.send(channel, message)
    await scene.only_last_arrives(channel)
    assert scene.layer.dropped == 0
    clock.pass_seconds(63)
    await scene.attacker.send(channel, await scene.genuine())
    await scene.only_last_arrives(channel)
    assert scene.layer.dropped == 1


# Clocks that are set


async def test_a_clock_that_is_set_back_loses_nothing(scene: Scene, clock: SteadyClock) -> None:
    channel = await scene.member("room")
    await scene.genuine(event={"number": 0})
    assert await received(scene.layer, channel) == {"number": 0}
    clock.set_back(3600)
    for number in (1, 2):
        await scene.genuine(event={"number": number})
        assert await received(scene.layer, channel) == {"number": number}
    clock.pass_seconds(3700)
    await scene.genuine(event={"number": 3})
    assert await received(scene.layer, channel) == {"number": 3}
    assert scene.layer.dropped == 0


async def test_a_clock_that_is_set_back_lets_nothing_be_repeated(
    scene: Scene, clock: SteadyClock
) -> None:
    channel = await scene.member("room")
    message = await scene.genuine()
    assert await received(scene.layer, channel) == EVENT
    for forward in (0, 30, 3600):  # a clock that jumps, and is then corrected
        clock.now += forward * SECOND
        for group in range(4):  # others come and go meanwhile
            await scene.layer.group_add(f"group{forward}.{group}", channel)
            await scene.genuine(f"group{forward}.{group}")
            assert await received(scene.layer, channel) == EVENT
        clock.set_back(forward)
        await scene.attacker.send(channel, message)
        await scene.only_last_arrives(channel)
    assert scene.layer.dropped == 3


# Garbage

SHAPES: list[Any] = [
    {},
    {"type": "gcrypt.sealed"},
    {"type": "gcrypt.sealed", "data": None},
    {"type": "gcrypt.sealed", "data": 5},
    {"type": "gcrypt.sealed", "data": [1]},
    {"type": "gcrypt.sealed", "data": {"a": 1}},
    {"type": "gcrypt.sealed", "data": ""},
    {"type": "gcrypt.sealed", "data": "ü"},
    {"type": "gcrypt.sealed", "data": "not base64"},
    {"type": "gcrypt.sealed", "data": "A" * 200},
    {"type": ["gcrypt.sealed"], "data": "A" * 200},
    {"type": None},
]
NO_DICTIONARIES: list[Any] = [None, 5, "text", "__asgi_channel__", [], ["__asgi_channel__"], True]
ADDRESSES: list[Any] = [None, 5, {}, [5], [[]], [{}], [None], {"a": 1}]


@pytest.mark.parametrize("make_config", [core, pubsub])
async def test_what_its_own_serializer_cannot_read_back_ends_no_consumer(
    redis: Redis, make_config: Make
) -> None:
    scene = Scene(make_config(redis.url))
    channel = await scene.member("room")
    await scene.genuine(event={"type": "chat.message", 1: "msgpack writes this key alone"})
    await scene.only_last_arrives(channel)
    assert scene.layer.dropped == 1
    await scene.close()


async def test_no_shape_of_a_message_leaves_receive(scene: Scene) -> None:
    channel = await scene.member("room")
    for shape in SHAPES:
        await scene.attacker.send(channel, shape)
    await scene.only_last_arrives(channel)
    assert scene.layer.dropped == len(SHAPES)


def garbage(packed: Callable[[Any], bytes]) -> list[bytes]:
    return [
        b"",
        b"\xff",
        b"\xc1",
        b"{",
        b"[" * 100_000,
        b"\x91" * 100_000,
        bytes(range(256)),
        packed({1: 2}),
        *[packed(each) for each in NO_DICTIONARIES],
        *[packed({"type": "x", "__asgi_channel__": each}) for each in ADDRESSES],
    ]


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


KEYS = ["a symmetric key for the tests"]


@pytest.mark.parametrize("keys", [None, KEYS], ids=["", "symmetric keys"])
@pytest.mark.parametrize(("make_config", "packed"), [(core, msgpack.packb), (core_json, as_json)])
@pytest.mark.parametrize("fixed", [False, True], ids=["own channel", "fixed name"])
async def test_no_bytes_in_redis_leave_receive_with_core(
    redis: Redis, make_config: Make, packed: Callable[[Any], bytes], fixed: bool, keys: Any
) -> None:
    config = make_config(redis.url)
    config["CONFIG"]["symmetric_encryption_keys"] = keys
    scene = Scene(config)
    channel = "thumbnails" if fixed else await scene.member()
    bystander = await scene.member()
    now = time.time()
    async with aioredis.Redis.from_url(redis.url) as client:
        name = "asgi" + channel.partition("!")[0] + ("" if fixed else "!")
        for number, each in enumerate(garbage(packed)):
            # Behind a prefix of 12 bytes, and before what is sent later.
            await client.zadd(name, {b"%012d" % number + each: now - 1 + number / 1000})
    hearing = asyncio.create_task(received(scene.layer, bystander))
    await scene.only_last_arrives(channel)
    await scene.other.send(bystander, EVENT)
    assert await hearing == EVENT
    assert scene.layer.dropped > 5
    await scene.close()


@pytest.mark.parametrize("keys", [None, KEYS], ids=["", "symmetric keys"])
async def test_no_bytes_in_redis_leave_receive_with_pubsub(redis: Redis, keys: Any) -> None:
    config = pubsub(redis.url)
    config["CONFIG"]["symmetric_encryption_keys"] = keys
    scene = Scene(config)
    channel = await scene.member("room")
    sent = garbage(msgpack.packb)
    async with aioredis.Redis.from_url(redis.url) as client:
        for each in sent:
            await client.publish(channel, each)
    await scene.only_last_arrives(channel)
    assert scene.layer.dropped == len(sent)
    await scene.close()


@pytest.mark.django_db(transaction=True)  # Channels looks after its connections
async def test_garbage_ends_no_consumer(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    class Listener(AsyncConsumer):
        async def bench_start(self, event: Any) -> None:
            await scene.layer.group_add("room", self.channel_name)
            started.set_result(self.channel_name)

        async def chat_message(self, event: Any) -> None:
            heard.set_result(event)

    loop = asyncio.get_running_loop()
    started, heard = loop.create_future(), loop.create_future()
    events: asyncio.Queue[Any] = asyncio.Queue()
    events.put_nowait({"type": "bench.start"})
    monkeypatch.setitem(channel_layers.backends, "default", scene.layer)
    application: Any = Listener.as_asgi()
    running = asyncio.create_task(application({"type": "x"}, events.get, events.put))
    await asyncio.wait([running, started], timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
    channel = started.result()
    for shape in [{"type": "chat.message", "text": "forged"}, *SHAPES]:
        await scene.attacker.send(channel, shape)
    await scene.genuine()
    assert await asyncio.wait_for(heard, PATIENCE) == EVENT
    await end_task(running)  # a layer may swallow the first cancellation


# What the log says


async def test_each_cause_is_logged_once_a_minute_and_counted(
    scene: Scene, clock: SteadyClock, caplog: pytest.LogCaptureFixture
) -> None:
    channel = await scene.member("room")

    async def attack() -> None:
        for _ in range(5):
            await scene.attacker.send(channel, {"type": "chat.message", "text": "forged"})
            await scene.attacker.send(channel, {"type": "gcrypt.sealed", "data": "garbage"})
        await scene.only_last_arrives(channel)

    def lines() -> list[str]:
        records = [each for each in caplog.records if each.name == sealing.logger.name]
        assert all(each.levelno == logging.WARNING for each in records)
        return [each.getMessage() for each in records]

    await attack()
    assert len(lines()) == 2
    assert channel in lines()[0]
    await attack()
    assert len(lines()) == 2
    clock.pass_seconds(60)
    await attack()
    assert len(lines()) == 4
    assert "21 dropped" in lines()[2]
    assert not [each for each in lines() if "forged" in each]


async def test_the_layer_shows_no_secret(scene: Scene, settings: Any) -> None:
    await scene.genuine()
    shown = repr(scene.layer) + str(scene.layer)
    assert settings.GCRYPT_PASSPHRASE not in shown
    assert "redis://" not in shown
