"""Sealed messages on a channel layer."""

from __future__ import annotations

from .sealed import SealedChannelLayer

__all__ = ["SealedChannelLayer"]
