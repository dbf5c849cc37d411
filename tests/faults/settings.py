"""The demo's settings, for a site that is put through faults.

Environment beside the demo's: `LAYER` (`core` or `pubsub`), `SESSIONS` (the URL of the Redis that
holds the sessions; else they are in the database).
"""

from __future__ import annotations

import os

from demo_project.settings import *  # noqa: F403 - that is how settings are derived
from demo_project.settings import DATA_DIR
from demo_project.settings import GCRYPT as _GCRYPT
from tests import channel_layers

ROOT_URLCONF = "tests.faults.urls"
GCRYPT = {**_GCRYPT, "REVALIDATE_INTERVAL": 1}
CHANNEL_LAYERS = {
    "default": channel_layers.sealed(
        getattr(channel_layers, os.environ["LAYER"])(os.environ["REDIS_URL"])
    )
}
# Without WAL a lock that somebody holds keeps readers out as well.
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATA_DIR / "demo.sqlite3",
        "OPTIONS": {"init_command": "PRAGMA journal_mode=DELETE;", "timeout": 2},
    }
}
if sessions := os.environ.get("SESSIONS"):
    SESSION_ENGINE = "django.contrib.sessions.backends.cache"
    CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": sessions,
        }
    }
