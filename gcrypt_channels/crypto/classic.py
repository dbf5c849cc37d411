"""``Crypt``: g-crypt's API and format, for talking to pages that use g-crypt and CryptoJS.

One encrypted value is the JSON object ``{"ct": base64, "iv": hex, "s": hex}``. Key and IV come from
the passphrase and the salt ``s`` by OpenSSL's ``EVP_BytesToKey``; see ``docs/protocol.md``,
*gcrypt.v1*. The format is unauthenticated: it has no integrity, no replay protection and no
forward secrecy.
"""

from __future__ import annotations

import re
from binascii import a2b_base64, b2a_base64
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
# A frame as g-crypt and this module write it is cut at fixed places; any other one is parsed.
_HEAD: Final = '{"ct":"'
_TAIL: Final = re.compile(r'","iv":"([0-9A-Fa-f]{32})","s":"([0-9A-Fa-f]{16})"}')
_TAIL_SIZE: Final = 65


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
        return self.open(text).value

    def seal(self, json_text: str) -> str:
        """Return the encrypted form of a JSON text, which is not checked."""
        salt = random_bytes(_SALT_SIZE)
        key, iv = self._derive(salt)
        ct = b2a_base64(aes_cbc_encrypt(key, iv, json_text.encode()), newline=False).decode()
        return f'{{"ct":"{ct}","iv":"{iv.hex()}","s":"{salt.hex()}"}}'

    def open(self, frame: str) -> jsontext.JsonText:
        """Return the JSON text of an encrypted form, with its value. See ``decrypt``."""
        try:
            text = jsontext.JsonText(self._decrypt(frame))
            text.value = jsontext.parse(text)
            return text
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
    ct, iv, salt = _cut_frame(frame) or _parse_members(frame)
    ciphertext = a2b_base64(ct)
    if not ciphertext or len(ciphertext) % _BLOCK_SIZE:
        raise ValueError("not whole blocks")
    if b2a_base64(ciphertext, newline=False).decode() != ct:
        raise ValueError("not canonical base64")
    return ciphertext, None if iv is None else bytes.fromhex(iv), bytes.fromhex(salt)


def _cut_frame(frame: str) -> tuple[str, str, str] | None:
    """Return ``(ct, iv, s)`` of a frame in the usual layout, ``None`` for any other frame."""
    tail = _TAIL.fullmatch(frame, len(frame) - _TAIL_SIZE)
    if tail is None or not frame.startswith(_HEAD):
        return None
    ct = frame[len(_HEAD) : -_TAIL_SIZE]
    return None if "\\" in ct else (ct, tail[1], tail[2])


def _parse_members(frame: str) -> tuple[str, str | None, str]:
    """Return ``(ct, iv or None, s)`` of a frame in any layout, the hexadecimal digits checked."""
    members = jsontext.parse_unique(frame)
    if not isinstance(members, dict) or members.keys() not in _MEMBERS:
        raise ValueError("wrong members")
    if not all(isinstance(value, str) for value in members.values()):
        raise ValueError("wrong types")
    iv = members.get("iv")
    if not _SALT.fullmatch(members["s"]) or not (iv is None or _IV.fullmatch(iv)):
        raise ValueError("wrong hex")
    return members["ct"], iv, members["s"]
