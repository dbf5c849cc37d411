"""One strict JSON encoder and decoder for the whole package; it writes as JavaScript does."""

from __future__ import annotations

import json
import re
from array import array
from itertools import accumulate
from typing import Any, Final, NoReturn

__all__ = ["MAX_DEPTH", "SURROGATE", "JsonText", "parse", "parse_unique", "serialize"]

MAX_DEPTH: Final = 64
"""Arrays and objects may be nested this deep."""

SURROGATE: Final = re.compile("[\ud800-\udfff]")
"""A lone surrogate: Python's strings and JSON's escapes can hold one, UTF-8 cannot."""

_PARENTHESES: Final = bytes.maketrans(b"[{]}", b"(())")
_NEITHER_BRACKET_NOR_QUOTE: Final = bytes(byte for byte in range(256) if byte not in b'[{]}"')
_STEPS: Final = bytes.maketrans(b"()", b"\x01\xff")  # as signed bytes: 1, -1
_SHALLOW: Final = 4
"""Levels that are taken off all at once; most JSON has no more."""


class JsonText(str):
    """A JSON text that was made or parsed here, so that nobody has to parse it once more.

    Attributes:
        value: the value of the text, where it was parsed.
    """

    __slots__ = ("value",)

    value: Any


def serialize(value: object) -> JsonText:
    """Return what ``JSON.stringify`` prints: compact, non-ASCII as it is, lone surrogates escaped.

    Raises ``TypeError`` for what has no JSON form, and ``ValueError`` for NaN, the infinities,
    circular references and nesting deeper than ``MAX_DEPTH``.
    """
    try:
        text = _ENCODER.encode(value)
    except RecursionError:
        raise ValueError("nested too deep for JSON") from None
    if _is_too_deep(text):
        raise ValueError("nested too deep for JSON")
    if text.isascii():
        return JsonText(text)
    return JsonText(SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text))


def parse(text: str) -> Any:
    """Return the value of a JSON text.

    Raises ``ValueError``, and nothing else, for text that is not JSON (``NaN`` is not), is nested
    deeper than ``MAX_DEPTH``, or holds a number that Python cannot hold: one that overflows to
    infinity (``1e400``) or an integer too long for ``int``.
    """
    return _parse(text, _ANY)


def parse_unique(text: str) -> Any:
    """Like ``parse``, and raise ``ValueError`` when an object names a member twice."""
    return _parse(text, _UNIQUE)


def _parse(text: str, decoder: json.JSONDecoder) -> Any:
    if _is_too_deep(text):
        raise ValueError("nested too deep")
    try:
        return decoder.decode(text)
    except ValueError:
        pass
    # Raised out here so that the error's context does not carry the text along.
    raise ValueError("not JSON")


def _is_too_deep(text: str) -> bool:
    """Measure the nesting without recursion, in a time that grows with the length alone.

    Text that is not JSON may be misjudged, but only behind the place where its parser stops.
    """
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return False
    if "\\" in text:
        text = text.replace("\\\\", "").replace('\\"', "")
    marks = text.encode("utf-8", "surrogatepass")
    marks = marks.translate(_PARENTHESES, _NEITHER_BRACKET_NOR_QUOTE).replace(b'""', b"")
    brackets = b"".join(marks.split(b'"')[::2])  # those outside of strings
    for _ in range(_SHALLOW):
        brackets = brackets.replace(b"()", b"")
    depths = accumulate(array("b", brackets.translate(_STEPS)))
    return max(depths, default=0) > MAX_DEPTH - _SHALLOW


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _finite(text: str) -> float:
    value = float(text)
    if value - value:  # of an infinity, this is NaN
        raise ValueError("a number overflows")
    return value


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is named twice")
    return members


_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_ANY: Final = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)
_UNIQUE: Final = json.JSONDecoder(
    parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_unique_members
)
