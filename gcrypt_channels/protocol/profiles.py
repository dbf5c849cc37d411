"""The names of the profiles, which are WebSocket subprotocols as well."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from ..crypto.primitives import mlkem768_available

__all__ = [
    "PROFILES",
    "V1",
    "V2",
    "V3",
    "Profile",
    "SecureProfile",
    "is_available",
    "secure_profiles",
]

SecureProfile: TypeAlias = Literal["gcrypt.v3", "gcrypt.v2"]
"""Those with a handshake, which ``SecureSession`` serves."""
Profile: TypeAlias = Literal["gcrypt.v3", "gcrypt.v2", "gcrypt.v1"]

V1: Final = "gcrypt.v1"
V2: Final = "gcrypt.v2"
V3: Final = "gcrypt.v3"

PROFILES: Final[tuple[Profile, ...]] = (V3, V2, V1)
"""All of them, the best first."""


def is_available(profile: Profile) -> bool:
    """Tell whether the installed libraries have what a profile needs."""
    return profile != V3 or mlkem768_available()


def secure_profiles() -> tuple[SecureProfile, ...]:
    """Return those with a handshake that are available, the best first: what a client offers."""
    return (V3, V2) if is_available(V3) else (V2,)
