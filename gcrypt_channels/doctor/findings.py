"""What a probe has found."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

__all__ = ["Finding", "Level"]


class Level(Enum):
    """How bad it is; the value is what the table shows."""

    OK = "ok"
    ADVICE = "advice"
    """What cannot be seen from here, and is worth a look."""
    WARNING = "warning"
    FAILURE = "failure"
    """Encrypted WebSockets do not work, or not as they should, until it is mended."""


class Finding(NamedTuple):
    """One line of the table, and what to do about it."""

    level: Level
    subject: str
    message: str
    advice: str = ""
