"""What a session makes of the frames it receives."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

__all__ = [
    "Accepted",
    "Binding",
    "Bytes",
    "Closed",
    "Gap",
    "HandshakeDone",
    "HelloReceived",
    "SessionEvent",
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


class HandshakeDone(NamedTuple):
    """Server: the client has proved that it holds the key and is live."""

    subprotocols: tuple[str, ...]
    """What the client offers the application."""
    binding: Binding
    """Not compared with anything yet."""


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


SessionEvent: TypeAlias = HelloReceived | HandshakeDone | Accepted | Text | Bytes | Closed | Gap
