"""Channel layers for the tests: one process's, and those of several processes that share a Redis.

`LAYERS` are the ways in which a project may configure one, each a function of the Redis's URL.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Config = dict[str, Any]


def _hosts(url: str) -> list[Config]:
    # redis-py 8 gives up after 5 seconds unless told otherwise, and channels_redis waits as long.
    return [{"address": url, "socket_timeout": 15, "max_connections": 10_000}]


def in_memory(url: str) -> Config:
    return {"BACKEND": "channels.layers.InMemoryChannelLayer"}


def core(url: str) -> Config:
    config = {"hosts": _hosts(url)}
    return {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": config}


def core_json(url: str) -> Config:
    config = core(url)
    config["CONFIG"]["serializer_format"] = "json"
    return config


def pubsub(url: str) -> Config:
    config = {"hosts": _hosts(url)}
    return {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": config}


def sealed(layer: Config) -> Config:
    """The configuration of a layer that seals what ``layer`` carries."""
    return {"BACKEND": "gcrypt_channels.layers.SealedChannelLayer", "CONFIG": {"layer": layer}}


REDIS_LAYERS: list[Callable[[str], Config]] = [core, core_json, pubsub]
LAYERS: list[Callable[[str], Config]] = [in_memory, *REDIS_LAYERS]
