"""Text as a stranger may choose it, and what may come of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import strategies as st

# Not st.text(), which draws a surrogate in one of a hundred texts, however often it is offered.
ANY_TEXT = st.lists(st.characters() | st.sampled_from("\ud800\udbff\udfff")).map("".join)
"""Any `str`; most have a lone surrogate."""


@contextmanager
def documented(*errors: type[Exception]) -> Iterator[None]:
    """Let these errors pass; a `UnicodeError`, which is a `ValueError`, is never documented."""
    try:
        yield
    except errors as error:
        if isinstance(error, UnicodeError):
            raise
