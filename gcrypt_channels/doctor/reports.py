"""What the doctor says of an exception."""

from __future__ import annotations

from typing import Final

__all__ = ["describe"]

MAX_LENGTH: Final = 300
"""Characters of an exception's text that are shown."""


def describe(error: BaseException) -> str:
    """Name an exception on one line, without its traceback."""
    text = " ".join(str(error).split())[:MAX_LENGTH]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
