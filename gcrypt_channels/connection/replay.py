"""One connection's memberships of groups with history: positions, ids, and what is replayed.

See ``docs/protocol.md``, *History*.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from ..outbox import as_event
from ..protocol import events
from ..protocol.classic import ClassicSession
from ..protocol.events import Position, Stamped
from ..protocol.secure import SecureSession
from .backlog import Backlog


class Joined(NamedTuple):
    """What came of joining a group.

    Attributes:
        position: the number of the message behind which those of the group follow; ``None`` if the
            group has no history.
        recovered: whether the client gets everything that it has missed since it was connected
            last. Otherwise it needs the present state from elsewhere.
    """

    position: int | None
    recovered: bool


class _Membership:
    """A group joined: the id that the client knows it by, and up to where messages were pushed."""

    __slots__ = ("epoch", "id", "n")

    def __init__(self, number: int, epoch: str, n: int) -> None:
        self.id = number
        self.epoch = epoch
        self.n = n


class Replay:
    """What one connection is told of positions."""

    __slots__ = ("_backlog", "_last_id", "_memberships", "_offered", "_session")

    def __init__(self, backlog: Backlog, session: SecureSession | ClassicSession) -> None:
        self._backlog = backlog
        self._session = session
        self._offered: dict[str, Position] | None = None  # None: it knows nothing of positions
        self._memberships: dict[str, _Membership] | None = None  # made for the first
        self._last_id = 0

    def offer(self, resume: Sequence[Position] | None) -> None:
        """Remember the positions that the client has offered, each for one join."""
        if resume is not None:
            self._offered = {position.group: position for position in resume}

    def offered(self, group: str) -> Position | None:
        """The position that the client has offered, if it was not used yet."""
        return None if self._offered is None else self._offered.get(group)

    def has(self, group: str) -> bool:
        """Whether there is a membership of ``group``."""
        return self._memberships is not None and group in self._memberships

    def join(self, group: str, epoch: str, n: int, missed: Sequence[bytes] | None) -> Joined:
        """Begin a membership behind position ``n``, where everything up to it was pushed.

        Args:
            group: a group that is not joined.
            epoch: the present one.
            n: the present position.
            missed: what the client has missed, up to ``n``, as JSON text that fits into the
                backlog; ``None`` if it cannot be had.
        """
        if self._offered is not None:
            self._offered.pop(group, None)
        recovered = missed is not None
        n -= len(missed or ())
        self._enter(group, epoch, n, recovered=recovered)
        for number, text in enumerate(missed or (), n + 1):
            self.push(group, text.decode(), epoch, number, len(text))
        return Joined(n, recovered)

    def move(self, group: str, epoch: str, n: int) -> None:
        """Go on in another epoch behind position ``n``; what came between is lost or not known."""
        self.leave(group)
        self._enter(group, epoch, n, recovered=False)

    def leave(self, group: str) -> None:
        """End a membership, if there is one."""
        left = None if self._memberships is None else self._memberships.pop(group, None)
        if left is not None and self._offered is not None:
            self._tell(lambda session: session.seal_left(left.id))

    def push(self, group: str, text: str, epoch: str, n: int, size: int) -> bool:
        """Send the ``n``-th message of an epoch, unless it is none of what follows the position.

        False if it is a gap instead.
        """
        membership = None if self._memberships is None else self._memberships.get(group)
        if membership is None or membership.epoch != epoch or n <= membership.n:
            return True
        membership.n = n
        message = text if self._offered is None else Stamped(membership.id, n, text)
        return self._backlog.push(group, message, size)

    @property
    def tells(self) -> bool:
        """Whether the client is told of positions, and so of a new epoch."""
        return self._offered is not None

    def _enter(self, group: str, epoch: str, n: int, *, recovered: bool) -> None:
        self._last_id += 1
        if self._memberships is None:
            self._memberships = {}
        self._memberships[group] = _Membership(self._last_id, epoch, n)
        if self._offered is not None:
            joined = events.Joined(self._last_id, Position(group, epoch, n), recovered)
            self._tell(lambda session: session.seal_joined(joined))

    def _tell(self, seal: Callable[[SecureSession], Iterable[bytes]]) -> None:
        session = self._session
        if isinstance(session, SecureSession):
            self._backlog.tell(lambda: [as_event(frame) for frame in seal(session)])
