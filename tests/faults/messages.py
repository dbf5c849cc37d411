"""The messages of the harness: a number, and a text that follows from it."""

from __future__ import annotations

from hashlib import sha256

SHORT = 64


def text_of(number: int, size: int) -> str:
    """The `size` characters that belong to `number`, so that a mixed-up message shows."""
    digest = sha256(str(number).encode()).hexdigest()
    return (digest * (size // len(digest) + 1))[:size]


def is_intact(content: object) -> bool:
    """Whether `content` is one of these messages, unchanged."""
    return (
        isinstance(content, list)
        and len(content) == 2
        and isinstance(content[0], int)
        and isinstance(content[1], str)
        and content[1] == text_of(content[0], len(content[1]))
    )
