"""Opens the messages to a process's groups: each once, in order, and tells what is missing."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Final, NamedTuple

from ..exceptions import DecryptionFailed
from .envelope import Body, Envelope, Kind

CLOCK_SKEW: Final = 1_000_000_000
"""Nanoseconds by which the clocks of two servers may differ without a message being lost."""

MAX_SEEN: Final = 10_000
"""Pairs of group and sender that one receiver remembers."""


class Lost(NamedTuple):
    """A hole in a sender's numbers; :meth:`since` says how much of it concerns a member."""

    messages: int
    before: int  # when the message before the hole was sent, in ns; 0: it is not known
    first_sent: int  # when the first lost message was sent, in ns; 0: it is not known
    last_sent: int  # when the last lost message was sent, in ns

    def since(self, joined_at: int) -> int:
        """How many messages a member that joined at ``joined_at`` (ns) missed, at least."""
        if self.last_sent < joined_at:
            return 0
        if joined_at <= max(self.before, self.first_sent):
            return self.messages
        return 1


class Opened(NamedTuple):
    """A group message that is authentic, fresh and new."""

    sender: bytes
    kind: Kind
    payload: bytes
    lost: Lost | None


class _Seen(NamedTuple):
    number: int
    sent: int


class Receiver:
    """The opening side: what arrived from each sender, and what therefore must be missing."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[bytes, bytes], _Seen] = OrderedDict()
        self._forgotten = 0  # nothing that was sent up to here (ns) is known to be missing or new

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
        if abs(time.time_ns() - envelope.sent) > expiry * 1e9 or (
            envelope.sent < oldest if seen is None else envelope.number <= seen.number
        ):
            raise DecryptionFailed
        self._remember(key, _Seen(envelope.number, envelope.sent))
        lost = self._lost(envelope.number, body, seen)
        return Opened(envelope.sender, body.kind, body.payload, lost)

    def _lost(self, number: int, body: Body, seen: _Seen | None) -> Lost | None:
        if seen is not None:
            missing = number - seen.number - 1
            return Lost(missing, seen.sent, 0, body.previous) if missing else None
        if not number or body.previous <= self._forgotten:
            return None
        first_sent = body.started if body.started > self._forgotten else 0
        return Lost(number, 0, first_sent, body.previous)

    def _remember(self, key: tuple[bytes, bytes], seen: _Seen) -> None:
        self._seen[key] = seen
        self._seen.move_to_end(key)
        if len(self._seen) > MAX_SEEN:
            _, evicted = self._seen.popitem(last=False)
            self._forgotten = max(self._forgotten, evicted.sent)
