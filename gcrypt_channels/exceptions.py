"""Every error that this package raises on purpose.

::

    GcryptError
     ├─ LocalError              this side misused the API; never caused by a peer
     ├─ ProtocolError           a peer, or the lack of something it needs, ends the connection
     │   ├─ InvalidFrame        4400  cryptographic, format or order failure
     │   │   └─ DecryptionFailed      …of one ciphertext
     │   ├─ MessageTooBig       1009
     │   ├─ NoSessionKey        4401
     │   ├─ NoProfile           4406
     │   ├─ HandshakeTimeout    4408
     │   ├─ ServiceRestart      1012
     │   └─ TryAgainLater       1013
     └─ ConnectionClosed        a client's connection has ended

The close codes are those of ``docs/protocol.md``, *Close codes*. No message holds a key, a
passphrase or a payload: all of them may be logged.
"""

from __future__ import annotations

from functools import partial
from typing import Any

__all__ = [
    "ConnectionClosed",
    "DecryptionFailed",
    "GcryptError",
    "HandshakeTimeout",
    "InvalidFrame",
    "LocalError",
    "MessageTooBig",
    "NoProfile",
    "NoSessionKey",
    "ProtocolError",
    "ServiceRestart",
    "TryAgainLater",
]


class GcryptError(Exception):
    """The root of the tree."""


class LocalError(GcryptError):
    """This side called something that is not allowed: sealed after its close, replied twice."""

    def __str__(self) -> str:
        return super().__str__() or "operation not allowed in this state"


class ProtocolError(GcryptError):
    """A failure that closes the connection.

    ``code`` is the WebSocket close code, ``reason`` a short text that is safe to send to the peer,
    and ``cause`` what this side's log says instead of it.
    """

    code: int = 1002
    reason: str = "protocol error"

    def __init__(self, reason: str | None = None, *, cause: str = "") -> None:
        super().__init__()
        self.cause = cause
        if reason is not None:
            self.reason = reason

    def __str__(self) -> str:
        return f"{self.reason} (close code {self.code})"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.reason!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), cause=self.cause), (self.reason,)


class InvalidFrame(ProtocolError):
    """A frame is not valid. The failed check is deliberately not disclosed."""

    code = 4400
    reason = "invalid frame"


class DecryptionFailed(InvalidFrame):
    """One ciphertext did not open. The failed check is deliberately not disclosed."""


class MessageTooBig(ProtocolError):
    """A message is larger than the side that would receive it allows."""

    code = 1009
    reason = "message too big"


class NoSessionKey(ProtocolError):
    """There is no session that may have a key, or it has ended: the user has to log in."""

    code = 4401
    reason = "no session key"


class NoProfile(ProtocolError):
    """No acceptable profile was offered, or plaintext came where encryption is required."""

    code = 4406
    reason = "no acceptable profile"


class HandshakeTimeout(ProtocolError):
    """The peer did not complete the handshake in time."""

    code = 4408
    reason = "handshake timed out"


class ServiceRestart(ProtocolError):
    """The server stops; another one takes its place."""

    code = 1012
    reason = "service restart"


class TryAgainLater(ProtocolError):
    """A service that the server depends on is down: the session store or the channel layer."""

    code = 1013
    reason = "try again later"


class ConnectionClosed(GcryptError):
    """A client's connection has ended.

    Attributes:
        code: the close code; see ``docs/protocol.md``, *Close codes*.
        reason: a short text, ``""`` for none.
        authentic: true if a sealed close was sent or received. Otherwise anybody on the wire may
            have ended the connection, and messages may be missing at its end.
    """

    def __init__(self, code: int = 1006, reason: str = "", *, authentic: bool = False) -> None:
        super().__init__()
        self.code = code
        self.reason = reason
        self.authentic = authentic

    def __str__(self) -> str:
        kind = "authenticated close" if self.authentic else "unauthenticated close"
        return f"{kind}, code {self.code}" + (f": {self.reason}" if self.reason else "")

    def __repr__(self) -> str:
        authentic = ", authentic=True" if self.authentic else ""
        return f"ConnectionClosed({self.code}, {self.reason!r}{authentic})"

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(ConnectionClosed, authentic=self.authentic), (self.code, self.reason)
