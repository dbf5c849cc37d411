"""JSON as JavaScript writes it, and JSON from strangers: one strict parser for all of it."""

from __future__ import annotations

import json
import re
from array import array
from itertools import accumulate
from typing import Any, Final, NoReturn

__all__ = ["MAX_DEPTH", "SURROGATE", "parse", "parse_unique", "serialize"]

MAX_DEPTH: Final = 64
"""Arrays and objects may be nested this deep."""

SURROGATE: Final = re.compile("[\ud800-\udfff]")
"""A lone surrogate: Python's strings and JSON's escapes can hold one, UTF-8 cannot."""

_STRING: Final = re.compile('"[^"]*"?')
_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # as signed bytes: 1, 1, -1, -1
_NO_STEPS: Final = bytes(byte for byte in range(256) if byte not in b"[{]}")


def serialize(value: object) -> str:
    """Return what ``JSON.stringify`` prints: compact, non-ASCII as it is, lone surrogates escaped.

    Raises ``TypeError`` for what has no JSON form, and ``ValueError`` for NaN, the infinities,
    circular references and nesting deeper than ``MAX_DEPTH``.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except RecursionError:
        raise ValueError("nested too deep for JSON") from None
    if _is_too_deep(text):
        raise ValueError("nested too deep for JSON")
    return SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def parse(text: str) -> Any:
    """Return the value of a JSON text.

    Raises ``ValueError``, and nothing else, for text that is not JSON (``NaN`` is not), is nested
    deeper than ``MAX_DEPTH`` or holds an integer too long for ``int``.
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
    """Measure the nesting without recursion, and without a step of Python per character.

    Text that is not JSON may be misjudged, but only behind the place where its parser stops.
    """
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return False
    outside_strings = _STRING.sub("", text.replace("\\\\", "").replace('\\"', ""))
    steps = outside_strings.encode("utf-8", "surrogatepass").translate(_STEPS, _NO_STEPS)
    return max(accumulate(array("b", steps)), default=0) > MAX_DEPTH


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is named twice")
    return members


_ANY: Final = json.JSONDecoder(parse_constant=_refuse_constant)
_UNIQUE: Final = json.JSONDecoder(
    parse_constant=_refuse_constant, object_pairs_hook=_unique_members
)
