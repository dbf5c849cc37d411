"""Frames to and fro with ``openssl enc -aes-256-cbc -md md5``."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from gcrypt_channels.crypto import jsontext
from gcrypt_channels.crypto.classic import Crypt
from gcrypt_channels.exceptions import DecryptionFailed, InvalidFrame
from gcrypt_channels.protocol.classic import ClassicSession
from tests.reference import openssl
from tests.reference.seeds import seeded

from .values import LARGE, values

pytestmark = pytest.mark.interop

PASSPHRASE = "pässphräse 🔑 for openssl"
FRAMES = 2000
"""Each one is a process, which is why there are not more."""

VICTIM = '{"admin":false,"user":"alice","text":"grüße und noch etwas mehr"}'


def test_openssl_opens_thousands_of_our_frames() -> None:
    crypt = Crypt(PASSPHRASE)
    texts = [jsontext.serialize(value) for value in values(FRAMES, seed=1)]

    def opened(text: str) -> bytes | None:
        frame = json.loads(crypt.seal(text))
        return openssl.decrypt(PASSPHRASE, bytes.fromhex(frame["s"]), base64.b64decode(frame["ct"]))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(opened, texts)) == [text.encode() for text in texts]


def test_we_open_thousands_of_openssls_frames() -> None:
    crypt = Crypt(PASSPHRASE)
    texts = [jsontext.serialize(value) for value in values(FRAMES, seed=2)]

    def sealed(number: int) -> str:
        salt = seeded(f"openssl {number}", 8)
        ciphertext = openssl.encrypt(PASSPHRASE, salt, texts[number].encode())
        return json.dumps({"ct": base64.b64encode(ciphertext).decode(), "s": salt.hex()})

    with ThreadPoolExecutor(4) as pool:
        frames = list(pool.map(sealed, range(FRAMES)))
    assert [crypt.open(frame) for frame in frames] == texts


def test_key_and_iv_are_openssls() -> None:
    for number in range(20):
        salt = seeded(f"derive {number}", 8)
        assert Crypt(PASSPHRASE)._derive(salt) == openssl.derive(PASSPHRASE, salt)


@pytest.mark.parametrize("value", LARGE, ids=range(len(LARGE)))
def test_values_over_1_mib_pass_both_ways(value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    salt, text = seeded("large", 8), jsontext.serialize(value)
    frame = openssl.frame(PASSPHRASE, salt, text)
    assert Crypt(PASSPHRASE).decrypt(frame) == value
    monkeypatch.setattr("gcrypt_channels.crypto.classic.random_bytes", lambda size: salt)
    assert Crypt(PASSPHRASE).seal(text) == frame


@pytest.fixture(scope="module")
def victim() -> str:
    return openssl.frame(PASSPHRASE, bytes.fromhex("00112233445566ff"), VICTIM)


@pytest.mark.parametrize("member", ["ct", "iv", "s"])
def test_every_flipped_bit_is_refused_and_looks_the_same(victim: str, member: str) -> None:
    """The frame is a fixed one: without a MAC, some frame's flipped ct may open by chance."""
    members = json.loads(victim)
    coded = members[member]
    data = base64.b64decode(coded) if member == "ct" else bytes.fromhex(coded)
    for bit in range(8 * len(data)):
        flipped = (int.from_bytes(data, "big") ^ 1 << bit).to_bytes(len(data), "big")
        text = base64.b64encode(flipped).decode() if member == "ct" else flipped.hex()
        frame = json.dumps({**members, member: text}, separators=(",", ":"))
        with pytest.raises(DecryptionFailed):
            Crypt(PASSPHRASE).decrypt(frame)
        with pytest.raises(InvalidFrame) as caught:
            ClassicSession([PASSPHRASE]).receive(frame)
        assert (caught.value.code, str(caught.value)) == (4400, "invalid frame (close code 4400)")


def test_no_flipped_bit_of_the_frames_text_alters_what_is_delivered(victim: str) -> None:
    for index in range(len(victim)):
        for bit in range(7):
            character = chr(ord(victim[index]) ^ 1 << bit)
            tampered = victim[:index] + character + victim[index + 1 :]
            try:
                delivered = Crypt(PASSPHRASE).open(tampered)
            except DecryptionFailed:
                continue
            assert delivered == VICTIM
            assert character.lower() == victim[index], "more than a hexadecimal digit's case"
