"""A peer of ``gcrypt.v3``: noiseprotocol's symmetric state with pycryptodome's KEM.

The tokens are written out from the two specifications, one line of theirs after the other.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from . import ml_kem
from .noise_peer import NoisePeer

TAG_SIZE = 16
PART = 32  # an ephemeral key


class HybridPeer(NoisePeer):
    """The server is the initiator. What is not given is drawn at random.

    ``kem_seed`` (64) is the initiator's, ``kem_coins`` (32) the responder's randomness. What
    ``change_key`` and ``change_ciphertext`` make of the KEM's messages is sealed in their place.
    """

    NAME = b"Noise_NNhfs+psk0_25519+MLKEM768_AESGCM_SHA256"

    def __init__(
        self,
        *,
        initiator: bool,
        psk: bytes,
        prologue: bytes,
        ephemeral: bytes | None = None,
        kem_seed: bytes | None = None,
        kem_coins: bytes | None = None,
        rekey_interval: int = 65_536,
    ) -> None:
        super().__init__(
            initiator=initiator,
            psk=psk,
            prologue=prologue,
            ephemeral=ephemeral,
            rekey_interval=rekey_interval,
        )
        self.change_key: Callable[[bytes], bytes] = _unchanged
        self.change_ciphertext: Callable[[bytes], bytes] = _unchanged
        self._psk = psk
        self._initiator = initiator
        self._kem_seed = kem_seed or secrets.token_bytes(64)
        self._kem_coins = kem_coins or secrets.token_bytes(32)
        self._state = self._noise.noise_protocol.handshake_state
        self._symmetric = self._state.symmetric_state
        self._dh = self._noise.noise_protocol.dh_fn
        self._keypair_class = self._noise.noise_protocol.keypair_class

    def write_handshake(self, payload: bytes) -> bytes:
        return self._write_hello(payload) if self._initiator else self._write_reply(payload)

    def read_handshake(self, message: bytes) -> bytes:
        return self._read_reply(message) if self._initiator else self._read_hello(message)

    def _write_hello(self, payload: bytes) -> bytes:
        self._symmetric.mix_key_and_hash(self._psk)
        e = self._write_e()
        e1 = self._symmetric.encrypt_and_hash(self.change_key(ml_kem.public_key(self._kem_seed)))
        return bytes(e + e1 + self._symmetric.encrypt_and_hash(payload))

    def _read_hello(self, message: bytes) -> bytes:
        self._symmetric.mix_key_and_hash(self._psk)
        self._read_e(message[:PART])
        end = PART + ml_kem.PUBLIC_SIZE + TAG_SIZE
        self._encapsulation_key = bytes(self._symmetric.decrypt_and_hash(message[PART:end]))
        return bytes(self._symmetric.decrypt_and_hash(message[end:]))

    def _write_reply(self, payload: bytes) -> bytes:
        e = self._write_e()
        self._mix_ee()
        ciphertext, secret = ml_kem.encapsulate(self._encapsulation_key, self._kem_coins)
        ekem1 = self._symmetric.encrypt_and_hash(self.change_ciphertext(ciphertext))
        self._symmetric.mix_key(secret)
        reply = e + ekem1 + self._symmetric.encrypt_and_hash(payload)
        self._symmetric.split()
        return bytes(reply)

    def _read_reply(self, message: bytes) -> bytes:
        self._read_e(message[:PART])
        self._mix_ee()
        end = PART + ml_kem.CIPHERTEXT_SIZE + TAG_SIZE
        ciphertext = bytes(self._symmetric.decrypt_and_hash(message[PART:end]))
        self._symmetric.mix_key(ml_kem.decapsulate(self._kem_seed, ciphertext))
        payload = self._symmetric.decrypt_and_hash(message[end:])
        self._symmetric.split()
        return bytes(payload)

    def _write_e(self) -> bytes:
        state = self._state
        if not hasattr(state.e, "public_bytes"):
            state.e = self._dh.generate_keypair()
        self._mix_e(state.e.public_bytes)
        return bytes(state.e.public_bytes)

    def _read_e(self, public: bytes) -> None:
        self._state.re = self._keypair_class.from_public_bytes(public)
        self._mix_e(public)

    def _mix_e(self, public: bytes) -> None:
        self._symmetric.mix_hash(public)
        self._symmetric.mix_key(public)  # psk handshakes do

    def _mix_ee(self) -> None:
        self._symmetric.mix_key(self._dh.dh(self._state.e.private, self._state.re.public))


def _unchanged(message: bytes) -> bytes:
    return message
