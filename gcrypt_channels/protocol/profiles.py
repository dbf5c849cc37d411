"""The names of the profiles, which are WebSocket subprotocols as well."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

__all__ = ["PROFILES", "V1", "V2", "Profile"]

Profile: TypeAlias = Literal["gcrypt.v2", "gcrypt.v1"]

V1: Final = "gcrypt.v1"
V2: Final = "gcrypt.v2"

PROFILES: Final[tuple[Profile, ...]] = (V2, V1)
"""All of them, the best first."""
