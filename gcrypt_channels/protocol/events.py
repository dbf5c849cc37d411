"""What a session makes of the frames it receives."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

__all__ = [
    "Accepted",
    "Bytes",
    "Closed",
    "Event",
    "Gap",
    "HandshakeDone",
    "HelloReceived",
    "Text",
]


class HelloReceived(NamedTuple):
    """Client: the server spoke first, and names its key by ``kid`` (8 bytes). A reply is due."""

    kid: bytes


class HandshakeDone(NamedTuple):
    """Server: the client has proved that it holds the key and is live."""

    subprotocols: tuple[str, ...]
    """What the client offers the application."""


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


Event: TypeAlias = HelloReceived | HandshakeDone | Accepted | Text | Bytes | Closed | Gap
