"""The vectors of other people's implementations, see ``scripts/make_vectors.py``."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gcrypt_channels.crypto import noise
from gcrypt_channels.crypto.classic import Crypt
from gcrypt_channels.crypto.noise import NN_PSK0, HandshakeState
from gcrypt_channels.crypto.primitives import (
    AesGcm,
    MlKem768Key,
    X25519Key,
    aes_cbc_decrypt,
    aes_cbc_encrypt,
    hkdf,
)
from gcrypt_channels.exceptions import DecryptionFailed, InvalidFrame, ProtocolError
from gcrypt_channels.protocol import profiles
from gcrypt_channels.protocol.classic import ClassicSession
from gcrypt_channels.protocol.events import (
    Accepted,
    Binding,
    Bytes,
    Closed,
    Gap,
    HandshakeDone,
    HelloReceived,
    SessionEvent,
    Text,
)
from gcrypt_channels.protocol.frames import padme
from gcrypt_channels.protocol.secure import SecureSession
from gcrypt_channels.protocol.states import State
from tests.reference.ml_kem import encapsulate

Vector = dict[str, Any]
DIRECTORY = Path(__file__).resolve().parent.parent / "vectors"


def load(name: str) -> Any:
    return json.loads((DIRECTORY / f"{name}.json").read_text(encoding="utf-8"))


def named(vectors: list[Vector]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("vector", vectors, ids=[vector["name"] for vector in vectors])


PRIMITIVES, NOISE, V1, V2, V3 = map(load, ("primitives", "noise", "v1", "v2", "v3"))
CONNECTIONS = [*V2["connections"], *V3["connections"]]
REFUSED = [*V2["refused"], *V3["refused"]]


def unhex(vector: Vector, *names: str) -> list[bytes]:
    return [bytes.fromhex(vector[name]) for name in names]


@pytest.mark.parametrize("vector", PRIMITIVES["aes_gcm"])
def test_aes_gcm_agrees(vector: Vector) -> None:
    key, nonce, ad, plaintext, ciphertext = unhex(
        vector, "key", "nonce", "associated_data", "plaintext", "ciphertext"
    )
    assert AesGcm(key).seal(nonce, plaintext, ad) == ciphertext
    assert AesGcm(key).open(nonce, ciphertext, ad) == plaintext


@pytest.mark.parametrize("vector", PRIMITIVES["aes_cbc"])
def test_aes_cbc_agrees(vector: Vector) -> None:
    key, iv, plaintext, ciphertext = unhex(vector, "key", "iv", "plaintext", "ciphertext")
    assert aes_cbc_encrypt(key, iv, plaintext) == ciphertext
    assert aes_cbc_decrypt(key, iv, ciphertext) == plaintext


@pytest.mark.parametrize("vector", PRIMITIVES["hkdf"])
def test_hkdf_agrees(vector: Vector) -> None:
    secret, salt, info, output = unhex(vector, "secret", "salt", "info", "output")
    assert hkdf(secret, salt=salt, info=info, length=vector["length"]) == output


@pytest.mark.parametrize("vector", PRIMITIVES["x25519"])
def test_x25519_agrees(vector: Vector) -> None:
    private, public, peer, shared = unhex(vector, "private", "public", "peer_public", "shared")
    assert X25519Key(private).public == public
    assert X25519Key(private).exchange(peer) == shared


@pytest.mark.parametrize("vector", NOISE["handshakes"])
def test_noise_makes_and_reads_every_message(vector: Vector) -> None:
    psk, prologue, ours, theirs = unhex(
        vector, "psk", "prologue", "initiator_ephemeral", "responder_ephemeral"
    )
    sides = {
        "initiator": HandshakeState(
            NN_PSK0, initiator=True, psk=psk, prologue=prologue, ephemeral=X25519Key(ours)
        ),
        "responder": HandshakeState(
            NN_PSK0, initiator=False, psk=psk, prologue=prologue, ephemeral=X25519Key(theirs)
        ),
    }
    order = [("initiator", "responder"), ("responder", "initiator")]
    for (writer, reader), payload, message in zip(
        order, vector["payloads"], vector["messages"], strict=True
    ):
        assert sides[writer].write_message(bytes.fromhex(payload)).hex() == message
        assert sides[reader].read_message(bytes.fromhex(message)).hex() == payload
    states = {name: side.split() for name, side in sides.items()}
    for name, side in sides.items():
        assert side.handshake_hash.hex() == vector["handshake_hash"], name

    for message in vector["transport"]:
        ad, plaintext, ciphertext = unhex(message, "associated_data", "plaintext", "ciphertext")
        sending = states[message["from"]][0]
        receiving = states["initiator" if message["from"] == "responder" else "responder"][1]
        assert sending.encrypt_with_ad(ad, plaintext) == ciphertext
        assert receiving.decrypt_with_ad(ad, ciphertext) == plaintext
        for state in (sending, receiving):
            if state.counter % vector["rekey_interval"] == 0:
                state.rekey()


@named(V1["valid"])
def test_v1_opens_what_openssl_made(vector: Vector) -> None:
    crypt = Crypt(vector["passphrase"])
    text = crypt.open(vector["frame"])
    assert text == vector["text"]
    assert text.value == json.loads(text)


@named(V1["valid"])
def test_v1_makes_what_openssl_makes(vector: Vector, monkeypatch: pytest.MonkeyPatch) -> None:
    salt = bytes.fromhex(vector["salt"])
    monkeypatch.setattr("gcrypt_channels.crypto.classic.random_bytes", lambda n: salt[:n])
    assert Crypt(vector["passphrase"]).seal(vector["text"]) == vector["frame"]


@named(V1["invalid"])
def test_v1_refuses(vector: Vector) -> None:
    with pytest.raises(DecryptionFailed):
        Crypt(vector["passphrase"]).decrypt(vector["frame"])
    session = ClassicSession([vector["passphrase"]])
    with pytest.raises(InvalidFrame) as caught:
        session.receive(vector["frame"])
    assert caught.value.code == 4400


def test_padme_lengths_agree() -> None:
    assert [[length, padme(length)] for length, _ in V2["padme"]] == V2["padme"]


class Play:
    """One side, or both, of a recorded connection: plays its own steps, receives the others."""

    def __init__(self, vector: Vector, monkeypatch: pytest.MonkeyPatch) -> None:
        self.vector = vector
        self.kid, self.psk = unhex(vector, "kid", "psk")
        self.binding = Binding(tuple(vector["offered"]), vector["host"], vector["target"])
        self.monkeypatch = monkeypatch
        self.profile: profiles.SecureProfile = profiles.V2
        if "kem_seed" in vector:
            self.profile = profiles.V3
        if not profiles.is_available(self.profile):
            pytest.skip("no ML-KEM-768 here")
        self.sessions = {
            role: SecureSession(
                self.profile,
                role=role,
                max_message=vector[f"{role}_max_message"],
                padding=vector["padding"],
                rekey_interval=vector["rekey_interval"],
            )
            for role in ("server", "client")
        }

    def frames(self, step: Vector) -> list[bytes]:
        """Let the sender of a step take it."""
        sender = self.sessions[step["from"]]
        match step["event"]:
            case "hello" | "reply":
                return [self._handshake_frame(step)]
            case "accept":
                return sender.seal_accept(step["subprotocol"])
            case "gap":
                return sender.seal_gap(step["group"], step["missed"])
            case "close":
                return sender.seal_close(step["code"], step["reason"])
            case "text":
                return sender.seal(step["text"])
            case "binary":
                return sender.seal(bytes.fromhex(step["data"]))
            case "long":
                return sender.seal(bytes([step["byte"]]) * step["size"])
        raise AssertionError(step["event"])

    def _handshake_frame(self, step: Vector) -> bytes:
        private = bytes.fromhex(self.vector[f"{step['from']}_ephemeral"])
        with self.monkeypatch.context() as patch:
            patch.setattr(noise, "X25519Key", lambda: X25519Key(private))
            if self.profile == profiles.V3:
                seed, coins = unhex(self.vector, "kem_seed", "kem_coins")
                patch.setattr(noise, "MlKem768Key", lambda: MlKem768Key(seed))
                patch.setattr(noise, "mlkem768_encapsulate", partial(encapsulate, coins=coins))
            session = self.sessions[step["from"]]
            if step["event"] == "hello":
                return session.hello(self.kid, self.psk)
            return session.reply(self.psk, step["subprotocols"], self.binding)

    def receiver(self, step: Vector) -> SecureSession:
        return self.sessions["client" if step["from"] == "server" else "server"]

    def receive(self, step: Vector, frames: list[bytes]) -> None:
        """Let the other side receive a step, and compare what it makes of it."""
        *earlier, last = [self.receiver(step).receive(frame) for frame in frames]
        assert earlier == [None] * len(earlier)
        assert last == self._event(step)

    def _event(self, step: Vector) -> SessionEvent | None:
        match step["event"]:
            case "hello":
                return HelloReceived(self.kid)
            case "reply":
                return HandshakeDone(tuple(step["subprotocols"]), self.binding)
            case "accept":
                return Accepted(step["subprotocol"])
            case "gap":
                return Gap(step["group"], step["missed"])
            case "close":
                return Closed(step["code"], step["reason"])
            case "text":
                return Text(step["text"])
            case "binary":
                return Bytes(bytes.fromhex(step["data"]))
            case "long":
                return Bytes(bytes([step["byte"]]) * step["size"])
        assert step["event"] == "ignored"
        return None


@named(CONNECTIONS)
def test_a_session_makes_and_reads_every_frame(
    vector: Vector, monkeypatch: pytest.MonkeyPatch
) -> None:
    play = Play(vector, monkeypatch)
    for step in vector["steps"]:
        frames = play.frames(step)
        if step["event"] == "long":
            assert [hashlib.sha256(frame).hexdigest() for frame in frames] == step["sha256"]
        else:
            assert [frame.hex() for frame in frames] == step["frames"]
        play.receive(step, frames)
    assert play.sessions["server"].peer_max_message == vector["client_max_message"]
    assert play.sessions["client"].peer_max_message == vector["server_max_message"]


@named(V2["received"])
def test_a_session_reads_what_other_senders_make(
    vector: Vector, monkeypatch: pytest.MonkeyPatch
) -> None:
    play = Play(vector, monkeypatch)
    for step in vector["steps"]:
        if step["from"] == vector["sender"]:
            play.receive(step, [bytes.fromhex(frame) for frame in step["frames"]])
        else:
            play.frames(step)


@named(REFUSED)
def test_a_session_refuses_the_last_frame_and_none_before(
    vector: Vector, monkeypatch: pytest.MonkeyPatch
) -> None:
    play = Play(vector, monkeypatch)
    *steps, bad = vector["steps"]
    session = play.receiver(bad)

    def receive(frame: str) -> None:
        event = session.receive(bytes.fromhex(frame))
        if isinstance(event, HelloReceived):
            session.reply(play.psk, (), play.binding)  # only now does a client see into HELLO

    for step in steps:
        if play.receiver(step) is session:
            play.receive(step, [bytes.fromhex(frame) for frame in step["frames"]])
        else:
            play.frames(step)
    *earlier, last = bad["frames"]
    for frame in earlier:
        receive(frame)
    with pytest.raises(ProtocolError) as caught:
        receive(last)
    assert caught.value.code == bad["code"]
    # A message over the limit, whose frames were valid, may still be answered with a close.
    assert session.state is (State.OVERFLOWED if bad["code"] == 1009 else State.FAILED)
