"""``Noise_NNpsk0_25519_AESGCM_SHA256``: one pattern of the Noise Protocol Framework, revision 34.

::

    NNpsk0:
      -> psk, e
      <- e, ee

Section numbers below are the specification's (https://noiseprotocol.org/noise.html). Every failure
that a peer's bytes can cause is ``DecryptionFailed``.
"""

from __future__ import annotations

import struct
from enum import Enum
from typing import Final

from ..exceptions import DecryptionFailed, LocalError
from .primitives import AesGcm, X25519Key, hkdf, sha256

__all__ = ["CipherState", "HandshakeState", "SymmetricState"]

_PROTOCOL_NAME: Final = b"Noise_NNpsk0_25519_AESGCM_SHA256"  # HASHLEN (32) bytes exactly
_MAX_MESSAGE: Final = 65_535  # section 3
_KEY_SIZE: Final = 32
_DH_SIZE: Final = 32

_MAX_NONCE: Final = 2**64 - 1  # reserved for rekey(), section 5.1
# Section 12.3: 32 bits of zeros, then n as 64 bits big-endian.
_pack_nonce: Final = struct.Struct(">4xQ").pack


class _Token(Enum):
    PSK = "psk"
    E = "e"
    EE = "ee"


# Section 9.4, NNpsk0; the initiator writes the first message.
_PATTERN: Final = ((_Token.PSK, _Token.E), (_Token.E, _Token.EE))


class CipherState:
    """A key and a counter, section 5.1. The key is never empty: a state is made with its key."""

    __slots__ = ("_aead", "_counter")

    def __init__(self, key: bytes) -> None:
        self._aead = AesGcm(key)
        self._counter = 0

    @property
    def counter(self) -> int:
        """The number of messages sealed or opened so far: the nonce of the next one."""
        return self._counter

    def encrypt_with_ad(self, ad: bytes, plaintext: bytes) -> bytes:
        """Return the ciphertext, 16 bytes longer. ``LocalError`` when the nonces are used up."""
        counter = self._counter
        if counter == _MAX_NONCE:
            raise LocalError("nonces exhausted")
        ciphertext = self._aead.seal(_pack_nonce(counter), plaintext, ad)
        self._counter = counter + 1
        return ciphertext

    def decrypt_with_ad(self, ad: bytes, ciphertext: bytes) -> bytes:
        """Return the plaintext. On ``DecryptionFailed`` the counter stays where it was."""
        counter = self._counter
        if counter == _MAX_NONCE:
            raise DecryptionFailed
        plaintext = self._aead.open(_pack_nonce(counter), ciphertext, ad)
        self._counter = counter + 1
        return plaintext

    def rekey(self) -> None:
        """Replace the key by REKEY(k), sections 4.2 and 11.3. The counter goes on."""
        sealed = self._aead.seal(_pack_nonce(_MAX_NONCE), bytes(_KEY_SIZE), b"")
        self._aead = AesGcm(sealed[:_KEY_SIZE])


class SymmetricState:
    """The chaining key, the handshake hash and the handshake's CipherState, section 5.2.

    NNpsk0 mixes the psk in before anything is sealed, so ``encrypt_and_hash`` never has to let
    plaintext through for want of a key; called too early it raises ``AttributeError``.
    """

    __slots__ = ("_chaining_key", "_cipher", "_hash")

    _cipher: CipherState

    def __init__(self) -> None:
        # InitializeSymmetric: a name of HASHLEN bytes is taken as it is.
        self._hash = self._chaining_key = _PROTOCOL_NAME

    @property
    def handshake_hash(self) -> bytes:
        """GetHandshakeHash (32): the same on both sides, unique to the session."""
        return self._hash

    def mix_key(self, input_key_material: bytes) -> None:
        """MixKey: a DH result, or in psk handshakes an ephemeral public key."""
        self._chaining_key, key = self._hkdf(input_key_material, 2)
        self._cipher = CipherState(key)

    def mix_hash(self, data: bytes) -> None:
        """MixHash: bind both sides to what they have seen."""
        self._hash = sha256(self._hash + data)

    def mix_key_and_hash(self, input_key_material: bytes) -> None:
        """MixKeyAndHash: the psk."""
        self._chaining_key, mixed, key = self._hkdf(input_key_material, 3)
        self.mix_hash(mixed)
        self._cipher = CipherState(key)

    def encrypt_and_hash(self, plaintext: bytes) -> bytes:
        """EncryptAndHash: return the ciphertext, 16 bytes longer."""
        ciphertext = self._cipher.encrypt_with_ad(self._hash, plaintext)
        self.mix_hash(ciphertext)
        return ciphertext

    def decrypt_and_hash(self, ciphertext: bytes) -> bytes:
        """DecryptAndHash: return the plaintext, or raise ``DecryptionFailed``."""
        plaintext = self._cipher.decrypt_with_ad(self._hash, ciphertext)
        self.mix_hash(ciphertext)
        return plaintext

    def split(self) -> tuple[CipherState, CipherState]:
        """Return the transport states: the initiator's sending one, then the responder's."""
        first, second = self._hkdf(b"", 2)
        return CipherState(first), CipherState(second)

    def _hkdf(self, input_key_material: bytes, outputs: int) -> list[bytes]:
        # HKDF of section 4.3 is RFC 5869's with the chaining key as salt and an empty info.
        okm = hkdf(input_key_material, salt=self._chaining_key, info=b"", length=32 * outputs)
        return [okm[start : start + 32] for start in range(0, len(okm), 32)]


class HandshakeState:
    """One side of one handshake, section 5.3.

    The initiator writes, then reads; the responder reads, then writes; then both ``split``. A
    state whose message did not open is spent: make a new one. Only vectors pass ``ephemeral``.
    """

    __slots__ = ("_ephemeral", "_initiator", "_next", "_psk", "_remote_ephemeral", "_symmetric")

    _remote_ephemeral: bytes

    def __init__(
        self, *, initiator: bool, psk: bytes, prologue: bytes, ephemeral: X25519Key | None = None
    ) -> None:
        """Take the psk (32), the prologue and, in vectors, the ephemeral key."""
        if len(psk) != _KEY_SIZE:
            raise ValueError("a psk has 32 bytes")
        self._initiator = initiator
        self._psk = psk
        self._ephemeral = ephemeral or X25519Key()
        self._symmetric = SymmetricState()
        self._symmetric.mix_hash(prologue)
        self._next = 0

    @property
    def handshake_hash(self) -> bytes:
        """The hash (32) for channel binding, section 11.2; final when the handshake is complete."""
        return self._symmetric.handshake_hash

    def write_message(self, payload: bytes) -> bytes:
        """Return the next message: ``e(32) ‖ sealed payload (16 longer)``, 65,535 bytes at most.

        Raises ``LocalError`` out of turn, ``ValueError`` when the payload is too long.
        """
        if len(payload) > _MAX_MESSAGE - _DH_SIZE - 16:
            raise ValueError("the payload does not fit into one Noise message")
        message = b""
        for token in self._take_turn(writing=True):
            if token is _Token.E:
                message += self._ephemeral.public
                self._mix_ephemeral(self._ephemeral.public)
            else:
                self._mix(token)
        return message + self._symmetric.encrypt_and_hash(payload)

    def read_message(self, message: bytes) -> bytes:
        """Return the payload of the peer's next message.

        Raises ``DecryptionFailed`` when it does not open, ``LocalError`` out of turn.
        """
        tokens = self._take_turn(writing=False)
        if len(message) > _MAX_MESSAGE:
            self._spend()
            raise DecryptionFailed
        try:
            for token in tokens:
                if token is _Token.E:
                    self._remote_ephemeral = message[:_DH_SIZE]
                    message = message[_DH_SIZE:]
                    self._mix_ephemeral(self._remote_ephemeral)
                else:
                    self._mix(token)
            return self._symmetric.decrypt_and_hash(message)
        except DecryptionFailed:
            self._spend()
            raise

    def split(self) -> tuple[CipherState, CipherState]:
        """Return ``(sending, receiving)``. ``LocalError`` until both messages have passed."""
        if self._next != len(_PATTERN):
            raise LocalError("the handshake is not complete")
        first, second = self._symmetric.split()
        return (first, second) if self._initiator else (second, first)

    def _take_turn(self, *, writing: bool) -> tuple[_Token, ...]:
        turn = self._next
        initiator_writes = turn % 2 == 0
        if turn >= len(_PATTERN) or writing is not (self._initiator is initiator_writes):
            raise LocalError("not this side's turn in the handshake")
        self._next = turn + 1
        return _PATTERN[turn]

    def _spend(self) -> None:
        self._next = len(_PATTERN) + 1

    def _mix_ephemeral(self, public: bytes) -> None:
        self._symmetric.mix_hash(public)
        self._symmetric.mix_key(public)  # in psk handshakes, section 9.2

    def _mix(self, token: _Token) -> None:
        if token is _Token.PSK:
            self._symmetric.mix_key_and_hash(self._psk)
        else:  # ee
            self._symmetric.mix_key(self._ephemeral.exchange(self._remote_ephemeral))
