"""Opens the messages to the groups of a process, and finds what is missing."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Final, NamedTuple

from ..exceptions import DecryptionFailed
from .envelope import Body, Envelope, MessageKind

CLOCK_SKEW: Final = 1_000_000_000
"""Nanoseconds by which the clocks of two servers may differ without a message being lost."""

MAX_SEEN: Final = 10_000
"""Pairs of group and sender that one receiver remembers."""


class Lost(NamedTuple):
    """Messages that a sender has numbered and that did not arrive.

    ``after`` is when the last message before them arrived here, 0 if none is known, and ``until``
    when the sender sent the last of them; both in ns.
    """

    messages: int
    after: int
    until: int

    def since(self, joined_at: int) -> int:
        """How many messages a member that joined at ``joined_at`` (ns) missed, at least.

        A member that was here when the last one before them arrived missed them all, though it may
        have joined after they were sent.
        """
        if joined_at <= self.after:
            return self.messages
        return int(joined_at <= self.until)


class Opened(NamedTuple):
    """A group message that is authentic, fresh and new."""

    sender: bytes
    kind: MessageKind
    payload: bytes
    lost: Lost | None


class _Seen(NamedTuple):
    number: int
    sent: int
    arrived: int


class Receiver:
    """The last message that arrived from each sender to each group."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[bytes, bytes], _Seen] = OrderedDict()
        self._forgotten = 0  # what was sent up to here (ns) may have been opened or told already

    def open(self, envelope: Envelope, group: str, *, joined_at: int, expiry: float) -> Opened:
        """Open one message.

        Args:
            envelope: the message.
            group: the group that its tag names.
            joined_at: since when (ns) this process has been receiving the group's messages.
            expiry: seconds after which a message is stale.

        Raises:
            DecryptionFailed: it is garbled, forged, for another group, stale or a replay.
        """
        body = Body.parse(envelope.open(group))
        key = envelope.tag, envelope.sender
        seen = self._seen.get(key)
        oldest = max(joined_at - CLOCK_SKEW, self._forgotten + 1)
        now = time.time_ns()
        if abs(now - envelope.sent) > expiry * 1e9 or (
            envelope.sent < oldest if seen is None else envelope.number <= seen.number
        ):
            raise DecryptionFailed
        self._remember(key, _Seen(envelope.number, envelope.sent, now))
        lost = self._lost(envelope.number, body, seen)
        return Opened(envelope.sender, body.kind, body.payload, lost)

    def _lost(self, number: int, body: Body, seen: _Seen | None) -> Lost | None:
        expected, after = (0, 0) if seen is None else (seen.number + 1, seen.arrived)
        if number == expected or (seen is None and body.previous <= self._forgotten):
            return None
        return Lost(number - expected, after, body.previous)

    def _remember(self, key: tuple[bytes, bytes], seen: _Seen) -> None:
        self._seen[key] = seen
        self._seen.move_to_end(key)
        if len(self._seen) > MAX_SEEN:
            _, evicted = self._seen.popitem(last=False)
            self._forgotten = max(self._forgotten, evicted.sent)
