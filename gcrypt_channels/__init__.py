"""Encrypted WebSockets for Django Channels.

The public names are loaded on first use, so that importing the package needs neither configured
settings nor a loaded app registry: ``gcrypt_channels.Crypt`` works in a plain script.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .consumers import EncryptedJsonConsumer
    from .crypto.classic import Crypt
    from .groups import broadcast, broadcast_sync, group_send, group_send_sync, user_group
    from .hub.drain import drain
    from .middleware import GcryptMiddleware
    from .revocation.revocation import (
        disconnect_session,
        disconnect_session_sync,
        disconnect_token,
        disconnect_token_sync,
        disconnect_user,
        disconnect_user_sync,
    )

__version__ = "1.0.0"

__all__ = [
    "Crypt",
    "EncryptedJsonConsumer",
    "GcryptMiddleware",
    "broadcast",
    "broadcast_sync",
    "disconnect_session",
    "disconnect_session_sync",
    "disconnect_token",
    "disconnect_token_sync",
    "disconnect_user",
    "disconnect_user_sync",
    "drain",
    "group_send",
    "group_send_sync",
    "user_group",
]

_HOMES = {
    "Crypt": "crypto.classic",
    "EncryptedJsonConsumer": "consumers",
    "GcryptMiddleware": "middleware",
    "broadcast": "groups",
    "broadcast_sync": "groups",
    "disconnect_session": "revocation.revocation",
    "disconnect_session_sync": "revocation.revocation",
    "disconnect_token": "revocation.revocation",
    "disconnect_token_sync": "revocation.revocation",
    "disconnect_user": "revocation.revocation",
    "disconnect_user_sync": "revocation.revocation",
    "drain": "hub.drain",
    "group_send": "groups",
    "group_send_sync": "groups",
    "user_group": "groups",
}


def __getattr__(name: str) -> Any:
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
