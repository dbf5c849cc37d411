"""A session key as the key endpoint writes it."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from typing import TypeGuard

from ..crypto.psk import SessionKey

__all__ = ["KeySource", "parse_key"]

KeySource = Callable[[], Awaitable[SessionKey]]


def _has_size(value: object, size: int) -> TypeGuard[bytes]:
    return isinstance(value, bytes) and len(value) == size


def parse_key(kid: bytes | str | None, psk: bytes | str | None) -> SessionKey:
    """Return the session key of ``kid`` (8 bytes, or hex) and ``psk`` (32 bytes, or base64url).

    Raises ``ValueError`` when they are something else.
    """
    try:
        if isinstance(kid, str):
            kid = bytes.fromhex(kid)
        if isinstance(psk, str):
            psk = base64.b64decode(psk + "=" * (-len(psk) % 4), altchars=b"-_", validate=True)
        if _has_size(kid, 8) and _has_size(psk, 32):
            return SessionKey(kid=kid, psk=psk)
    except ValueError:
        pass
    finally:
        del kid, psk  # an error report prints local variables
    # Raised out here: a decoder's error, as a context, could carry the key along.
    raise ValueError(
        "gcrypt.v3 and gcrypt.v2 need kid (8 bytes, or hex) and psk (32, or base64url)"
    )
