from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcrypt_channels.exceptions import InvalidFrame, LocalError
from gcrypt_channels.protocol.events import Accepted, Closed, Gap
from gcrypt_channels.protocol.messages import (
    decode_text,
    encode_text,
    parse_control,
    parse_hello_payload,
    parse_reply_payload,
    serialize_accept,
    serialize_close,
    serialize_gap,
    serialize_hello_payload,
    serialize_reply_payload,
)

NAMES = st.text(min_size=1)
LIMITS = st.integers(min_value=1)


@given(LIMITS)
def test_hello_carries_the_limit(max_message: int) -> None:
    assert parse_hello_payload(serialize_hello_payload(max_message)) == max_message


@given(st.lists(NAMES), LIMITS)
def test_reply_carries_subprotocols_and_the_limit(names: list[str], max_message: int) -> None:
    payload = serialize_reply_payload(names, max_message)
    assert parse_reply_payload(payload) == (tuple(names), max_message)


@given(st.none() | NAMES)
def test_accept_comes_back(subprotocol: str | None) -> None:
    assert parse_control(serialize_accept(subprotocol)) == Accepted(subprotocol)


@given(st.integers(1000, 4999), st.text())
def test_close_comes_back(code: int, reason: str) -> None:
    assert parse_control(serialize_close(code, reason)) == Closed(code, reason)


@given(NAMES, LIMITS)
def test_gap_comes_back(group: str, missed: int) -> None:
    assert parse_control(serialize_gap(group, missed)) == Gap(group, missed)


def test_the_bytes_are_those_of_the_protocol() -> None:
    assert serialize_hello_payload(5) == b'{"max_message":5}'
    assert serialize_reply_payload(["a"], 5) == b'{"subprotocols":["a"],"max_message":5}'
    assert serialize_accept(None) == b'{"type":"accept","subprotocol":null}'
    assert serialize_close(4401, "ü") == '{"type":"close","code":4401,"reason":"ü"}'.encode()
    assert serialize_gap("room", 2) == b'{"type":"gap","group":"room","missed":2}'


def test_what_is_missing_has_a_default_and_what_is_unknown_is_ignored() -> None:
    assert parse_hello_payload(b'{"x": [1]}') == 1_048_576
    assert parse_reply_payload(b'{"y": null}') == ((), 1_048_576)
    assert parse_control(b'{"type": "accept", "x": 1}') == Accepted(None)
    assert parse_control(b'{"type": "close", "code": 1000}') == Closed(1000, "")
    assert parse_control(b'{"type": "later", "code": "x"}') is None


@given(st.binary())
def test_no_bytes_raise_anything_but_invalid_frame(data: bytes) -> None:
    for parse in (parse_hello_payload, parse_reply_payload, parse_control):
        with pytest.raises(InvalidFrame):
            parse(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["accept", "close", "gap"])},
        optional=dict.fromkeys(("subprotocol", "code", "reason", "group", "missed"), JSON),
    )
)
def test_a_control_message_is_sane_or_refused(members: dict[str, Any]) -> None:
    try:
        event = parse_control(json.dumps(members).encode())
    except InvalidFrame:
        return
    match event:
        case Accepted(subprotocol):
            assert subprotocol is None or (type(subprotocol) is str and subprotocol)
        case Closed(code, reason):
            assert type(code) is int
            assert 1000 <= code <= 4999
            assert type(reason) is str
        case Gap(group, missed):
            assert type(group) is str
            assert group
            assert type(missed) is int
            assert missed >= 1
        case None:
            pytest.fail("a known type was ignored")


@pytest.mark.parametrize(
    "control",
    [
        b'{"type": "close", "code": 1000, "code": 1000}',
        b'{"type": "accept", "subprotocol": "\\ud800"}',
        b"[" * 1000,
        b'{"type": "x", "y": ' + b"[" * 64 + b"]" * 64 + b"}",
    ],
)
def test_a_control_message_that_could_be_misread_is_refused(control: bytes) -> None:
    with pytest.raises(InvalidFrame):
        parse_control(control)


def test_what_a_peer_would_refuse_is_not_serialized() -> None:
    attempts: list[Callable[[], bytes]] = [
        lambda: serialize_hello_payload(0),
        lambda: serialize_reply_payload([""], 1),
        lambda: serialize_accept(""),
        lambda: serialize_accept("\ud800"),
        lambda: serialize_close(999, ""),
        lambda: serialize_close(5000, ""),
        lambda: serialize_close(1000, "\ud800"),
        lambda: serialize_gap("", 1),
        lambda: serialize_gap("room", 0),
    ]
    for attempt in attempts:
        with pytest.raises(LocalError):
            attempt()


@given(st.text())
def test_text_comes_back(text: str) -> None:
    assert decode_text(encode_text(text)) == text


def test_neither_error_of_utf_8_carries_the_text_along() -> None:
    with pytest.raises(InvalidFrame) as received:
        decode_text(b"secret \xff")
    with pytest.raises(LocalError) as sent:
        encode_text("secret \ud800")
    assert received.value.__context__ is sent.value.__context__ is None
