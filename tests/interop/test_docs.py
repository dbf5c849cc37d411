"""Code in the documents that other programs read: JavaScript, shell and a type checker."""

from __future__ import annotations

import os
import re
import subprocess
import sys
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


IMPORTS = """
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from gcrypt_channels import EncryptedJsonConsumer
"""


def test_the_consumers_in_the_documents_pass_a_type_checker(tmp_path: Path) -> None:
    consumers = [
        block.text
        for document in DOCUMENTS
        for block in blocks(document, "python")
        if "JsonWebsocketConsumer):" in block.text
    ]
    assert consumers
    files = [tmp_path / f"consumers_{number}.py" for number in range(len(consumers))]
    for file, text in zip(files, consumers, strict=True):
        file.write_text(IMPORTS + text, encoding="utf-8")
    options = ["--config-file=", "--follow-imports=silent"]
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", *options, *files],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout


def test_openssl_opens_the_frame_on_the_protocol_page() -> None:
    [command] = [
        block.text
        for block in blocks(ROOT / "docs" / "protocol.md", "sh")
        if "openssl" in block.text
    ]
    opened = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert opened.stdout == '{"id":1}'
