"""The sealing of tickets: who may connect, under a key that only the issuer and the holder know.

See ``docs/protocol.md``, *Tickets*. What the claims say is not decided here. Sizes are in bytes.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from typing import Final

from ..exceptions import DecryptionFailed
from . import primitives
from .psk import SessionKey

__all__ = ["open_ticket", "seal_ticket"]

_VERSION: Final = b"\x01"
_SALT_SIZE: Final = 16
_TAG_SIZE: Final = 16
_HEADER_SIZE: Final = len(_VERSION) + _SALT_SIZE
_NONCE: Final = bytes(12)
"""A key seals one ticket alone, so that its nonce may be fixed."""

_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")


def seal_ticket(
    secret: bytes, claims: bytes, *, salt: bytes | None = None
) -> tuple[str, SessionKey]:
    """Return a ticket, as base64url without padding, and the key of its connections.

    ``salt`` (16) is drawn at random unless it is given. It must never be used twice.
    """
    if salt is None:
        salt = primitives.random_bytes(_SALT_SIZE)
    header = _VERSION + salt
    sealed = header + _aead(secret, salt).seal(_NONCE, claims, header)
    text = base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()
    return text, _session_key(secret, salt, sealed)


def open_ticket(secrets: Iterable[bytes], ticket: str) -> tuple[bytes, SessionKey]:
    """Return the claims in a ticket, and the key of its connections.

    Each of ``secrets`` is tried. Raises ``DecryptionFailed`` where none of them opens the ticket,
    and for any text that :func:`seal_ticket` does not return.
    """
    sealed = _decode(ticket)
    if len(sealed) < _HEADER_SIZE + _TAG_SIZE or not sealed.startswith(_VERSION):
        raise DecryptionFailed
    header, salt = sealed[:_HEADER_SIZE], sealed[len(_VERSION) : _HEADER_SIZE]
    for secret in secrets:
        try:
            claims = _aead(secret, salt).open(_NONCE, sealed[_HEADER_SIZE:], header)
        except DecryptionFailed:
            continue
        return claims, _session_key(secret, salt, sealed)
    raise DecryptionFailed


def _decode(ticket: str) -> bytes:
    """Decode canonical base64url: every ticket has one form alone."""
    if _BASE64URL.fullmatch(ticket) is None or len(ticket) % 4 == 1:
        raise DecryptionFailed
    sealed = base64.urlsafe_b64decode(ticket + "=" * (-len(ticket) % 4))
    if base64.urlsafe_b64encode(sealed).rstrip(b"=").decode() != ticket:
        raise DecryptionFailed  # bits that mean nothing are set
    return sealed


def _aead(secret: bytes, salt: bytes) -> primitives.AesGcm:
    key = primitives.hkdf(secret, salt=salt, info=b"gcrypt ticket seal", length=32)
    return primitives.AesGcm(key)


def _session_key(secret: bytes, salt: bytes, sealed: bytes) -> SessionKey:
    digest = primitives.sha256(sealed)
    psk = primitives.hkdf(secret, salt=salt, info=b"gcrypt ticket psk" + digest, length=32)
    kid = primitives.hkdf(secret, salt=salt, info=b"gcrypt ticket kid" + digest, length=8)
    return SessionKey(kid=kid, psk=psk)
