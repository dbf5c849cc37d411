"""The settings of the suite, with what the package logs on stderr; environment: `DRAIN`."""

from __future__ import annotations

import os

from tests.settings import *  # noqa: F403 - that is how settings are derived
from tests.settings import GCRYPT as _GCRYPT

ROOT_URLCONF = "tests.hub.drain_urls"
GCRYPT = {**_GCRYPT, "DRAIN": float(os.environ["DRAIN"])}  # type: ignore[dict-item]
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {"gcrypt_channels": {"handlers": ["console"], "level": "INFO"}},
}
