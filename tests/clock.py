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


class SteadyClock(Clock):
    """Two clocks that tests set: the server's time, and one that only goes forward."""

    def __init__(self) -> None:
        super().__init__()
        self.steady = 1000 * SECOND

    def time_ns(self) -> int:
        return self.now

    def monotonic_ns(self) -> int:
        return self.steady

    def monotonic(self) -> float:
        return self.steady / SECOND

    def pass_seconds(self, seconds: float) -> None:
        super().pass_seconds(seconds)
        self.steady += int(seconds * SECOND)

    def set_back(self, seconds: float) -> None:
        self.now -= int(seconds * SECOND)
