"""The demo's settings, with limits that the server tests can reach."""

from __future__ import annotations

from demo_project.settings import *  # noqa: F403

ASGI_APPLICATION = "tests.interop.site.application"
GCRYPT = {
    "PROFILES": ["gcrypt.v3", "gcrypt.v2", "gcrypt.v1"],
    "MAX_MESSAGE_SIZE": 8 * 1024 * 1024,
    "HANDSHAKE_TIMEOUT": 1,
}
