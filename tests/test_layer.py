from __future__ import annotations

import asyncio
import base64
import os
import threading
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from hypothesis import given
from hypothesis import strategies as st

from gcrypt_channels import layer
from gcrypt_channels.crypto.primitives import AesGcm, hkdf, sha256
from gcrypt_channels.exceptions import DecryptionFailed, TryAgainLater
from gcrypt_channels.keys import root
from gcrypt_channels.layer import Kind, Lost, Receiver, Sender

EXPIRY = 60
SECOND = 1_000_000_000


class Clock:
    """Stands in for the time module, so that a test decides when something happens."""

    def __init__(self) -> None:
        self.now = 1_800_000_000 * SECOND

    def time_ns(self) -> int:
        self.now += 1000
        return self.now

    def pass_seconds(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)


@pytest.fixture(autouse=True)
def _no_earlier_senders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer, "_senders", [])


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    stopped = Clock()
    monkeypatch.setattr(layer, "time", stopped)
    return stopped


@pytest.fixture
def sender() -> Sender:
    loop = asyncio.new_event_loop()
    loop.close()
    return Sender(loop)


class Member:
    """A receiving process that joined `room` when it was made."""

    def __init__(self, clock: Clock, receiver: Receiver | None = None) -> None:
        self.joined_at = clock.time_ns()
        self.receiver = receiver or Receiver()

    def open(self, data: bytes, group: str = "room") -> layer.Opened:
        return self.receiver.open(data, group, joined_at=self.joined_at, expiry=EXPIRY)

    def missed(self, data: bytes, joined_at: int | None = None) -> int:
        lost = self.open(data).lost
        return 0 if lost is None else lost.since(joined_at or self.joined_at)


# The seal


def test_a_message_is_opened_as_what_was_sealed(clock: Clock, sender: Sender) -> None:
    member = Member(clock)
    for number in range(3):
        opened = member.open(sender.seal("room", Kind.EVENT, b"payload %d" % number))
        assert opened == (sender.id, Kind.EVENT, b"payload %d" % number, None)


def test_the_format_is_the_documented_one(clock: Clock, sender: Sender, settings: Any) -> None:
    sender.seal("räume", Kind.EVENT, b"first")
    started = sender.seal("rooms", Kind.EVENT, b"first")[40:48]
    data = sender.seal("rooms", Kind.BROADCAST, b"payload")
    tag, identity, number, sent = data[:16], data[16:32], data[32:40], data[40:48]
    assert tag == sha256(b"rooms")[:16]
    assert identity == sender.id
    assert number == (1).to_bytes(8, "big")
    assert sent == clock.now.to_bytes(8, "big")
    key = hkdf(
        root(settings.GCRYPT_PASSPHRASE), info=b"gcrypt layer" + b"rooms" + identity, length=32
    )
    plaintext = AesGcm(key).open(bytes(4) + number, data[48:], b"rooms" + identity + number + sent)
    assert plaintext == b"\x01" + started + started + b"payload"


def test_every_flipped_bit_is_noticed(clock: Clock, sender: Sender) -> None:
    member = Member(clock)
    data = sender.seal("room", Kind.BROADCAST, b"payload")
    for position in range(8 * len(data)):
        if position // 8 < 16:
            continue  # the tag chooses the group; it is not what the group's key protects
        forged = bytearray(data)
        forged[position // 8] ^= 1 << position % 8
        with pytest.raises(DecryptionFailed):
            member.open(bytes(forged))
    assert member.open(data).payload == b"payload"


def test_every_truncation_is_noticed(clock: Clock, sender: Sender) -> None:
    member = Member(clock)
    data = sender.seal("room", Kind.BROADCAST, b"payload")
    for length in range(48, len(data)):
        with pytest.raises(DecryptionFailed):
            member.open(data[:length])


def test_a_message_to_another_group_is_not_opened(clock: Clock, sender: Sender) -> None:
    data = sender.seal("room", Kind.BROADCAST, b"payload")
    with pytest.raises(DecryptionFailed):
        Member(clock).open(data, "other")


def test_another_root_opens_nothing(clock: Clock, sender: Sender, settings: Any) -> None:
    data = sender.seal("room", Kind.BROADCAST, b"payload")
    settings.GCRYPT_PASSPHRASE = "another passphrase that is long enough"
    with pytest.raises(DecryptionFailed):
        Member(clock).open(data)


def test_a_previous_root_still_opens(clock: Clock, sender: Sender, settings: Any) -> None:
    member = Member(clock)
    old = settings.GCRYPT_PASSPHRASE
    data = sender.seal("room", Kind.BROADCAST, b"old")
    settings.GCRYPT_PASSPHRASE = ["another passphrase that is long enough", old]
    assert member.open(data).payload == b"old"
    new = sender.seal("room", Kind.BROADCAST, b"new")
    settings.GCRYPT_PASSPHRASE = [old, "another passphrase that is long enough"]
    assert member.open(new).payload == b"new"


def test_no_two_messages_share_key_and_nonce(monkeypatch: pytest.MonkeyPatch) -> None:
    used: set[tuple[bytes, bytes]] = set()
    derived: dict[int, bytes] = {}

    class Recording(AesGcm):
        def __init__(self, key: bytes) -> None:
            super().__init__(key)
            derived[id(self)] = key

        __slots__ = ()

        def seal(self, nonce: bytes, plaintext: bytes, associated_data: bytes) -> bytes:
            assert (derived[id(self)], nonce) not in used
            used.add((derived[id(self)], nonce))
            return super().seal(nonce, plaintext, associated_data)

    monkeypatch.setattr(layer, "AesGcm", Recording)
    monkeypatch.setattr(layer, "_MAX_GROUPS", 3)
    layer._aead.cache_clear()
    loop = asyncio.new_event_loop()
    loop.close()
    senders = [Sender(loop), Sender(loop)]
    identities = set()
    for number in range(100):
        for each in senders:
            each.seal(f"room {number % 5}", Kind.BROADCAST, b"")
            identities.add(each.id)
    assert len(used) == 200
    assert len(identities) > 2  # past the limit of groups, a sender begins anew
    layer._aead.cache_clear()


# Freshness


def test_a_replay_is_dropped(clock: Clock, sender: Sender) -> None:
    member = Member(clock)
    messages = [sender.seal("room", Kind.BROADCAST, b"%d" % number) for number in range(3)]
    for data in messages:
        member.open(data)
    for data in messages:
        with pytest.raises(DecryptionFailed):
            member.open(data)


def test_a_replay_to_a_process_that_left_and_joined_again_is_dropped(
    clock: Clock, sender: Sender
) -> None:
    member = Member(clock)
    data = sender.seal("room", Kind.BROADCAST, b"payload")
    member.open(data)
    again = Member(clock, member.receiver)
    with pytest.raises(DecryptionFailed):
        again.open(data)


def test_a_replay_to_a_process_that_joined_later_is_dropped(clock: Clock, sender: Sender) -> None:
    data = sender.seal("room", Kind.BROADCAST, b"payload")
    clock.pass_seconds(2)
    with pytest.raises(DecryptionFailed):
        Member(clock).open(data)


@pytest.mark.parametrize("seconds", [-EXPIRY - 1, EXPIRY + 1])
def test_a_message_from_another_time_is_dropped(
    clock: Clock, sender: Sender, seconds: float
) -> None:
    member = Member(clock)
    data = sender.seal("room", Kind.BROADCAST, b"payload")
    clock.pass_seconds(seconds)
    with pytest.raises(DecryptionFailed):
        member.open(data)


def test_a_dropped_message_leaves_the_next_one_welcome(clock: Clock, sender: Sender) -> None:
    member = Member(clock)
    first, second = (sender.seal("room", Kind.BROADCAST, b"%d" % number) for number in range(2))
    with pytest.raises(DecryptionFailed):
        member.open(second[:-1] + bytes([second[-1] ^ 1]))
    assert member.missed(first) == 0
    assert member.missed(second) == 0


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"type": "gcrypt.layer"},
        {"type": "gcrypt.layer", "data": None},
        {"type": "gcrypt.layer", "data": "&"},
        {"type": "gcrypt.layer", "data": "é"},
        {"type": "gcrypt.layer", "data": ""},
        {"type": "gcrypt.layer", "data": base64.b64encode(bytes(47)).decode()},
        {"type": "chat.message", "data": base64.b64encode(bytes(100)).decode()},
    ],
)
def test_what_is_no_group_message_is_refused(message: dict[str, Any]) -> None:
    with pytest.raises(DecryptionFailed):
        layer.decode(message)


# Gaps


@given(lost=st.lists(st.booleans(), max_size=30), joins_after=st.integers(0, 10))
def test_every_loss_that_is_followed_by_a_message_is_told_and_none_falsely(
    lost: list[bool], joins_after: int
) -> None:
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layer, "time", clock)
        loop = asyncio.new_event_loop()
        loop.close()
        sender = Sender(loop)
        for _ in range(joins_after):
            sender.seal("room", Kind.BROADCAST, b"")
        member = Member(clock)
        missing = 0
        for is_lost in lost:
            data = sender.seal("room", Kind.BROADCAST, b"")
            if is_lost:
                missing += 1
                continue
            told = member.missed(data)
            # What a sender did before we knew it is hidden: then it says that something is missing.
            assert told == missing or 1 <= told <= missing
            if not joins_after:
                assert told == missing
            joins_after = missing = 0


def test_a_connection_is_told_of_what_it_missed_alone(clock: Clock, sender: Sender) -> None:
    member = Member(clock)
    member.open(sender.seal("room", Kind.BROADCAST, b"0"))
    early = clock.time_ns()
    sender.seal("room", Kind.BROADCAST, b"1")
    between = clock.time_ns()
    sender.seal("room", Kind.BROADCAST, b"2")
    late = clock.time_ns()
    lost = member.open(sender.seal("room", Kind.BROADCAST, b"3")).lost
    assert lost is not None
    assert lost.since(member.joined_at) == 2
    assert lost.since(early) == 1  # at least: when the first was sent is not known here
    assert lost.since(between) == 1
    assert lost.since(late) == 0


def test_what_was_sent_while_nobody_was_here_is_no_gap(clock: Clock, sender: Sender) -> None:
    member = Member(clock)
    member.open(sender.seal("room", Kind.BROADCAST, b"0"))
    sender.seal("room", Kind.BROADCAST, b"1")
    again = Member(clock, member.receiver)
    assert again.missed(sender.seal("room", Kind.BROADCAST, b"2")) == 0
    sender.seal("room", Kind.BROADCAST, b"3")
    assert again.missed(sender.seal("room", Kind.BROADCAST, b"4")) == 1


def test_what_was_lost_right_after_joining_again_is_told(clock: Clock, sender: Sender) -> None:
    member = Member(clock)
    member.open(sender.seal("room", Kind.BROADCAST, b"0"))
    sender.seal("room", Kind.BROADCAST, b"1")
    again = Member(clock, member.receiver)
    sender.seal("room", Kind.BROADCAST, b"2")
    assert again.missed(sender.seal("room", Kind.BROADCAST, b"3")) == 1


def test_forgetting_senders_makes_no_false_gap_and_admits_no_replay(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layer, "_MAX_SEEN", 10)
    loop = asyncio.new_event_loop()
    loop.close()
    senders = [Sender(loop) for _ in range(30)]
    member = Member(clock)
    old = [each.seal("room", Kind.BROADCAST, b"") for each in senders]
    assert [member.missed(data) for data in old] == [0] * 30
    replayed_in_vain = 0
    for data in old:
        try:
            member.open(data)
        except DecryptionFailed:
            replayed_in_vain += 1
    assert replayed_in_vain == 30
    fresh = [each.seal("room", Kind.BROADCAST, b"") for each in senders]
    assert [member.missed(data) for data in fresh] == [0] * 30
    assert len(member.receiver._seen) == 10


def test_a_loss_says_the_least_that_is_certain() -> None:
    lost = Lost(messages=5, before=0, first_sent=100, last_sent=200)
    assert [lost.since(joined_at) for joined_at in (99, 100, 101, 200, 201)] == [5, 5, 1, 1, 0]
    lost = Lost(messages=5, before=50, first_sent=0, last_sent=200)
    assert [lost.since(joined_at) for joined_at in (49, 50, 51, 200, 201)] == [5, 5, 1, 1, 0]


# Sending


class SlowLayer:
    """Takes longer for the earlier messages, as a network would."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.waiting = 20

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        self.waiting -= 1
        for _ in range(self.waiting):
            await asyncio.sleep(0)
        self.sent.append(message)


async def test_concurrent_messages_reach_the_layer_in_the_order_of_their_numbers() -> None:
    slow = SlowLayer()
    member = Member(Clock())
    member.joined_at = 0
    await asyncio.gather(
        *(layer.send(slow, "room", Kind.BROADCAST, b"%d" % number) for number in range(20))
    )
    opened = [member.open(layer.decode(message)) for message in slow.sent]
    assert [each.payload for each in opened] == [b"%d" % number for number in range(20)]
    assert not any(each.lost for each in opened)
    assert not layer.current_sender().turns._locks


class BrokenLayer:
    def __init__(self) -> None:
        self.error: Exception | None = None
        self.sent: list[dict[str, Any]] = []

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        if self.error is not None:
            raise self.error
        self.sent.append(message)


async def test_a_layer_that_fails_is_one_clear_error_and_a_gap() -> None:
    broken = BrokenLayer()
    member = Member(Clock())
    member.joined_at = 0
    await layer.send(broken, "room", Kind.BROADCAST, b"0")
    broken.error = OSError("connection refused")
    with pytest.raises(TryAgainLater) as caught:
        await layer.send(broken, "room", Kind.BROADCAST, b"1")
    assert caught.value.reason == "the channel layer is down"
    broken.error = None
    await layer.send(broken, "room", Kind.BROADCAST, b"2")
    opened = [member.open(layer.decode(message)) for message in broken.sent]
    assert [each.payload for each in opened] == [b"0", b"2"]
    assert opened[1].lost is not None


async def test_a_layer_that_hangs_is_given_up_for_all_who_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class HangingLayer:
        async def group_send(self, group: str, message: dict[str, Any]) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr(layer, "LAYER_TIMEOUT", 0.01)
    results = await asyncio.gather(
        *(layer.send(HangingLayer(), "room", Kind.BROADCAST, b"") for _ in range(5)),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [TryAgainLater] * 5
    assert not layer.current_sender().turns._locks


def test_one_loop_after_another_continues_the_same_sender() -> None:
    """As in a WSGI view: each `async_to_sync` makes an event loop in a thread of its own."""
    broken = BrokenLayer()
    for number in range(5):
        async_to_sync(layer.send)(broken, "room", Kind.BROADCAST, b"%d" % number)
    member = Member(Clock())
    member.joined_at = 0
    opened = [member.open(layer.decode(message)) for message in broken.sent]
    assert len({each.sender for each in opened}) == 1
    assert [each.payload for each in opened] == [b"%d" % number for number in range(5)]


def test_threads_that_send_at_once_have_senders_of_their_own() -> None:
    barrier = threading.Barrier(4)

    class MeetingLayer(BrokenLayer):
        async def group_send(self, group: str, message: dict[str, Any]) -> None:
            barrier.wait(10)
            await super().group_send(group, message)

    meeting = MeetingLayer()
    threads = [
        threading.Thread(
            target=async_to_sync(layer.send), args=(meeting, "room", Kind.BROADCAST, b"")
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    identities = {layer.decode(message)[16:32] for message in meeting.sent}
    assert len(identities) == 4
    assert all(layer.is_own(identity) for identity in identities)
    assert not layer.is_own(bytes(16))


def test_a_forked_process_draws_an_identity_of_its_own() -> None:
    async def identity() -> bytes:
        return layer.current_sender().id

    ours = asyncio.run(identity())
    assert asyncio.run(identity()) == ours
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, asyncio.run(identity()))
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    theirs = os.read(read, 100)
    os.close(read)
    os.close(write)
    assert len(theirs) == 16
    assert theirs != ours


def test_no_group_is_named_in_the_layer() -> None:
    name = layer.layer_group("Straße 12/b")
    assert name == "gcrypt." + sha256("Straße 12/b".encode()).hex()[:32]
