"""JSON values to send to and fro: the awkward ones, and as many others as wanted."""

from __future__ import annotations

import random

LARGE = [
    "x" * 2**20,
    "grüße 😀 мир " * 70_000,
    [{"id": number, "name": f"näme {number}"} for number in range(40_000)],
]
"""Each more than 1 MiB of JSON."""

AWKWARD: list[object] = [
    "",
    None,
    True,
    False,
    0,
    -1,
    2**53 - 1,
    0.1,
    -1.5e-7,
    [],
    {},
    [[], {}, ""],
    {"": ""},
    {"ct": "x", "iv": "y", "s": "z"},
    "\0\x01\x1f\x7f\x80\xff\u2028\u2029\ufeff\uffff",
    '"\\/\b\f\n\r\t',
    "😀👩\u200d👩\u200d👧\U0010ffff\U00010000",
    "ß€日本語 العربية 한국어",
    *("x" * size for size in range(50)),
]

_ALPHABET = "abcXYZ 019\"\\/\n<>&'äß€日\u2028😀🔑\U0010ffff"


def values(count: int, seed: int) -> list[object]:
    """Return ``AWKWARD`` and random values, ``count`` in all."""
    draw = random.Random(seed)
    return [*AWKWARD, *(_value(draw, 3) for _ in range(count - len(AWKWARD)))]


def _text(draw: random.Random) -> str:
    return "".join(draw.choices(_ALPHABET, k=draw.randrange(20)))


def _value(draw: random.Random, depth: int) -> object:
    match draw.randrange(8 if depth else 5):
        case 0:
            return draw.choice([None, True, False])
        case 1:
            return draw.randrange(-(2**53), 2**53)
        case 2:
            return draw.uniform(-1000, 1000)
        case 3 | 4:
            return _text(draw)
        case 5 | 6:
            return {_text(draw): _value(draw, depth - 1) for _ in range(draw.randrange(5))}
        case _:
            return [_value(draw, depth - 1) for _ in range(draw.randrange(5))]
