"""The primitives beside pycryptodome's, on whatever hypothesis thinks of."""

from __future__ import annotations

import pytest
from Crypto.Cipher import AES
from Crypto.Hash import MD5, SHA256
from Crypto.Protocol.DH import import_x25519_private_key, import_x25519_public_key, key_agreement
from Crypto.Protocol.KDF import HKDF
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7
from hypothesis import given
from hypothesis import strategies as st

from gcrypt_channels.crypto.primitives import (
    AesGcm,
    MlKem768Key,
    X25519Key,
    aes_cbc_decrypt,
    aes_cbc_encrypt,
    hkdf,
    md5,
    mlkem768_available,
    mlkem768_encapsulate,
    sha256,
)
from gcrypt_channels.exceptions import DecryptionFailed
from tests.reference import ml_kem

needs_ml_kem = pytest.mark.skipif(not mlkem768_available(), reason="no ML-KEM-768 here")


def sized(*sizes: int) -> st.SearchStrategy[bytes]:
    return st.one_of([st.binary(min_size=size, max_size=size) for size in sizes])


@given(sized(32), sized(12), st.binary(), st.binary())
def test_aes_gcm_seals_alike(key: bytes, nonce: bytes, plaintext: bytes, ad: bytes) -> None:
    cipher = AES.new(key, AES.MODE_GCM, nonce=nonce)
    cipher.update(ad)
    ciphertext, tag = cipher.encrypt_and_digest(plaintext)
    assert AesGcm(key).seal(nonce, plaintext, ad) == ciphertext + tag


@given(sized(32), sized(12), st.binary(), st.binary(), st.integers(0), st.booleans())
def test_aes_gcm_opens_and_refuses_alike(
    key: bytes, nonce: bytes, plaintext: bytes, ad: bytes, bit: int, tamper: bool
) -> None:
    sealed = bytearray(AesGcm(key).seal(nonce, plaintext, ad))
    if tamper:
        sealed[bit // 8 % len(sealed)] ^= 1 << bit % 8
    cipher = AES.new(key, AES.MODE_GCM, nonce=nonce)
    cipher.update(ad)
    theirs: bytes | None
    try:
        theirs = cipher.decrypt_and_verify(bytes(sealed[:-16]), bytes(sealed[-16:]))
    except ValueError:
        theirs = None
    ours: bytes | None
    try:
        ours = AesGcm(key).open(nonce, bytes(sealed), ad)
    except DecryptionFailed:
        ours = None
    assert ours == theirs == (None if tamper else plaintext)


@given(sized(32), sized(32))
def test_x25519_agrees(private: bytes, peer_private: bytes) -> None:
    theirs, peer = import_x25519_private_key(private), import_x25519_private_key(peer_private)
    ours, our_peer = X25519Key(private), X25519Key(peer_private)
    public, peer_public = ours.public, our_peer.public
    assert public == theirs.public_key().export_key(format="raw")
    assert peer_public == peer.public_key().export_key(format="raw")
    shared = key_agreement(
        static_priv=theirs, static_pub=import_x25519_public_key(peer_public), kdf=lambda z: z
    )
    assert ours.exchange(peer_public) == our_peer.exchange(public) == shared


@needs_ml_kem
@given(sized(64), sized(32))
def test_ml_kem_agrees(seed: bytes, coins: bytes) -> None:
    key = MlKem768Key(seed)
    assert key.public == ml_kem.public_key(seed)
    ciphertext, secret = ml_kem.encapsulate(key.public, coins)
    assert key.decapsulate(ciphertext) == secret
    ciphertext, secret = mlkem768_encapsulate(key.public)
    assert ml_kem.decapsulate(seed, ciphertext) == secret


@needs_ml_kem
@given(sized(64), sized(32), st.integers(0, 8 * 1088 - 1))
def test_ml_kem_rejects_implicitly_alike(seed: bytes, coins: bytes, bit: int) -> None:
    key = MlKem768Key(seed)
    ciphertext, secret = ml_kem.encapsulate(key.public, coins)
    tampered = (int.from_bytes(ciphertext, "big") ^ 1 << bit).to_bytes(1088, "big")
    assert key.decapsulate(tampered) == ml_kem.decapsulate(seed, tampered) != secret


@given(st.binary(), st.binary(), st.binary(), st.integers(1, 300))
def test_hkdf_agrees(secret: bytes, salt: bytes, info: bytes, length: int) -> None:
    theirs = HKDF(secret, length, salt, SHA256, context=info)
    assert hkdf(secret, salt=salt, info=info, length=length) == theirs


@given(st.binary())
def test_digests_agree(data: bytes) -> None:
    assert md5(data) == MD5.new(data).digest()
    assert sha256(data) == SHA256.new(data).digest()


@given(sized(32), sized(16), st.binary())
def test_aes_cbc_encrypts_like_openssls(key: bytes, iv: bytes, plaintext: bytes) -> None:
    padder = PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    theirs = encryptor.update(padder.update(plaintext) + padder.finalize()) + encryptor.finalize()
    assert aes_cbc_encrypt(key, iv, plaintext) == theirs


@given(sized(32), sized(16), sized(16, 32, 48), sized(1, 2, 3))
def test_aes_cbc_decrypts_and_refuses_like_openssls(
    key: bytes, iv: bytes, plaintext: bytes, padding: bytes
) -> None:
    plaintext = plaintext[: -len(padding)] + padding  # now and then this is a right padding
    encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    ciphertext = encryptor.update(plaintext) + encryptor.finalize()
    unpadder = PKCS7(128).unpadder()
    theirs: bytes | None
    try:
        theirs = unpadder.update(plaintext) + unpadder.finalize()
    except ValueError:
        theirs = None
    ours: bytes | None
    try:
        ours = aes_cbc_decrypt(key, iv, ciphertext)
    except DecryptionFailed:
        ours = None
    assert ours == theirs
