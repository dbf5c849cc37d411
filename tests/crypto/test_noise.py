"""``gcrypt_channels.crypto.noise``; other implementations meet it in ``interop/``."""

from __future__ import annotations

import hashlib
import weakref
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcrypt_channels.crypto import noise
from gcrypt_channels.crypto.noise import (
    NN_PSK0,
    NNHFS_PSK0,
    CipherState,
    HandshakeState,
    Pattern,
    SymmetricState,
)
from gcrypt_channels.crypto.primitives import (
    AesGcm,
    MlKem768Key,
    X25519Key,
    mlkem768_available,
    mlkem768_encapsulate,
)
from gcrypt_channels.exceptions import DecryptionFailed, LocalError

KEY, PSK, PROLOGUE = bytes(range(32)), bytes(range(100, 132)), b"prologue"
MAX_NONCE = 2**64 - 1


needs_ml_kem = pytest.mark.skipif(not mlkem768_available(), reason="no ML-KEM-768 here")
both_patterns = pytest.mark.parametrize(
    "pattern",
    [
        NN_PSK0,
        pytest.param(NNHFS_PSK0, marks=needs_ml_kem),
    ],
    ids=["v2", "v3"],
)


def sides(
    pattern: Pattern, *, psk: bytes = PSK, prologue: bytes = PROLOGUE
) -> tuple[HandshakeState, HandshakeState]:
    """Return an initiator, and a responder that agrees with it unless told otherwise."""
    return (
        HandshakeState(pattern, initiator=True, psk=PSK, prologue=PROLOGUE),
        HandshakeState(pattern, initiator=False, psk=psk, prologue=prologue),
    )


def at_counter(counter: int) -> CipherState:
    state = CipherState(KEY)
    state._counter = counter
    return state


# CipherState, section 5.1


def test_the_nonce_is_four_zero_bytes_and_the_counter_big_endian() -> None:
    for counter in (0, 1, 255, 256, 2**32, MAX_NONCE - 1):
        nonce = bytes(4) + counter.to_bytes(8, "big")
        ciphertext = AesGcm(KEY).seal(nonce, b"plaintext", b"ad")
        assert at_counter(counter).encrypt_with_ad(b"ad", b"plaintext") == ciphertext
        assert at_counter(counter).decrypt_with_ad(b"ad", ciphertext) == b"plaintext"


@given(st.lists(st.tuples(st.binary(), st.binary())))
def test_messages_open_in_the_order_they_were_sealed(messages: list[tuple[bytes, bytes]]) -> None:
    sending, receiving = CipherState(KEY), CipherState(KEY)
    for ad, plaintext in messages:
        assert receiving.decrypt_with_ad(ad, sending.encrypt_with_ad(ad, plaintext)) == plaintext
    assert sending.counter == receiving.counter == len(messages)


def test_a_failure_does_not_advance_the_counter() -> None:
    sending, receiving = CipherState(KEY), CipherState(KEY)
    ciphertext = sending.encrypt_with_ad(b"ad", b"plaintext")
    for wrong in (b"", ciphertext[:-1], ciphertext + b"x", b"x" + ciphertext[1:]):
        with pytest.raises(DecryptionFailed):
            receiving.decrypt_with_ad(b"ad", wrong)
    with pytest.raises(DecryptionFailed):
        receiving.decrypt_with_ad(b"another", ciphertext)
    assert receiving.counter == 0
    assert receiving.decrypt_with_ad(b"ad", ciphertext) == b"plaintext"


def test_a_message_that_cannot_be_sealed_does_not_advance_the_counter() -> None:
    state = CipherState(KEY)
    with pytest.raises(TypeError):
        state.encrypt_with_ad(b"", "text")  # type: ignore[arg-type]
    assert state.counter == 0


def test_the_last_nonce_is_not_used_for_a_message() -> None:
    sending, receiving = at_counter(MAX_NONCE - 1), at_counter(MAX_NONCE - 1)
    assert receiving.decrypt_with_ad(b"", sending.encrypt_with_ad(b"", b"last")) == b"last"
    with pytest.raises(LocalError, match="nonces exhausted"):
        sending.encrypt_with_ad(b"", b"one more")
    forged = AesGcm(KEY).seal(bytes(4) + b"\xff" * 8, b"one more", b"")
    with pytest.raises(DecryptionFailed):
        receiving.decrypt_with_ad(b"", forged)


def test_rekey_takes_the_key_from_the_last_nonce_and_lets_the_counter_go_on() -> None:
    """Section 4.2: REKEY(k) is the first 32 bytes of ENCRYPT(k, 2**64 - 1, "", zeros)."""
    new_key = AesGcm(KEY).seal(bytes(4) + b"\xff" * 8, bytes(32), b"")[:32]
    state = CipherState(KEY)
    state.encrypt_with_ad(b"", b"under the old key")
    state.rekey()
    nonce = bytes(11) + b"\x01"
    assert state.encrypt_with_ad(b"", b"x") == AesGcm(new_key).seal(nonce, b"x", b"")


def test_a_rekeyed_state_opens_nothing_sealed_before() -> None:
    sending, receiving = CipherState(KEY), CipherState(KEY)
    ciphertext = sending.encrypt_with_ad(b"", b"x")
    receiving.rekey()
    with pytest.raises(DecryptionFailed):
        receiving.decrypt_with_ad(b"", ciphertext)


# SymmetricState, section 5.2


def test_nothing_passes_in_plaintext_for_want_of_a_key() -> None:
    with pytest.raises(AttributeError):
        SymmetricState(NN_PSK0.name).encrypt_and_hash(b"plaintext")


def test_the_hash_begins_with_the_name_of_the_protocol() -> None:
    assert SymmetricState(NN_PSK0.name).handshake_hash == b"Noise_NNpsk0_25519_AESGCM_SHA256"
    long = b"Noise_NNhfs+psk0_25519+MLKEM768_AESGCM_SHA256"
    assert SymmetricState(NNHFS_PSK0.name).handshake_hash == hashlib.sha256(long).digest()
    assert SymmetricState(b"short").handshake_hash == b"short" + bytes(27)


# HandshakeState, section 5.3


@given(st.binary(max_size=300), st.binary(max_size=300), st.binary(max_size=40))
@both_patterns
def test_a_handshake_carries_both_payloads_and_agrees_on_everything(
    pattern: Pattern, first: bytes, second: bytes, prologue: bytes
) -> None:
    initiator = HandshakeState(pattern, initiator=True, psk=PSK, prologue=prologue)
    responder = HandshakeState(pattern, initiator=False, psk=PSK, prologue=prologue)
    assert responder.read_message(initiator.write_message(first)) == first
    assert initiator.read_message(responder.write_message(second)) == second
    assert initiator.handshake_hash == responder.handshake_hash
    ours, theirs = initiator.split(), responder.split()
    for sending, receiving in ((ours[0], theirs[1]), (theirs[0], ours[1])):
        assert receiving.decrypt_with_ad(b"", sending.encrypt_with_ad(b"", b"hi")) == b"hi"


@both_patterns
def test_the_two_directions_have_different_keys(pattern: Pattern) -> None:
    initiator, responder = sides(pattern)
    responder.read_message(initiator.write_message(b""))
    initiator.read_message(responder.write_message(b""))
    (to_responder, from_responder), _ = initiator.split(), responder.split()
    with pytest.raises(DecryptionFailed):
        from_responder.decrypt_with_ad(b"", to_responder.encrypt_with_ad(b"", b"reflected"))


@both_patterns
def test_two_handshakes_of_one_psk_have_nothing_in_common(pattern: Pattern) -> None:
    assert sides(pattern)[0].write_message(b"")[:32] != sides(pattern)[0].write_message(b"")[:32]


@both_patterns
def test_the_ephemeral_key_can_be_given_for_vectors(pattern: Pattern) -> None:
    state = HandshakeState(pattern, initiator=True, psk=PSK, prologue=b"", ephemeral=X25519Key(KEY))
    assert state.write_message(b"")[:32] == X25519Key(KEY).public


@pytest.mark.parametrize("others", [{"psk": bytes(32)}, {"prologue": b""}])
@both_patterns
def test_a_responder_that_does_not_agree_learns_nothing(
    pattern: Pattern, others: dict[str, bytes]
) -> None:
    initiator, responder = sides(pattern, **others)
    with pytest.raises(DecryptionFailed):
        responder.read_message(initiator.write_message(b"payload"))


@both_patterns
def test_every_bit_of_both_messages_counts(pattern: Pattern) -> None:
    ephemerals, kem = [X25519Key() for _ in range(2)], None
    if pattern is NNHFS_PSK0:
        kem = MlKem768Key()

    def fresh(role: int) -> HandshakeState:
        return HandshakeState(
            pattern,
            initiator=role == 0,
            psk=PSK,
            prologue=PROLOGUE,
            ephemeral=ephemerals[role],
            kem=kem,
        )

    initiator, responder = fresh(0), fresh(1)
    first = initiator.write_message(b"1")
    responder.read_message(first)
    second = responder.write_message(b"2")
    for bit in range(8 * len(first)):
        tampered = (int.from_bytes(first, "big") ^ 1 << bit).to_bytes(len(first), "big")
        with pytest.raises(DecryptionFailed):
            fresh(1).read_message(tampered)
    for bit in range(8 * len(second)):
        # X25519 ignores the highest bit of a public key; the hash does not.
        tampered = (int.from_bytes(second, "big") ^ 1 << bit).to_bytes(len(second), "big")
        again = fresh(0)
        again.write_message(b"1")
        with pytest.raises(DecryptionFailed):
            again.read_message(tampered)


@given(st.binary(max_size=100))
@both_patterns
def test_no_bytes_raise_anything_but_decryption_failed(pattern: Pattern, message: bytes) -> None:
    initiator, responder = sides(pattern)
    initiator.write_message(b"")
    for side in (initiator, responder):
        with pytest.raises(DecryptionFailed):
            side.read_message(message)


@both_patterns
def test_an_ephemeral_key_of_small_order_is_refused(pattern: Pattern) -> None:
    initiator, responder = sides(pattern)
    responder.read_message(initiator.write_message(b""))
    message = responder.write_message(b"")
    with pytest.raises(DecryptionFailed):
        initiator.read_message(bytes(32) + message[32:])


@both_patterns
def test_a_message_has_at_most_65535_bytes(pattern: Pattern) -> None:
    initiator, responder = sides(pattern)
    first, second = (48, 48) if pattern is NN_PSK0 else (1248, 1152)
    with pytest.raises(ValueError, match="does not fit"):
        initiator.write_message(bytes(65_535 - first + 1))
    message = initiator.write_message(bytes(65_535 - first))
    assert len(message) == 65_535
    assert responder.read_message(message) == bytes(65_535 - first)
    with pytest.raises(ValueError, match="does not fit"):
        responder.write_message(bytes(65_535 - second + 1))
    answer = responder.write_message(bytes(65_535 - second))
    assert initiator.read_message(answer) == bytes(65_535 - second)
    with pytest.raises(DecryptionFailed):
        sides(pattern)[1].read_message(message + b"\0")


@both_patterns
def test_nobody_acts_out_of_turn(pattern: Pattern) -> None:
    initiator, responder = sides(pattern)
    for act in (
        lambda: initiator.read_message(b""),
        lambda: responder.write_message(b""),
        initiator.split,
    ):
        with pytest.raises(LocalError):
            act()
    responder.read_message(initiator.write_message(b""))
    for act in (
        lambda: initiator.write_message(b""),
        lambda: responder.read_message(b""),
        responder.split,
    ):
        with pytest.raises(LocalError):
            act()
    initiator.read_message(responder.write_message(b""))
    for act in (lambda: initiator.write_message(b""), lambda: responder.read_message(b"")):
        with pytest.raises(LocalError):
            act()


# The KEM of hfs


def read_with(kem: MlKem768Key, monkeypatch: pytest.MonkeyPatch, encapsulate: Any) -> bytes:
    """Return what an initiator reads when the responder encapsulates in another way."""
    initiator = HandshakeState(NNHFS_PSK0, initiator=True, psk=PSK, prologue=PROLOGUE, kem=kem)
    responder = HandshakeState(NNHFS_PSK0, initiator=False, psk=PSK, prologue=PROLOGUE)
    monkeypatch.setattr(noise, "mlkem768_encapsulate", encapsulate)
    responder.read_message(initiator.write_message(b""))
    return initiator.read_message(responder.write_message(b"payload"))


@needs_ml_kem
def test_a_ciphertext_for_another_key_fails_at_the_payload(monkeypatch: pytest.MonkeyPatch) -> None:
    kem, other = MlKem768Key(), MlKem768Key()
    assert read_with(kem, monkeypatch, mlkem768_encapsulate) == b"payload"
    with pytest.raises(DecryptionFailed) as caught:
        read_with(kem, monkeypatch, lambda _: mlkem768_encapsulate(other.public))
    assert type(caught.value) is DecryptionFailed


@needs_ml_kem
@pytest.mark.parametrize("size", [0, 1, 1087, 1089])
def test_a_ciphertext_of_another_size_is_refused(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    with pytest.raises(DecryptionFailed):
        read_with(MlKem768Key(), monkeypatch, lambda _: (bytes(size), bytes(32)))


@needs_ml_kem
@pytest.mark.parametrize("public", [bytes(1183), bytes(1185), b"\xff" * 1184, b""])
def test_an_encapsulation_key_that_is_not_valid_is_refused(public: bytes) -> None:
    kem = MlKem768Key()
    kem.public = public
    initiator = HandshakeState(NNHFS_PSK0, initiator=True, psk=PSK, prologue=PROLOGUE, kem=kem)
    responder = HandshakeState(NNHFS_PSK0, initiator=False, psk=PSK, prologue=PROLOGUE)
    with pytest.raises(DecryptionFailed):
        responder.read_message(initiator.write_message(b"payload"))


@needs_ml_kem
def test_the_sizes_are_those_of_the_protocol() -> None:
    initiator, responder = sides(NNHFS_PSK0)
    first = initiator.write_message(b"")
    responder.read_message(first)
    assert (len(first), len(responder.write_message(b""))) == (32 + 1200 + 16, 32 + 1104 + 16)


@needs_ml_kem
def test_every_handshake_has_a_kem_key_of_its_own() -> None:
    kem = MlKem768Key()
    assert MlKem768Key().public != kem.public
    messages = [sides(NNHFS_PSK0)[0].write_message(b"")[32:64] for _ in range(2)]
    assert messages[0] != messages[1]


@needs_ml_kem
def test_the_patterns_share_nothing() -> None:
    initiator, _ = sides(NN_PSK0)
    with pytest.raises(DecryptionFailed):
        sides(NNHFS_PSK0)[1].read_message(initiator.write_message(bytes(1200)))


@pytest.mark.parametrize("wrong", [b"", bytes(48), bytes(70_000)])
@both_patterns
def test_a_handshake_that_failed_is_over(pattern: Pattern, wrong: bytes) -> None:
    _, responder = sides(pattern)
    with pytest.raises(DecryptionFailed):
        responder.read_message(wrong)
    for act in (
        lambda: responder.write_message(b""),
        lambda: responder.read_message(b""),
        responder.split,
    ):
        with pytest.raises(LocalError):
            act()


@pytest.mark.parametrize("size", [0, 31, 33])
@both_patterns
def test_a_psk_has_32_bytes(pattern: Pattern, size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        HandshakeState(pattern, initiator=True, psk=bytes(size), prologue=b"")


@both_patterns
def test_no_key_shows_in_a_repr(pattern: Pattern) -> None:
    state = HandshakeState(pattern, initiator=True, psk=b"k" * 32, prologue=b"")
    assert "kkkk" not in repr(state) + repr(CipherState(b"k" * 32)) + repr(
        SymmetricState(pattern.name)
    )


def test_more_directions_than_have_an_expanded_key_stay_in_step() -> None:
    """AES-GCM's expanded keys are dropped and made anew, and nobody can tell."""
    keys = [number.to_bytes(32, "big") for number in range(1500)]
    senders, receivers = map(CipherState, keys), map(CipherState, keys)
    pairs = list(zip(senders, receivers, strict=True))
    for turn in range(2):
        sealed = [sender.encrypt_with_ad(b"", b"text") for sender, _ in pairs]
        opened = [
            receiver.decrypt_with_ad(b"", each)
            for (_, receiver), each in zip(pairs, sealed, strict=True)
        ]
        assert opened == [b"text"] * 1500
        assert {sender.counter for sender, _ in pairs} == {turn + 1}


def test_no_key_outlives_its_state() -> None:
    state = CipherState(bytes(32))
    state.encrypt_with_ad(b"", b"")
    gone = weakref.ref(state)
    del state
    assert gone() is None
