from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest
from channels.layers import channel_layers, get_channel_layer

from gcrypt_channels import groups
from gcrypt_channels.connection.connection import Connection
from gcrypt_channels.exceptions import LocalError, TryAgainLater
from gcrypt_channels.hub import hub, subscription
from gcrypt_channels.hub.hub import Hub, current_hub
from gcrypt_channels.layers import sender
from gcrypt_channels.layers.envelope import CONTROL_GROUP, MessageKind, layer_group
from gcrypt_channels.layers.sender import Sender
from gcrypt_channels.sessions.login import NOBODY
from tests.channel_layers import LAYERS, REDIS_LAYERS, Config
from tests.clock import SECOND, Clock
from tests.servers import Redis

DEADLINE = 20.0  # seconds; only a failing test waits as long


class Member:
    """Stands in for a connection: records what the hub hands it."""

    closed = False
    path = "/"

    def __init__(self, session_id: str = "", user_id: str = "") -> None:
        self.session_id = session_id
        self.user_id = user_id
        self.login = NOBODY
        self.groups: dict[str, tuple[Any, ...]] = {}
        self.got: list[tuple[Any, ...]] = []
        self._arrived = asyncio.Event()

    def push(self, group: str, text: str, size: int) -> bool:
        self._record("push", group, text, size)
        return True

    def deliver(self, group: str, event: dict[str, Any]) -> None:
        self._record("deliver", group, event)

    def tell_gap(self, group: str, missed: int) -> None:
        self._record("gap", group, missed)

    def abort(self, code: int, reason: str) -> None:
        self._record("abort", code, reason)

    def _record(self, *entry: Any) -> None:
        self.got.append(entry)
        self._arrived.set()

    async def until(self, count: int) -> list[tuple[Any, ...]]:
        """Wait for `count` entries, and return them all."""

        async def enough() -> None:
            while len(self.got) < count:
                self._arrived.clear()
                await self._arrived.wait()

        await asyncio.wait_for(enough(), DEADLINE)
        return self.got


def as_connection(member: Member) -> Connection:
    return cast("Connection", member)


class Process:
    """One server process: a hub, and a channel layer that it shares with nobody here."""

    def __init__(self, layer: Any) -> None:
        self.layer = layer
        self.hub = Hub()
        self.peer = Sender(asyncio.get_running_loop())

    async def connect(self, *joins: str, session_id: str = "", user_id: str = "") -> Member:
        member = Member(session_id, user_id)
        before = channel_layers.set("default", self.layer)
        await self.hub.add(as_connection(member))
        if before is not None:
            channel_layers.set("default", before)
        await self.hub.join_user(as_connection(member))
        for group in joins:
            await self.join(member, group)
        return member

    async def join(self, member: Member, group: str) -> None:
        await self.hub.join(as_connection(member), group)

    async def leave(self, member: Member, group: str) -> None:
        await self.hub.leave(as_connection(member), group)

    async def disconnect(self, *members: Member) -> None:
        for member in members:
            await self.hub.discard(as_connection(member))


@pytest.fixture(params=LAYERS)
def layer_config(request: pytest.FixtureRequest, redis: Redis, settings: Any) -> Config:
    config: Config = request.param(redis.url)
    settings.CHANNEL_LAYERS = {"default": config}
    return config


@pytest.fixture
async def process(layer_config: Config) -> AsyncIterator[Process]:
    process = Process(get_channel_layer())
    yield process
    assert not process.hub.members.connections, "the test left connections behind"


async def group_members(process: Process, group: str) -> int:
    """How many channels the layer knows in a group."""
    name = layer_group(group)
    if hasattr(process.layer, "client_prefix"):  # the core layer keeps them in Redis
        return int(await process.layer.connection(0).zcard(process.layer._group_key(name)))
    if isinstance(process.layer.groups, dict) and name in process.layer.groups:
        return len(process.layer.groups[name])
    return len(process.layer.groups.get(f"asgi__group__{name}", ()))


# The members


async def test_no_trace_is_left_of_a_connection(process: Process) -> None:
    one = await process.connect("room", "hall", session_id="s", user_id="1")
    two = await process.connect("room", session_id="s", user_id="1")
    three = await process.connect(session_id="t")
    registry: Any = process.hub.members
    assert registry.connections == {one, two, three}
    assert registry.by_session == {"s": {one, two}, "t": {three}}
    assert registry.by_user == {"1": {one, two}}
    assert {group: set(found) for group, found in registry.by_group.items()} == {
        "gcrypt.user.1": {one, two},
        "room": {one, two},
        "hall": {one},
    }
    assert set(one.groups) == {"room", "hall", "gcrypt.user.1"}
    await process.disconnect(one, three)
    assert set(registry.by_group) == {"gcrypt.user.1", "room"}
    assert registry.by_session == {"s": {two}}
    await process.disconnect(two)
    assert not registry.by_session
    assert not registry.by_user
    assert not registry.by_group
    assert set(process.hub._tags.values()) == {CONTROL_GROUP}
    assert not process.hub._locks._locks


async def test_the_subscription_lives_from_the_first_connection_to_the_last(
    process: Process,
) -> None:
    for _ in range(2):
        before = asyncio.all_tasks()
        one = await process.connect("room")
        assert await group_members(process, CONTROL_GROUP) == 1
        assert await group_members(process, "room") == 1
        two = await process.connect("room")
        await process.disconnect(one)
        assert await group_members(process, "room") == 1
        await process.disconnect(two)
        assert await group_members(process, "room") == 0
        assert await group_members(process, CONTROL_GROUP) == 0
        left = {task for task in asyncio.all_tasks() - before if "gcrypt" in repr(task.get_coro())}
        assert not left


async def test_joining_and_leaving_at_once_leaves_the_layer_as_the_hub_is(
    process: Process,
) -> None:
    members = [await process.connect() for _ in range(10)]
    for _ in range(5):
        await asyncio.gather(
            *(process.join(member, "room") for member in members),
            *(process.leave(member, "room") for member in members[:5]),
            *(process.join(member, "room") for member in members[:2]),
        )
        assert (
            await group_members(process, "room") == int("room" in process.hub.members.by_group) == 1
        )
        await asyncio.gather(*(process.leave(member, "room") for member in members))
        assert await group_members(process, "room") == 0
        assert "room" not in process.hub.members.by_group
    await process.disconnect(*members)


async def test_a_connection_that_ends_while_it_joins_is_no_member(process: Process) -> None:
    stays, goes = await process.connect(), await process.connect()
    joining = asyncio.ensure_future(process.join(goes, "room"))
    await asyncio.sleep(0)
    await process.disconnect(goes)
    await joining
    assert "room" not in process.hub.members.by_group
    assert set(goes.groups) == set()
    assert await group_members(process, "room") == 0
    await process.disconnect(stays)


@pytest.mark.parametrize("group", ["", "gcrypt.control", "gcrypt.user.1"])
async def test_the_packages_own_groups_cannot_be_joined(process: Process, group: str) -> None:
    member = await process.connect()
    with pytest.raises(LocalError):
        await process.join(member, group)
    with pytest.raises(LocalError):
        await process.leave(member, group)
    await process.disconnect(member)


# Delivery


async def test_a_message_reaches_the_members_of_its_group_and_nobody_else(
    process: Process,
) -> None:
    one, two = await process.connect("room"), await process.connect("room", "hall")
    other = await process.connect("hall")
    await groups.broadcast("room", {"text": "grüß dich"})
    await groups.group_send("hall", {"type": "chat.message", "n": 1})
    pushed = ("push", "room", '{"text":"grüß dich"}', 22)
    delivered = ("deliver", "hall", {"type": "chat.message", "n": 1})
    assert await one.until(1) == [pushed]
    assert await other.until(1) == [delivered]
    assert await two.until(2) == [pushed, delivered]
    await process.disconnect(one, two, other)


async def test_each_consumer_gets_an_event_of_its_own(process: Process) -> None:
    one, two = await process.connect("room"), await process.connect("room")
    await groups.group_send("room", {"type": "chat.message", "list": []})
    await one.until(1)
    one.got[0][2]["list"].append("changed")
    assert (await two.until(1))[0][2] == {"type": "chat.message", "list": []}
    await process.disconnect(one, two)


async def test_messages_arrive_in_the_order_in_which_they_were_sent(process: Process) -> None:
    member = await process.connect("room")
    for start in range(0, 200, 20):
        await asyncio.gather(
            *(groups.broadcast("room", number) for number in range(start, start + 20))
        )
        await member.until(start + 20)
    assert [entry[2] for entry in member.got] == [str(number) for number in range(200)]
    await process.disconnect(member)


async def test_a_user_is_reached_in_all_connections(process: Process) -> None:
    one, two = await process.connect(user_id="7"), await process.connect(user_id="7")
    other = await process.connect(user_id="77")
    await groups.broadcast("gcrypt.user.7", "you")
    await groups.broadcast("gcrypt.user.77", "other")
    assert await one.until(1) == await two.until(1) == [("push", "gcrypt.user.7", '"you"', 5)]
    assert await other.until(1) == [("push", "gcrypt.user.77", '"other"', 7)]
    await process.disconnect(one, two, other)


@pytest.fixture
async def processes(request: pytest.FixtureRequest, redis: Redis, settings: Any) -> list[Process]:
    make: Callable[[str], Config] = request.param
    settings.CHANNEL_LAYERS = {"default": make(redis.url)}
    return [Process(channel_layers.make_backend("default")) for _ in range(3)]


@pytest.mark.parametrize("processes", REDIS_LAYERS, indirect=True)
async def test_a_message_reaches_all_processes_also_from_one_without_a_socket(
    processes: list[Process],
) -> None:
    members = [await each.connect("room") for each in processes]
    await groups.broadcast("room", "hello")  # through the default layer, which is none of theirs
    for member in members:
        assert await member.until(1) == [("push", "room", '"hello"', 7)]
    for each, member in zip(processes, members, strict=True):
        await each.disconnect(member)


@pytest.mark.parametrize("processes", REDIS_LAYERS, indirect=True)
async def test_what_the_layer_loses_is_told_with_the_next_message(
    processes: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    process = processes[0]
    early = await process.connect("room")
    await groups.broadcast("room", 0)
    await early.until(1)
    layer: Any = get_channel_layer()
    with monkeypatch.context() as patch:
        patch.setattr(type(layer), "group_send", _take_and_drop, raising=False)
        await groups.broadcast("room", 1)
        await groups.broadcast("room", 2)
    late = await process.connect("room")
    await groups.broadcast("room", 3)
    assert (await early.until(3))[1:] == [("gap", "room", 2), ("push", "room", "3", 1)]
    assert await late.until(1) == [("push", "room", "3", 1)]
    await process.disconnect(early, late)


async def _take_and_drop(self: Any, group: str, message: dict[str, Any]) -> None:
    """What channels_redis does with a message to a channel that is full."""


# Without a channel layer


@pytest.fixture
def without_layer(settings: Any) -> None:
    settings.CHANNEL_LAYERS = {}


@pytest.mark.usefixtures("without_layer")
async def test_without_a_layer_the_process_serves_itself() -> None:
    here = current_hub()
    member = Member(user_id="1")
    await here.add(as_connection(member))
    await here.join_user(as_connection(member))
    await here.join(as_connection(member), "room")
    await groups.broadcast("room", 1)
    await groups.group_send("gcrypt.user.1", {"type": "a.b"})
    assert member.got == [("push", "room", "1", 1), ("deliver", "gcrypt.user.1", {"type": "a.b"})]
    await here.discard(as_connection(member))


@pytest.mark.usefixtures("without_layer")
async def test_without_a_layer_other_threads_reach_the_hub_on_its_own_loop() -> None:
    here = current_hub()
    member = Member()
    await here.add(as_connection(member))
    await here.join(as_connection(member), "room")
    await asyncio.to_thread(asyncio.run, groups.broadcast("room", "from a thread"))
    assert await member.until(1) == [("push", "room", '"from a thread"', 15)]
    await here.discard(as_connection(member))


# What an attacker in the layer can do


@pytest.fixture
async def attacked(
    process: Process, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[tuple[Process, Member]]:
    member = await process.connect("room")
    caplog.set_level(logging.WARNING)
    yield process, member
    await process.disconnect(member)


async def inject(process: Process, message: dict[str, Any], group: str = "room") -> None:
    await process.layer.group_send(layer_group(group), message)


def captured(process: Process, group: str, kind: MessageKind, payload: bytes) -> dict[str, Any]:
    """A genuine message of another process, as it would go into the layer."""
    return process.peer.seal(group, kind, payload).serialize()


async def test_no_bad_message_reaches_a_handler_or_ends_anything(
    attacked: tuple[Process, Member], caplog: pytest.LogCaptureFixture
) -> None:
    process, member = attacked
    first = captured(process, "room", MessageKind.BROADCAST, b'"first"')
    await inject(process, first)
    bad: list[dict[str, Any]] = [
        {"type": "chat.message", "text": "plaintext"},
        {"type": "gcrypt.layer", "data": "no base64"},
        {"type": "gcrypt.layer", "data": first["data"][:-8] + "AAAAAAA="},
        {"no type": "at all"},
        captured(process, "hall", MessageKind.BROADCAST, b'"foreign"'),
        captured(process, "room", MessageKind.CONTROL, b'{"op":"forged"}'),
        captured(process, CONTROL_GROUP, MessageKind.BROADCAST, b'"for everyone"'),
        first,  # replayed
        first,
    ]
    for message in bad:
        await inject(process, message)
    await inject(process, captured(process, "room", MessageKind.BROADCAST, b'"last"'))
    assert await member.until(2) == [
        ("push", "room", '"first"', 7),
        ("push", "room", '"last"', 6),
    ]
    assert process.hub.dropped == len(bad)
    dropped = [record for record in caplog.records if "Dropped" in record.message]
    assert len(dropped) == 1  # at most once a minute


async def test_a_message_from_another_time_is_dropped(
    attacked: tuple[Process, Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    process, member = attacked
    clock = Clock()
    clock.now = time.time_ns() + 120 * SECOND  # beyond the expiry of the layer
    with monkeypatch.context() as patch:
        patch.setattr(sender, "time", clock)
        message = captured(process, "room", MessageKind.BROADCAST, b'"of another time"')
    await inject(process, message)
    await _until(lambda: process.hub.dropped == 1)
    assert member.got == []


async def test_what_was_on_its_way_when_the_last_member_left_is_no_attack(
    attacked: tuple[Process, Member],
) -> None:
    process, member = attacked
    message = captured(process, "room", MessageKind.BROADCAST, b'"late"')
    await process.leave(member, "room")
    process.hub._on_layer_message(message)
    assert process.hub.dropped == 0
    assert member.got == []


# Control messages


def revocation(number: int) -> bytes:
    """A control message that ends the session `s`."""
    message = {"op": "revoke", "sessions": {"s": f"reason {number}"}, "users": {}, "recheck": []}
    return json.dumps(message).encode()


@pytest.mark.parametrize("processes", REDIS_LAYERS, indirect=True)
async def test_a_control_message_is_handled_once_by_every_process(
    processes: list[Process], caplog: pytest.LogCaptureFixture
) -> None:
    members = [await each.connect(session_id="s") for each in processes]
    for payload in (b'{"op":"unknown"}', b'{"op":"revoke"}', revocation(1)):
        message = captured(processes[0], CONTROL_GROUP, MessageKind.CONTROL, payload)
        await inject(processes[0], message, CONTROL_GROUP)
    for member in members:
        assert await member.until(1) == [("abort", 4401, "reason 1")]
    assert "A group message could not be delivered." in caplog.text
    for each, member in zip(processes, members, strict=True):
        await each.disconnect(member)
        assert len(member.got) == 1


async def test_the_own_process_hears_control_messages_once_also_when_the_layer_is_down(
    layer_config: Config,
) -> None:
    member = Member("s")
    here = current_hub()
    await here.add(as_connection(member))
    for number in (1, 2):
        await groups.publish_control(json.loads(revocation(number)))
    broken = FailingLayer()
    broken.down = True
    channel_layers.set("default", cast("Any", broken))
    with pytest.raises(TryAgainLater):
        await groups.publish_control(json.loads(revocation(3)))
    assert await member.until(3) == [("abort", 4401, f"reason {n}") for n in (1, 2, 3)]
    await here.discard(as_connection(member))


# A layer that fails


class FailingLayer:
    """An in-process layer that can be down, forget its groups, or swallow messages."""

    expiry = 60

    def __init__(self) -> None:
        self.down = False
        self.groups: dict[str, set[str]] = {}
        self.queues: dict[str, asyncio.Queue[Any]] = {}
        self.calls = 0

    def _check(self) -> None:
        self.calls += 1
        if self.down:
            raise OSError("connection refused")

    async def new_channel(self) -> str:
        self._check()
        self.queues["channel"] = asyncio.Queue()
        return "channel"

    async def group_add(self, group: str, channel: str) -> None:
        self._check()
        self.groups.setdefault(group, set()).add(channel)

    async def group_discard(self, group: str, channel: str) -> None:
        self._check()
        self.groups[group].discard(channel)

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        self._check()
        for channel in self.groups.get(group, ()):
            self.queues[channel].put_nowait(message)

    async def receive(self, channel: str) -> Any:
        self._check()
        message = await self.queues[channel].get()
        if isinstance(message, Exception):
            raise message
        return message

    def go_down(self) -> None:
        self.down = True
        for queue in self.queues.values():
            queue.put_nowait(OSError("connection lost"))


def is_up(process: Process) -> bool:
    return process.hub._subscription is not None and process.hub._subscription.up


class SlowLayer(FailingLayer):
    """One whose `group_discard` waits to be released."""

    def __init__(self) -> None:
        super().__init__()
        self.released = asyncio.Event()
        self.discarding = asyncio.Event()

    async def group_discard(self, group: str, channel: str) -> None:
        self.discarding.set()
        await self.released.wait()
        await super().group_discard(group, channel)


async def test_who_joins_while_the_last_member_leaves_is_a_member_for_the_layer_too() -> None:
    slow = SlowLayer()
    process = Process(slow)
    first, second, third = [await process.connect() for _ in range(3)]
    await process.join(first, "room")
    leaving = asyncio.ensure_future(process.leave(first, "room"))
    await slow.discarding.wait()

    async def join_and_leave() -> None:
        await process.join(second, "room")
        await process.leave(second, "room")

    joining = [
        asyncio.ensure_future(join_and_leave()),
        asyncio.ensure_future(process.join(third, "room")),
    ]
    await asyncio.sleep(0)  # both have asked to join now
    slow.released.set()
    await asyncio.wait_for(asyncio.gather(leaving, *joining), DEADLINE)
    assert set(process.hub.members.by_group["room"]) == {as_connection(third)}
    assert slow.groups[layer_group("room")]
    await process.disconnect(first, second, third)
    assert not any(slow.groups.values())


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> FailingLayer:
    monkeypatch.setattr(subscription, "FIRST_RETRY", 0.001)
    monkeypatch.setattr(subscription, "LAST_RETRY", 0.002)
    return FailingLayer()


async def test_while_the_layer_is_down_joining_says_so_and_afterwards_all_is_well(
    failing: FailingLayer, caplog: pytest.LogCaptureFixture
) -> None:
    process = Process(failing)
    member = await process.connect("room")
    failing.go_down()
    await _until(lambda: not is_up(process))
    for group in ("hall", "room"):
        with pytest.raises(TryAgainLater):
            await process.join(member, group)
    failing.groups.clear()
    calls = failing.calls
    await _until(lambda: failing.calls > calls + 5)  # it goes on trying
    failing.down = False
    await _until(lambda: is_up(process))
    await process.join(member, "hall")
    await inject(process, captured(process, "room", MessageKind.BROADCAST, b"1"))
    await inject(process, captured(process, "hall", MessageKind.BROADCAST, b"2"), "hall")
    assert await member.until(2) == [("push", "room", "1", 1), ("push", "hall", "2", 1)]
    await _until(lambda: "works again" in caplog.text)
    assert caplog.text.count("The channel layer is down") == 1
    await process.disconnect(member)


async def test_a_layer_that_is_down_from_the_start_holds_up_no_connection(
    failing: FailingLayer,
) -> None:
    process = Process(failing)
    failing.down = True
    member = await process.connect(user_id="1")
    assert set(process.hub.members.by_user) == {"1"}
    with pytest.raises(TryAgainLater):
        await process.join(member, "room")
    failing.down = False
    await _until(lambda: is_up(process))
    await inject(
        process, captured(process, "gcrypt.user.1", MessageKind.BROADCAST, b"1"), "gcrypt.user.1"
    )
    assert await member.until(1) == [("push", "gcrypt.user.1", "1", 1)]
    await process.disconnect(member)


async def test_a_layer_that_goes_down_lets_the_last_connection_go(failing: FailingLayer) -> None:
    process = Process(failing)
    member = await process.connect("room")
    failing.go_down()
    await asyncio.wait_for(process.disconnect(member), DEADLINE)
    assert not process.hub.members.by_group


async def test_a_layer_that_fails_only_in_receive_is_not_asked_without_pause(
    failing: FailingLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = 0
    sleep = asyncio.sleep

    async def counted_sleep(seconds: float) -> None:
        nonlocal pauses
        pauses += 1
        await sleep(seconds)

    receives = 0

    async def receive(channel: str) -> Any:
        nonlocal receives
        receives += 1
        raise RuntimeError("two event loops on one layer")

    monkeypatch.setattr(failing, "receive", receive)
    process = Process(failing)
    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "sleep", counted_sleep)
        member = await process.connect()
        while receives < 20:
            await sleep(0.001)
    assert pauses >= 18
    await process.disconnect(member)


async def test_a_membership_that_the_layer_forgot_is_renewed(
    failing: FailingLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription, "PROBE_INTERVAL", 0.001)
    process = Process(failing)
    member = await process.connect("room")
    failing.groups.clear()  # as a Redis that was restarted within a retry of its client
    await _until(lambda: layer_group("room") in failing.groups)
    await inject(process, captured(process, "room", MessageKind.BROADCAST, b"1"))
    assert await member.until(1) == [("push", "room", "1", 1)]
    await process.disconnect(member)


async def test_memberships_are_renewed_before_the_layer_lets_them_expire(
    failing: FailingLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription, "PROBE_INTERVAL", 0.001)
    monkeypatch.setattr(failing, "group_expiry", 0, raising=False)
    process = Process(failing)
    member = await process.connect("room")
    del failing.groups[layer_group("room")]  # and this one alone: the probes come back
    await _until(lambda: layer_group("room") in failing.groups)
    await process.disconnect(member)


async def test_what_the_serializer_of_the_layer_cannot_read_is_dropped_like_a_forgery(
    failing: FailingLayer,
) -> None:
    process = Process(failing)
    member = await process.connect("room")
    failing.queues["channel"].put_nowait(ValueError("extra data"))
    await inject(process, captured(process, "room", MessageKind.BROADCAST, b"1"))
    assert await member.until(1) == [("push", "room", "1", 1)]
    assert process.hub.dropped == 1
    assert is_up(process)
    await process.disconnect(member)


@pytest.mark.parametrize("processes", REDIS_LAYERS[:1], indirect=True)
async def test_memberships_that_redis_forgot_are_renewed(
    processes: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription, "PROBE_INTERVAL", 0.05)
    process = processes[0]
    member = await process.connect("room")
    await process.layer.connection(0).flushall()
    while await group_members(process, "room") == 0:  # noqa: ASYNC110 - Redis tells nobody
        await asyncio.sleep(0)
    await groups.broadcast("room", 1)
    assert await member.until(1) == [("push", "room", "1", 1)]
    await process.disconnect(member)


# Event loops and processes


def test_each_event_loop_has_a_hub_of_its_own_and_leaves_nothing_behind(
    settings: Any, redis: Redis
) -> None:
    settings.CHANNEL_LAYERS = {"default": REDIS_LAYERS[0](redis.url)}

    async def live() -> int:
        here = current_hub()
        member = Member(user_id="1")
        await here.add(as_connection(member))
        await here.join(as_connection(member), "room")
        await groups.broadcast("room", 1)
        await member.until(1)
        await here.discard(as_connection(member))
        return id(here)

    async def abandon() -> None:
        here = current_hub()
        await here.add(as_connection(Member()))

    asyncio.run(live())
    asyncio.run(abandon())  # a loop that ends with connections, as under a failing test
    asyncio.run(live())

    async def left() -> int:
        current_hub()
        return len(hub._hubs)

    assert asyncio.run(left()) == 1
    gc.collect()


def test_a_forked_process_starts_with_a_hub_and_a_layer_of_its_own(
    settings: Any, redis: Redis
) -> None:
    settings.CHANNEL_LAYERS = {"default": REDIS_LAYERS[0](redis.url)}

    async def channel() -> str:
        current_hub()
        layer: Any = get_channel_layer()
        return f"{len(hub._hubs)} {layer.client_prefix}"

    ours = asyncio.run(channel())
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, asyncio.run(channel()).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    theirs = os.read(read, 100).decode()
    os.close(read)
    os.close(write)
    assert theirs.split()[0] == "1"
    assert theirs.split()[1] != ours.split()[1]


async def _until(condition: Callable[[], bool]) -> None:
    async def wait() -> None:
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0)

    await asyncio.wait_for(wait(), DEADLINE)
