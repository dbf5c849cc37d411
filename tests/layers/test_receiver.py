from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcrypt_channels.exceptions import DecryptionFailed
from gcrypt_channels.layers import receiver as receiving
from gcrypt_channels.layers import sender as sending
from gcrypt_channels.layers.envelope import Envelope, MessageKind
from gcrypt_channels.layers.receiver import Lost, Opened, Receiver
from gcrypt_channels.layers.sender import Sender
from tests.clock import Clock

EXPIRY = 60


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    stopped = Clock()
    for module in (receiving, sending):
        monkeypatch.setattr(module, "time", stopped)
    return stopped


def make_sender() -> Sender:
    loop = asyncio.new_event_loop()
    loop.close()
    return Sender(loop)


@pytest.fixture
def sender() -> Sender:
    return make_sender()


class Member:
    """A receiving process that joined `room` when it was made."""

    def __init__(self, clock: Clock, receiver: Receiver | None = None) -> None:
        self.joined_at = clock.time_ns()
        self.receiver = receiver or Receiver()

    def open(self, envelope: Envelope, group: str = "room") -> Opened:
        return self.receiver.open(envelope, group, joined_at=self.joined_at, expiry=EXPIRY)

    def missed(self, envelope: Envelope, joined_at: int | None = None) -> int:
        lost = self.open(envelope).lost
        return 0 if lost is None else lost.since(joined_at or self.joined_at)


def test_a_message_is_opened_as_what_was_sealed(clock: Clock, sender: Sender) -> None:
    member = Member(clock)
    for number in range(3):
        opened = member.open(sender.seal("room", MessageKind.EVENT, b"payload %d" % number))
        assert opened == (sender.id, MessageKind.EVENT, b"payload %d" % number, None)


# Freshness


def test_a_replay_is_dropped(clock: Clock, sender: Sender) -> None:
    member = Member(clock)
    messages = [sender.seal("room", MessageKind.BROADCAST, b"%d" % number) for number in range(3)]
    for data in messages:
        member.open(data)
    for data in messages:
        with pytest.raises(DecryptionFailed):
            member.open(data)


def test_a_replay_to_a_process_that_left_and_joined_again_is_dropped(
    clock: Clock, sender: Sender
) -> None:
    member = Member(clock)
    data = sender.seal("room", MessageKind.BROADCAST, b"payload")
    member.open(data)
    again = Member(clock, member.receiver)
    with pytest.raises(DecryptionFailed):
        again.open(data)


def test_a_replay_to_a_process_that_joined_later_is_dropped(clock: Clock, sender: Sender) -> None:
    data = sender.seal("room", MessageKind.BROADCAST, b"payload")
    clock.pass_seconds(2)
    with pytest.raises(DecryptionFailed):
        Member(clock).open(data)


@pytest.mark.parametrize("seconds", [-EXPIRY - 1, EXPIRY + 1])
def test_a_message_from_another_time_is_dropped(
    clock: Clock, sender: Sender, seconds: float
) -> None:
    member = Member(clock)
    data = sender.seal("room", MessageKind.BROADCAST, b"payload")
    clock.pass_seconds(seconds)
    with pytest.raises(DecryptionFailed):
        member.open(data)


def test_a_dropped_message_leaves_the_next_one_welcome(clock: Clock, sender: Sender) -> None:
    member = Member(clock)
    first, second = (
        sender.seal("room", MessageKind.BROADCAST, b"%d" % number) for number in range(2)
    )
    with pytest.raises(DecryptionFailed):
        member.open(second._replace(ciphertext=second.ciphertext[::-1]))
    assert member.missed(first) == 0
    assert member.missed(second) == 0


# Gaps


@given(lost=st.lists(st.booleans(), max_size=30), joins_after=st.integers(0, 10))
def test_every_loss_that_is_followed_by_a_message_is_told_and_none_falsely(
    lost: list[bool], joins_after: int
) -> None:
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        for module in (receiving, sending):
            patch.setattr(module, "time", clock)
        sender = make_sender()
        for _ in range(joins_after):
            sender.seal("room", MessageKind.BROADCAST, b"")
        member = Member(clock)
        is_new, missing = True, 0
        for is_lost in lost:
            data = sender.seal("room", MessageKind.BROADCAST, b"")
            if is_lost:
                missing += 1
                continue
            told = member.missed(data)
            # How many a sender lost before this process knew it is not certain: at least one.
            assert told == missing or (is_new and told == 1 <= missing)
            is_new, missing = False, 0


def test_a_connection_is_told_of_what_it_missed_alone(clock: Clock, sender: Sender) -> None:
    member = Member(clock)
    member.open(sender.seal("room", MessageKind.BROADCAST, b"0"))
    early = clock.time_ns()
    sender.seal("room", MessageKind.BROADCAST, b"1")
    between = clock.time_ns()
    sender.seal("room", MessageKind.BROADCAST, b"2")
    late = clock.time_ns()
    lost = member.open(sender.seal("room", MessageKind.BROADCAST, b"3")).lost
    assert lost is not None
    assert lost.since(member.joined_at) == 2
    assert lost.since(early) == 1  # at least: when the first was sent is not known here
    assert lost.since(between) == 1
    assert lost.since(late) == 0


def test_a_member_that_joined_while_a_message_was_on_its_way_is_told_all_behind_it(
    clock: Clock, sender: Sender
) -> None:
    """It hears the first message, whenever that was sent, and so misses every later one."""
    on_its_way = sender.seal("room", MessageKind.BROADCAST, b"0")
    sender.seal("room", MessageKind.BROADCAST, b"1")
    member = Member(clock)
    assert member.missed(on_its_way) == 0
    sender.seal("room", MessageKind.BROADCAST, b"2")
    assert member.missed(sender.seal("room", MessageKind.BROADCAST, b"3")) == 2


def test_what_was_sent_while_nobody_was_here_is_no_gap(clock: Clock, sender: Sender) -> None:
    member = Member(clock)
    member.open(sender.seal("room", MessageKind.BROADCAST, b"0"))
    sender.seal("room", MessageKind.BROADCAST, b"1")
    again = Member(clock, member.receiver)
    assert again.missed(sender.seal("room", MessageKind.BROADCAST, b"2")) == 0
    sender.seal("room", MessageKind.BROADCAST, b"3")
    assert again.missed(sender.seal("room", MessageKind.BROADCAST, b"4")) == 1


def test_what_was_lost_right_after_joining_again_is_told(clock: Clock, sender: Sender) -> None:
    member = Member(clock)
    member.open(sender.seal("room", MessageKind.BROADCAST, b"0"))
    sender.seal("room", MessageKind.BROADCAST, b"1")
    again = Member(clock, member.receiver)
    sender.seal("room", MessageKind.BROADCAST, b"2")
    assert again.missed(sender.seal("room", MessageKind.BROADCAST, b"3")) == 1


def test_forgetting_senders_makes_no_false_gap_and_admits_no_replay(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "MAX_SEEN", 10)
    senders = [make_sender() for _ in range(30)]
    member = Member(clock)
    old = [each.seal("room", MessageKind.BROADCAST, b"") for each in senders]
    assert [member.missed(data) for data in old] == [0] * 30
    replayed_in_vain = 0
    for data in old:
        try:
            member.open(data)
        except DecryptionFailed:
            replayed_in_vain += 1
    assert replayed_in_vain == 30
    fresh = [each.seal("room", MessageKind.BROADCAST, b"") for each in senders]
    assert [member.missed(data) for data in fresh] == [0] * 30
    assert len(member.receiver._seen) == 10
    senders[0].seal("room", MessageKind.BROADCAST, b"")
    assert member.missed(senders[0].seal("room", MessageKind.BROADCAST, b"")) == 1


def test_a_loss_says_the_least_that_is_certain() -> None:
    lost = Lost(messages=5, after=0, until=200)
    assert [lost.since(joined_at) for joined_at in (1, 200, 201)] == [1, 1, 0]
    lost = Lost(messages=5, after=50, until=200)
    assert [lost.since(joined_at) for joined_at in (49, 50, 51, 200, 201)] == [5, 5, 1, 1, 0]
