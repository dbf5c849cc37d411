"""The demo's settings with a sweep every second."""

from __future__ import annotations

from demo_project.settings import *  # noqa: F403 - that is how settings are derived
from demo_project.settings import GCRYPT as _GCRYPT

GCRYPT = {**_GCRYPT, "REVALIDATE_INTERVAL": 1}
