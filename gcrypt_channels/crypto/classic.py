"""``Crypt``: g-crypt's API and format, for talking to pages that use g-crypt and CryptoJS.

One encrypted value is the JSON object ``{"ct": base64, "iv": hex, "s": hex}``. Key and IV come from
the passphrase and the salt ``s`` by OpenSSL's ``EVP_BytesToKey``; see ``docs/protocol.md``,
*gcrypt.v1*. The format is unauthenticated: it has no integrity, no replay protection and no
forward secrecy.
"""

from __future__ import annotations

import base64
import re
from typing import Any, Final

from ..crypto import jsontext
from ..exceptions import DecryptionFailed
from .primitives import aes_cbc_decrypt, aes_cbc_encrypt, compare, md5, random_bytes

__all__ = ["Crypt"]

_BLOCK_SIZE: Final = 16
_SALT_SIZE: Final = 8
_MEMBERS: Final = ({"ct", "iv", "s"}, {"ct", "s"})
_SALT: Final = re.compile(r"[0-9A-Fa-f]{16}")
_IV: Final = re.compile(r"[0-9A-Fa-f]{32}")


class Crypt:
    """Encrypts and decrypts JSON values under a passphrase, as g-crypt's ``Crypt`` does.

    >>> Crypt("a long passphrase").decrypt(Crypt("a long passphrase").encrypt({"id": 1}))
    {'id': 1}
    """

    __slots__ = ("_passphrase",)

    def __init__(self, passphrase: str) -> None:
        """Raise ``TypeError`` or ``ValueError`` unless the passphrase is text and not empty."""
        if not isinstance(passphrase, str):
            raise TypeError("Crypt: the passphrase must be a str")
        if not passphrase:
            raise ValueError("Crypt: the passphrase is empty")
        if jsontext.SURROGATE.search(passphrase):
            raise ValueError("Crypt: the passphrase holds a lone surrogate")
        self._passphrase = passphrase.encode()

    def encrypt(self, obj: object) -> str:
        """Return the encrypted form of any value that JSON can express.

        Raises ``TypeError`` or ``ValueError`` when JSON cannot express it: NaN, a set, a cycle.
        """
        try:
            text = jsontext.serialize(obj)
        except TypeError as error:
            raise TypeError(f"Crypt.encrypt: {error}") from None
        except ValueError as error:
            raise ValueError(f"Crypt.encrypt: {error}") from None
        return self.seal(text)

    def decrypt(self, text: str) -> Any:
        """Return the value that ``encrypt``, or g-crypt, encrypted.

        Raises ``DecryptionFailed`` whatever is wrong, and nothing else for any argument.
        """
        return self._open(text)[1]

    def seal(self, json_text: str) -> str:
        """Return the encrypted form of a JSON text, which is not checked."""
        return self._seal(json_text, random_bytes(_SALT_SIZE))

    def open(self, frame: str) -> str:
        """Return the JSON text of an encrypted form; it is known to parse. See ``decrypt``."""
        return self._open(frame)[0]

    def _seal(self, json_text: str, salt: bytes) -> str:
        key, iv = self._derive(salt)
        ct = base64.b64encode(aes_cbc_encrypt(key, iv, json_text.encode())).decode()
        return f'{{"ct":"{ct}","iv":"{iv.hex()}","s":"{salt.hex()}"}}'

    def _open(self, frame: str) -> tuple[str, Any]:
        try:
            text = self._decrypt(frame)
            return text, jsontext.parse(text)
        except (ValueError, DecryptionFailed):
            pass
        # Raised out here so that the error's context does not carry plaintext along.
        raise DecryptionFailed

    def _decrypt(self, frame: str) -> str:
        ciphertext, sent_iv, salt = _parse_frame(frame)
        key, iv = self._derive(salt)
        # CryptoJS ignores the transmitted iv. Trusting it would let a flipped bit in it flip the
        # same bit of the first plaintext block.
        if sent_iv is not None and not compare(sent_iv, iv):
            raise DecryptionFailed
        return aes_cbc_decrypt(key, iv, ciphertext).decode()

    def _derive(self, salt: bytes) -> tuple[bytes, bytes]:
        """EVP_BytesToKey with MD5 and one iteration: ``(key(32), iv(16))``."""
        secret = self._passphrase + salt
        first = md5(secret)
        second = md5(first + secret)
        return first + second, md5(second + secret)


def _parse_frame(frame: str) -> tuple[bytes, bytes | None, bytes]:
    """Return ``(ciphertext, iv or None, salt(8))``; ``ValueError`` unless all is strictly right."""
    if not isinstance(frame, str):
        raise ValueError("not text")
    members = jsontext.parse_unique(frame)
    if not isinstance(members, dict) or members.keys() not in _MEMBERS:
        raise ValueError("wrong members")
    ct, iv, salt = members["ct"], members.get("iv", ""), members["s"]
    if not (isinstance(ct, str) and isinstance(iv, str) and isinstance(salt, str)):
        raise ValueError("wrong types")
    if not _SALT.fullmatch(salt) or ("iv" in members and not _IV.fullmatch(iv)):
        raise ValueError("wrong hex")
    ciphertext = base64.b64decode(ct, validate=True)
    if not ciphertext or len(ciphertext) % _BLOCK_SIZE:
        raise ValueError("not whole blocks")
    if base64.b64encode(ciphertext).decode() != ct:
        raise ValueError("not canonical base64")
    return ciphertext, bytes.fromhex(iv) if iv else None, bytes.fromhex(salt)
