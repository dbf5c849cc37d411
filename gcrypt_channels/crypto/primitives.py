"""The cryptographic primitives, and the only file that imports a cryptographic library.

AES-CBC, for the classic profile, comes from pycryptodome, which is imported when it is first
needed; everything else from ``cryptography`` and the standard library. Sizes are in bytes.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from functools import cache
from types import ModuleType
from typing import Any, Final

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from ..exceptions import DecryptionFailed

__all__ = [
    "AesGcm",
    "MlKem768Key",
    "X25519Key",
    "aes_cbc_decrypt",
    "aes_cbc_encrypt",
    "compare",
    "hkdf",
    "hmac_sha256",
    "md5",
    "mlkem768_available",
    "mlkem768_encapsulate",
    "random_bytes",
    "scrypt",
    "sha256",
]

_GCM_NONCE_SIZE: Final = 12
_BLOCK_SIZE: Final = 16
_PADDINGS: Final = tuple(bytes([size]) * size for size in range(_BLOCK_SIZE + 1))
"""PKCS#7: as many bytes as are missing, each saying how many."""


def random_bytes(n: int) -> bytes:
    """Return ``n`` bytes from the operating system's random source."""
    return os.urandom(n)


def compare(a: bytes, b: bytes) -> bool:
    """Tell whether two secrets are equal, in a time that does not depend on where they differ."""
    return hmac.compare_digest(a, b)


def md5(data: bytes) -> bytes:
    """Return the MD5 digest (16). Only OpenSSL's key derivation, which v1 is bound to, uses it."""
    return hashlib.md5(data, usedforsecurity=False).digest()


def sha256(data: bytes) -> bytes:
    """Return the SHA-256 digest (32)."""
    return hashlib.sha256(data).digest()


def hkdf(secret: bytes, *, salt: bytes = b"", info: bytes, length: int) -> bytes:
    """Derive ``length`` bytes (at most 8160) by HKDF-SHA-256, RFC 5869 sections 2.2 and 2.3."""
    return HKDF(algorithm=SHA256(), length=length, salt=salt, info=info).derive(secret)


def hmac_sha256(key: bytes, data: bytes) -> bytes:
    """Return the HMAC-SHA-256 (32) of ``data``, RFC 2104."""
    return hmac.digest(key, data, "sha256")


def scrypt(passphrase: bytes, *, salt: bytes) -> bytes:
    """Stretch a passphrase to 32 bytes by scrypt (RFC 7914): N = 2**15, r = 8, p = 1; 32 MiB."""
    return Scrypt(salt=salt, length=32, n=2**15, r=8, p=1).derive(passphrase)


class X25519Key:
    """An X25519 key pair, RFC 7748 section 6.1.

    Attributes:
        public: what the peer has to know (32 bytes).
    """

    __slots__ = ("_private", "public")

    def __init__(self, private: bytes | None = None) -> None:
        """Draw a private key at random unless it is given (32). ``ValueError`` on a wrong size."""
        if private is None:
            self._private = X25519PrivateKey.generate()
        else:
            self._private = X25519PrivateKey.from_private_bytes(private)
        self.public = self._private.public_key().public_bytes_raw()

    def exchange(self, public: bytes) -> bytes:
        """Return the secret (32) that is shared with the owner of ``public``.

        Raises ``DecryptionFailed`` when the peer's key is not 32 bytes or is of small order, which
        makes the secret all zeros (RFC 7748, section 6.1).
        """
        try:
            return self._private.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError:
            raise DecryptionFailed from None


class MlKem768Key:
    """An ML-KEM-768 key pair, FIPS 203.

    Making one raises ``ImportError`` or ``UnsupportedAlgorithm`` where ``mlkem768_available`` is
    false.

    Attributes:
        public: the encapsulation key (1184 bytes), which the peer has to know.
    """

    __slots__ = ("_private", "public")

    def __init__(self, seed: bytes | None = None) -> None:
        """Draw the seed at random unless it is given (64). ``ValueError`` on a wrong size."""
        from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey

        if seed is None:
            self._private = MLKEM768PrivateKey.generate()
        else:
            self._private = MLKEM768PrivateKey.from_seed_bytes(seed)
        self.public = self._private.public_key().public_bytes_raw()

    def decapsulate(self, ciphertext: bytes) -> bytes:
        """Return the secret (32) in a ciphertext, or ``DecryptionFailed`` unless it has 1088 bytes.

        A ciphertext for another key gives a secret that nobody else has (implicit rejection, FIPS
        203 section 6.3).
        """
        try:
            return self._private.decapsulate(ciphertext)
        except ValueError:
            raise DecryptionFailed from None


def mlkem768_encapsulate(public: bytes) -> tuple[bytes, bytes]:
    """Return ``(ciphertext(1088), secret(32))`` for the owner of an encapsulation key.

    Raises ``DecryptionFailed`` when the key is not 1184 bytes or fails the modulus check of FIPS
    203, section 7.2.
    """
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey

    try:
        secret, ciphertext = MLKEM768PublicKey.from_public_bytes(public).encapsulate()
    except ValueError:
        raise DecryptionFailed from None
    return ciphertext, secret


@cache
def mlkem768_available() -> bool:
    """Tell whether the library has ML-KEM-768: one trial, because no version number says it."""
    try:
        key = MlKem768Key()
        ciphertext, secret = mlkem768_encapsulate(key.public)
    except (ImportError, UnsupportedAlgorithm):
        return False
    return compare(key.decapsulate(ciphertext), secret)


class AesGcm:
    """AES-GCM under one key (16, 24 or 32; Noise uses 32), with a nonce of 12 and a tag of 16."""

    __slots__ = ("_aead",)

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)

    def seal(self, nonce: bytes, plaintext: bytes, associated_data: bytes) -> bytes:
        """Return ``ciphertext ‖ tag(16)``. A nonce must never be used twice under one key."""
        if len(nonce) != _GCM_NONCE_SIZE:
            raise ValueError("an AES-GCM nonce has 12 bytes")
        return self._aead.encrypt(nonce, plaintext, associated_data)

    def open(self, nonce: bytes, ciphertext: bytes, associated_data: bytes) -> bytes:
        """Return the plaintext of ``ciphertext ‖ tag(16)``, or raise ``DecryptionFailed``."""
        if len(nonce) != _GCM_NONCE_SIZE:
            raise ValueError("an AES-GCM nonce has 12 bytes")
        try:
            return self._aead.decrypt(nonce, ciphertext, associated_data)
        except InvalidTag:
            raise DecryptionFailed from None


def aes_cbc_encrypt(key: bytes, iv: bytes, plaintext: bytes) -> bytes:
    """Encrypt by AES-CBC (iv 16) with PKCS#7 padding; the result is 1 to 16 bytes longer."""
    padding = _PADDINGS[_BLOCK_SIZE - len(plaintext) % _BLOCK_SIZE]
    return _cbc(key, iv).encrypt(plaintext + padding)  # type: ignore[no-any-return]


def aes_cbc_decrypt(key: bytes, iv: bytes, ciphertext: bytes) -> bytes:
    """Undo ``aes_cbc_encrypt``. Raises ``DecryptionFailed`` on a partial block or bad padding."""
    if not ciphertext or len(ciphertext) % _BLOCK_SIZE:
        raise DecryptionFailed
    padded: bytes = _cbc(key, iv).decrypt(ciphertext)
    size = padded[-1]
    if not 1 <= size <= _BLOCK_SIZE or not padded.endswith(_PADDINGS[size]):
        raise DecryptionFailed
    return padded[:-size]


def _cbc(key: bytes, iv: bytes) -> Any:
    aes = _pycryptodome_aes()
    return aes.new(key, aes.MODE_CBC, iv)


@cache
def _pycryptodome_aes() -> ModuleType:
    from Crypto.Cipher import AES  # nosec B413

    return AES
