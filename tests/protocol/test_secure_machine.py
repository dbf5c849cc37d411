"""Two connections of one user over a wire that does what it likes.

Nothing that was not sent is ever delivered, nothing twice, nothing out of order and nothing with
something before it left out; the first frame that was tampered with ends the side that gets it,
with close code 4400, and that side delivers nothing from then on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

from gcrypt_channels.exceptions import InvalidFrame
from gcrypt_channels.protocol.events import Binding, Bytes, Text
from gcrypt_channels.protocol.profiles import SecureProfile
from gcrypt_channels.protocol.secure import SecureSession
from gcrypt_channels.protocol.states import State

from .secure_profiles import AVAILABLE

KID, PSK = bytes(8), bytes(range(32))
BINDING = Binding(("gcrypt.v2",), "localhost", "/ws/?a=b")
Message = str | bytes


@dataclass
class Side:
    """One end of a connection, with the frames on their way to it."""

    session: SecureSession
    inbox: list[bytes] = field(default_factory=list)
    sent_to: list[Message] = field(default_factory=list)
    genuine: list[bytes] = field(default_factory=list)
    """Every frame that was sent to this side, in order."""
    taken: int = 0
    """How many of them it has received as they were."""
    delivered: list[Message] = field(default_factory=list)


SIDES = st.integers(0, 3)
PLACES = st.integers(0, 11)
"""Taken modulo the number of places there are, so that most steps find a frame."""
MESSAGES = st.text(max_size=40) | st.binary(max_size=40)


class HostileWire(RuleBasedStateMachine):
    """Sides 0 and 1 are one connection's server and client, 2 and 3 the other's."""

    @initialize(
        profile=st.sampled_from(AVAILABLE),
        max_message=st.sampled_from([100, 10_000]),
        padding=st.booleans(),
        rekey_interval=st.integers(1, 5),
    )
    def connect(
        self, profile: SecureProfile, max_message: int, padding: bool, rekey_interval: int
    ) -> None:
        roles: list[Literal["server", "client"]] = ["server", "client", "server", "client"]
        self.sides = [
            Side(
                SecureSession(
                    profile,
                    role=role,
                    max_message=max_message,
                    padding=padding,
                    rekey_interval=rekey_interval,
                )
            )
            for role in roles
        ]
        for server, client in (self.sides[:2], self.sides[2:]):
            client.session.receive(server.session.hello(KID, PSK))
            server.session.receive(client.session.reply(PSK, (), BINDING))
            for frame in server.session.seal_accept(None):
                client.session.receive(frame)

    # What the two sides do

    @rule(to=SIDES, message=MESSAGES)
    def send(self, to: int, message: Message) -> None:
        sender, receiver = self.sides[to ^ 1], self.sides[to]
        if sender.session.state is State.FAILED:
            return
        frames = sender.session.seal(message)
        receiver.inbox += frames
        receiver.genuine += frames
        receiver.sent_to.append(message)

    @rule(to=SIDES, message=MESSAGES)
    def send_in_peace(self, to: int, message: Message) -> None:
        """Most frames arrive as they were, or no side would live for long."""
        self.send(to, message)
        self.receive(to, len(self.sides[to].inbox))

    @rule(to=SIDES, count=st.integers(1, 4))
    def receive(self, to: int, count: int) -> None:
        side = self.sides[to]
        for _ in range(min(count, len(side.inbox))):
            self._receive(side, side.inbox.pop(0))

    def _receive(self, side: Side, frame: bytes) -> None:
        in_turn = side.genuine[side.taken] if side.taken < len(side.genuine) else None
        if side.session.state is State.FAILED or frame != in_turn:
            with pytest.raises(InvalidFrame) as caught:
                side.session.receive(frame)
            assert caught.value.code == 4400
            assert side.session.state is State.FAILED
            return
        event = side.session.receive(frame)
        assert isinstance(event, Text | Bytes)
        side.taken += 1
        side.delivered.append(event.data)

    # What the wire does

    def _pick(self, to: int, place: int) -> tuple[list[bytes], int] | None:
        """Return where a frame is that is on its way, ``None`` when there is none."""
        inbox = self.sides[to].inbox
        return (inbox, place % len(inbox)) if inbox else None

    def _insert_genuine(self, to: int, source: int, number: int, at: int) -> None:
        """Give a side a frame that was sent, to it or to another."""
        genuine = self.sides[source].genuine
        if genuine:
            self._insert(to, at, genuine[number % len(genuine)])

    def _insert(self, to: int, place: int, frame: bytes) -> None:
        inbox = self.sides[to].inbox
        inbox.insert(place % (len(inbox) + 1), frame)

    @rule(to=SIDES, place=PLACES, bit=st.integers(0))
    def flip(self, to: int, place: int, bit: int) -> None:
        if picked := self._pick(to, place):
            inbox, index = picked
            size = len(inbox[index])
            number = int.from_bytes(inbox[index], "big") ^ (1 << bit % (8 * size) if size else 0)
            inbox[index] = number.to_bytes(size, "big")

    @rule(to=SIDES, place=PLACES, size=st.integers(0))
    def cut(self, to: int, place: int, size: int) -> None:
        if picked := self._pick(to, place):
            inbox, index = picked
            inbox[index] = inbox[index][: size % (len(inbox[index]) + 1)]

    @rule(to=SIDES, place=PLACES, more=st.binary(min_size=1, max_size=20))
    def extend(self, to: int, place: int, more: bytes) -> None:
        if picked := self._pick(to, place):
            inbox, index = picked
            inbox[index] += more

    @rule(to=SIDES, place=PLACES)
    def drop(self, to: int, place: int) -> None:
        if picked := self._pick(to, place):
            inbox, index = picked
            del inbox[index]

    @rule(to=SIDES, place=PLACES, at=PLACES)
    def reorder(self, to: int, place: int, at: int) -> None:
        if picked := self._pick(to, place):
            inbox, index = picked
            self._insert(to, at, inbox.pop(index))

    @rule(to=SIDES, number=PLACES, at=PLACES)
    def replay(self, to: int, number: int, at: int) -> None:
        self._insert_genuine(to, to, number, at)

    @rule(to=SIDES, number=PLACES, at=PLACES)
    def reflect(self, to: int, number: int, at: int) -> None:
        self._insert_genuine(to, to ^ 1, number, at)

    @rule(to=SIDES, number=PLACES, at=PLACES)
    def cross_connect(self, to: int, number: int, at: int) -> None:
        self._insert_genuine(to, to ^ 2, number, at)

    @rule(to=SIDES, at=PLACES, frame=st.binary(max_size=60))
    def forge(self, to: int, at: int, frame: bytes) -> None:
        self._insert(to, at, frame)

    @invariant()
    def only_what_was_sent_is_delivered_and_in_its_order(self) -> None:
        for side in getattr(self, "sides", []):
            assert side.delivered == side.sent_to[: len(side.delivered)]
            assert list(map(type, side.delivered)) == list(
                map(type, side.sent_to[: len(side.delivered)])
            )


HostileWire.TestCase.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
TestHostileWire = HostileWire.TestCase
