"""A peer of ``gcrypt.v2`` on the noiseprotocol package: the handshake, and one frame at a time."""

from __future__ import annotations

import warnings

from noise.connection import Keypair, NoiseConnection  # type: ignore[import-untyped]


class NoisePeer:
    """The server is the initiator. Without an ``ephemeral`` the library draws one."""

    NAME = b"Noise_NNpsk0_25519_AESGCM_SHA256"

    def __init__(
        self,
        *,
        initiator: bool,
        psk: bytes,
        prologue: bytes,
        ephemeral: bytes | None = None,
        rekey_interval: int = 65_536,
    ) -> None:
        self._noise = NoiseConnection.from_name(NoisePeer.NAME)
        # The library does not know hfs. Of the name it needs the hash alone from here on.
        self._noise.noise_protocol.name = self.NAME
        self._noise.set_psks(psk=psk)
        self._noise.set_prologue(prologue)
        if initiator:
            self._noise.set_as_initiator()
        else:
            self._noise.set_as_responder()
        if ephemeral is not None:
            self._noise.set_keypair_from_private_bytes(Keypair.EPHEMERAL, ephemeral)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="One of ephemeral keypairs is already set")
            self._noise.start_handshake()
        self._rekey_interval = rekey_interval

    def write_handshake(self, payload: bytes) -> bytes:
        return bytes(self._noise.write_message(payload))

    def read_handshake(self, message: bytes) -> bytes:
        return bytes(self._noise.read_message(message))

    @property
    def handshake_hash(self) -> bytes:
        return bytes(self._noise.get_handshake_hash())

    def seal(self, first: int, plaintext: bytes) -> bytes:
        """Return the next frame, with its first byte as associated data."""
        state = self._noise.noise_protocol.cipher_state_encrypt
        frame = bytes([first]) + state.encrypt_with_ad(bytes([first]), plaintext)
        if state.n % self._rekey_interval == 0:
            state.rekey()
        return bytes(frame)

    def open(self, frame: bytes) -> tuple[int, bytes]:
        """Return ``(first byte, plaintext)`` of the next frame."""
        state = self._noise.noise_protocol.cipher_state_decrypt
        plaintext = state.decrypt_with_ad(frame[:1], frame[1:])
        if state.n % self._rekey_interval == 0:
            state.rekey()
        return frame[0], bytes(plaintext)
