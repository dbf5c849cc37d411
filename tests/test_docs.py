"""The documentation is complete, its links lead somewhere, and its code is code.

What its snippets do when they are run is in ``test_docs_snippets.py``.
"""

from __future__ import annotations

import ast
import doctest
import json
import re
from itertools import chain
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

import gcrypt_channels
from gcrypt_channels import signals
from gcrypt_channels.conf import OPTIONS
from gcrypt_channels.contrib import prometheus
from gcrypt_channels.exceptions import ProtocolError
from gcrypt_channels.templatetags.gcrypt import register

from .documents import DOCUMENTS, ROOT, Block, anchors, blocks, links, names_in_code, read

PACKAGE = ROOT / "gcrypt_channels"
SETTINGS = read("docs/settings.md")
REFERENCE = "\n".join(document.read_text("utf-8") for document in DOCUMENTS)


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def description(block: Block) -> str:
    return f"{relative(block.document)}: {block.text.splitlines()[0][:50]}"


def rows(text: str, *, columns: int) -> list[list[str]]:
    """The cells of a Markdown table's rows, those that begin with code."""
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")][:columns] for line in lines]


@pytest.mark.parametrize("name", OPTIONS)
def test_every_setting_is_documented_with_its_default(name: str) -> None:
    documented = {cells[0]: cells[1] for cells in rows(SETTINGS, columns=2) if len(cells) == 2}
    assert ast.literal_eval(documented[f"`{name}`"].strip("`")) == OPTIONS[name].default


def test_the_ids_of_the_system_checks_are_those_that_are_documented() -> None:
    pattern = r"gcrypt_channels\.[EW]\d{3}"
    raised = set(chain(*(re.findall(pattern, path.read_text()) for path in PACKAGE.rglob("*.py"))))
    documented = [cells[0].strip("`") for cells in rows(SETTINGS, columns=1)]
    assert {each for each in documented if re.fullmatch(pattern, each)} == raised


def test_every_public_name_is_documented() -> None:
    assert set(gcrypt_channels.__all__) <= names_in_code(REFERENCE)


def test_every_template_tag_is_documented() -> None:
    assert all(f"`{{% {tag} %}}`" in SETTINGS for tag in register.tags)


def test_the_management_commands_are_those_that_are_documented() -> None:
    modules = (PACKAGE / "management" / "commands").glob("gcrypt_*.py")
    documented = set(re.findall(r"manage\.py (gcrypt_\w+)", REFERENCE))
    assert {module.stem for module in modules} == documented


def test_every_signal_and_metric_is_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [name for name in vars(signals) if name.startswith("connection_")]
    for name in names:
        monkeypatch.setattr(getattr(signals, name), "receivers", [])
    registry = CollectorRegistry()
    prometheus.register(registry)
    metrics = [
        family.name + ("_total" if family.type == "counter" else "")
        for family in registry.collect()
    ]
    assert metrics
    assert {*names, *metrics} <= names_in_code(SETTINGS)


def test_the_dashboard_shows_every_metric_and_no_other() -> None:
    dashboard = json.loads(read("docs/grafana-dashboard.json"))
    shown = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    documented = {cells[0].strip("`") for cells in rows(SETTINGS, columns=1)}
    metrics = {each for each in documented if each.startswith("gcrypt_") and "." not in each}
    assert set(re.findall(r"gcrypt_\w+", shown.replace("_bucket", ""))) == metrics
    assert all(panel["description"] for panel in dashboard["panels"])


def test_every_close_code_is_documented() -> None:
    table = [
        cells[0] for cells in (line.split(" | ") for line in read("docs/protocol.md").split("\n"))
    ]

    def codes(error: type[ProtocolError]) -> set[int]:
        return {error.code}.union(*(codes(each) for each in error.__subclasses__()))

    assert {f"| {code}" for code in codes(ProtocolError) - {ProtocolError.code}} <= set(table)


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_the_links_of_a_document_lead_somewhere(document: Path) -> None:
    for link in links(document):
        if re.match(r"https?:", link):
            continue
        path, _, fragment = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        assert not fragment or fragment in anchors(target), link


def test_the_targets_of_make_that_the_documents_name_exist() -> None:
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", REFERENCE, re.MULTILINE))
    targets = set(re.findall(r"^([a-z -]+):", read("Makefile"), re.MULTILINE))
    assert {"demo", "test"} <= named <= set(chain(*(target.split() for target in targets)))


def test_the_figures_of_the_readme_are_measured_ones() -> None:
    section = read("README.md").partition("## What it costs")[2].partition("\n## ")[0]
    figures = re.findall(r"(\d+)\s+(?:ms|µs)", section)
    assert figures
    assert set(figures) <= set(re.findall(r"\d+", read("benchmarks/README.md")))


def test_every_document_is_in_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    listed = {(index.parent / link).resolve() for link in links(index)}
    assert {*ROOT.glob("docs/*.md")} - {index} <= listed


def test_every_module_has_its_floor_in_the_architecture() -> None:
    modules = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    _, _, floors = read("docs/architecture.md").partition("## Floors")
    assert modules - {"__init__", "__pycache__", "static"} <= names_in_code(floors)


PYTHON_BLOCKS = list(chain(*(blocks(document, "python") for document in DOCUMENTS)))


@pytest.mark.parametrize("block", PYTHON_BLOCKS, ids=description)
def test_python_in_the_documents_is_python(block: Block) -> None:
    if block.text.startswith(">>>"):
        test = doctest.DocTestParser().get_doctest(block.text, {}, description(block), None, None)
        assert doctest.DocTestRunner().run(test).failed == 0
    else:
        # Module, or one entry of a dictionary or list that the reader has already.
        forms = (block.text, f"{{\n{block.text}\n}}", f"[\n{block.text}\n]")
        assert any(is_python(form) for form in forms), block.text


def is_python(text: str) -> bool:
    try:
        compile(text, "<document>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except SyntaxError:
        return False
    return True
