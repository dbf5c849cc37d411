"""Frames to and fro with the real g-crypt, on the crypto-js it depends on and on the newest."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gcrypt_channels.crypto.classic import Crypt
from gcrypt_channels.exceptions import DecryptionFailed
from gcrypt_channels.protocol.classic import ClassicSession

from .values import AWKWARD, LARGE, values

pytestmark = pytest.mark.interop

PASSPHRASES = ["a passphrase for the tests", "x", "pässphräse 🔑 пароль", " \t'\"\\"]
FRAMES = 3000


class GCrypt:
    """A node process that runs g-crypt."""

    def __init__(self, library: str) -> None:
        script = Path(__file__).with_name("gcrypt_peer.cjs")
        self.process = subprocess.Popen(
            ["node", str(script), library], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.version = self._read()

    def ask(self, operation: str, passphrase: str, arguments: list[Any]) -> list[Any]:
        assert self.process.stdin is not None
        request = json.dumps([operation, passphrase, arguments])
        self.process.stdin.write(request.encode() + b"\n")
        self.process.stdin.flush()
        answer = self._read()
        assert isinstance(answer, list)
        return answer

    def results(self, operation: str, passphrase: str, arguments: list[Any]) -> list[Any]:
        """Ask for what must not fail."""
        answers = self.ask(operation, passphrase, arguments)
        assert {answer[0] for answer in answers} == {"ok"}
        return [answer[1] for answer in answers]

    def close(self) -> None:
        self.process.communicate()

    def _read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "g-crypt ended early"
        return json.loads(line)


@pytest.fixture(scope="module", params=[("nested", "3."), ("root", "4.2.")], ids=["3.x", "4.2"])
def gcrypt(request: pytest.FixtureRequest) -> Iterator[GCrypt]:
    library, version = request.param
    peer = GCrypt(library)
    assert peer.version.startswith(version)
    yield peer
    peer.close()
    assert peer.process.returncode == 0


def test_g_crypt_opens_thousands_of_our_frames(gcrypt: GCrypt) -> None:
    crypt, sent = Crypt(PASSPHRASES[0]), values(FRAMES, seed=1)
    frames = [crypt.encrypt(value) for value in sent]
    assert gcrypt.results("decrypt", PASSPHRASES[0], frames) == sent


def test_we_open_thousands_of_g_crypts_frames(gcrypt: GCrypt) -> None:
    crypt, sent = Crypt(PASSPHRASES[0]), values(FRAMES, seed=2)
    frames = gcrypt.results("encrypt", PASSPHRASES[0], sent)
    assert [crypt.decrypt(frame) for frame in frames] == sent


def test_a_session_carries_thousands_of_frames_each_way(gcrypt: GCrypt) -> None:
    session, sent = ClassicSession([PASSPHRASES[0]]), values(FRAMES, seed=3)
    for frame, value in zip(gcrypt.results("encrypt", PASSPHRASES[0], sent), sent, strict=True):
        assert json.loads(session.receive(frame).data) == value
    texts = [json.dumps(value) for value in sent]
    frames = [frame for text in texts for frame in session.seal(text)]
    assert gcrypt.results("decrypt", PASSPHRASES[0], frames) == sent


@pytest.mark.parametrize("passphrase", PASSPHRASES)
def test_any_passphrase_serves(gcrypt: GCrypt, passphrase: str) -> None:
    crypt = Crypt(passphrase)
    theirs = gcrypt.results("encrypt", passphrase, AWKWARD)
    assert [crypt.decrypt(frame) for frame in theirs] == AWKWARD
    ours = [crypt.encrypt(value) for value in AWKWARD]
    assert gcrypt.results("decrypt", passphrase, ours) == AWKWARD


def test_values_over_1_mib_pass_both_ways(gcrypt: GCrypt) -> None:
    crypt = Crypt(PASSPHRASES[0])
    theirs = gcrypt.results("encrypt", PASSPHRASES[0], LARGE)
    assert all(len(frame) > 2**20 for frame in theirs)
    assert [crypt.decrypt(frame) for frame in theirs] == LARGE
    ours = [crypt.encrypt(value) for value in LARGE]
    assert gcrypt.results("decrypt", PASSPHRASES[0], ours) == LARGE


def test_with_the_same_salt_our_frame_is_g_crypts_to_the_byte(
    gcrypt: GCrypt, monkeypatch: pytest.MonkeyPatch
) -> None:
    crypt = Crypt(PASSPHRASES[0])
    for frame in gcrypt.results("encrypt", PASSPHRASES[0], values(500, seed=4)):
        salt = bytes.fromhex(json.loads(frame)["s"])
        monkeypatch.setattr(
            "gcrypt_channels.crypto.classic.random_bytes", lambda size, salt=salt: salt
        )
        assert crypt.seal(crypt.open(frame)) == frame


def test_our_plaintext_is_what_json_stringify_prints(gcrypt: GCrypt) -> None:
    # Numbers are left out: Python spells some floats differently.
    texts = [value for value in values(500, seed=5) if isinstance(value, str)] + ["\ud800 \udfff"]
    sent = [{"text": text, "list": [text, True, None]} for text in texts]
    crypt = Crypt(PASSPHRASES[0])
    frames = [crypt.encrypt(value) for value in sent]
    printed = gcrypt.results("decryptAndPrint", PASSPHRASES[0], frames)
    assert printed == [crypt.open(frame) for frame in frames]


def test_g_crypt_ignores_a_tampered_iv_and_we_refuse_it(gcrypt: GCrypt) -> None:
    (frame,) = gcrypt.results("encrypt", PASSPHRASES[0], [{"admin": 0}])
    members = json.loads(frame)
    tampered = [
        json.dumps({**members, "iv": f"{int(members['iv'], 16) ^ 1 << bit:032x}"})
        for bit in range(128)
    ]
    assert gcrypt.results("decrypt", PASSPHRASES[0], tampered) == [{"admin": 0}] * 128
    for frame in tampered:
        with pytest.raises(DecryptionFailed):
            Crypt(PASSPHRASES[0]).decrypt(frame)


def test_neither_opens_the_others_frames_with_another_passphrase(gcrypt: GCrypt) -> None:
    sent = [{"number": number} for number in range(100)]
    ours = [Crypt(PASSPHRASES[0]).encrypt(value) for value in sent]
    assert {answer[0] for answer in gcrypt.ask("decrypt", PASSPHRASES[2], ours)} == {"error"}
    for frame in gcrypt.results("encrypt", PASSPHRASES[2], sent):
        with pytest.raises(DecryptionFailed):
            Crypt(PASSPHRASES[0]).decrypt(frame)
