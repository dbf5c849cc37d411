from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcrypt_channels.crypto.noise import CipherState
from gcrypt_channels.exceptions import InvalidFrame, MessageTooBig
from gcrypt_channels.protocol.frames import (
    FRAGMENT_SIZE,
    MAX_TRANSPORT_PLAINTEXT,
    MORE,
    PADDED,
    FrameKind,
    padme,
)
from gcrypt_channels.protocol.transport import REKEY_INTERVAL, Transport

KEYS = (bytes(range(32)), bytes(range(32, 64)))


def pair(
    *, max_message: int = 2**20, padding: bool = False, rekey_interval: int = REKEY_INTERVAL
) -> tuple[Transport, Transport]:
    def side(first: int) -> Transport:
        return Transport(
            CipherState(KEYS[first]),
            CipherState(KEYS[1 - first]),
            max_message=max_message,
            padding=padding,
            rekey_interval=rekey_interval,
        )

    return side(0), side(1)


def sealed(first: int, plaintext: bytes) -> bytes:
    """Return the first frame that the second of a pair receives, whatever is in it."""
    return bytes([first]) + CipherState(KEYS[0]).encrypt_with_ad(bytes([first]), plaintext)


KINDS = st.sampled_from([FrameKind.TEXT, FrameKind.BINARY, FrameKind.CONTROL])


@given(st.lists(st.tuples(KINDS, st.binary())), st.booleans(), st.integers(1, 5))
def test_messages_arrive_as_they_were(
    messages: list[tuple[FrameKind, bytes]], padding: bool, rekey_interval: int
) -> None:
    sender, receiver = pair(padding=padding, rekey_interval=rekey_interval)
    for kind, message in messages:
        (frame,) = sender.seal(kind, message)
        assert receiver.open(frame) == (kind, message)


def test_a_frame_is_the_type_and_the_sealed_plaintext() -> None:
    sender, _ = pair()
    assert sender.seal(FrameKind.TEXT, b"hi") == [sealed(0x10, b"hi")]


def test_a_long_message_is_cut_and_joined() -> None:
    message = bytes(range(256)) * 896
    sender, receiver = pair()
    first, second = sender.seal(FrameKind.BINARY, message)
    assert (first[0], second[0]) == (0x91, 0x11)
    assert len(first) == 1 + FRAGMENT_SIZE + 16
    assert receiver.open(first) == (FrameKind.BINARY, None)
    assert receiver.open(second) == (FrameKind.BINARY, message)


@given(st.binary(max_size=5000))
def test_padding_leaves_only_padme_lengths(message: bytes) -> None:
    sender, receiver = pair(padding=True)
    (frame,) = sender.seal(FrameKind.BINARY, message)
    assert frame[0] == 0x51
    assert padme(len(frame) - 17) == len(frame) - 17
    assert receiver.open(frame) == (FrameKind.BINARY, message)


def test_both_directions_are_rekeyed_after_each_interval_and_on_their_own() -> None:
    sender, receiver = pair(rekey_interval=3)
    reference = CipherState(KEYS[0])
    for number in range(10):
        (frame,) = sender.seal(FrameKind.TEXT, b"x")
        assert frame[1:] == reference.encrypt_with_ad(b"\x10", b"x")
        assert receiver.open(frame) == (FrameKind.TEXT, b"x")
        if number % 3 == 2:
            reference.rekey()
    (frame,) = receiver.seal(FrameKind.TEXT, b"the other direction has its first key")
    assert sender.open(frame)[0] is FrameKind.TEXT


def test_the_interval_is_the_protocols() -> None:
    assert REKEY_INTERVAL == 65_536


def test_a_peer_that_does_not_rekey_is_lost_after_the_interval() -> None:
    _, receiver = pair(rekey_interval=2)
    reference = CipherState(KEYS[0])
    frames = [b"\x10" + reference.encrypt_with_ad(b"\x10", b"x") for _ in range(3)]
    receiver.open(frames[0])
    receiver.open(frames[1])
    with pytest.raises(InvalidFrame):
        receiver.open(frames[2])


@pytest.mark.parametrize("first", [*range(0x10), *range(0x13, 0x40)])
def test_other_kinds_are_refused_even_when_they_open(first: int) -> None:
    with pytest.raises(InvalidFrame):
        pair()[1].open(sealed(first, b""))
    with pytest.raises(InvalidFrame):
        pair()[1].open(sealed(first | PADDED, b"\x80"))


@pytest.mark.parametrize("flag", [MORE, PADDED])
def test_flags_are_authenticated(flag: int) -> None:
    frame = sealed(0x11, b"x\x80")
    with pytest.raises(InvalidFrame):
        pair()[1].open(bytes([frame[0] | flag]) + frame[1:])


def test_a_frame_longer_than_the_protocol_allows_is_refused_although_it_opens() -> None:
    _, receiver = pair()
    longest = sealed(0x11, bytes(MAX_TRANSPORT_PLAINTEXT))
    assert receiver.open(longest) == (FrameKind.BINARY, bytes(MAX_TRANSPORT_PLAINTEXT))
    with pytest.raises(InvalidFrame):
        pair()[1].open(sealed(0x11, bytes(MAX_TRANSPORT_PLAINTEXT + 1)))


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_but_invalid_frame(frame: bytes) -> None:
    with pytest.raises(InvalidFrame):
        pair()[1].open(frame)


def test_the_limit_counts_content_and_not_padding() -> None:
    sender, receiver = pair(padding=True, max_message=33)
    (frame,) = sender.seal(FrameKind.TEXT, b"x" * 33)
    assert len(frame) > 33 + 17
    assert receiver.open(frame) == (FrameKind.TEXT, b"x" * 33)
    (frame,) = sender.seal(FrameKind.TEXT, b"x" * 34)
    with pytest.raises(MessageTooBig):
        receiver.open(frame)


def test_no_key_shows_in_a_repr() -> None:
    assert repr(KEYS[0])[2:-1] not in repr(pair()[0])
