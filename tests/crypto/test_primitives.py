from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcrypt_channels.crypto.primitives import (
    AesGcm,
    MlKem768Key,
    X25519Key,
    aes_cbc_decrypt,
    aes_cbc_encrypt,
    compare,
    hkdf,
    hmac_sha256,
    md5,
    mlkem768_available,
    mlkem768_encapsulate,
    random_bytes,
    scrypt,
    sha256,
)
from gcrypt_channels.exceptions import DecryptionFailed

h = bytes.fromhex
needs_ml_kem = pytest.mark.skipif(not mlkem768_available(), reason="no ML-KEM-768 here")

KEY, NONCE, IV = bytes(range(32)), bytes(range(12)), bytes(range(16))


def flip(data: bytes, bit: int) -> bytes:
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]


def test_random_bytes_have_the_size_asked_for_and_differ() -> None:
    assert [len(random_bytes(n)) for n in (0, 1, 32)] == [0, 1, 32]
    assert random_bytes(32) != random_bytes(32)


def test_compare() -> None:
    assert compare(b"secret", b"secret")
    assert not compare(b"secret", b"secreT")
    assert not compare(b"secret", b"secre")


# Digests


@pytest.mark.parametrize(
    ("message", "digest"),
    [
        (b"", "d41d8cd98f00b204e9800998ecf8427e"),
        (b"abc", "900150983cd24fb0d6963f7d28e17f72"),
        (b"message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
    ],
)
def test_md5_rfc_1321_appendix_a5(message: bytes, digest: str) -> None:
    assert md5(message).hex() == digest


def test_sha256_fips_180_abc() -> None:
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256(b"abc").hex() == expected


# Key derivation


@pytest.mark.parametrize(
    ("secret", "salt", "info", "okm"),
    [
        (
            b"\x0b" * 22,
            bytes(range(13)),
            bytes(range(0xF0, 0xFA)),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        (
            bytes(range(0x50)),
            bytes(range(0x60, 0xB0)),
            bytes(range(0xB0, 0x100)),
            (
                "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c"
                "59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71"
                "cc30c58179ec3e87c14c01d5c1f3434f1d87"
            ),
        ),
        (
            b"\x0b" * 22,
            b"",
            b"",
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        ),
    ],
    ids=["A.1", "A.2", "A.3"],
)
def test_hkdf_rfc_5869(secret: bytes, salt: bytes, info: bytes, okm: str) -> None:
    assert hkdf(secret, salt=salt, info=info, length=len(h(okm))) == h(okm)


@pytest.mark.parametrize(
    ("key", "data", "mac"),
    [
        pytest.param(
            h("0b" * 20),
            b"Hi There",
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            id="1",
        ),
        pytest.param(
            b"Jefe",
            b"what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            id="2",
        ),
    ],
)
def test_hmac_sha256_rfc_4231(key: bytes, data: bytes, mac: str) -> None:
    assert hmac_sha256(key, data) == h(mac)


def test_hkdf_without_a_salt_uses_zeros() -> None:
    with_zeros = hkdf(KEY, salt=bytes(32), info=b"x", length=32)
    assert hkdf(KEY, info=b"x", length=32) == with_zeros


def test_hkdf_cannot_make_more_than_255_digests() -> None:
    assert len(hkdf(KEY, info=b"", length=8160)) == 8160
    with pytest.raises(ValueError, match="derive"):
        hkdf(KEY, info=b"", length=8161)


def test_scrypt_has_the_parameters_it_claims() -> None:
    expected = hashlib.scrypt(
        b"pass", salt=b"salt", n=32_768, r=8, p=1, dklen=32, maxmem=64 * 2**20
    )
    assert scrypt(b"pass", salt=b"salt") == expected


# X25519


@pytest.mark.parametrize(
    ("scalar", "u", "output"),
    [
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
    ],
)
def test_x25519_rfc_7748_section_5_2(scalar: str, u: str, output: str) -> None:
    assert X25519Key(h(scalar)).exchange(h(u)).hex() == output


def test_x25519_rfc_7748_section_5_2_iterated() -> None:
    scalar = u = b"\x09" + bytes(31)
    results = []
    for _ in range(1000):
        scalar, u = X25519Key(scalar).exchange(u), scalar
        results.append(scalar.hex())
    assert results[0] == "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"
    assert results[-1] == "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"


def test_x25519_rfc_7748_section_6_1() -> None:
    alice, bob = (
        X25519Key(h("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")),
        X25519Key(h("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")),
    )
    assert alice.public.hex() == "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    assert bob.public.hex() == "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    shared = h("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
    assert alice.exchange(bob.public) == shared
    assert bob.exchange(alice.public) == shared


@needs_ml_kem
def test_ml_kem_agrees_on_a_secret_of_32_bytes() -> None:
    key = MlKem768Key()
    ciphertext, secret = mlkem768_encapsulate(key.public)
    assert (len(key.public), len(ciphertext), len(secret)) == (1184, 1088, 32)
    assert key.decapsulate(ciphertext) == secret
    assert mlkem768_encapsulate(key.public) != (ciphertext, secret)


@needs_ml_kem
def test_an_ml_kem_key_comes_from_its_seed_or_from_nowhere() -> None:
    assert MlKem768Key(bytes(64)).public == MlKem768Key(bytes(64)).public
    assert MlKem768Key().public != MlKem768Key().public
    for size in (0, 32, 63, 65):
        with pytest.raises(ValueError, match="64"):
            MlKem768Key(bytes(size))


@needs_ml_kem
def test_ml_kem_refuses_sizes_and_keys_that_are_not_its_own() -> None:
    key = MlKem768Key()
    for size in (0, 1087, 1089):
        with pytest.raises(DecryptionFailed):
            key.decapsulate(bytes(size))
    for public in (b"", key.public[:-1], key.public + b"\0", b"\xff" * 1184):
        with pytest.raises(DecryptionFailed):
            mlkem768_encapsulate(public)


@needs_ml_kem
def test_a_ciphertext_for_another_ml_kem_key_gives_another_secret() -> None:
    ciphertext, secret = mlkem768_encapsulate(MlKem768Key().public)
    assert MlKem768Key().decapsulate(ciphertext) != secret


def test_x25519_keypairs_are_random() -> None:
    assert X25519Key().public != X25519Key().public


# Small orders 1, 2, 4, 8 and their forms above the prime: RFC 7748, section 6.1, and
# https://cr.yp.to/ecdh.html#validate
SMALL_ORDER = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


@pytest.mark.parametrize("public", SMALL_ORDER)
def test_x25519_refuses_points_of_small_order(public: str) -> None:
    with pytest.raises(DecryptionFailed):
        X25519Key(KEY).exchange(h(public))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_x25519_refuses_public_keys_of_another_size(size: int) -> None:
    with pytest.raises(DecryptionFailed):
        X25519Key(KEY).exchange(bytes(range(size)))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_x25519_takes_a_wrong_private_key_for_a_mistake_of_ours(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        X25519Key(bytes(size))


# AES-GCM

GCM_KEY = h("feffe9928665731c6d6a8f9467308308" * 2)
GCM_TEXT = h(
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
    "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255"
)
GCM_SEALED = (
    "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
    "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad"
)


@pytest.mark.parametrize(
    ("key", "nonce", "plaintext", "ad", "sealed"),
    [
        (bytes(32), bytes(12), b"", b"", "530f8afbc74536b9a963b4f1c4cb738b"),
        (
            bytes(32),
            bytes(12),
            bytes(16),
            b"",
            "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919",
        ),
        (
            GCM_KEY,
            h("cafebabefacedbaddecaf888"),
            GCM_TEXT,
            b"",
            GCM_SEALED + "b094dac5d93471bdec1a502270e3cc6c",
        ),
        (
            GCM_KEY,
            h("cafebabefacedbaddecaf888"),
            GCM_TEXT[:60],
            h("feedfacedeadbeeffeedfacedeadbeefabaddad2"),
            GCM_SEALED[:120] + "76fc6ece0f4e1768cddf8853bb2d551b",
        ),
    ],
    ids=["13", "14", "15", "16"],
)
def test_aes_gcm_test_cases_of_its_submission_to_nist(
    key: bytes, nonce: bytes, plaintext: bytes, ad: bytes, sealed: str
) -> None:
    assert AesGcm(key).seal(nonce, plaintext, ad).hex() == sealed
    assert AesGcm(key).open(nonce, h(sealed), ad) == plaintext


@given(st.binary(), st.binary())
def test_aes_gcm_opens_what_it_sealed(plaintext: bytes, ad: bytes) -> None:
    sealed = AesGcm(KEY).seal(NONCE, plaintext, ad)
    assert len(sealed) == len(plaintext) + 16
    assert AesGcm(KEY).open(NONCE, sealed, ad) == plaintext


def test_aes_gcm_refuses_every_flipped_bit() -> None:
    sealed = AesGcm(KEY).seal(NONCE, b"plaintext", b"ad")
    for bit in range(8 * len(sealed)):
        with pytest.raises(DecryptionFailed):
            AesGcm(KEY).open(NONCE, flip(sealed, bit), b"ad")


def test_aes_gcm_refuses_another_key_nonce_or_ad() -> None:
    sealed = AesGcm(KEY).seal(NONCE, b"plaintext", b"ad")
    for key, nonce, ad in (
        (flip(KEY, 0), NONCE, b"ad"),
        (KEY, flip(NONCE, 95), b"ad"),
        (KEY, NONCE, b"aD"),
        (KEY, NONCE, b""),
    ):
        with pytest.raises(DecryptionFailed):
            AesGcm(key).open(nonce, sealed, ad)


@pytest.mark.parametrize("size", range(16))
def test_aes_gcm_refuses_what_is_shorter_than_a_tag(size: int) -> None:
    with pytest.raises(DecryptionFailed):
        AesGcm(KEY).open(NONCE, bytes(size), b"")


@pytest.mark.parametrize("size", [0, 8, 11, 13, 16])
def test_aes_gcm_takes_nonces_of_12_bytes_only(size: int) -> None:
    with pytest.raises(ValueError, match="12 bytes"):
        AesGcm(KEY).seal(bytes(size), b"", b"")
    with pytest.raises(ValueError, match="12 bytes"):
        AesGcm(KEY).open(bytes(size), bytes(16), b"")


def test_a_refusal_carries_nothing_of_the_library_along() -> None:
    with pytest.raises(DecryptionFailed) as caught:
        AesGcm(KEY).open(NONCE, bytes(16), b"")
    assert caught.value.__suppress_context__


# AES-CBC


def test_aes_cbc_sp_800_38a_f_2_5() -> None:
    key = h("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    plaintext = h(
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
        "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
    )
    ciphertext = (
        "f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d"
        "39f23369a9d9bacfa530e26304231461b2eb05e2c39be9fcda6c19078c6a9d1b"
    )
    sealed = aes_cbc_encrypt(key, IV, plaintext)
    assert sealed[:64].hex() == ciphertext
    assert aes_cbc_decrypt(key, IV, sealed) == plaintext


def test_aes_fips_197_appendix_c_3() -> None:
    block = h("00112233445566778899aabbccddeeff")
    assert aes_cbc_encrypt(KEY, bytes(16), block)[:16].hex() == "8ea2b7ca516745bfeafc49904b496089"


@given(st.binary(max_size=100))
def test_aes_cbc_decrypts_what_it_encrypted(plaintext: bytes) -> None:
    ciphertext = aes_cbc_encrypt(KEY, IV, plaintext)
    assert 1 <= len(ciphertext) - len(plaintext) <= 16
    assert aes_cbc_decrypt(KEY, IV, ciphertext) == plaintext


@pytest.mark.parametrize("size", [0, 1, 15, 17])
def test_aes_cbc_refuses_what_is_not_whole_blocks(size: int) -> None:
    with pytest.raises(DecryptionFailed):
        aes_cbc_decrypt(KEY, IV, bytes(size))


@pytest.mark.parametrize(
    "last", [b"\x00", b"\x11", b"\xff", b"\x01\x02", b"\x03\x02\x03", b"\x02\x10"]
)
def test_aes_cbc_refuses_wrong_padding(last: bytes) -> None:
    block = last.rjust(16, b"x")
    unpadded = aes_cbc_encrypt(KEY, IV, block)[:16]
    with pytest.raises(DecryptionFailed):
        aes_cbc_decrypt(KEY, IV, unpadded)
