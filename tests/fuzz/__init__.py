"""Fuzzing of the parsers, for the campaign."""

from __future__ import annotations

NAMES = [
    "classic-frame",
    "classic-session",
    "json-text",
    "handshake-frame",
    "handshake-payload",
    "control-message",
    "sealed-frames",
    "layer-message",
    "ticket",
    "key-answer",
]
