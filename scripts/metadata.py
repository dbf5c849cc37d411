"""The build hook of pyproject.toml: the project's links, and a README that renders elsewhere.

The repository's address is `repository.url` in package.json, which a release sets (RELEASING.md).
Without it the packages have no links, and the README's stay relative.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK = re.compile(r"""(\]\(|(?:src|srcset|href)=")(?![a-z]+:|#)([^)\s"]+)""")
_PICTURE = re.compile(r"\.(?:png|gif|svg|webp|jpe?g)$")


def repository(root: Path) -> str:
    """The repository's address, or ``""`` where no release has set it."""
    described = json.loads((root / "package.json").read_text("utf-8"))
    url: str = described.get("repository", {}).get("url", "")
    return url.removeprefix("git+").removesuffix(".git")


def absolute(text: str, address: str, version: str) -> str:
    """The Markdown `text`, with its relative links and images led to `version` at `address`."""

    def lead(match: re.Match[str]) -> str:
        kind = "raw" if _PICTURE.search(match[2]) else "blob"
        return f"{match[1]}{address}/{kind}/v{version}/{match[2]}"

    return _LINK.sub(lead, text)


class Links(MetadataHookInterface):
    """Sets `readme` and `urls`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the fields that pyproject.toml calls dynamic."""
        root = Path(self.root)
        text = (root / "README.md").read_text("utf-8")
        address = repository(root)
        if address:
            text = absolute(text, address, metadata["version"])
            metadata["urls"] = {
                "Documentation": f"{address}/blob/v{metadata['version']}/docs/index.md",
                "Source": address,
                "Issues": f"{address}/issues",
                "Changelog": f"{address}/blob/v{metadata['version']}/CHANGELOG.md",
            }
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
