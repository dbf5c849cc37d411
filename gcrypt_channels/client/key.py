"""A session key as the key endpoint or the ticket endpoint writes it."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeGuard

from ..crypto.psk import SessionKey

__all__ = ["KeySource", "ask", "parse_key"]

KeySource = Callable[[], Awaitable[SessionKey | Mapping[str, Any]]]
"""Returns a key, or a mapping with ``kid`` and ``psk`` and perhaps ``ticket``."""


async def ask(source: KeySource) -> tuple[SessionKey, str | None]:
    """Return the key that ``source`` gives, and the ticket that is offered in place of its name.

    Raises ``ValueError`` when it gives something else, and what ``source`` raises.
    """
    answer = await source()
    try:
        if isinstance(answer, SessionKey):
            return answer, None
        if isinstance(answer, Mapping):
            return parse_key(answer.get("kid"), answer.get("psk")), answer.get("ticket")
    finally:
        del answer  # an error report prints local variables
    raise ValueError("key_source returns a SessionKey, or a mapping with kid and psk")


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
