"""A session key as the key endpoint or the ticket endpoint writes it."""

from __future__ import annotations

import base64
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

from ..crypto.psk import SessionKey

__all__ = ["Credential", "KeyRefusedError", "KeySource", "ask", "parse_key"]

KeySource = Callable[[], Awaitable[SessionKey | Mapping[str, Any]]]
"""Returns a key, or a mapping with ``kid`` and ``psk`` and perhaps ``ticket``, ``expires_in``."""

MIN_LIFETIME: Final = 15
"""Seconds that a ticket must have left for an attempt to connect."""


class KeyRefusedError(OSError):
    """A site answered that it gives no key, and would answer the same again."""


@dataclass(frozen=True)
class Credential:
    """A session key, and the ticket that is offered in place of its name.

    ``ends_at`` is when the ticket expires, by ``time.monotonic``.
    """

    key: SessionKey
    ticket: str | None = None
    ends_at: float = math.inf

    @property
    def is_fresh(self) -> bool:
        """Whether the next attempt to connect may use it."""
        return self.ends_at - time.monotonic() >= MIN_LIFETIME


async def ask(source: KeySource) -> Credential:
    """Return what ``source`` gives. A ticket that does not say how long it holds is used once.

    Raises ``ValueError`` when it gives something else, and what ``source`` raises.
    """
    answer = await source()
    try:
        if isinstance(answer, SessionKey):
            return Credential(answer)
        if isinstance(answer, Mapping):
            key = parse_key(answer.get("kid"), answer.get("psk"))
            if (ticket := answer.get("ticket")) is None:
                return Credential(key)
            lifetime = answer.get("expires_in", 0)
            if isinstance(lifetime, int | float):
                return Credential(key, ticket, time.monotonic() + lifetime)
            raise ValueError("expires_in of a ticket is a number of seconds")
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
