"""``gcrypt_channels.crypto.classic``; the real g-crypt and openssl meet it in ``interop/``."""

from __future__ import annotations

import base64
import json
import math
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcrypt_channels.crypto.classic import Crypt
from gcrypt_channels.crypto.primitives import aes_cbc_encrypt
from gcrypt_channels.exceptions import DecryptionFailed

PASSPHRASE = "a passphrase for the tests"
CRYPT = Crypt(PASSPHRASE)

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
)


def seal_bytes(plaintext: bytes, salt: bytes = b"saltsalt") -> str:
    """Encrypt what need not be text."""
    key, iv = CRYPT._derive(salt)
    ct = base64.b64encode(aes_cbc_encrypt(key, iv, plaintext)).decode()
    return json.dumps({"ct": ct, "iv": iv.hex(), "s": salt.hex()})


@given(VALUES)
def test_decrypt_undoes_encrypt(value: object) -> None:
    assert CRYPT.decrypt(CRYPT.encrypt(value)) == value


@given(VALUES)
def test_a_frame_is_the_compact_json_that_g_crypt_makes(value: object) -> None:
    frame = CRYPT.encrypt(value)
    members = json.loads(frame)
    assert list(members) == ["ct", "iv", "s"]
    assert json.dumps(members, separators=(",", ":")) == frame
    assert len(bytes.fromhex(members["iv"])) == 16
    assert len(bytes.fromhex(members["s"])) == 8
    assert len(base64.b64decode(members["ct"], validate=True)) % 16 == 0


def test_every_frame_has_its_own_salt() -> None:
    frames = {CRYPT.encrypt({"id": 1}) for _ in range(100)}
    assert len({json.loads(frame)["s"] for frame in frames}) == 100


def test_evp_bytes_to_key_as_crypto_js_tests_it() -> None:
    key, iv = Crypt("password")._derive(bytes.fromhex("0a9d8620cf7219f1"))
    assert key.hex() == "50f32e0ec9408e02ff42364a52aac95c3694fc027256c6f488bf84b8e60effcd"
    assert iv.hex() == "81381e39b94fd692dff7e2239a298cb6"


def test_the_iv_may_be_missing() -> None:
    members = json.loads(CRYPT.encrypt([1, 2]))
    del members["iv"]
    assert CRYPT.decrypt(json.dumps(members)) == [1, 2]


def test_hex_may_be_in_either_case_and_json_in_any_layout() -> None:
    members = json.loads(CRYPT.encrypt("x"))
    loose = {"s": members["s"].upper(), "ct": members["ct"], "iv": members["iv"].upper()}
    assert CRYPT.decrypt(json.dumps(loose, indent=2)) == "x"


def test_another_passphrase_does_not_open_it() -> None:
    with pytest.raises(DecryptionFailed):
        Crypt("another").decrypt(CRYPT.encrypt({"id": 1}))


def test_open_gives_the_text_as_it_was_written() -> None:
    text = '{ "a":1.0, "a":2 }'
    opened = CRYPT.open(CRYPT.seal(text))
    assert opened == text
    assert opened.value == {"a": 2}


def test_a_frame_with_escapes_in_its_base64_is_the_same_frame() -> None:
    frame = CRYPT.seal("12345678901234")
    while "/" not in frame:
        frame = CRYPT.seal("12345678901234")
    assert CRYPT.decrypt(frame.replace("/", "\\/")) == 12345678901234


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame.replace('"ct":"', '"ct":"\\u000a'),
        lambda frame: frame.replace('"ct":"', '"ct":"="'),
        lambda frame: frame.replace('"ct":"', '"ct":"!'),
        lambda frame: frame.replace('"ct":"', '"ct":"\n'),
        lambda frame: frame.replace('"ct":"', '"ct":"\u00e9'),
        lambda frame: frame.replace('"ct":"', '"ct":"AAAA","ct":"'),
        lambda frame: frame.replace('","iv', '=","iv'),
        lambda frame: frame.replace('","iv', '=="  ,"iv'),
        lambda frame: frame.replace('","iv', ',"iv'),
        lambda frame: '{"ct":' + frame[-65:],
        lambda frame: '{"ct":"' + frame[-65:],
        lambda frame: frame[-65:],
        lambda frame: frame + " x",
        lambda frame: "x" + frame,
        lambda frame: frame[:-1],
    ],
)
def test_an_altered_frame_of_the_usual_layout_is_refused(change: Callable[[str], str]) -> None:
    frame = CRYPT.seal("1")
    assert change(frame) != frame
    with pytest.raises(DecryptionFailed):
        CRYPT.decrypt(change(frame))


@pytest.mark.parametrize(
    "argument",
    [
        None,
        b"",
        b'{"ct":"","s":""}',
        bytearray(b"x"),
        1,
        10**5000,
        math.nan,
        [],
        {},
        {"ct": "x", "s": "y"},
        object(),
        "",
        "\0",
        "\ud800",
        '{"ct":"\ud800","s":"0123456789abcdef"}',
        "[" * 1_000_000,
        '{"ct":' * 1_000_000,
        "9" * 1_000_000,
        '{"ct":"","s":' + "9" * 5000 + "}",
        '{"ct":NaN,"s":NaN}',
        '{"ct":[],"iv":{},"s":null}',
        '{"ct":true,"s":"0123456789abcdef"}',
    ],
    ids=lambda argument: repr(argument)[:16] if not isinstance(argument, int) else "int",
)
def test_no_argument_raises_anything_else(argument: Any) -> None:
    with pytest.raises(DecryptionFailed):
        CRYPT.decrypt(argument)


@given(st.text(st.characters()) | st.binary() | VALUES.map(json.dumps))
def test_no_text_and_no_json_raises_anything_else(argument: Any) -> None:
    with pytest.raises(DecryptionFailed):
        CRYPT.decrypt(argument)


@given(
    st.fixed_dictionaries(
        {"ct": st.text() | VALUES, "s": st.text("0123456789abcdef", min_size=15, max_size=17)},
        optional={"iv": st.text("0123456789abcdef") | st.none(), "x": VALUES},
    )
)
def test_no_nearly_right_frame_raises_anything_else(members: dict[str, object]) -> None:
    with pytest.raises(DecryptionFailed):
        CRYPT.decrypt(json.dumps(members))


@pytest.mark.parametrize(
    "plaintext",
    [
        b"",
        b"\xff",
        b'"\xe2\x82"',
        b'"\xed\xa0\x80"',
        b"NaN",
        b"1e400",
        b'{"a":[-1e999]}',
        b"[1e5",
        b"9" * 5000,
        b"[" * 65 + b"]" * 65,
        b"[" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b"\xef\xbb\xbf1",
    ],
    ids=lambda plaintext: repr(plaintext)[:16],
)
def test_a_well_made_frame_around_something_else_is_refused(plaintext: bytes) -> None:
    with pytest.raises(DecryptionFailed):
        CRYPT.decrypt(seal_bytes(plaintext))


def test_a_flipped_bit_never_changes_the_object_through_the_iv() -> None:
    members = json.loads(CRYPT.encrypt({"admin": 0}))
    iv = bytes.fromhex(members["iv"])
    for bit in range(128):
        tampered = (int.from_bytes(iv, "big") ^ 1 << bit).to_bytes(16, "big").hex()
        with pytest.raises(DecryptionFailed):
            CRYPT.decrypt(json.dumps({**members, "iv": tampered}))


def test_every_refusal_looks_the_same_and_carries_nothing() -> None:
    wrong = [
        None,
        "",
        "{}",
        seal_bytes(b"secret \xff"),
        seal_bytes(b"secret"),
        Crypt("b").seal("1"),
    ]
    errors = []
    for argument in wrong:
        with pytest.raises(DecryptionFailed) as caught:
            CRYPT.decrypt(argument)  # type: ignore[arg-type]
        errors.append(caught.value)
    assert {(type(error), str(error), error.args) for error in errors} == {
        (DecryptionFailed, "invalid frame (close code 4400)", ())
    }
    assert {error.__context__ for error in errors} == {None}


@pytest.mark.parametrize("value", [math.nan, [math.inf], {"x": -math.inf}])
def test_encrypt_names_itself_when_a_number_has_no_json(value: object) -> None:
    with pytest.raises(ValueError, match=r"^Crypt\.encrypt: "):
        CRYPT.encrypt(value)


@pytest.mark.parametrize("value", [{1, 2}, b"bytes", object(), {(1, 2): 3}])
def test_encrypt_names_itself_when_a_type_has_no_json(value: object) -> None:
    with pytest.raises(TypeError, match=r"^Crypt\.encrypt: "):
        CRYPT.encrypt(value)


def test_what_would_not_be_opened_is_not_encrypted() -> None:
    value: list[object] = []
    for _ in range(64):
        value = [value]
    with pytest.raises(ValueError, match=r"^Crypt\.encrypt: nested too deep"):
        CRYPT.encrypt(value)


@pytest.mark.parametrize("passphrase", [None, b"bytes", 1, ["x"]])
def test_a_passphrase_is_text(passphrase: Any) -> None:
    with pytest.raises(TypeError, match="must be a str"):
        Crypt(passphrase)


@pytest.mark.parametrize(("passphrase", "match"), [("", "empty"), ("a\ud800", "lone surrogate")])
def test_a_passphrase_that_utf_8_cannot_express_is_refused(passphrase: str, match: str) -> None:
    with pytest.raises(ValueError, match=match) as caught:
        Crypt(passphrase)
    assert passphrase == "" or passphrase not in str(caught.value)
    assert caught.value.__context__ is None


def test_the_passphrase_shows_nowhere() -> None:
    assert PASSPHRASE not in repr(CRYPT)
    assert not hasattr(CRYPT, "__dict__")
    with pytest.raises(DecryptionFailed) as caught:
        CRYPT.decrypt("{}")
    assert PASSPHRASE not in "".join(traceback.format_exception(caught.value))
