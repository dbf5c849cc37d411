"""Two patterns of the Noise Protocol Framework, revision 34, with 25519, AESGCM and SHA256.

Section numbers below are the specification's (https://noiseprotocol.org/noise.html). ``hfs`` is the
extension *KEM-based Hybrid Forward Secrecy for Noise*, revision 1, a draft; its KEM here is
ML-KEM-768. See ``docs/protocol.md``, *gcrypt.v3*. Every failure that a peer's bytes can cause is
``DecryptionFailed``.
"""

from __future__ import annotations

import struct
from collections import deque
from enum import IntEnum, auto
from typing import Final, NamedTuple
from weakref import ref

from ..exceptions import DecryptionFailed, LocalError
from .primitives import AesGcm, MlKem768Key, X25519Key, hkdf, mlkem768_encapsulate, sha256

__all__ = ["NNHFS_PSK0", "NN_PSK0", "CipherState", "HandshakeState", "Pattern", "SymmetricState"]

_MAX_MESSAGE: Final = 65_535  # section 3
_KEY_SIZE: Final = 32
_HASH_SIZE: Final = 32
_TAG_SIZE: Final = 16

_MAX_NONCE: Final = 2**64 - 1  # reserved for rekey(), section 5.1
# Section 12.3: 32 bits of zeros, then n as 64 bits big-endian.
_pack_nonce: Final = struct.Struct(">4xQ").pack


class _Token(IntEnum):
    """What a message is made of; an IntEnum, because those hash without Python code."""

    PSK = auto()
    E = auto()
    EE = auto()
    E1 = auto()
    EKEM1 = auto()


# What a token adds to a message.
_SIZES: Final = {
    _Token.PSK: 0,
    _Token.E: 32,
    _Token.EE: 0,
    _Token.E1: 1184 + _TAG_SIZE,
    _Token.EKEM1: 1088 + _TAG_SIZE,
}


class Pattern(NamedTuple):
    """The name of a Noise protocol, and the tokens of its messages; the initiator's is the first.

    In every pattern here ``psk`` comes before anything is sealed, and ``e`` before ``e1``.
    """

    name: bytes
    messages: tuple[tuple[_Token, ...], ...]


NN_PSK0: Final = Pattern(
    b"Noise_NNpsk0_25519_AESGCM_SHA256",
    (
        (_Token.PSK, _Token.E),
        (_Token.E, _Token.EE),
    ),
)
NNHFS_PSK0: Final = Pattern(
    b"Noise_NNhfs+psk0_25519+MLKEM768_AESGCM_SHA256",
    (
        (_Token.PSK, _Token.E, _Token.E1),
        (_Token.E, _Token.EE, _Token.EKEM1),
    ),
)


_MAX_CONTEXTS: Final = 1024
"""Expanded AES keys that a process keeps for its connections: two for each that is busy."""

_FEW: Final = 4
"""Messages for which a key is expanded each time: a quiet socket keeps no expanded key."""

# Weak references: nothing here keeps a key longer than its connection does.
_expanded: Final[deque[ref[CipherState]]] = deque()


class CipherState:
    """A key and a counter, section 5.1. The key is never empty: a state is made with its key.

    AES-GCM's expanded key takes 2.5 kB, so only the :data:`_MAX_CONTEXTS` states that last needed
    one have it, of those that are used more than a few times; the others make it anew (about 1 µs)
    when they are used.
    """

    __slots__ = ("__weakref__", "_aead", "_counter", "_key")

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._aead: AesGcm | None = None
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
        ciphertext = (self._aead or self._expand()).seal(_pack_nonce(counter), plaintext, ad)
        self._counter = counter + 1
        return ciphertext

    def decrypt_with_ad(self, ad: bytes, ciphertext: bytes) -> bytes:
        """Return the plaintext. On ``DecryptionFailed`` the counter stays where it was."""
        counter = self._counter
        if counter == _MAX_NONCE:
            raise DecryptionFailed
        plaintext = (self._aead or self._expand()).open(_pack_nonce(counter), ciphertext, ad)
        self._counter = counter + 1
        return plaintext

    def rekey(self) -> None:
        """Replace the key by REKEY(k), sections 4.2 and 11.3. The counter goes on."""
        aead = self._aead or self._expand()
        self._key = aead.seal(_pack_nonce(_MAX_NONCE), bytes(_KEY_SIZE), b"")[:_KEY_SIZE]
        self._aead = None

    def _expand(self) -> AesGcm:
        aead = AesGcm(self._key)
        if self._counter < _FEW:
            return aead
        self._aead = aead
        _expanded.append(ref(self))
        if len(_expanded) > _MAX_CONTEXTS:
            oldest = _expanded.popleft()()
            if oldest is not None:
                oldest._aead = None
        return aead


class SymmetricState:
    """The chaining key, the handshake hash and the handshake's CipherState, section 5.2.

    The patterns mix the psk in before anything is sealed, so ``encrypt_and_hash`` never has to let
    plaintext through for want of a key; called too early it raises ``AttributeError``.
    """

    __slots__ = ("_chaining_key", "_cipher", "_hash")

    _cipher: CipherState

    def __init__(self, protocol_name: bytes) -> None:
        # InitializeSymmetric: a name of at most HASHLEN bytes is taken as it is, with zeros behind.
        short = len(protocol_name) <= _HASH_SIZE
        self._hash = protocol_name.ljust(_HASH_SIZE, b"\0") if short else sha256(protocol_name)
        self._chaining_key = self._hash

    @property
    def handshake_hash(self) -> bytes:
        """GetHandshakeHash (32): the same on both sides, unique to the session."""
        return self._hash

    def mix_key(self, input_key_material: bytes) -> None:
        """MixKey: a shared secret, or in psk handshakes an ephemeral public key."""
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
    state whose message did not open is spent: make a new one.
    """

    __slots__ = (
        "_encapsulated",
        "_ephemeral",
        "_initiator",
        "_kem",
        "_messages",
        "_next",
        "_psk",
        "_remote_ephemeral",
        "_symmetric",
    )

    _remote_ephemeral: bytes
    _kem: MlKem768Key
    _encapsulated: tuple[bytes, bytes]

    def __init__(
        self,
        pattern: Pattern,
        *,
        initiator: bool,
        psk: bytes,
        prologue: bytes,
        ephemeral: X25519Key | None = None,
        kem: MlKem768Key | None = None,
    ) -> None:
        """Take the psk (32) and the prologue. Only vectors pass the two keys."""
        if len(psk) != _KEY_SIZE:
            raise ValueError("a psk has 32 bytes")
        self._messages = pattern.messages
        self._initiator = initiator
        self._psk = psk
        self._ephemeral = ephemeral or X25519Key()
        if initiator and _Token.E1 in pattern.messages[0]:
            self._kem = kem or MlKem768Key()
        self._symmetric = SymmetricState(pattern.name)
        self._symmetric.mix_hash(prologue)
        self._next = 0

    @property
    def handshake_hash(self) -> bytes:
        """The hash (32) for channel binding, section 11.2; final when the handshake is complete."""
        return self._symmetric.handshake_hash

    def write_message(self, payload: bytes) -> bytes:
        """Return the next message, which ends in the sealed payload; 65,535 bytes at most.

        Raises ``LocalError`` out of turn, ``ValueError`` when the payload is too long.
        """
        tokens = self._turn(writing=True)
        if len(payload) > _MAX_MESSAGE - _TAG_SIZE - sum(_SIZES[token] for token in tokens):
            raise ValueError("the payload does not fit into one Noise message")
        self._next += 1
        written = [self._write(token) for token in tokens]
        return b"".join((*written, self._symmetric.encrypt_and_hash(payload)))

    def read_message(self, message: bytes) -> bytes:
        """Return the payload of the peer's next message.

        Raises ``DecryptionFailed`` when it does not open, ``LocalError`` out of turn.
        """
        tokens = self._turn(writing=False)
        self._next += 1
        try:
            if len(message) > _MAX_MESSAGE:
                raise DecryptionFailed
            for token in tokens:
                size = _SIZES[token]
                self._read(token, message[:size])
                message = message[size:]
            return self._symmetric.decrypt_and_hash(message)
        except DecryptionFailed:
            self._next = len(self._messages) + 1  # spent
            raise

    def split(self) -> tuple[CipherState, CipherState]:
        """Return ``(sending, receiving)``. ``LocalError`` until both messages have passed."""
        if self._next != len(self._messages):
            raise LocalError("the handshake is not complete")
        first, second = self._symmetric.split()
        return (first, second) if self._initiator else (second, first)

    def _turn(self, *, writing: bool) -> tuple[_Token, ...]:
        """Return the tokens of the next message, or raise ``LocalError`` when it is the peer's."""
        initiator_writes = self._next % 2 == 0
        if self._next >= len(self._messages) or writing is not (
            self._initiator is initiator_writes
        ):
            raise LocalError("not this side's turn in the handshake")
        return self._messages[self._next]

    def _write(self, token: _Token) -> bytes:
        """Return what a token puts into the message that is written."""
        symmetric = self._symmetric
        match token:
            case _Token.E:
                self._mix_ephemeral(self._ephemeral.public)
                return self._ephemeral.public
            case _Token.E1:
                return symmetric.encrypt_and_hash(self._kem.public)
            case _Token.EKEM1:
                ciphertext, secret = self._encapsulated
                sealed = symmetric.encrypt_and_hash(ciphertext)
                symmetric.mix_key(secret)
                return sealed
            case _:
                self._mix(token)
                return b""

    def _read(self, token: _Token, part: bytes) -> None:
        """Take in what a token has put into the message that is read."""
        symmetric = self._symmetric
        match token:
            case _Token.E:
                self._remote_ephemeral = part
                self._mix_ephemeral(part)
            case _Token.E1:
                # At once, because that is what checks the key.
                self._encapsulated = mlkem768_encapsulate(symmetric.decrypt_and_hash(part))
            case _Token.EKEM1:
                symmetric.mix_key(self._kem.decapsulate(symmetric.decrypt_and_hash(part)))
            case _:
                self._mix(token)

    def _mix_ephemeral(self, public: bytes) -> None:
        self._symmetric.mix_hash(public)
        self._symmetric.mix_key(public)  # in psk handshakes, section 9.2

    def _mix(self, token: _Token) -> None:
        """Mix in a token that is not on the wire."""
        if token is _Token.PSK:
            self._symmetric.mix_key_and_hash(self._psk)
        else:  # ee
            self._symmetric.mix_key(self._ephemeral.exchange(self._remote_ephemeral))
