"""What a session makes of the frames it receives."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

__all__ = [
    "Accepted",
    "Binding",
    "Bytes",
    "Closed",
    "Gap",
    "GroupText",
    "HandshakeDone",
    "HelloReceived",
    "Joined",
    "Left",
    "Position",
    "SessionEvent",
    "Stamped",
    "Text",
]


class HelloReceived(NamedTuple):
    """Client: the server spoke first, and names its key by ``kid`` (8 bytes). A reply is due."""

    kid: bytes


class Binding(NamedTuple):
    """The WebSocket request as the client made it, told under the session key.

    The server compares it with the request that arrived; see ``docs/protocol.md``, *Binding*.
    """

    offered: tuple[str, ...]
    """Every subprotocol token of the request, in order."""
    host: str
    """The host name in lower case, IPv6 in brackets, without a port."""
    target: str
    """Path and query as the request line has them: ASCII, percent-encoded."""


class Position(NamedTuple):
    """A place among the messages of a group with history: behind its ``n``-th message.

    See ``docs/protocol.md``, *History*.
    """

    group: str
    epoch: str
    """16 lower-case hexadecimal digits; the messages of another epoch are others."""
    n: int
    """From 0 to 2^53 - 1."""


class HandshakeDone(NamedTuple):
    """Server: the client has proved that it holds the key and is live."""

    subprotocols: tuple[str, ...]
    """What the client offers the application."""
    binding: Binding
    """Not compared with anything yet."""
    resume: tuple[Position, ...] | None = None
    """Up to where the client has group messages; ``None`` if it knows nothing of positions."""


class Accepted(NamedTuple):
    """Client: the application accepted the connection."""

    subprotocol: str | None


class Text(NamedTuple):
    """A text message, whole."""

    data: str


class Bytes(NamedTuple):
    """A binary message, whole."""

    data: bytes


class Closed(NamedTuple):
    """The peer said, authenticated, that it closes. Nothing follows."""

    code: int
    reason: str


class Gap(NamedTuple):
    """Client: ``missed`` messages (at least 1) to ``group`` were lost before they got here."""

    group: str
    missed: int


class Joined(NamedTuple):
    """Client: the connection was joined to a group with history; its messages have positions."""

    id: int
    """Names the membership: 1 to 2^32 - 1, never used twice in a connection."""
    position: Position
    """The messages behind it follow."""
    recovered: bool
    """Whether it is the position that this client offered, so that nothing is left out."""


class Left(NamedTuple):
    """Client: the membership ``id`` of ``group`` has ended; its position is of no use any more."""

    id: int
    group: str = ""
    """Filled in by the session."""


class GroupText(NamedTuple):
    """Client: a text message to a group with history, whole."""

    data: str
    position: Position


class Stamped(NamedTuple):
    """Server: a text message to a group with history, to be sealed for one member."""

    id: int
    """That of the member's ``joined``."""
    n: int
    text: str


SessionEvent: TypeAlias = (
    HelloReceived
    | HandshakeDone
    | Accepted
    | Text
    | Bytes
    | Closed
    | Gap
    | Joined
    | Left
    | GroupText
)
