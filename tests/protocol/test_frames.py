from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcrypt_channels.exceptions import InvalidFrame, MessageTooBig
from gcrypt_channels.protocol.frames import (
    FRAGMENT_SIZE,
    MAX_TRANSPORT_FRAME,
    MORE,
    PADDED,
    TYPE_BYTES,
    FrameKind,
    Reassembler,
    fragments,
    pad,
    padme,
    parse_group,
    parse_hello,
    parse_reply,
    serialize_group,
    serialize_hello,
    serialize_reply,
    unpad,
)

KID = bytes(range(8))


def test_the_first_bytes_are_those_of_the_protocol() -> None:
    assert {kind.name: int(kind) for kind in FrameKind} == {
        "HELLO": 0x01,
        "REPLY": 0x02,
        "TEXT": 0x10,
        "BINARY": 0x11,
        "CONTROL": 0x12,
        "GROUP": 0x13,
    }
    assert (MORE, PADDED) == (0x80, 0x40)
    assert b"".join(TYPE_BYTES) == bytes(range(256))
    assert MAX_TRANSPORT_FRAME == 1 + 262_144 + 16


# Handshake frames


def test_hello_carries_the_kid_and_a_noise_message() -> None:
    frame = serialize_hello(KID, b"message")
    assert frame == b"\x01" + KID + b"message"
    assert parse_hello(frame) == (KID, b"message")


def test_reply_carries_a_noise_message() -> None:
    frame = serialize_reply(b"message")
    assert frame == b"\x02message"
    assert parse_reply(frame) == b"message"


@pytest.mark.parametrize(
    "frame", [b"", b"\x01", b"\x01" + KID, b"\x02" + KID + b"x", b"\x41" + KID + b"x"]
)
def test_what_is_not_hello_is_refused(frame: bytes) -> None:
    with pytest.raises(InvalidFrame):
        parse_hello(frame)


@pytest.mark.parametrize("frame", [b"", b"\x01x", b"\x82x", b"\x10x"])
def test_what_is_not_reply_is_refused(frame: bytes) -> None:
    with pytest.raises(InvalidFrame):
        parse_reply(frame)


# Padding


@pytest.mark.parametrize(
    ("length", "padded"),
    # Worked out by hand: at length 1000 the exponent is 9, its length 4, so 5 low bits are zero.
    [(0, 0), (1, 1), (2, 2), (8, 8), (9, 10), (33, 36), (100, 104), (1000, 1024), (4097, 4352)],
)
def test_padme(length: int, padded: int) -> None:
    assert padme(length) == padded


@given(st.integers(min_value=0, max_value=10**9))
def test_padme_is_close_and_stays_where_it_is(length: int) -> None:
    padded = padme(length)
    assert length <= padded <= length * 1.12 + 1
    assert padme(padded) == padded


def test_the_longest_fragment_is_a_padme_length() -> None:
    assert padme(FRAGMENT_SIZE) == FRAGMENT_SIZE


@given(st.binary(max_size=2000))
def test_unpad_undoes_pad(plaintext: bytes) -> None:
    padded = pad(plaintext)
    assert len(padded) == padme(len(plaintext) + 1)
    assert unpad(padded) == plaintext


@pytest.mark.parametrize("plaintext", [b"\x80", b"\0", b"\x80\0", b"x\x80\0\0", b"\0\0\0"])
def test_content_that_looks_like_padding_comes_back(plaintext: bytes) -> None:
    assert unpad(pad(plaintext)) == plaintext


@pytest.mark.parametrize("padded", [b"", b"\0", b"\0\0\0", b"x", b"\x80x", b"x\x81\0"])
def test_what_is_not_padded_is_refused(padded: bytes) -> None:
    with pytest.raises(InvalidFrame):
        unpad(padded)


# Fragments


@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize("extra", [-2, -1, 0, 1, 2])
@pytest.mark.parametrize("times", [1, 2])
def test_fragments_are_as_long_as_they_may_be(times: int, extra: int, padding: bool) -> None:
    message = bytes(times * FRAGMENT_SIZE + extra)
    parts = list(fragments(FrameKind.BINARY, message, padding=padding))
    contents = [unpad(plaintext) if padding else plaintext for _, plaintext in parts]
    assert b"".join(contents) == message
    assert all(len(plaintext) <= FRAGMENT_SIZE for _, plaintext in parts)
    size = FRAGMENT_SIZE - padding
    assert [len(content) for content in contents[:-1]] == [size] * (len(parts) - 1)
    assert 0 < len(contents[-1]) <= size
    flags = PADDED if padding else 0
    assert [first for first, _ in parts] == [
        *[FrameKind.BINARY | flags | MORE] * (len(parts) - 1),
        FrameKind.BINARY | flags,
    ]


@pytest.mark.parametrize(("padding", "only"), [(False, (0x10, b"")), (True, (0x50, b"\x80"))])
def test_an_empty_message_is_one_frame(padding: bool, only: tuple[int, bytes]) -> None:
    assert list(fragments(FrameKind.TEXT, b"", padding=padding)) == [only]


# Reassembly


def test_a_message_in_one_frame_passes() -> None:
    reassembler = Reassembler(5)
    assert reassembler.add(FrameKind.TEXT, b"", more=False) == b""
    assert reassembler.add(FrameKind.BINARY, b"12345", more=False) == b"12345"


@given(st.lists(st.lists(st.binary(max_size=5), min_size=1, max_size=5)))
def test_fragments_are_joined_message_by_message(messages: list[list[bytes]]) -> None:
    reassembler = Reassembler(25)
    for *parts, last in messages:
        for part in parts:
            assert reassembler.add(FrameKind.BINARY, part, more=True) is None
        assert reassembler.add(FrameKind.BINARY, last, more=False) == b"".join([*parts, last])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (FrameKind.TEXT, FrameKind.BINARY),
        (FrameKind.BINARY, FrameKind.TEXT),
        (FrameKind.TEXT, FrameKind.CONTROL),
    ],
)
@pytest.mark.parametrize("more", [False, True])
def test_fragments_of_another_kind_are_refused(
    first: FrameKind, second: FrameKind, more: bool
) -> None:
    reassembler = Reassembler(10)
    reassembler.add(first, b"a", more=True)
    with pytest.raises(InvalidFrame):
        reassembler.add(second, b"b", more=more)


def test_control_messages_are_not_fragmented_and_not_limited() -> None:
    assert Reassembler(1).add(FrameKind.CONTROL, b"longer", more=False) == b"longer"
    with pytest.raises(InvalidFrame):
        Reassembler(100).add(FrameKind.CONTROL, b"{", more=True)


def test_the_limit_holds_for_one_frame_and_for_the_sum_of_fragments() -> None:
    with pytest.raises(MessageTooBig):
        Reassembler(3).add(FrameKind.TEXT, b"1234", more=False)
    with pytest.raises(MessageTooBig):
        Reassembler(3).add(FrameKind.TEXT, b"1234", more=True)
    reassembler = Reassembler(3)
    for _ in range(3):
        reassembler.add(FrameKind.TEXT, b"1", more=True)
    assert reassembler.add(FrameKind.TEXT, b"", more=False) == b"111"
    reassembler.add(FrameKind.TEXT, b"123", more=True)
    with pytest.raises(MessageTooBig):
        reassembler.add(FrameKind.TEXT, b"4", more=False)


def test_a_group_message_carries_its_id_and_its_position() -> None:
    message = serialize_group(2**32 - 1, 2**53 - 1, b"text")
    assert message == b"\xff\xff\xff\xff\0\x1f\xff\xff\xff\xff\xff\xfftext"
    assert parse_group(message) == (2**32 - 1, 2**53 - 1, b"text")


@pytest.mark.parametrize("more", [False, True])
def test_a_group_message_has_its_header_whole_in_its_first_fragment(more: bool) -> None:
    assert Reassembler(1).add(FrameKind.GROUP, bytes(12), more=False) == bytes(12)
    with pytest.raises(InvalidFrame):
        Reassembler(100).add(FrameKind.GROUP, bytes(11), more=more)


def test_the_header_of_a_group_message_does_not_count() -> None:
    assert Reassembler(3).add(FrameKind.GROUP, bytes(15), more=False) == bytes(15)
    with pytest.raises(MessageTooBig):
        Reassembler(3).add(FrameKind.GROUP, bytes(16), more=False)
    reassembler = Reassembler(3)
    assert reassembler.add(FrameKind.GROUP, bytes(13), more=True) is None
    assert reassembler.add(FrameKind.GROUP, bytes(2), more=False) == bytes(15)
    reassembler.add(FrameKind.GROUP, bytes(13), more=True)
    with pytest.raises(MessageTooBig):
        reassembler.add(FrameKind.GROUP, bytes(3), more=False)


@given(st.lists(st.integers(0, 5000), max_size=20), st.integers(0, 5000))
def test_fragments_of_any_length_are_joined(lengths: list[int], last: int) -> None:
    reassembler = Reassembler(200_000)
    message = bytes(range(256)) * 500
    start = 0
    for length in lengths:
        assert reassembler.add(FrameKind.TEXT, message[start : start + length], more=True) is None
        start += length
    end = start + last
    assert reassembler.add(FrameKind.TEXT, message[start:end], more=False) == message[:end]


@pytest.mark.parametrize(("part", "bound"), [(b"", 10_000), (b"x", 100_000)])
def test_many_short_fragments_take_no_more_memory_than_their_bytes(part: bytes, bound: int) -> None:
    reassembler = Reassembler(100_000)
    tracemalloc.start()
    for _ in range(50_000):
        reassembler.add(FrameKind.BINARY, bytes(part), more=True)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < bound
