"""Published vectors, each file from the place that its entry in ``MANIFEST.json`` names.

``exceptions.json`` lists each vector that comes out in another way than published, and why; what
comes out is compared with it exactly, so an entry that is no longer needed fails, too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gcrypt_channels.crypto.noise import NN_PSK0, HandshakeState
from gcrypt_channels.crypto.primitives import (
    AesGcm,
    MlKem768Key,
    X25519Key,
    aes_cbc_decrypt,
    aes_cbc_encrypt,
    hkdf,
    mlkem768_available,
    mlkem768_encapsulate,
)
from gcrypt_channels.exceptions import DecryptionFailed
from tests.reference import ml_kem

Vector = dict[str, Any]
Judge = Callable[[Vector], None]
"""Raises ``DecryptionFailed`` or ``ValueError`` when the vector is refused, ``AssertionError`` when
something else comes out than published, ``NotImplementedError`` when it cannot be tried."""

DIRECTORY = Path(__file__).resolve().parent.parent / "vectors" / "published"
needs_ml_kem = pytest.mark.skipif(not mlkem768_available(), reason="no ML-KEM-768 here")


def load(name: str) -> Any:
    return json.loads((DIRECTORY / name).read_text(encoding="utf-8"))


MANIFEST, EXCEPTIONS = load("MANIFEST.json"), load("exceptions.json")


def unhex(vector: Vector, *names: str) -> list[bytes]:
    return [bytes.fromhex(vector.get(name, "")) for name in names]


def test_every_file_is_the_published_one_and_has_its_licence() -> None:
    for entry in MANIFEST:
        assert (
            hashlib.sha256((DIRECTORY / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]
        )
        assert (DIRECTORY / entry["licence_file"]).is_file()
    files = {path.name for path in DIRECTORY.glob("*.json")}
    assert {entry["file"] for entry in MANIFEST} == files - {"MANIFEST.json", "exceptions.json"}
    assert set(EXCEPTIONS) <= files


# Wycheproof


def aes_gcm(vector: Vector) -> None:
    key, nonce, ad, plaintext, ciphertext, tag = unhex(
        vector, "key", "iv", "aad", "msg", "ct", "tag"
    )
    assert AesGcm(key).open(nonce, ciphertext + tag, ad) == plaintext
    assert AesGcm(key).seal(nonce, plaintext, ad) == ciphertext + tag


def aes_cbc(vector: Vector) -> None:
    key, iv, plaintext, ciphertext = unhex(vector, "key", "iv", "msg", "ct")
    assert aes_cbc_decrypt(key, iv, ciphertext) == plaintext
    assert aes_cbc_encrypt(key, iv, plaintext) == ciphertext


def hkdf_sha256(vector: Vector) -> None:
    secret, salt, info, output = unhex(vector, "ikm", "salt", "info", "okm")
    assert hkdf(secret, salt=salt, info=info, length=vector["size"]) == output


def x25519(vector: Vector) -> None:
    private, public, shared = unhex(vector, "private", "public", "shared")
    assert X25519Key(private).exchange(public) == shared


def ml_kem_key(vector: Vector) -> None:
    seed, public = unhex(vector, "seed", "ek")
    assert MlKem768Key(seed).public == public


def ml_kem_decapsulation(vector: Vector) -> None:
    seed, public, ciphertext, secret = unhex(vector, "seed", "ek", "c", "K")
    key = MlKem768Key(seed)
    assert key.decapsulate(ciphertext) == secret
    assert key.public == public


def ml_kem_encapsulation(vector: Vector) -> None:
    public, coins, ciphertext, secret = unhex(vector, "ek", "m", "c", "K")
    made, shared = mlkem768_encapsulate(public)
    assert (len(made), len(shared)) == (len(ciphertext), len(secret))
    # So the reference, with which our connections agree, does what was published.
    assert ml_kem.encapsulate(public, coins) == (ciphertext, secret)
    raise NotImplementedError


def outcome(vector: Vector, judge: Judge) -> str:
    try:
        judge(vector)
    except (DecryptionFailed, ValueError):
        return "refused"
    except AssertionError:
        return "wrong"
    except NotImplementedError:
        return "not reproducible"
    return "right"


@pytest.mark.parametrize(
    ("name", "judge"),
    [
        ("aes_gcm_test.json", aes_gcm),
        ("aes_cbc_pkcs5_test.json", aes_cbc),
        ("hkdf_sha256_test.json", hkdf_sha256),
        ("x25519_test.json", x25519),
        pytest.param("mlkem_768_keygen_seed_test.json", ml_kem_key, marks=needs_ml_kem),
        pytest.param("mlkem_768_test.json", ml_kem_decapsulation, marks=needs_ml_kem),
        pytest.param("mlkem_768_encaps_test.json", ml_kem_encapsulation, marks=needs_ml_kem),
    ],
)
def test_wycheproof(name: str, judge: Judge) -> None:
    vectors = load(name)
    tests = [test for group in vectors["testGroups"] for test in group["tests"]]
    assert len(tests) == vectors["numberOfTests"]
    expected = {"valid": "right", "acceptable": "right", "invalid": "refused"}
    found: dict[str, list[int]] = {}
    for test in tests:
        result = outcome(test, judge)
        if result != expected[test["result"]]:
            found.setdefault(result, []).append(test["tcId"])
    assert found == {each["outcome"]: each["tcIds"] for each in EXCEPTIONS.get(name, [])}


# Noise


def noise_parts(vector: Vector) -> tuple[bytes, bytes, bytes, bytes]:
    """Return ``(psk, prologue, initiator's e, responder's e)`` of either project's format."""
    if "preshared_key" in vector:
        prologue = bytes.fromhex(vector.get("prologue", ""))
        psk, *ephemerals = unhex(
            vector, "preshared_key", "gen_init_ephemeral", "gen_resp_ephemeral"
        )
    else:
        assert vector["init_psks"] == vector["resp_psks"]
        assert vector["init_prologue"] == vector["resp_prologue"]
        psk, prologue = (
            bytes.fromhex(vector["init_psks"][0]),
            bytes.fromhex(vector["init_prologue"]),
        )
        ephemerals = unhex(vector, "init_ephemeral", "resp_ephemeral")
    return psk, prologue, ephemerals[0], ephemerals[1]


@pytest.mark.parametrize(
    "vector", [*load("cacophony.json"), *load("flynn-noise.json")], ids=lambda each: str(len(each))
)
def test_noise(vector: Vector) -> None:
    psk, prologue, *ephemerals = noise_parts(vector)
    make = partial(HandshakeState, NN_PSK0, psk=psk, prologue=prologue)
    initiator, responder = (
        make(initiator=role == 0, ephemeral=X25519Key(ephemeral))
        for role, ephemeral in enumerate(ephemerals)
    )
    sides = [initiator, responder]
    messages = [unhex(message, "payload", "ciphertext") for message in vector["messages"]]
    for number, (payload, ciphertext) in enumerate(messages[:2]):
        assert sides[number].write_message(payload) == ciphertext
        assert sides[1 - number].read_message(ciphertext) == payload
    if "handshake_hash" in vector:
        assert initiator.handshake_hash.hex() == vector["handshake_hash"]
    states = [initiator.split(), responder.split()]
    for number, (payload, ciphertext) in enumerate(messages[2:]):
        sending, receiving = states[number % 2][0], states[1 - number % 2][1]
        assert sending.encrypt_with_ad(b"", payload) == ciphertext
        assert receiving.decrypt_with_ad(b"", ciphertext) == payload
