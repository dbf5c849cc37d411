"""What the members of a group with history get when messages do not come as they should."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import pytest

from gcrypt_channels.conf import HistoryLimits
from gcrypt_channels.connection.connection import Connection
from gcrypt_channels.connection.replay import Joined
from gcrypt_channels.exceptions import TryAgainLater
from gcrypt_channels.hub import catchup
from gcrypt_channels.hub.catchup import CatchUp, Counted
from gcrypt_channels.hub.members import Members
from gcrypt_channels.layers.history import History, Place, ProcessStore
from gcrypt_channels.protocol.events import Position

LIMITS = HistoryLimits(messages=5, seconds=300)
ROOM = "room"


class Member:
    """Stands in for a connection: records what it is told of the group."""

    session_id = user_id = ""
    closed = False

    def __init__(self, offered: Position | None = None, *, has_room: bool = True) -> None:
        self.groups: dict[str, Any] = {}
        self.got: list[Any] = []
        self._offered = offered
        self._has_room = has_room

    def offered(self, group: str) -> Position | None:
        return self._offered

    def is_counted(self, group: str) -> bool:
        return bool(self.got)

    def can_take(self, group: str, missed: Sequence[bytes]) -> bool:
        return self._has_room

    def join_counted(
        self, group: str, epoch: str, n: int, missed: Sequence[bytes] | None
    ) -> Joined:
        joined = Joined(n - len(missed or ()), missed is not None)
        self.got += [joined, *(int(each) for each in missed or ())]
        return joined

    def move_counted(self, group: str, epoch: str, n: int) -> None:
        self.got.append(("moved", n))

    def leave_counted(self, group: str) -> None:
        pass

    def tell_gap(self, group: str, missed: int) -> None:
        self.got.append(("gap", missed))


class SlowStore(ProcessStore):
    """Counts its reads, answers when it is told to, and fails when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.opened = asyncio.Event()
        self.opened.set()
        self.is_down = False

    async def read(self, *arguments: Any) -> Any:
        self.reads += 1
        await self.opened.wait()
        if self.is_down:
            raise OSError
        return await super().read(*arguments)

    async def places(self, tags: Sequence[str]) -> list[Place | None]:
        if self.is_down:
            raise OSError
        return await super().places(tags)


class Process:
    def __init__(self) -> None:
        self.store = SlowStore()
        self.history = History(self.store)
        self.members = Members()
        self.lost = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self.catch_up = CatchUp(
            self.members, start=self._start, deliver=self._deliver, on_lost=self._lose
        )

    def _start(self, work: Any) -> None:
        self.tasks.add(asyncio.create_task(work))

    def _deliver(self, group: str, counted: Counted, members: list[Connection], size: int) -> None:
        for member in cast(list[Any], members):
            member.got.append(int(counted.text))

    def _lose(self, messages: int) -> None:
        self.lost += messages

    async def join(self, member: Member, after: int = 0) -> Joined:
        connection = cast(Connection, member)
        self.members.join(connection, ROOM, 0)
        return await self.catch_up.join(connection, ROOM, after, LIMITS, self.history)

    async def count(self, *numbers: int) -> list[tuple[str, int, bytes]]:
        """Count messages, which a test sends as it likes."""
        found = []
        for number in numbers:
            payload = b"%d" % number
            found.append((*await self.history.append(ROOM, payload, LIMITS), payload))
        return found

    def send(self, *messages: tuple[str, int, bytes]) -> None:
        for message in messages:
            self.catch_up.on_message(ROOM, *message)

    async def settle(self) -> None:
        """Wait until nothing is read any more, nor will be soon."""
        await asyncio.sleep(catchup.PATIENCE + 0.01)
        while self.tasks:
            await asyncio.gather(*self.tasks)
            self.tasks = {each for each in self.tasks if not each.done()}


@pytest.fixture
async def process() -> AsyncIterator[Process]:
    made = Process()
    yield made
    for task in made.tasks:
        task.cancel()


async def test_messages_in_order_are_delivered_at_once(process: Process) -> None:
    member = Member()
    assert await process.join(member) == (0, False)
    process.send(*await process.count(1, 2, 3))
    assert member.got[1:] == [1, 2, 3]
    assert process.store.reads == 1


async def test_what_overtakes_waits_for_the_one_before(process: Process) -> None:
    member = Member()
    await process.join(member)
    one, two, three = await process.count(1, 2, 3)
    process.send(three, two)
    assert member.got[1:] == []
    process.send(one)
    assert member.got[1:] == [1, 2, 3]
    await process.settle()
    assert process.store.reads == 1


async def test_a_hole_is_filled_from_the_history(process: Process) -> None:
    members = [Member(), Member()]
    for member in members:
        await process.join(member)
    reads = process.store.reads
    _, _, three = await process.count(1, 2, 3)
    process.send(three)
    await process.settle()
    for member in members:
        assert member.got[1:] == [1, 2, 3]
    assert process.store.reads == reads + 1


async def test_a_message_that_comes_again_is_delivered_once(process: Process) -> None:
    member = Member()
    await process.join(member)
    one, two = await process.count(1, 2)
    process.send(one, one, two, one, two)
    assert member.got[1:] == [1, 2]


async def test_what_the_history_has_no_more_is_a_gap(process: Process) -> None:
    member = Member()
    await process.join(member)
    *_, last = await process.count(*range(1, 10))
    process.send(last)
    await process.settle()
    assert member.got[1:] == [("gap", 4), 5, 6, 7, 8, 9]
    assert process.lost == 4


async def test_a_last_message_that_was_lost_is_found_by_a_probe(process: Process) -> None:
    member = Member()
    await process.join(member)
    await process.count(1)
    await process.catch_up.compare()
    await process.settle()
    assert member.got[1:] == [1]
    reads = process.store.reads
    await process.catch_up.compare()
    await process.settle()
    assert process.store.reads == reads


async def test_after_an_outage_of_the_layer_all_is_read(process: Process) -> None:
    member = Member()
    await process.join(member)
    await process.count(1)
    process.catch_up.read_all()
    await process.settle()
    assert member.got[1:] == [1]


@pytest.mark.parametrize("finds_out", ["a message", "a probe"])
async def test_another_epoch_moves_the_members(process: Process, finds_out: str) -> None:
    member = Member()
    await process.join(member)
    process.send(*await process.count(1, 2))
    [late] = await process.count(3)
    process.store._groups.clear()  # it was wiped
    _, five = await process.count(4, 5)
    if finds_out == "a message":
        process.send(five)
    else:
        await process.catch_up.compare()
    await process.settle()
    process.send(late)
    await process.settle()
    assert member.got[1:] == [1, 2, ("moved", 0), 4, 5]


async def test_a_store_that_is_down_is_a_gap_for_members_and_turns_others_away(
    process: Process,
) -> None:
    member = Member()
    await process.join(member)
    _, two, _, four = await process.count(1, 2, 3, 4)
    process.store.is_down = True
    process.send(two, four)
    await process.settle()
    assert member.got[1:] == [("gap", 1), 2, ("gap", 1), 4]
    with pytest.raises(TryAgainLater):
        await process.join(Member())
    await process.catch_up.compare()  # which is tried again with the next probe
    process.store.is_down = False
    process.send(*await process.count(5))
    assert member.got[-1] == 5


async def test_what_comes_while_a_member_joins_is_held_back(process: Process) -> None:
    before = await process.count(1, 2)
    process.store.opened.clear()
    member = Member()
    joining = asyncio.create_task(process.join(member))
    await asyncio.sleep(0)
    three, four = await process.count(3, 4)
    process.send(*before, three, four)
    assert member.got == []
    process.store.opened.set()
    assert await joining == (4, False)  # the store had counted them when it was read
    process.send(*await process.count(5))
    assert member.got == [(4, False), 5]


async def test_a_thousand_members_that_come_back_cause_one_read(process: Process) -> None:
    [(epoch, *_)] = await process.count(0)
    await process.count(1, 2)
    reads = process.store.reads
    process.store.opened.clear()
    members = [Member(Position(ROOM, epoch, 1)) for _ in range(1000)]
    joining = [asyncio.create_task(process.join(member)) for member in members]
    await asyncio.sleep(0)
    process.store.opened.set()
    assert {*await asyncio.gather(*joining)} == {(1, True)}
    assert all(member.got == [(1, True), 1, 2] for member in members)
    assert process.store.reads == reads + 1


async def test_who_comes_soon_after_is_served_without_a_read(process: Process) -> None:
    [(epoch, *_)] = await process.count(0)
    first, second = Member(Position(ROOM, epoch, 0)), Member(Position(ROOM, epoch, 1))
    await process.join(first)
    reads = process.store.reads
    process.send(*await process.count(1))
    assert await process.join(second) == (1, True)
    assert second.got == [(1, True), 1]
    assert process.store.reads == reads
    assert await process.join(Member()) == (2, False)  # whose position is that of the store
    assert process.store.reads == reads + 1


async def test_nothing_up_to_after_is_replayed(process: Process) -> None:
    [(epoch, *_)] = await process.count(1)
    await process.count(2, 3)
    assert await process.join(Member(Position(ROOM, epoch, 1)), after=2) == (3, False)
    assert await process.join(Member(Position(ROOM, epoch, 2)), after=2) == (2, True)


async def test_who_has_no_room_is_not_recovered(process: Process) -> None:
    [(epoch, *_)] = await process.count(1)
    await process.count(2)
    member = Member(Position(ROOM, epoch, 1), has_room=False)
    assert await process.join(member) == (2, False)


async def test_who_leaves_while_he_joins_gets_an_answer(process: Process) -> None:
    process.store.opened.clear()
    member = Member()
    joining = asyncio.create_task(process.join(member))
    await asyncio.sleep(0)
    process.members.leave(cast(Connection, member), ROOM)
    process.catch_up.leave(cast(Connection, member), ROOM)
    assert await joining == (None, False)
    process.store.opened.set()
    await process.settle()
    assert member.got == []


async def test_what_is_held_back_is_bounded(process: Process, settings: Any) -> None:
    settings.GCRYPT = {"BACKLOG_SIZE": 1024}  # four messages, each counting 256 bytes
    member = Member()
    await process.join(member)
    _, *others = await process.count(*range(1, 9))
    process.send(*others)
    await process.settle()
    # 2 to 5 were held back, and the history has 4 to 8: 1 alone is lost.
    assert member.got[1:] == [("gap", 1), 2, 3, 4, 5, 6, 7, 8]


async def test_what_is_lost_is_not_replayed_as_if_it_were_there(process: Process) -> None:
    [(epoch, *_)] = await process.count(1)
    await process.join(Member())
    process.store.is_down = True
    _, three = await process.count(2, 3)
    process.send(three)
    await process.settle()
    process.store.is_down = False
    reads = process.store.reads
    member = Member(Position(ROOM, epoch, 1))
    await process.join(member)
    assert member.got == [(1, True), 2, 3]
    assert process.store.reads == reads + 1
