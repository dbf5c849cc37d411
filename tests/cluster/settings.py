"""The demo's settings, with a page more: `POST /announce/<room>/` broadcasts what it gets.

With `LAYER=pubsub` in the environment the channel layer is the other one of channels_redis.
"""

from __future__ import annotations

import os

from demo_project.settings import *  # noqa: F403 - that is how settings are derived
from tests.channel_layers import pubsub

ROOT_URLCONF = "tests.cluster.urls"

if os.environ.get("LAYER") == "pubsub":
    CHANNEL_LAYERS = {"default": pubsub(os.environ["REDIS_URL"])}
