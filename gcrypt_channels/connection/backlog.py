"""What waits for a slow client: its group messages, within bounds, and the gaps to report."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable

from ..conf import conf
from ..outbox import MIN_CHARGE, Event, Outbox, as_event
from ..protocol.classic import ClassicSession
from ..protocol.events import Stamped
from ..protocol.secure import SecureSession


class _Gap:
    """A gap that is queued; what is lost until it is sealed is added to it."""

    __slots__ = ("group", "missed")

    def __init__(self, group: str, missed: int) -> None:
        self.group = group
        self.missed = missed


class Backlog:
    """The group messages of one connection that were not sent yet.

    Past ``GCRYPT["BACKLOG_SIZE"]`` a message is dropped, and the client is told of a gap when it
    reads again. What the client has to know of its groups is never dropped: past twice that size
    the connection is given up. Nothing here waits for the client, and what waits for it is bounded:
    each item counts at least :data:`~gcrypt_channels.outbox.MIN_CHARGE` bytes, and the gaps of a
    group merge.
    """

    __slots__ = (
        "_gaps",
        "_give_up",
        "_held",
        "_held_size",
        "_missed",
        "_outbox",
        "_session",
        "_started",
    )

    def __init__(
        self,
        outbox: Outbox,
        session: SecureSession | ClassicSession,
        give_up: Callable[[], None],
    ) -> None:
        self._outbox = outbox
        self._session = session
        self._give_up = give_up
        self._started = False
        self._held: deque[Callable[[], object]] | None = None
        self._held_size = 0
        self._missed: Counter[str] | None = None  # not reported yet, by group
        self._gaps: dict[str, _Gap] | None = None  # in the queue of the outbox, by group

    def start(self) -> None:
        """Send what waited for the accept."""
        held, self._held = self._held, None
        for put in held or ():
            put()
        self._started = True
        self.report()

    def push(self, group: str, message: str | Stamped, size: int) -> bool:
        """Send a group message of ``size`` bytes; false if it is a gap instead."""
        if size > self._session.peer_max_message:
            self.add_gap(group, 1)
            return False
        charge = max(size, MIN_CHARGE)
        if not (self._may_queue(group, charge) if self._started else self._may_hold(charge)):
            self._count_missed(group, 1)
            return False
        if not self._started:
            self._hold(lambda: self._outbox.put(message, group, size), charge)
            return True
        if self._gaps is not None:
            self._gaps.pop(group, None)  # a later gap is reported behind this message
        self._outbox.put(message, group, size)
        return True

    def fits(self, group: str, sizes: Iterable[int]) -> bool:
        """Whether messages of these sizes, in bytes, can be pushed behind one that is told."""
        waiting = self._outbox.backlog if self._started else self._held_size
        left = conf.backlog_size - waiting - MIN_CHARGE
        for size in sizes:
            left -= max(size, MIN_CHARGE)
            if size > self._session.peer_max_message or left < 0:
                return False
        return self._missed is None or group not in self._missed

    def tell(self, make: Callable[[], Iterable[Event]]) -> None:
        """Send what ``make`` yields when its turn comes, in order with the group messages."""
        waiting = self._outbox.backlog if self._started else self._held_size
        if waiting + MIN_CHARGE > 2 * conf.backlog_size:
            self._give_up()
        elif self._started:
            self._outbox.put_made(make)
        else:
            self._hold(lambda: self._outbox.put_made(make), MIN_CHARGE)

    def _hold(self, put: Callable[[], object], charge: int) -> None:
        if self._held is None:
            self._held = deque()
        self._held.append(put)
        self._held_size += charge

    def add_gap(self, group: str, missed: int) -> None:
        """Report ``missed`` lost messages of ``group`` behind what is queued."""
        if self._gaps is not None and group in self._gaps:
            self._gaps[group].missed += missed
        elif self._started and self._may_queue(group, MIN_CHARGE):
            self._queue_gap(group, missed)
        else:
            self._count_missed(group, missed)

    def report(self) -> None:
        """Report the gaps that had to wait; called when the queue has become empty."""
        if self._missed is None or not self._started:
            return
        missed, self._missed = self._missed, None
        for group, count in missed.items():
            self._queue_gap(group, count)

    def _count_missed(self, group: str, missed: int) -> None:
        if self._missed is None:
            self._missed = Counter()
        self._missed[group] += missed

    def _may_hold(self, charge: int) -> bool:
        """True if an item may wait for the accept."""
        return self._held_size + charge <= conf.backlog_size

    def _may_queue(self, group: str, charge: int) -> bool:
        """True if an item may be queued.

        After a drop the group stays blocked until the gap has been reported. A single message may
        be larger than the bound.
        """
        if self._outbox.idle:
            return True
        if self._missed is not None and group in self._missed:
            return False
        return self._outbox.backlog + charge <= conf.backlog_size

    def _queue_gap(self, group: str, missed: int) -> None:
        gap = _Gap(group, missed)
        if self._gaps is None:
            self._gaps = {}
        self._gaps[group] = gap
        self._outbox.put_made(lambda: self._seal_gap(gap))

    def _seal_gap(self, gap: _Gap) -> list[Event]:
        if self._gaps is not None and self._gaps.get(gap.group) is gap:
            del self._gaps[gap.group]
        return [as_event(frame) for frame in self._session.seal_gap(gap.group, gap.missed)]
