from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gcrypt_channels.connection.backlog import Backlog
from gcrypt_channels.connection.replay import Joined, Replay
from gcrypt_channels.outbox import Outbox, as_event
from gcrypt_channels.protocol.events import (
    Accepted,
    Binding,
    GroupText,
    Left,
    Position,
)
from gcrypt_channels.protocol.events import Joined as Told
from gcrypt_channels.protocol.secure import SecureSession
from gcrypt_channels.protocol.states import State

EPOCH, OTHER = "0011223344556677", "8899aabbccddeeff"


class Peer:
    """A connection's replay, and the client at the other end of its wire."""

    def __init__(self, *, offered: list[Position] | None, accepted: bool = True) -> None:
        self.server, self.client = SecureSession(role="server"), SecureSession(role="client")
        self.client.receive(self.server.hello(bytes(8), bytes(32)))
        self.server.receive(self.client.reply(bytes(32), (), Binding((), "h", "/"), offered))
        self.got: list[Any] = []
        self.given_up = 0
        self.reads = asyncio.Event()
        self.reads.set()
        self.outbox = Outbox(self._send, seal=self.server.seal, wrap=as_event)
        self.backlog = Backlog(self.outbox, self.server, self._give_up)
        self.replay = Replay(self.backlog, self.server)
        self.replay.offer(offered)
        if accepted:
            self.accept()

    def accept(self) -> None:
        self.outbox.put_made(lambda: [as_event(each) for each in self.server.seal_accept(None)])
        self.backlog.start()

    async def told(self) -> list[Any]:
        await self.outbox.drained()
        assert self.client.state is not State.FAILED
        got, self.got = self.got, []
        return [each for each in got if each is not None and not isinstance(each, Accepted)]

    async def _send(self, event: Any) -> None:
        await self.reads.wait()
        self.got.append(self.client.receive(event["bytes"]))

    def _give_up(self) -> None:
        self.given_up += 1


async def test_what_was_missed_comes_behind_joined_and_before_what_follows() -> None:
    peer = Peer(offered=[Position("room", EPOCH, 3)])
    assert peer.replay.offered("room") == Position("room", EPOCH, 3)
    assert peer.replay.join("room", EPOCH, 5, [b"4", b"5"]) == Joined(3, recovered=True)
    assert peer.replay.push("room", "6", EPOCH, 6, 1)
    assert peer.replay.offered("room") is None
    assert await peer.told() == [
        Told(1, Position("room", EPOCH, 3), recovered=True),
        *(GroupText(str(n), Position("room", EPOCH, n)) for n in (4, 5, 6)),
    ]


async def test_all_of_it_waits_for_the_accept() -> None:
    peer = Peer(offered=[Position("room", EPOCH, 0)], accepted=False)
    peer.replay.join("room", EPOCH, 1, [b"1"])
    peer.replay.push("room", "2", EPOCH, 2, 1)
    peer.replay.leave("room")
    assert await peer.told() == []
    peer.accept()
    assert [type(each) for each in await peer.told()] == [Told, GroupText, GroupText, Left]


@pytest.mark.parametrize(("epoch", "n"), [(EPOCH, 4), (EPOCH, 5), (OTHER, 6)])
async def test_what_is_not_behind_the_position_is_not_pushed(epoch: str, n: int) -> None:
    """It was queued before the membership that it would come to began."""
    peer = Peer(offered=[])
    peer.replay.join("room", EPOCH, 5, None)
    assert peer.replay.push("room", "x", epoch, n, 1)
    assert len(await peer.told()) == 1


async def test_a_new_epoch_is_a_new_membership() -> None:
    peer = Peer(offered=[])
    peer.replay.join("room", EPOCH, 5, None)
    peer.replay.move("room", OTHER, 0)
    peer.replay.push("room", "1", OTHER, 1, 1)
    assert (await peer.told())[1:] == [
        Left(1, "room"),
        Told(2, Position("room", OTHER, 0), recovered=False),
        GroupText("1", Position("room", OTHER, 1)),
    ]


async def test_a_client_that_knows_no_positions_is_told_nothing_of_them() -> None:
    peer = Peer(offered=None)
    peer.replay.join("room", EPOCH, 5, None)
    peer.replay.move("room", OTHER, 0)
    peer.replay.push("room", "1", OTHER, 1, 1)
    peer.replay.leave("room")
    assert [type(each).__name__ for each in await peer.told()] == ["Text"]


async def test_what_fits_is_what_the_backlog_takes(settings: Any) -> None:
    settings.GCRYPT = {"BACKLOG_SIZE": 1024}
    peer = Peer(offered=[Position("room", EPOCH, 0)])
    await peer.told()
    assert peer.backlog.fits("room", [256, 256, 256])
    assert not peer.backlog.fits("room", [256, 256, 257])
    assert not peer.backlog.fits("room", [1, 1, 1, 1])  # each counts 256 bytes
    peer.reads.clear()
    peer.replay.join("room", EPOCH, 3, [b"x" * 256] * 3)
    assert not peer.replay.push("room", "live", EPOCH, 4, 4)  # a gap, told when it reads again
    peer.reads.set()
    got = await peer.told()
    assert [type(each).__name__ for each in got] == ["Joined", *["GroupText"] * 3]


async def test_a_client_that_does_not_read_is_told_of_its_groups_up_to_a_bound(
    settings: Any,
) -> None:
    settings.GCRYPT = {"BACKLOG_SIZE": 1024}
    peer = Peer(offered=[])
    peer.reads.clear()
    for _ in range(20):
        peer.replay.join("room", EPOCH, 0, None)
        peer.replay.leave("room")
    assert peer.given_up
    assert peer.outbox.backlog <= 2 * 1024
    peer.reads.set()
