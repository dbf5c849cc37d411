"""``primitives.json``, by pycryptodome."""

from __future__ import annotations

from typing import Any

from Crypto.Cipher import AES
from Crypto.Hash import SHA256
from Crypto.Protocol.DH import import_x25519_private_key, import_x25519_public_key, key_agreement
from Crypto.Protocol.KDF import HKDF
from Crypto.Util.Padding import pad

from .seeds import seeded


def build() -> dict[str, Any]:
    return {
        "aes_gcm": [
            _aes_gcm(size, ad) for size in (0, 1, 15, 16, 17, 100, 1000) for ad in (0, 1, 32)
        ],
        "aes_cbc": [_aes_cbc(size) for size in (0, 1, 15, 16, 17, 100)],
        "hkdf": [
            _hkdf(secret, salt, info, length)
            for secret, salt, info, length in (
                (32, 32, 0, 64),
                (32, 32, 0, 96),
                (0, 32, 0, 64),
                (32, 0, 11, 32),
                (80, 80, 80, 82),
                (1, 1, 1, 1),
            )
        ],
        "x25519": [_x25519(number) for number in range(8)],
    }


def _aes_gcm(size: int, ad_size: int) -> dict[str, str]:
    label = f"aes-gcm {size} {ad_size}"
    key, nonce = seeded(label + " key", 32), seeded(label + " nonce", 12)
    plaintext, ad = seeded(label + " plaintext", size), seeded(label + " ad", ad_size)
    cipher = AES.new(key, AES.MODE_GCM, nonce=nonce, mac_len=16)
    cipher.update(ad)
    ciphertext, tag = cipher.encrypt_and_digest(plaintext)
    return {
        "key": key.hex(),
        "nonce": nonce.hex(),
        "associated_data": ad.hex(),
        "plaintext": plaintext.hex(),
        "ciphertext": (ciphertext + tag).hex(),
    }


def _aes_cbc(size: int) -> dict[str, str]:
    key, iv = seeded(f"aes-cbc {size} key", 32), seeded(f"aes-cbc {size} iv", 16)
    plaintext = seeded(f"aes-cbc {size} plaintext", size)
    ciphertext = AES.new(key, AES.MODE_CBC, iv).encrypt(pad(plaintext, 16))
    return {
        "key": key.hex(),
        "iv": iv.hex(),
        "plaintext": plaintext.hex(),
        "ciphertext": ciphertext.hex(),
    }


def _hkdf(secret_size: int, salt_size: int, info_size: int, length: int) -> dict[str, Any]:
    label = f"hkdf {secret_size} {salt_size} {info_size} {length}"
    secret, salt = seeded(label + " secret", secret_size), seeded(label + " salt", salt_size)
    info = seeded(label + " info", info_size)
    output = HKDF(secret, length, salt, SHA256, context=info)
    assert isinstance(output, bytes)
    return {
        "secret": secret.hex(),
        "salt": salt.hex(),
        "info": info.hex(),
        "length": length,
        "output": output.hex(),
    }


def _x25519(number: int) -> dict[str, str]:
    private = import_x25519_private_key(seeded(f"x25519 {number} private", 32))
    peer = import_x25519_private_key(seeded(f"x25519 {number} peer", 32))
    public = private.public_key().export_key(format="raw")
    peer_public = peer.public_key().export_key(format="raw")
    shared = key_agreement(
        static_priv=private, static_pub=import_x25519_public_key(peer_public), kdf=lambda z: z
    )
    return {
        "private": private.seed.hex(),
        "public": public.hex(),
        "peer_public": peer_public.hex(),
        "shared": shared.hex(),
    }
