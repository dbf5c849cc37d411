"""The pre-shared key of a handshake, and its public name."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["SessionKey"]


@dataclass(frozen=True, slots=True)
class SessionKey:
    """The key that belongs to one login session.

    Attributes:
        kid: the key's public name (8 bytes).
        psk: the secret (32 bytes), the psk of the Noise handshake.
    """

    kid: bytes
    psk: bytes = field(repr=False)
