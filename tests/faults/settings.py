"""The demo's settings, for a site that is put through faults.

Environment beside the demo's: `LAYER` (`core` or `pubsub`), `SESSIONS` (the URL of the Redis that
holds the sessions; else they are in the database).
"""

from __future__ import annotations

import os

from demo_project.settings import *  # noqa: F403 - that is how settings are derived
from demo_project.settings import DATA_DIR
from demo_project.settings import GCRYPT as _GCRYPT
from demo_project.settings import MIDDLEWARE as _MIDDLEWARE
from tests import channel_layers

# The demo's own middleware is synchronous alone: while such a request is under way, daphne does not
# end at SIGTERM, since the request's thread waits for an event loop that has stopped.
MIDDLEWARE = [each for each in _MIDDLEWARE if not each.startswith("demo_project.")]
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
# So that each record of either server begins alike, and can be counted.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {"daphne": {"level": "INFO"}},
}
