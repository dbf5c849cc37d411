from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcrypt_channels.crypto import jsontext

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
)  # fmt: skip


@given(VALUES)
def test_parse_undoes_serialize(value: object) -> None:
    assert jsontext.parse(jsontext.serialize(value)) == value


@given(VALUES)
def test_serialized_text_is_utf_8_and_standard_json(value: object) -> None:
    text = jsontext.serialize(value)
    assert json.loads(text.encode()) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"id": 1, "b": [True, None]}, '{"id":1,"b":[true,null]}'),
        ("grüße 😀 \u2028\x7f", '"grüße 😀 \u2028\x7f"'),
        ("\0\b\t\n\f\r\x1f\"\\/", '"\\u0000\\b\\t\\n\\f\\r\\u001f\\"\\\\/"'),
        ("a\ud800b\udfff", '"a\\ud800b\\udfff"'),
        ({1: 2}, '{"1":2}'),
    ],
)  # fmt: skip
def test_serialize_prints_what_json_stringify_prints(value: object, text: str) -> None:
    assert jsontext.serialize(value) == text


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, [math.nan], {"x": math.inf}])
def test_serialize_refuses_numbers_that_json_lacks(value: object) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        jsontext.serialize(value)


OVERFLOWING = ["1e400", "-1e400", "1E+0309", "1.8e308", "9" * 400 + ".0", "9" * 250 + "e99"]


@pytest.mark.parametrize("number", OVERFLOWING, ids=lambda number: number[:8])
@pytest.mark.parametrize("around", ["{}", "[0.5, {}]", '{{"a": [{{"b": {}}}]}}'])
def test_parse_refuses_numbers_that_overflow(number: str, around: str) -> None:
    for parse in (jsontext.parse, jsontext.parse_unique):
        with pytest.raises(ValueError, match="not JSON"):
            parse(around.format(number))


@pytest.mark.parametrize(
    "number", ["1.7976931348623157e308", "-0.0", "1e-400", "9" * 309, "5e-324"]
)
def test_parse_takes_numbers_up_to_the_largest(number: str) -> None:
    assert jsontext.parse(f"[{number}]") == [json.loads(number)]


def test_a_number_in_a_string_is_text() -> None:
    assert jsontext.parse('"1e400 NaN"') == "1e400 NaN"


def test_serialize_refuses_cycles() -> None:
    cycle: list[object] = []
    cycle.append(cycle)
    with pytest.raises(ValueError, match="Circular"):
        jsontext.serialize(cycle)


def nested(depth: int) -> object:
    value: object = "leaf"
    for level in range(depth):
        value = [value] if level % 2 else {"[{": value}
    return value


def test_64_levels_are_the_limit_both_ways() -> None:
    text = jsontext.serialize(nested(64))
    assert jsontext.parse(text) == nested(64)
    with pytest.raises(ValueError, match="nested too deep"):
        jsontext.serialize(nested(65))
    with pytest.raises(ValueError, match="nested too deep"):
        jsontext.parse(f"[{text}]")


def test_serialize_survives_any_depth() -> None:
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(ValueError, match="nested too deep"):
        jsontext.serialize(value)


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(["[" * 1000, "{" * 1000]),
        json.dumps(['"[', '\\"{', "\\", "[]"] * 100),
        json.dumps({'\\"[': {"\\\\": "[[["}, "x": ["]"] * 100}),
        json.dumps([[]] * 1000),
        json.dumps([{"a": [], "b": {}}] * 1000),
    ],
)
def test_brackets_in_strings_and_side_by_side_are_not_depth(text: str) -> None:
    assert jsontext.parse(text) == json.loads(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "nul",
        "NaN",
        "[Infinity]",
        '{"a": -Infinity}',
        "1 2",
        "{",
        "[" * 100_000,
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 100_000,
        '"' + '\\"' * 100_000,
        '["' + "[" * 100 + "\\",
        "[" * 30 + "}" * 40,
        "9" * 100_000,
        "[1,]",
        "'a'",
        '"\n"',
        "\ufeff1",
        "\ud800",
    ],
    ids=lambda text: text[:12],
)
def test_parse_raises_value_error_for_everything_else(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (which text it carries is no promise)
        jsontext.parse(text)


@given(st.text('[]{}"\\\\,:1 ', max_size=300).map(lambda text: "[" * 60 + text))
def test_no_tangle_of_brackets_and_quotes_raises_anything_else(text: str) -> None:
    try:
        value = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError, match=r"not JSON|nested too deep"):
            jsontext.parse(text)
    else:
        assert jsontext.parse(text) == value


@given(st.integers(0, 80), st.integers(0, 80), st.text(st.characters()))
def test_the_depth_is_that_of_the_deepest_branch(first: int, second: int, leaf: str) -> None:
    branches = [nested(first), leaf, nested(second)]
    text = json.dumps(branches)
    if max(first, second) < 64:
        assert jsontext.parse(text) == branches
    else:
        with pytest.raises(ValueError, match="nested too deep"):
            jsontext.parse(text)


def test_a_refusal_does_not_carry_the_text_along() -> None:
    with pytest.raises(ValueError, match=r"^not JSON$") as caught:
        jsontext.parse('{"password": "hunter2"')
    assert caught.value.__context__ is None


def test_parse_takes_the_last_of_two_members_as_javascript_does() -> None:
    assert jsontext.parse('{"a":1,"a":2}') == {"a": 2}


@pytest.mark.parametrize("text", ['{"a":1,"a":2}', '[{"x":{"a":1,"\\u0061":1}}]'])
def test_parse_unique_refuses_a_member_named_twice(text: str) -> None:
    with pytest.raises(ValueError, match="not JSON"):
        jsontext.parse_unique(text)


def test_parse_unique_takes_the_same_name_in_different_objects() -> None:
    assert jsontext.parse_unique('[{"a":1},{"a":{"a":2}}]') == [{"a": 1}, {"a": {"a": 2}}]
