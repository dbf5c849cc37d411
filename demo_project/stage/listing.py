"""The files that a project changes, read from the README, so that the page shows the same lines."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

README = Path(__file__).resolve().parents[2] / "README.md"

_SECTION = re.compile(r"^## Use it\n(.*?)^## ", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^```(?:python|html)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"(?:# |<!-- )([\w/.]+\.(?:py|html))\b")
_OURS = re.compile(r"gcrypt|Encrypted|sendJSON", re.IGNORECASE)


class Line(NamedTuple):
    """A line of a file, and whether it is there because of this package."""

    text: str
    is_new: bool


class File(NamedTuple):
    """A file of the README's example."""

    name: str
    lines: list[Line]


@cache
def files_to_change() -> list[File]:
    """The example's files; those without a line of this package's are left out."""
    section = _SECTION.search(README.read_text(encoding="utf-8"))
    blocks = _BLOCK.findall(section[1]) if section else []
    files = [
        File(
            name[1] if (name := _NAME.match(block)) else "page.html",
            [Line(text, bool(_OURS.search(text))) for text in block.rstrip("\n").split("\n")],
        )
        for block in blocks
    ]
    return [file for file in files if any(line.is_new for line in file.lines)]
