"""g-crypt's encryption by the ``openssl`` program: ``enc -aes-256-cbc -md md5``."""

from __future__ import annotations

import base64
import os
import subprocess


def _enc(passphrase: str, salt: bytes, *options: str, data: bytes) -> bytes:
    command = ["openssl", "enc", "-aes-256-cbc", "-md", "md5", "-S", salt.hex(), *options]
    environment = {**os.environ, "GCRYPT_TEST_PASSPHRASE": passphrase}
    result = subprocess.run(
        [*command, "-pass", "env:GCRYPT_TEST_PASSPHRASE"],
        input=data,
        capture_output=True,
        env=environment,
        check=True,
    )
    return result.stdout


def derive(passphrase: str, salt: bytes) -> tuple[bytes, bytes]:
    """Return ``(key, iv)``, as ``-P`` prints them."""
    printed = _enc(passphrase, salt, "-e", "-P", data=b"").decode()
    values = dict(line.split("=", 1) for line in printed.splitlines())
    return bytes.fromhex(values["key"]), bytes.fromhex(values["iv "])


def encrypt(passphrase: str, salt: bytes, plaintext: bytes) -> bytes:
    ciphertext = _enc(passphrase, salt, "-e", data=plaintext)
    header = b"Salted__" + salt  # OpenSSL 1 writes it even when the salt was given
    return ciphertext.removeprefix(header)


def decrypt(passphrase: str, salt: bytes, ciphertext: bytes) -> bytes | None:
    """Return the plaintext, ``None`` when openssl refuses the padding."""
    try:
        return _enc(passphrase, salt, "-d", data=ciphertext)
    except subprocess.CalledProcessError:
        return None


def frame(passphrase: str, salt: bytes, text: str) -> str:
    """Return the frame that g-crypt would make of a JSON text with this salt."""
    ct = base64.b64encode(encrypt(passphrase, salt, text.encode())).decode()
    iv = derive(passphrase, salt)[1].hex()
    return f'{{"ct":"{ct}","iv":"{iv}","s":"{salt.hex()}"}}'
