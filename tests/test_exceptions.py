from __future__ import annotations

import pickle

import pytest

from gcrypt_channels import exceptions
from gcrypt_channels.exceptions import (
    ConnectionClosed,
    DecryptionFailed,
    GcryptError,
    HandshakeTimeout,
    InvalidFrame,
    LocalError,
    MessageTooBig,
    NoProfile,
    NoSessionKey,
    ProtocolError,
    ServiceRestart,
    TryAgainLater,
)

TEXTS = [
    (GcryptError(), ""),
    (LocalError(), "operation not allowed in this state"),
    (LocalError("DATA cannot be sent in state CLOSED"), "DATA cannot be sent in state CLOSED"),
    (ProtocolError(), "protocol error (close code 1002)"),
    (InvalidFrame(), "invalid frame (close code 4400)"),
    (DecryptionFailed(), "invalid frame (close code 4400)"),
    (MessageTooBig(), "message too big (close code 1009)"),
    (NoSessionKey(), "no session key (close code 4401)"),
    (NoSessionKey("logged out"), "logged out (close code 4401)"),
    (NoProfile(), "no acceptable profile (close code 4406)"),
    (HandshakeTimeout(), "handshake timed out (close code 4408)"),
    (ServiceRestart(), "service restart (close code 1012)"),
    (TryAgainLater(), "try again later (close code 1013)"),
    (ConnectionClosed(), "unauthenticated close, code 1006"),
    (
        ConnectionClosed(4401, "logged out", authentic=True),
        "authenticated close, code 4401: logged out",
    ),
]


@pytest.mark.parametrize(("error", "text"), TEXTS, ids=lambda value: type(value).__name__)
def test_str(error: GcryptError, text: str) -> None:
    assert str(error) == text


def test_every_class_has_its_text_tested() -> None:
    assert {type(error).__name__ for error, _ in TEXTS} == set(exceptions.__all__)


@pytest.mark.parametrize("name", exceptions.__all__)
def test_every_class_can_be_made_without_arguments(name: str) -> None:
    assert isinstance(getattr(exceptions, name)(), GcryptError)


def test_a_reason_of_its_own_belongs_to_one_error_only() -> None:
    assert NoSessionKey("logged out").reason == "logged out"
    assert NoSessionKey().reason == NoSessionKey.reason == "no session key"


def test_a_failed_decryption_looks_like_any_other_invalid_frame() -> None:
    failed, invalid = DecryptionFailed(), InvalidFrame()
    assert isinstance(failed, InvalidFrame)
    assert (failed.code, failed.reason, str(failed)) == (
        invalid.code,
        invalid.reason,
        str(invalid),
    )


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (LocalError("out of turn"), "LocalError('out of turn')"),
        (NoSessionKey("logged out"), "NoSessionKey('logged out')"),
        (InvalidFrame(), "InvalidFrame('invalid frame')"),
        (ConnectionClosed(), "ConnectionClosed(1006, '')"),
        (ConnectionClosed(4401, "why"), "ConnectionClosed(4401, 'why')"),
        (ConnectionClosed(1000, "", authentic=True), "ConnectionClosed(1000, '', authentic=True)"),
    ],
)
def test_a_repr_says_what_happened_and_a_pickled_error_says_the_same(
    error: GcryptError, shown: str
) -> None:
    assert repr(error) == shown
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), repr(copy), str(copy)) == (type(error), shown, str(error))


def test_a_closed_connection_tells_how_it_ended() -> None:
    error = ConnectionClosed(1000, "bye", authentic=True)
    assert (error.code, error.reason, error.authentic) == (1000, "bye", True)
    assert not ConnectionClosed().authentic


def test_a_cause_is_kept_by_a_copy_and_told_to_nobody() -> None:
    error = pickle.loads(pickle.dumps(NoSessionKey(cause="nobody is logged in")))
    assert error.cause == "nobody is logged in"
    assert "logged in" not in f"{error} {error!r} {error.reason}"
