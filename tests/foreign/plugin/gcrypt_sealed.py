"""A pytest plugin that runs channels_redis's own tests through `SealedChannelLayer`.

It stands in for the classes that those tests import, so that not a line of them is edited. In the
mode `plain` it does everything but sealing, which tells what a failure owes to the wrapper.
`REDIS_URL` is the server to use instead of port 6379.
"""

from __future__ import annotations

import os
from typing import Any

import channels_redis.core
import channels_redis.pubsub
import gcrypt_report
from channels_redis.core import RedisChannelLayer
from channels_redis.pubsub import RedisPubSubChannelLayer
from django.conf import settings

settings.configure(GCRYPT_PASSPHRASE="a passphrase for the tests of channels_redis alone")

from gcrypt_channels.layers import SealedChannelLayer  # noqa: E402

SEALED = os.environ["GCRYPT_FOREIGN_MODE"] == "sealed"
URL = os.environ["REDIS_URL"].rpartition("/")[0]
DEFAULT_HOSTS = ["redis://localhost:6379/0"]


def _host(url: str) -> dict[str, Any]:
    database = url.partition("6379")[2] or "/0"
    # redis-py 8 gives up after 5 seconds unless told otherwise, and channels_redis waits as long.
    return {"address": URL + database, "socket_timeout": 15}


def _config(config: dict[str, Any]) -> dict[str, Any]:
    return {**config, "hosts": [_host(url) for url in config.get("hosts") or DEFAULT_HOSTS]}


def _stand_in(backend: type) -> Any:
    def make(**config: Any) -> Any:
        if not SEALED:
            return backend(**_config(config))
        gcrypt_report.encrypted.append(backend)
        path = f"{__name__}.{backend.__name__}"
        return SealedChannelLayer(layer={"BACKEND": path, "CONFIG": _config(config)})

    return make


channels_redis.core.RedisChannelLayer = _stand_in(RedisChannelLayer)
channels_redis.pubsub.RedisPubSubChannelLayer = _stand_in(RedisPubSubChannelLayer)
