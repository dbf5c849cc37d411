from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcrypt_channels.exceptions import InvalidFrame, LocalError
from gcrypt_channels.protocol.events import (
    Accepted,
    Binding,
    Closed,
    Gap,
    HandshakeDone,
    Joined,
    Left,
    Position,
)
from gcrypt_channels.protocol.messages import (
    MAX_REASON,
    MAX_RESUME,
    check_close,
    decode_text,
    encode_text,
    is_close_code,
    parse_control,
    parse_hello_payload,
    parse_reply_payload,
    serialize_accept,
    serialize_close,
    serialize_gap,
    serialize_hello_payload,
    serialize_joined,
    serialize_left,
    serialize_reply_payload,
)

NAMES = st.text(min_size=1)
LIMITS = st.integers(min_value=1)
TARGETS = st.text(st.characters(max_codepoint=0x7F, exclude_characters="#")).map("/".__add__)
CLOSE_CODES = [*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)]
BINDING = Binding(("gcrypt.v2", "gcrypt.kid.0011223344556677"), "h", "/ws/?a=b")
BOUND = {"offered": list(BINDING.offered), "host": "h", "target": "/ws/?a=b"}


@given(LIMITS)
def test_hello_carries_the_limit(max_message: int) -> None:
    assert parse_hello_payload(serialize_hello_payload(max_message)) == max_message


@given(st.lists(NAMES), LIMITS, st.builds(Binding, st.lists(st.text()), st.text(), TARGETS))
def test_reply_carries_subprotocols_limit_and_binding(
    names: list[str], max_message: int, binding: Binding
) -> None:
    payload = serialize_reply_payload(names, max_message, binding)
    told = binding._replace(offered=tuple(binding.offered))
    assert parse_reply_payload(payload) == (HandshakeDone(tuple(names), told), max_message)


@pytest.mark.parametrize("missing", ["offered", "host", "target"])
def test_a_reply_without_a_member_of_its_binding_is_refused(missing: str) -> None:
    parse_reply_payload(json.dumps(BOUND).encode())
    others = {name: value for name, value in BOUND.items() if name != missing}
    with pytest.raises(InvalidFrame):
        parse_reply_payload(json.dumps(others).encode())


@pytest.mark.parametrize("target", ["/a#b", "/ü", "*", ""])
def test_the_server_takes_any_target_that_is_text(target: str) -> None:
    done, _ = parse_reply_payload(json.dumps({**BOUND, "target": target}).encode())
    assert done.binding.target == target  # it is compared with the request, and then it differs


EPOCHS = st.binary(min_size=8, max_size=8).map(bytes.hex)
POSITIONS = st.builds(Position, NAMES, EPOCHS, st.integers(0, 2**53 - 1))


@given(st.lists(POSITIONS, max_size=MAX_RESUME, unique_by=lambda each: each.group))
def test_reply_carries_the_positions_of_a_client_that_knows_them(positions: list[Position]) -> None:
    payload = serialize_reply_payload((), 1, BINDING, positions)
    assert parse_reply_payload(payload)[0].resume == tuple(positions)


def test_a_client_without_positions_is_told_from_one_that_knows_nothing_of_them() -> None:
    assert parse_reply_payload(serialize_reply_payload((), 1, BINDING))[0].resume is None
    assert parse_reply_payload(serialize_reply_payload((), 1, BINDING, ()))[0].resume == ()


ENTRY: dict[str, Any] = {"group": "room", "epoch": "00112233445566ff", "n": 1}


@pytest.mark.parametrize(
    "resume",
    [
        None,
        {},
        "room",
        ["room"],
        [ENTRY, ENTRY],
        [{**ENTRY, "group": str(number)} for number in range(MAX_RESUME + 1)],
        *([{key: value for key, value in ENTRY.items() if key != name}] for name in ENTRY),
        *([{**ENTRY, "group": group}] for group in ("", None, 1, "\ud800")),
        *([{**ENTRY, "n": n}] for n in (-1, 2**53, 1.0, "1", None, True)),
        *(
            [{**ENTRY, "epoch": epoch}]
            for epoch in (
                "",
                "00112233445566FF",
                "00112233445566f",
                "00112233445566fff",
                " 0112233445566ff",
                "00112233445566ff\n",
                "\u0660" * 16,
                None,
                1,
            )
        ),
    ],
)
def test_positions_that_no_client_offers_are_refused(resume: object) -> None:
    parse_reply_payload(json.dumps({**BOUND, "resume": [{**ENTRY, "more": 1}]}).encode())
    with pytest.raises(InvalidFrame):
        parse_reply_payload(json.dumps({**BOUND, "resume": resume}).encode())


def test_the_largest_resume_fits_into_a_noise_message() -> None:
    positions = [Position(f"{number:->100}", "f" * 16, 2**53 - 1) for number in range(MAX_RESUME)]
    assert len(serialize_reply_payload((), 1, BINDING, positions)) < 65_535 - 2_500


@given(st.builds(Joined, st.integers(1, 2**32 - 1), POSITIONS, st.booleans()))
def test_joined_and_left_come_back(joined: Joined) -> None:
    assert parse_control(serialize_joined(joined)) == joined
    assert parse_control(serialize_left(joined.id)) == Left(joined.id)


JOINED: dict[str, Any] = {"type": "joined", "id": 1, **ENTRY, "recovered": True}


@pytest.mark.parametrize(
    "members",
    [
        *({key: value for key, value in JOINED.items() if key != name} for name in JOINED),
        *({**JOINED, "id": joined} for joined in (0, -1, 2**32, 1.0, "1", True, None)),
        *({**JOINED, "recovered": recovered} for recovered in (0, 1, None, "true")),
        {**JOINED, "group": ""},
        {**JOINED, "epoch": "0" * 15},
        {**JOINED, "n": -1},
        *({"type": "left", "id": joined} for joined in (0, 2**32, None, True, "1")),
        {"type": "left"},
    ],
)
def test_another_joined_or_left_is_refused(members: dict[str, Any]) -> None:
    assert parse_control(json.dumps(JOINED).encode())
    with pytest.raises(InvalidFrame):
        parse_control(json.dumps(members).encode())


@given(st.none() | NAMES)
def test_accept_comes_back(subprotocol: str | None) -> None:
    assert parse_control(serialize_accept(subprotocol)) == Accepted(subprotocol)


@given(st.sampled_from(CLOSE_CODES), st.text(max_size=MAX_REASON // 4))
def test_close_comes_back(code: int, reason: str) -> None:
    assert parse_control(serialize_close(code, reason)) == Closed(code, reason)


def test_the_codes_of_a_close_are_those_of_the_protocol() -> None:
    assert [code for code in range(-1, 70_000) if is_close_code(code)] == CLOSE_CODES
    others: list[object] = [None, True, "1000", 1000.0, [1000]]
    assert not any(map(is_close_code, others))


@pytest.mark.parametrize("code", [-1, 0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000])
def test_another_code_is_neither_sent_nor_taken(code: int) -> None:
    for attempt in (check_close, serialize_close):
        with pytest.raises(LocalError, match="close code"):
            attempt(code, "")
    with pytest.raises(InvalidFrame):
        parse_control(b'{"type": "close", "code": %d}' % code)


@pytest.mark.parametrize("reason", ["x" * 124, "ü" * 62, "😀" * 31, "\ud800"])
def test_a_reason_over_123_bytes_or_without_utf_8_is_neither_sent_nor_taken(reason: str) -> None:
    for attempt in (check_close, serialize_close):
        with pytest.raises(LocalError, match="123 bytes"):
            attempt(1000, reason)
    with pytest.raises(InvalidFrame):
        parse_control(json.dumps({"type": "close", "code": 1000, "reason": reason}).encode())


@pytest.mark.parametrize("reason", ["x" * 123, "ü" * 61 + "x", "😀" * 30 + "xyz"])
def test_a_reason_of_123_bytes_is_sent_and_taken(reason: str) -> None:
    assert parse_control(serialize_close(4999, reason)) == Closed(4999, reason)


@given(NAMES, LIMITS)
def test_gap_comes_back(group: str, missed: int) -> None:
    assert parse_control(serialize_gap(group, missed)) == Gap(group, missed)


def test_the_bytes_are_those_of_the_protocol() -> None:
    assert serialize_hello_payload(5) == b'{"max_message":5}'
    assert serialize_reply_payload(["a"], 5, Binding(("x", "y"), "h", "/?q")) == (
        b'{"subprotocols":["a"],"max_message":5,"offered":["x","y"],"host":"h","target":"/?q"}'
    )
    assert serialize_accept(None) == b'{"type":"accept","subprotocol":null}'
    assert serialize_close(4401, "ü") == '{"type":"close","code":4401,"reason":"ü"}'.encode()
    assert serialize_gap("room", 2) == b'{"type":"gap","group":"room","missed":2}'
    position = Position("room", "00112233445566ff", 7)
    assert serialize_joined(Joined(1, position, True)) == (
        b'{"type":"joined","id":1,"group":"room","epoch":"00112233445566ff","n":7,"recovered":true}'
    )
    assert serialize_left(1) == b'{"type":"left","id":1}'
    assert serialize_reply_payload([], 5, Binding((), "h", "/"), [position]).endswith(
        b'"resume":[{"group":"room","epoch":"00112233445566ff","n":7}]}'
    )


def test_what_is_missing_has_a_default_and_what_is_unknown_is_ignored() -> None:
    assert parse_hello_payload(b'{"x": [1]}') == 1_048_576
    assert parse_reply_payload(json.dumps({"y": None, **BOUND}).encode()) == (
        HandshakeDone((), BINDING),
        1_048_576,
    )
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
            assert code in CLOSE_CODES
            assert type(reason) is str
            assert len(reason.encode()) <= MAX_REASON
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
        lambda: serialize_reply_payload([""], 1, BINDING),
        lambda: serialize_reply_payload([], 1, BINDING._replace(offered=("\ud800",))),
        lambda: serialize_reply_payload([], 1, BINDING._replace(host="\ud800")),
        *(
            lambda target=target: serialize_reply_payload([], 1, BINDING._replace(target=target))
            for target in ("", "ws/", "?a", "/ws/#", "/ü", "/\ud800", "http://h/")
        ),
        lambda: serialize_accept(""),
        lambda: serialize_accept("\ud800"),
        lambda: serialize_gap("", 1),
        lambda: serialize_gap("room", 0),
        lambda: serialize_left(0),
        lambda: serialize_joined(Joined(1, Position("", "0" * 16, 0), False)),
        lambda: serialize_reply_payload([], 1, BINDING, [Position("room", "0", 0)]),
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
