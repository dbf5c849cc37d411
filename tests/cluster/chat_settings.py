"""The demo's settings, with a history for its chat."""

from __future__ import annotations

from demo_project.settings import *  # noqa: F403 - that is how settings are derived
from demo_project.settings import GCRYPT as _GCRYPT
from demo_project.settings import REDIS_URL

GCRYPT = {
    **_GCRYPT,
    "HISTORY": {"URL": REDIS_URL, "GROUPS": {"chat.": {"messages": 100, "seconds": 300}}},
    "DRAIN": 0.5,
}
