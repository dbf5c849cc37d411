"""Bytes that look random and are the same on every run."""

from __future__ import annotations

import hashlib


def seeded(label: str, size: int) -> bytes:
    return hashlib.shake_256(label.encode()).digest(size)
