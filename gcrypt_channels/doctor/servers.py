"""The ASGI servers that are installed: their limits are set where this process cannot look."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from django.core.exceptions import ImproperlyConfigured

from ..conf import conf
from ..protocol.frames import MAX_TRANSPORT_FRAME
from ..protocol.profiles import V1
from .findings import Finding, Level

__all__ = ["examine_servers"]

DAPHNE_FRAME = 1_048_576
"""The largest WebSocket message, in bytes, that daphne takes unless it is told otherwise."""


def examine_servers() -> Iterator[Finding]:
    """Say what the server in use has to allow."""
    try:
        profiles, max_message = conf.profiles, conf.max_message_size
    except ImproperlyConfigured:
        return  # among the settings' own findings
    if find_spec("daphne") is not None and V1 in profiles and _v1_frame(max_message) > DAPHNE_FRAME:
        yield Finding(
            Level.ADVICE,
            "daphne",
            f"takes frames of {DAPHNE_FRAME:,} bytes by default; a gcrypt.v1 message of "
            f"{max_message:,} bytes makes one of {_v1_frame(max_message):,}.",
            "Send large messages with gcrypt.v2, which divides them, or start it with "
            "--websocket-max-message-size and --websocket-max-frame-size.",
        )
    if find_spec("uvicorn") is not None:
        largest = max(MAX_TRANSPORT_FRAME, _v1_frame(max_message) if V1 in profiles else 0)
        yield Finding(
            Level.ADVICE,
            "uvicorn",
            "compresses frames by default, which costs time and gains nothing on ciphertext.",
            "Start it with --ws-per-message-deflate false, and with --ws-max-size, if at all, of "
            f"{largest} or more.",
        )


def _v1_frame(message: int) -> int:
    """The size of a ``gcrypt.v1`` frame around so many bytes: base64, and the object around it."""
    return (message // 16 + 1) * 16 * 4 // 3 + 80
