from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcrypt_channels.crypto import jsontext
from gcrypt_channels.crypto.classic import Crypt
from gcrypt_channels.exceptions import InvalidFrame, LocalError, MessageTooBig
from gcrypt_channels.protocol.classic import ClassicSession, max_frame_size
from gcrypt_channels.protocol.events import Text
from gcrypt_channels.protocol.states import State

OLD, NEW = "the old passphrase", "the new passphrase"

JSON = st.recursive(st.none() | st.integers() | st.text(), st.lists).map(
    lambda value: json.dumps(value, ensure_ascii=False)
)


@given(st.lists(JSON))
def test_json_text_arrives_as_it_was_written(texts: list[str]) -> None:
    server, client = ClassicSession([NEW]), ClassicSession([NEW])
    for text in texts:
        for sender, receiver in ((server, client), (client, server)):
            (frame,) = sender.seal(text)
            assert receiver.receive(frame) == Text(text)


def test_it_speaks_to_g_crypts_api() -> None:
    session, page = ClassicSession([NEW]), Crypt(NEW)
    assert session.receive(page.encrypt({"id": 1})) == Text('{"id":1}')
    assert page.decrypt(session.seal('{"id": 2}')[0]) == {"id": 2}


def test_it_is_open_from_the_start_and_calls_itself_v1() -> None:
    session = ClassicSession([NEW])
    assert session.profile == "gcrypt.v1"
    assert session.state is State.OPEN
    assert session.peer_max_message == sys.maxsize


def test_it_needs_a_passphrase() -> None:
    with pytest.raises(ValueError, match="needs a passphrase"):
        ClassicSession([])


# Rotation


def test_the_first_passphrase_seals_until_the_peer_has_spoken() -> None:
    session = ClassicSession([NEW, OLD])
    assert Crypt(NEW).decrypt(session.seal("1")[0]) == 1


@pytest.mark.parametrize("spoken", [OLD, NEW])
def test_the_passphrase_that_opened_a_frame_stays(spoken: str) -> None:
    session, page = ClassicSession([NEW, OLD]), Crypt(spoken)
    assert session.receive(page.encrypt(1)) == Text("1")
    assert page.decrypt(session.seal("2")[0]) == 2
    with pytest.raises(InvalidFrame):
        session.receive(Crypt(OLD if spoken == NEW else NEW).encrypt(3))


def test_a_passphrase_that_is_not_listed_opens_nothing() -> None:
    with pytest.raises(InvalidFrame):
        ClassicSession([NEW, OLD]).receive(Crypt("another").encrypt(1))


# Failure


@pytest.mark.parametrize(
    "frame",
    ["", "{}", "null", "plaintext", '{"id":1}', b"", b"{}", Crypt(NEW).encrypt(1).encode(), None],
)
def test_every_frame_that_is_not_valid_looks_the_same(frame: Any) -> None:
    session = ClassicSession([NEW])
    with pytest.raises(InvalidFrame) as caught:
        session.receive(frame)
    assert (caught.value.code, str(caught.value)) == (4400, "invalid frame (close code 4400)")
    assert type(caught.value) is InvalidFrame


def test_the_first_failure_is_the_end() -> None:
    session = ClassicSession([NEW])
    with pytest.raises(InvalidFrame):
        session.receive("x")
    assert session.state is State.FAILED
    with pytest.raises(InvalidFrame):
        session.receive(Crypt(NEW).encrypt(1))
    with pytest.raises(LocalError, match="FAILED"):
        session.seal("1")
    with pytest.raises(LocalError, match="FAILED"):
        session.seal_close(1000, "")


# Limits


@pytest.mark.parametrize("limit", [1, 15, 16, 17, 1000, 1_048_576])
def test_the_limit_counts_bytes_of_plaintext(limit: int) -> None:
    page = Crypt(NEW)
    session = ClassicSession([NEW], max_message=limit)
    longest = "1" * limit if limit < 1000 else '"' + "x" * (limit - 2) + '"'
    assert session.receive(page.seal(longest)) == Text(longest)
    with pytest.raises(MessageTooBig):
        session.receive(page.seal(longest + " "))
    assert session.state is State.FAILED


def test_the_limit_counts_bytes_and_not_characters() -> None:
    with pytest.raises(MessageTooBig):
        ClassicSession([NEW], max_message=10).receive(Crypt(NEW).seal('"ääääää"'))


def test_a_frame_that_cannot_hold_less_than_the_limit_is_not_even_parsed() -> None:
    with pytest.raises(MessageTooBig):
        ClassicSession([NEW], max_message=1000).receive("x" * 2000)


# Sending


@pytest.mark.parametrize(
    "data",
    ["", "hello", "{", "NaN", "1e400", "1 2", '"\ud800"', "[" * 65 + "]" * 65, b"1", b"", None],
)
def test_only_json_text_can_be_sent(data: Any) -> None:
    session = ClassicSession([NEW])
    with pytest.raises(LocalError):
        session.seal(data)
    assert session.state is State.OPEN
    assert session.seal('""') != []


def test_text_of_the_packages_own_encoder_is_not_parsed_again() -> None:
    session, page = ClassicSession([NEW]), Crypt(NEW)
    (frame,) = session.seal(jsontext.serialize({"a": ["\ud800"]}))
    assert page.decrypt(frame) == {"a": ["\ud800"]}
    with pytest.raises(LocalError):
        session.seal(b"1")


@pytest.mark.parametrize("limit", [1, 15, 16, 17, 1000, 1_048_576])
def test_the_longest_frame_is_no_longer_than_it_is_said_to_be(limit: int) -> None:
    assert len(Crypt(NEW).seal("1" * limit)) <= max_frame_size(limit)
    assert len(Crypt(NEW).seal("1" * (2 * limit + 200))) > max_frame_size(limit)


def test_there_are_no_control_messages() -> None:
    session = ClassicSession([NEW])
    assert session.seal_accept(None) == []
    assert session.seal_gap("room", 1) == []
    assert session.seal_close(1000, "") == []


def test_after_the_close_nothing_is_sent_but_what_was_under_way_is_received() -> None:
    session = ClassicSession([NEW])
    session.seal_close(1000, "")
    assert session.state is State.CLOSED
    assert session.receive(Crypt(NEW).encrypt(1)) == Text("1")
    with pytest.raises(LocalError, match="CLOSED"):
        session.seal("1")
    with pytest.raises(LocalError, match="CLOSED"):
        session.seal_close(1000, "")


@pytest.mark.parametrize(("code", "reason"), [(1006, ""), (1000, "x" * 124), (1000, "\ud800")])
def test_a_close_that_may_not_be_sent_changes_nothing(code: int, reason: str) -> None:
    session = ClassicSession([NEW])
    with pytest.raises(LocalError, match="a close"):
        session.seal_close(code, reason)
    assert session.state is State.OPEN


def test_a_message_is_parsed_once_in_each_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    session, peer = ClassicSession([OLD]), ClassicSession([OLD])
    parsed: list[str] = []
    parse = jsontext.parse

    def counted(text: str) -> Any:
        parsed.append(text)
        return parse(text)

    monkeypatch.setattr(jsontext, "parse", counted)
    (frame,) = session.seal(jsontext.serialize({"id": 1}))
    assert parsed == []
    received = peer.receive(frame).data
    assert isinstance(received, jsontext.JsonText)
    assert received.value == {"id": 1}
    assert parsed == ['{"id":1}']
