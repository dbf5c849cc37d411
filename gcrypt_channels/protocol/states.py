"""The states of a connection of ``gcrypt.v2`` or ``gcrypt.v3``, in one table.

Two rules go with it:

1. Both sides walk the same table, each frame being a step that either the server or the client
   takes. A step that the table does not show is a failure: of the peer's when it was received
   (close 4400), of the local caller's when it was to be sent (``LocalError``).
2. From every state, the first failure leads to ``FAILED``, and nothing leads out of it. Only a
   message over our limit, whose frames were valid, leads to ``OVERFLOWED`` and one last close.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, IntEnum, auto
from typing import Final, TypeAlias

__all__ = ["TRANSITIONS", "State", "Step", "Steps"]


class State(Enum):
    """Where a connection is, as far as one side of it knows."""

    START = auto()
    GREETED = auto()
    """HELLO is out, REPLY is due."""
    READY = auto()
    """The keys are agreed, the application has not accepted yet."""
    OPEN = auto()
    REFUSED = auto()
    """The server closed instead of accepting."""
    ABANDONED = auto()
    """The client closed before it was accepted."""
    SERVER_CLOSED = auto()
    """The server closed; what the client had sent before it knew may still come."""
    CLIENT_CLOSED = auto()
    """The client closed; what the server had sent before it knew may still come."""
    CLOSED = auto()
    OVERFLOWED = auto()
    """A message was over our limit; the close that says so is all that may follow."""
    FAILED = auto()


class Step(IntEnum):
    """What a frame means to the state; an IntEnum, because those hash without Python code."""

    HELLO = auto()
    REPLY = auto()
    ACCEPT = auto()
    DATA = auto()
    GROUP = auto()
    """A gap, a ``joined``, a ``left``, or a message to a group with history."""
    CLOSE = auto()
    IGNORED = auto()
    """A control message of a type that this version does not know."""


Steps: TypeAlias = Mapping[Step, State]

TRANSITIONS: Final[Mapping[State, tuple[Steps, Steps]]] = {
    # state: (what the server may do, what the client may do)
    State.START: (
        {Step.HELLO: State.GREETED},
        {},
    ),
    State.GREETED: (
        {},
        {Step.REPLY: State.READY},
    ),
    State.READY: (
        {Step.ACCEPT: State.OPEN, Step.CLOSE: State.REFUSED, Step.IGNORED: State.READY},
        {Step.CLOSE: State.ABANDONED, Step.IGNORED: State.READY},
    ),
    State.OPEN: (
        {
            Step.DATA: State.OPEN,
            Step.GROUP: State.OPEN,
            Step.CLOSE: State.SERVER_CLOSED,
            Step.IGNORED: State.OPEN,
        },
        {Step.DATA: State.OPEN, Step.CLOSE: State.CLIENT_CLOSED, Step.IGNORED: State.OPEN},
    ),
    State.REFUSED: (
        {},
        {Step.CLOSE: State.CLOSED, Step.IGNORED: State.REFUSED},
    ),
    State.ABANDONED: (
        {
            Step.ACCEPT: State.CLIENT_CLOSED,
            Step.CLOSE: State.CLOSED,
            Step.IGNORED: State.ABANDONED,
        },
        {},
    ),
    State.SERVER_CLOSED: (
        {},
        {
            Step.DATA: State.SERVER_CLOSED,
            Step.CLOSE: State.CLOSED,
            Step.IGNORED: State.SERVER_CLOSED,
        },
    ),
    State.CLIENT_CLOSED: (
        {
            Step.DATA: State.CLIENT_CLOSED,
            Step.GROUP: State.CLIENT_CLOSED,
            Step.CLOSE: State.CLOSED,
            Step.IGNORED: State.CLIENT_CLOSED,
        },
        {},
    ),
    State.CLOSED: ({}, {}),
    State.OVERFLOWED: (
        {Step.CLOSE: State.CLOSED},
        {Step.CLOSE: State.CLOSED},
    ),
    State.FAILED: ({}, {}),
}
