"""`SealedChannelLayer`: what it remembers is enough, bounded in items and bytes, and ends."""

from __future__ import annotations

import sys
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcrypt_channels.layers import sealed as sealing
from gcrypt_channels.layers.sealed import WINDOW, Window
from tests.clock import SECOND, SteadyClock
from tests.layers.redis_traffic import make, tap

EVENT = {"type": "chat.message", "text": "genuine"}


class OneProcess:
    """A layer that keeps its messages to itself; its process's channels have an `!`."""

    def __init__(self) -> None:
        self.messages: dict[str, list[Any]] = {}
        self.members: dict[str, list[str]] = {}

    async def send(self, channel: str, message: Any) -> None:
        self.messages.setdefault(channel, []).append(message)

    async def receive(self, channel: str) -> Any:
        if not self.messages.get(channel):
            raise LookupError("nothing is there")
        return self.messages[channel].pop(0)

    async def group_add(self, group: str, channel: str) -> None:
        self.members.setdefault(group, []).append(channel)

    async def group_discard(self, group: str, channel: str) -> None:
        self.members[group].remove(channel)

    async def group_send(self, group: str, message: Any) -> None:
        for channel in self.members.get(group, []):
            self.messages.setdefault(channel, []).append(message)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SteadyClock:
    stopped = SteadyClock()
    monkeypatch.setattr(sealing, "time", stopped)
    return stopped


@pytest.fixture
def layer() -> Any:
    return make({"BACKEND": f"{__name__}.OneProcess"})


async def nothing_is_there(layer: Any, channel: str) -> None:
    with pytest.raises(LookupError):
        await layer.receive(channel)


# The window


class Model:
    """What a window should do, without bits."""

    def __init__(self, number: int) -> None:
        self.arrived = {number}

    def accepts(self, number: int) -> bool:
        if number in self.arrived or number <= max(self.arrived) - WINDOW:
            return False
        self.arrived.add(number)
        return True


near = st.integers(0, 40)
far = st.integers(0, 3 * WINDOW)
edges = st.builds(
    lambda base, step: max(0, base * (WINDOW // 2) + step), st.integers(0, 6), st.integers(-2, 2)
)


@given(st.lists(near | far | edges, min_size=1, max_size=120))
def test_a_window_accepts_each_number_once_as_far_back_as_it_reaches(numbers: list[int]) -> None:
    window, model = Window(numbers[0], until=0), Model(numbers[0])
    for number in numbers[1:]:
        assert window.accepts(number) is model.accepts(number), number


def test_a_window_reaches_back_1024_numbers() -> None:
    assert WINDOW == 1024
    window = Window(0, until=0)
    assert window.accepts(1024)
    assert window.accepts(1)
    assert not window.accepts(0)


def test_a_window_stands_a_number_that_no_sender_reaches() -> None:
    window = Window(0, until=0)
    assert window.accepts(2**64 - 1)
    assert not window.accepts(0)
    assert window.accepts(2**64 - 2)


# What is remembered of messages


async def test_a_message_that_was_delivered_is_refused_as_long_as_it_is_fresh(
    layer: Any, clock: SteadyClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "MAX_TARGETS", 1)  # each group is another sender's
    carried = tap(layer)
    for number in range(200):
        await layer.group_add(f"room{number}", "channel")
    for number in range(200):
        await layer.group_send(f"room{number}", EVENT)
        assert await layer.receive("channel") == EVENT
        clock.pass_seconds(0.5)
    for message in list(carried):
        await layer.inner.send("channel", message)
    await nothing_is_there(layer, "channel")
    assert layer.dropped == 200


async def test_threads_that_receive_on_one_channel_deliver_a_message_once(
    layer: Any, request: pytest.FixtureRequest
) -> None:
    switch_interval = sys.getswitchinterval()
    request.addfinalizer(lambda: sys.setswitchinterval(switch_interval))
    sys.setswitchinterval(1e-6)  # threads take turns as often as they can
    carried = tap(layer)
    for number in range(8000):
        await layer.send("jobs", {"number": number})
    # Every other one, so that each leaves a hole in the window.
    layer.inner.messages["jobs"] = [each for each in carried[::2] for _ in range(4)]
    delivered: list[int] = []

    def work() -> None:
        while True:
            try:
                layer.receive("jobs").send(None)  # it waits for nothing, so this is all of it
            except StopIteration as result:
                delivered.append(result.value["number"])
            except LookupError:
                return

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(delivered) == list(range(0, 8000, 2))


async def test_a_sender_that_goes_on_is_remembered_until_its_last_message_is_stale(
    layer: Any, clock: SteadyClock
) -> None:
    carried = tap(layer)
    await layer.group_add("room", "channel")
    for _ in range(2):
        await layer.group_send("room", EVENT)
        assert await layer.receive("channel") == EVENT
        clock.pass_seconds(60)
    for number in range(3):  # what is added looks at what is older
        await layer.group_add(f"room{number}", "channel")
        await layer.group_send(f"room{number}", EVENT)
        assert await layer.receive("channel") == EVENT
    await layer.inner.send("channel", carried[1])
    await nothing_is_there(layer, "channel")
    assert layer.dropped == 1


async def test_what_is_remembered_of_senders_ends_with_their_messages(
    layer: Any, clock: SteadyClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "MAX_TARGETS", 1)
    for number in range(1000):
        await layer.group_add(f"room{number}", "channel")
        await layer.group_send(f"room{number}", EVENT)
        assert await layer.receive("channel") == EVENT
        for group in (f"room{number}", "lobby"):
            await layer.group_add(group, "channel")
            await layer.group_discard(group, "channel")
        clock.pass_seconds(1)
    state = layer._channels["channel"]
    assert len(state.windows) <= 2 * 65
    assert len(state.left) <= 65


async def test_what_is_remembered_of_senders_is_bounded_and_nothing_is_repeated_for_it(
    layer: Any,
    clock: SteadyClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(sealing, "MAX_TARGETS", 1)
    monkeypatch.setattr(sealing, "MAX_WINDOWS", 5)
    monkeypatch.setattr(sealing, "MAX_LEFT", 5)
    carried = tap(layer)
    for number in range(20):
        await layer.group_add(f"room{number}", "channel")
        await layer.group_send(f"room{number}", EVENT)
        assert await layer.receive("channel") == EVENT
        clock.pass_seconds(2.1)
    state = layer._channels["channel"]
    assert len(state.windows) == 5
    for message in list(carried):
        await layer.inner.send("channel", message)
    await nothing_is_there(layer, "channel")
    for number in range(20):
        await layer.group_discard(f"room{number}", "channel")
    assert len(state.left) == 5
    assert "too much has arrived since to tell" in caplog.text


async def test_opened_messages_are_kept_within_bounds_for_the_other_members(
    layer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "MAX_OPENED", 5)
    monkeypatch.setattr(sealing, "MAX_OPENED_SIZE", 10_000)
    for member in ("one", "two"):
        await layer.group_add("room", member)
    for size in [10] * 20 + [3000] * 20 + [50_000] * 3 + [10] * 3:
        event = {"type": "x", "text": "x" * size}
        await layer.group_send("room", event)
        for member in ("one", "two"):
            assert await layer.receive(member) == event
        assert len(layer._opened) <= 5
        assert len(layer._opened) == 1 or sum(map(len, layer._opened)) <= 10_000


# What is remembered of channels


async def test_channels_that_come_and_go_leave_nothing_behind(
    layer: Any, clock: SteadyClock
) -> None:
    for number in range(2000):
        channel = f"specific.process!{number}"
        await layer.group_add("room", channel)
        await layer.send(channel, EVENT)
        assert await layer.receive(channel) == EVENT
        await layer.group_discard("room", channel)
        clock.pass_seconds(1)
    assert len(layer._channels) <= 2 * 128


async def test_a_channel_is_remembered_until_its_last_message_is_stale(
    layer: Any, clock: SteadyClock
) -> None:
    """Also when the sender's clock is as fast as it may be."""
    carried = tap(layer)
    clock.now += 60 * SECOND
    await layer.send("channel", EVENT)
    clock.set_back(60)
    assert await layer.receive("channel") == EVENT
    clock.pass_seconds(115)
    for number in range(5):  # what is added looks at what is older
        await layer.group_add("room", f"specific.process!{number}")
    await layer.inner.send("channel", carried[0])
    await nothing_is_there(layer, "channel")
    assert layer.dropped == 1


async def test_members_that_never_leave_are_forgotten_after_the_group_expiry(
    layer: Any, clock: SteadyClock
) -> None:
    for number in range(500):
        await layer.group_add("room", f"specific.process!{number}")
        clock.pass_seconds(1000)
    assert len(layer._channels) <= 2 * 88


async def test_a_consumer_that_is_busy_for_hours_remains_a_member(
    layer: Any, clock: SteadyClock
) -> None:
    await layer.group_add("room", "specific.process!busy")
    for number in range(500):
        await layer.group_add("other", f"specific.process!{number}")
        clock.pass_seconds(100)
    await layer.group_send("room", EVENT)
    assert await layer.receive("specific.process!busy") == EVENT


async def test_past_the_bound_a_channel_that_nobody_reads_is_forgotten_and_that_is_logged(
    layer: Any,
    clock: SteadyClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(sealing, "MAX_CHANNELS", 50)
    for number in range(500):
        await layer.group_add("room", f"specific.process!{number}")
        clock.pass_seconds(10)
    assert len(layer._channels) <= 50
    assert "has not been read for long" in caplog.text


async def test_a_channel_on_which_somebody_waits_is_never_forgotten(
    layer: Any, clock: SteadyClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "MAX_CHANNELS", 5)
    await layer.group_add("room", "waiting")

    async def wait(channel: str) -> Any:
        for number in range(100):
            await layer.group_add("other", f"specific.process!{number}")
            clock.pass_seconds(100_000)
        await layer.group_send("room", EVENT)
        return layer.inner.messages[channel].pop(0)

    monkeypatch.setattr(layer.inner, "receive", wait)
    for _ in range(2):
        assert await layer.receive("waiting") == EVENT
