"""Code in the documents that other programs read: JavaScript and shell."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.documents import DOCUMENTS, ROOT, Block, blocks

pytestmark = pytest.mark.interop

_SCRIPT = re.compile(r"<script( type=\"module\")?>(.*?)</script>", re.DOTALL)


def scripts(block: Block) -> list[tuple[str, str]]:
    """The file name extension and text of each script in a block."""
    if block.language == "html":
        return [
            (".mjs" if module else ".cjs", text) for module, text in _SCRIPT.findall(block.text)
        ]
    return [(".mjs", block.text)]


JAVASCRIPT = [
    pytest.param(extension, text, id=f"{block.document.name}-{number}")
    for document in DOCUMENTS
    for number, block in enumerate(blocks(document, "html", "js", "javascript"))
    for extension, text in scripts(block)
]


@pytest.mark.parametrize(("extension", "text"), JAVASCRIPT)
def test_javascript_in_the_documents_is_javascript(
    extension: str, text: str, tmp_path: Path
) -> None:
    file = tmp_path / f"script{extension}"
    file.write_text(text, encoding="utf-8")
    checked = subprocess.run(["node", "--check", file], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_openssl_opens_the_frame_on_the_protocol_page() -> None:
    [command] = [
        block.text
        for block in blocks(ROOT / "docs" / "protocol.md", "sh")
        if "openssl" in block.text
    ]
    opened = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert opened.stdout == '{"id":1}'
