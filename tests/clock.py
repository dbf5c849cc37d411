from __future__ import annotations

SECOND = 1_000_000_000


class Clock:
    """Stands in for the module `time`, so that a test decides when something happens."""

    def __init__(self) -> None:
        self.now = 1_800_000_000 * SECOND

    def time_ns(self) -> int:
        self.now += 1000
        return self.now

    def pass_seconds(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)
