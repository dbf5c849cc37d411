"""ML-KEM-768 by pycryptodome. It has no public interface to the KEM itself; its HPKE uses these."""

from __future__ import annotations

from typing import Any

CIPHERTEXT_SIZE, PUBLIC_SIZE = 1088, 1184


def public_key(seed: bytes) -> bytes:
    """Return the encapsulation key of a seed (64)."""
    return bytes(_key(seed=seed).ek)


def encapsulate(public: bytes, coins: bytes) -> tuple[bytes, bytes]:
    """Return ``(ciphertext, secret)`` with ``coins`` (32) for randomness."""
    secret, ciphertext = _key(ek=public)._encaps(coins)
    return ciphertext, secret


def decapsulate(seed: bytes, ciphertext: bytes) -> bytes:
    """Return the secret."""
    return bytes(_key(seed=seed)._decaps(ciphertext))


def _key(**parts: bytes) -> Any:
    # Here, because the oldest pycryptodome that the package admits has no ML-KEM.
    from Crypto.PublicKey import MLKEM

    return MLKEM.construct(param_set=MLKEM.ML_KEM_768, **parts)
