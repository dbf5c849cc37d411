"""Secrets that the demo draws once and keeps in a file only its owner may read.

A deployment reads its secrets from the environment or from a secret store; this is what lets
`make demo` work without asking for any.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path


def local_secret(path: Path) -> str:
    """The secret in `path`; drawn now (48 random bytes) if the file does not exist yet."""
    if not path.exists():
        _create(path, secrets.token_urlsafe(48))
    return path.read_text(encoding="utf-8")


def _create(path: Path, secret: str) -> None:
    # Written in full before it gets its name, and never over another one: several workers may
    # start at once, and all must end up with the same secret.
    descriptor, draft = tempfile.mkstemp(dir=path.parent)  # mode 0600
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(secret)
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        Path(draft).unlink()
