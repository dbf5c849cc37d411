"""The demo's settings with room for messages of 8 MiB."""

from __future__ import annotations

from demo_project.settings import *  # noqa: F403
from demo_project.settings import GCRYPT as _GCRYPT

GCRYPT = {**_GCRYPT, "MAX_MESSAGE_SIZE": 8 * 1024 * 1024}
