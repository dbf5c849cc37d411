"""How Sphinx builds the site: `make docs`. The pages' links are those that work on GitHub, too."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import django
from sphinx.application import Sphinx

import gcrypt_channels

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo_project.settings")
sys.path.insert(0, str(ROOT))
django.setup()

project = "gcrypt_channels"
author = "gcrypt_channels contributors"
version = release = gcrypt_channels.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinxcontrib.mermaid"]
html_theme = "furo"
root_doc = "docs/index"
include_patterns = ["*.md", "docs/*.md", "docs/*.rst", "benchmarks/README.md"]
myst_heading_anchors = 4
myst_fence_as_directive = ["mermaid"]
autodoc_typehints = "description"
autodoc_member_order = "bysource"

_SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
_PAGE = re.compile(r"\]\(([^)#:]+)\.(?:md|rst)\)")
_FOLDER = re.compile(r"\[([^\]]+)\]\((?!https?:)[^)\s]+/\)")


def _read_source(app: Sphinx, page: str, source: list[str]) -> None:
    """Add the navigation to the index, and take the links to folders out, which are no pages.

    Each section of the index becomes a part of the navigation, with the pages that it links to.
    """
    source[0] = _FOLDER.sub(r"\1", source[0])
    if page == root_doc:
        sections = _SECTION.split(source[0])[1:]
        for caption, text in zip(sections[::2], sections[1::2], strict=True):
            pages = "\n".join(_PAGE.findall(text))
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{pages}\n```\n"


def setup(app: Sphinx) -> None:
    """Connect what this file adds."""
    app.connect("source-read", _read_source)
