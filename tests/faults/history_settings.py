"""A project without sessions or a database, whose groups `chat.…` have a history.

Environment: `LAYER` (`core` or `pubsub`) and `REDIS_URL`, its Redis; `HISTORY_URL`, where messages
are kept.
"""

from __future__ import annotations

import os

from tests import channel_layers
from tests.settings import GCRYPT_PASSPHRASE as _PASSPHRASE

SECRET_KEY = "only for the tests"
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = ["gcrypt_channels"]
USE_TZ = True
CHANNEL_LAYERS = {
    "default": getattr(channel_layers, os.environ["LAYER"])(os.environ["REDIS_URL"]),
}
GCRYPT_PASSPHRASE = _PASSPHRASE
GCRYPT = {
    "HISTORY": {
        "URL": os.environ["HISTORY_URL"],
        "GROUPS": {"chat.": {"messages": 500, "seconds": 300}},
    },
    "DRAIN": 0.5,
}
