"""``docs/troubleshooting.md`` knows what the package says when something does not work."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from gcrypt_channels.exceptions import ProtocolError

from .documents import ROOT, read

PAGE = read("docs/troubleshooting.md")
LOGGING = {f"logger.{level}" for level in ("warning", "error", "exception", "critical")}


def said(node: ast.expr) -> str:
    """A text of the source, with an ellipsis where something is filled in."""
    if isinstance(node, ast.JoinedStr):
        parts = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
        return "".join(str(part) for part in parts)
    assert isinstance(node, ast.Constant), (
        f"write the line out, so that it can be found: {ast.unparse(node)}"
    )
    return re.sub(r"(%[rsd])+", "…", str(node.value))


def lines_of_the_source() -> Iterator[str]:
    """The log lines of WARNING and above, and the causes that some of them are filled with.

    A line that is made of nothing else says what another part of the page explains.
    """
    for path in sorted((ROOT / "gcrypt_channels").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            if ast.unparse(node.func) in LOGGING:
                yield said(node.args[0])
            for keyword in node.keywords:
                if keyword.arg == "cause" and isinstance(
                    keyword.value, ast.Constant | ast.JoinedStr
                ):
                    yield said(keyword.value)


def first_cells(section: str) -> list[str]:
    _, _, text = PAGE.partition(f"## {section}")
    rows = [line for line in text.partition("\n## ")[0].splitlines() if line.startswith("| ")]
    return [row.split(" | ")[0].removeprefix("| ") for row in rows[1:]]


def test_every_log_line_has_its_cause_and_cure_and_no_other_is_listed() -> None:
    documented = [cell.strip("`") for cell in first_cells("By log line")]
    assert len(documented) == len(set(documented))
    assert set(documented) == {line for line in lines_of_the_source() if re.search("[a-z]", line)}


def test_every_close_code_has_its_causes_and_cures() -> None:
    def codes(error: type[ProtocolError]) -> set[int]:
        return {error.code}.union(*(codes(each) for each in error.__subclasses__()))

    # Beside those of the errors: a cut connection, and a server that failed.
    expected = codes(ProtocolError) - {ProtocolError.code} | {1006, 1011}
    assert [int(cell) for cell in first_cells("By close code")] == sorted(expected)
