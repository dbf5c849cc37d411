"""Keeps the members of groups with history in step with what is kept.

Every such group of a process has a place: the position up to which its members have everything.
A counted message that is the next one is delivered at once. Anything else, like a new member and a
probe that finds more, makes the hub read the history, once for all who wait for it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, NamedTuple

from ..conf import HistoryLimits, conf
from ..connection.connection import Connection
from ..connection.replay import Joined
from ..crypto.jsontext import JsonText
from ..exceptions import TryAgainLater
from ..layers.history import WHOLE, History, Place, Window
from ..outbox import MIN_CHARGE
from ..protocol.events import Position
from .members import Members

logger = logging.getLogger(__name__)

PATIENCE: Final = 0.05
"""Seconds that a message has to arrive after one with a higher number, or after a probe.

Several senders overtake each other all the time.
"""

FRESH: Final = 1.0
"""Seconds for which a window that was read serves further members that join."""


class Counted(NamedTuple):
    """A message of a group with history, as it is pushed to members."""

    text: str
    epoch: str
    n: int


Deliver = Callable[[str, Counted, list[Connection], int], None]


class _Joining:
    """A member that waits until its position is decided."""

    __slots__ = ("done", "offered")

    def __init__(self, offered: Position | None) -> None:
        self.offered = offered
        self.done: asyncio.Future[Joined] = asyncio.get_running_loop().create_future()


class _Recent:
    """The last messages up to the group's place, for members that join soon: at most ``most``."""

    __slots__ = ("messages", "read_at")

    def __init__(self, messages: Iterable[bytes], most: int) -> None:
        self.messages = deque(messages, most)
        self.read_at = time.monotonic()

    @property
    def is_fresh(self) -> bool:
        return time.monotonic() - self.read_at < FRESH


class _Group:
    """What a hub knows of one group.

    Attributes:
        limits: what is kept of it.
        history: where it is kept; the same for all groups.
        epoch: the present one; ``""`` until the history was read for the first time.
        n: the position up to which the members have everything.
        joining: the members that do not get anything yet.
        ahead: messages that came before the one that is next, by epoch and number.
        ahead_size: what they count, in bytes.
        recent: the last messages, while somebody may ask for them.
        is_reading: whether the history is being read.
        read_again: whether it has to be read again then.
        looks: whether it will be looked soon whether something is missing.
        behind: a position that the store has reached.
    """

    __slots__ = (
        "ahead",
        "ahead_size",
        "behind",
        "epoch",
        "history",
        "is_reading",
        "joining",
        "limits",
        "looks",
        "n",
        "read_again",
        "recent",
    )

    def __init__(self, limits: HistoryLimits, history: History) -> None:
        self.limits = limits
        self.history = history
        self.epoch = ""
        self.n = 0
        self.joining: dict[Connection, _Joining] = {}
        self.ahead: dict[tuple[str, int], bytes] = {}
        self.ahead_size = 0
        self.behind = 0
        self.recent: _Recent | None = None
        self.is_reading = False
        self.read_again = False
        self.looks = False

    def hold(self, epoch: str, n: int, payload: bytes) -> None:
        """Keep a message for later; past the bounds it is left to the history."""
        charge = max(len(payload), MIN_CHARGE)
        if (epoch, n) not in self.ahead and self.ahead_size + charge <= conf.backlog_size:
            self.ahead[epoch, n] = payload
            self.ahead_size += charge

    def next_ahead(self) -> int | None:
        """The lowest number that was held back and still follows; forgets what does not."""
        for epoch, n in list(self.ahead):
            if epoch != self.epoch or n <= self.n:
                self.take(epoch, n)
        return min((n for _, n in self.ahead), default=None)

    def take(self, epoch: str, n: int) -> bytes:
        """Return what was held back, and hold it back no longer."""
        payload = self.ahead.pop((epoch, n))
        self.ahead_size -= max(len(payload), MIN_CHARGE)
        return payload

    def wanted(self) -> tuple[str, int]:
        """What has to be read: the epoch and the position of :meth:`.Store.read`."""
        offers = [each.offered for each in self.joining.values() if each.offered is not None]
        epochs = {offer.epoch for offer in offers} | ({self.epoch} if self.epoch else set())
        if len(epochs) > 1:
            return WHOLE, 0
        first = min([*(offer.n for offer in offers), *([self.n] if self.epoch else [])], default=0)
        return next(iter(epochs), ""), first


class CatchUp:
    """The groups with history of one hub."""

    def __init__(
        self,
        members: Members,
        *,
        start: Callable[[Coroutine[Any, Any, None]], None],
        deliver: Deliver,
        on_lost: Callable[[int], None],
    ) -> None:
        """Look after ``members``.

        Args:
            members: those of the hub.
            start: runs a coroutine in the background; may be called while there are members.
            deliver: pushes a message to members, in order with all others.
            on_lost: told how many messages cannot be had any more.
        """
        self._members = members
        self._start = start
        self._deliver = deliver
        self._on_lost = on_lost
        self._groups: dict[str, _Group] = {}
        self._is_comparing = False

    # Members

    async def join(
        self,
        connection: Connection,
        group: str,
        after: int,
        limits: HistoryLimits,
        history: History,
    ) -> Joined:
        """Give a member of ``group`` its position; the group's messages come in from now on.

        Raises:
            TryAgainLater: the history cannot be read.
        """
        state = self._groups.get(group)
        if state is None:
            state = self._groups[group] = _Group(limits, history)
        elif state.epoch and connection not in state.joining and connection.is_counted(group):
            return Joined(state.n, recovered=False)
        joining = state.joining.get(connection)
        if joining is None:
            offered = connection.offered(group)
            if offered is not None and offered.n < after:
                offered = None
            joining = state.joining[connection] = _Joining(offered)
            recent = state.recent
            if not state.is_reading and not (
                recent is not None and recent.is_fresh and self._admit(group, connection, recent)
            ):
                self._read(group, state)
        return await asyncio.shield(joining.done)

    def leave(self, connection: Connection, group: str) -> None:
        """End a membership; what waits for it is told that nothing follows."""
        state = self._groups.get(group)
        if state is None:
            return
        connection.leave_counted(group)
        joining = state.joining.pop(connection, None)
        if joining is not None and not joining.done.done():
            joining.done.set_result(Joined(None, recovered=False))
        if group not in self._members.by_group:
            del self._groups[group]

    # Messages

    def on_message(self, group: str, epoch: str, n: int, payload: bytes) -> None:
        """Take a counted message of the channel layer."""
        state = self._groups.get(group)
        if state is None or (epoch == state.epoch and n <= state.n):
            return
        if epoch == state.epoch and n == state.n + 1:
            self._push(group, state, n, payload)
            self._push_ahead(group, state)
            return
        state.hold(epoch, n, payload)
        if state.epoch and epoch != state.epoch:
            self._read(group, state)
        elif state.epoch:
            self._look_soon(group, state)

    async def compare(self) -> None:
        """Read the history of each group that has counted further than its members have heard."""
        groups = [group for group, state in self._groups.items() if state.epoch]
        if self._is_comparing or not groups:
            return
        self._is_comparing = True
        try:
            places = await self._groups[groups[0]].history.places(groups)
            for group, place in zip(groups, places, strict=True):
                self._compare(group, place)
        except TryAgainLater as error:
            logger.warning("The places of groups cannot be read: %r.", error.__cause__)
        finally:
            self._is_comparing = False

    def read_all(self) -> None:
        """Read the history of every group: messages may have been lost."""
        for group, state in self._groups.items():
            self._read(group, state)

    def _compare(self, group: str, place: Place | None) -> None:
        state = self._groups.get(group)
        if state is None or not state.epoch:
            return
        if state.recent is not None and not state.recent.is_fresh and not state.is_reading:
            state.recent = None
        if place is None or place.epoch != state.epoch:
            self._read(group, state)
        elif place.n > state.n:
            state.behind = place.n
            self._look_soon(group, state)

    def _look_soon(self, group: str, state: _Group) -> None:
        """Read the history, unless what is missing comes in a moment."""
        if not state.looks:
            state.looks = True
            asyncio.get_running_loop().call_later(PATIENCE, self._look, group, state)

    def _look(self, group: str, state: _Group) -> None:
        state.looks = False
        if self._groups.get(group) is state and (
            state.next_ahead() is not None or state.behind > state.n
        ):
            self._read(group, state)

    def _push_ahead(self, group: str, state: _Group) -> None:
        """Deliver what was held back and is next now."""
        while (n := state.next_ahead()) == state.n + 1:
            self._push(group, state, n, state.take(state.epoch, n))

    def _push(self, group: str, state: _Group, n: int, payload: bytes) -> None:
        state.n = n
        if state.recent is not None:
            if state.is_reading or state.recent.is_fresh:
                state.recent.messages.append(payload)
            else:
                state.recent = None
        counted = Counted(JsonText(payload.decode()), state.epoch, n)
        self._deliver(group, counted, self._live(group, state), len(payload))

    def _live(self, group: str, state: _Group) -> list[Connection]:
        members = self._members.by_group.get(group, ())
        return [each for each in members if each not in state.joining]

    # Reading

    def _read(self, group: str, state: _Group) -> None:
        if state.is_reading:
            state.read_again = True
        else:
            state.is_reading = True
            self._start(self._read_until_done(group, state))

    async def _read_until_done(self, group: str, state: _Group) -> None:
        try:
            state.read_again = True
            while state.read_again and self._groups.get(group) is state:
                state.read_again = False
                epoch, after = state.wanted()
                state.recent = _Recent((), state.limits.messages)
                asked = set(state.joining)
                window = await state.history.read(group, state.limits, epoch, after)
                if self._groups.get(group) is state:
                    self._apply(group, state, window, asked)
        except TryAgainLater as error:
            self._give_up(group, state, error)
        finally:
            state.is_reading = False
            self._fail(state, TryAgainLater("the server stops"))  # unless there is nobody left

    def _apply(self, group: str, state: _Group, window: Window, asked: set[Connection]) -> None:
        """Bring the members up to the window's end, and let in those that wait."""
        if window.epoch != state.epoch:
            for connection in self._live(group, state):
                connection.move_counted(group, window.epoch, window.after)
            if state.epoch:
                logger.warning(
                    "The history of group %r has begun anew: its members are told.", group
                )
            state.epoch, state.n = window.epoch, window.after
            state.recent = _Recent((), state.limits.messages)
        self._skip(group, state, window.after)
        for n, payload in enumerate(window.messages, window.after + 1):
            if n > state.n:
                self._push(group, state, n, payload)
        pushed = [] if state.recent is None else list(state.recent.messages)
        first = state.n - len(pushed)  # of what was pushed since the read began, and before it
        before = window.messages[: max(0, first - window.after)] if first <= window.n else []
        state.recent = _Recent([*before, *pushed], state.limits.messages)
        for connection in list(state.joining):
            if not self._admit(group, connection, state.recent, is_final=connection in asked):
                state.read_again = True
        self._push_ahead(group, state)
        if state.ahead:
            self._look_soon(group, state)

    def _admit(
        self,
        group: str,
        connection: Connection,
        recent: _Recent,
        *,
        is_final: bool = False,
    ) -> bool:
        """Let in a member that waits, if what it has missed is at hand.

        Otherwise it has to wait for a read that begins behind its join, and ``is_final`` then: its
        position is that of the store, and nothing that was counted before is sent to it.
        """
        state = self._groups[group]
        offered = state.joining[connection].offered
        missed = None
        if offered is not None and offered.epoch == state.epoch:
            count = state.n - offered.n
            if 0 <= count <= len(recent.messages):
                missed = list(recent.messages)[len(recent.messages) - count :]
        if missed is not None and not connection.can_take(group, missed):
            missed = None
        if missed is None and not is_final:
            return False
        joining = state.joining.pop(connection)
        joined = connection.join_counted(group, state.epoch, state.n, missed)
        if not joining.done.done():
            joining.done.set_result(joined)
        return True

    def _give_up(self, group: str, state: _Group, error: TryAgainLater) -> None:
        """Turn away who waits, and go on behind what cannot be had."""
        self._fail(state, error)
        if self._groups.get(group) is not state:
            return
        self._skip(group, state, max((n for _, n in state.ahead), default=0))

    def _fail(self, state: _Group, error: TryAgainLater) -> None:
        waiting, state.joining = state.joining, {}
        for joining in waiting.values():
            if not joining.done.done():
                joining.done.set_exception(error)

    def _skip(self, group: str, state: _Group, last: int) -> None:
        """Go on behind position ``last``: what was not held back up to there is lost."""
        while (n := state.next_ahead()) is not None and n <= last:
            self._report_lost(group, state, n - 1)
            self._push_ahead(group, state)
        self._report_lost(group, state, last)

    def _report_lost(self, group: str, state: _Group, last: int) -> None:
        """Tell the members that they do not get what follows up to ``last``."""
        missed = last - state.n
        if missed <= 0:
            return
        state.n = last
        if state.recent is not None:
            state.recent.messages.clear()  # they are to lead up to the place without a hole
        self._on_lost(missed)
        for connection in self._live(group, state):
            connection.tell_gap(group, missed)
