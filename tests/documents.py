"""The project's Markdown, as the tests of the documentation read it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("benchmarks/*.md"),
    ]
)

_FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"""\]\(([^)\s]+)\)|(?:src|srcset|href)="([^"]+)\"""")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


class Block(NamedTuple):
    """A fenced code block."""

    document: Path
    language: str
    text: str

    @property
    def title(self) -> str:
        """The file that its first line names, as in ``# mysite/settings.py``, or ``""``."""
        match = re.match(r"(?:#|<!--) ([\w/]+\.\w+)", self.text)
        return match[1] if match else ""


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(document: Path, *languages: str) -> list[Block]:
    found = [Block(document, *match) for match in _FENCE.findall(document.read_text("utf-8"))]
    return [block for block in found if block.language in languages]


def links(document: Path) -> list[str]:
    """The targets of a document's links, those outside of code."""
    text = re.sub(r"`[^`\n]*`", "", _FENCE.sub("", document.read_text("utf-8")))
    return [markdown or html for markdown, html in _LINK.findall(text)]


def anchors(document: Path) -> set[str]:
    """The fragments that a document's headings can be linked by."""
    text = _FENCE.sub("", document.read_text("utf-8"))
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in _HEADING.findall(text)
    }


def names_in_code(text: str) -> set[str]:
    """Every identifier, dotted or not, that stands in code."""
    code = [*(match[2] for match in _FENCE.finditer(text)), *re.findall(r"`([^`\n]+)`", text)]
    return {name for each in code for name in re.findall(r"[\w.]+", each)}
