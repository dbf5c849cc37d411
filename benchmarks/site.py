"""The Django project that the suite measures: each consumer twice, plain and encrypted.

The settings follow the README, with two variables of the environment: ``REDIS_URL`` chooses the
channel layer (by default the one in memory), ``DATABASE`` the SQLite file of the sessions.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import django
from channels.consumer import get_handler_name
from channels.generic.websocket import (
    AsyncJsonWebsocketConsumer,
    AsyncWebsocketConsumer,
    JsonWebsocketConsumer,
)
from django.conf import settings

MAX_MESSAGE = 8 << 20

if not settings.configured:  # the imports below need them
    if redis_url := os.environ.get("REDIS_URL"):
        layer: dict[str, Any] = {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {"hosts": [{"address": redis_url, "socket_timeout": 15}], "capacity": 1000},
        }
    else:
        layer = {"BACKEND": "channels.layers.InMemoryChannelLayer"}
    settings.configure(
        SECRET_KEY="for measuring only",  # noqa: S106
        ALLOWED_HOSTS=["*"],
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "channels",
            "gcrypt_channels",
        ],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": os.environ.get("DATABASE", ":memory:"),
                "CONN_MAX_AGE": None,
            }
        },
        CHANNEL_LAYERS={"default": layer},
        GCRYPT_PASSPHRASE="a passphrase for measuring only, no secret",  # noqa: S106
        GCRYPT={
            "PROFILES": ["gcrypt.v3", "gcrypt.v2", "gcrypt.v1"],
            "MAX_MESSAGE_SIZE": MAX_MESSAGE,
        },
        USE_TZ=True,
    )
    django.setup()

import msgspec  # noqa: E402
from channels.auth import AuthMiddlewareStack  # noqa: E402

from gcrypt_channels import EncryptedJsonConsumer, GcryptMiddleware, broadcast  # noqa: E402
from gcrypt_channels.keys import Keyring  # noqa: E402

KEYRING = Keyring.derive("benchmark")
SIZE = 1024  # bytes of JSON text
CONTENT = {"text": "x" * (SIZE - len('{"text":""}'))}


# Echo


class PlainEcho(AsyncJsonWebsocketConsumer):
    async def receive_json(self, content: object, **kwargs: object) -> None:
        await self.send_json(content)


class PlainEchoWithoutHop(PlainEcho):
    """Without the visit to the database thread, so that its share of the cost is seen."""

    async def dispatch(self, message: Any) -> None:
        await getattr(self, get_handler_name(message))(message)


class SealedEcho(EncryptedJsonConsumer, PlainEcho):
    pass


class Fast(AsyncJsonWebsocketConsumer):
    """With a JSON codec of the project's own, as docs/settings.md shows."""

    @classmethod
    async def decode_json(cls, text_data: str) -> Any:
        return msgspec.json.decode(text_data)

    @classmethod
    async def encode_json(cls, content: Any) -> str:
        return msgspec.json.encode(content).decode()


class PlainFastEcho(Fast, PlainEcho):
    pass


class SealedFastEcho(EncryptedJsonConsumer, Fast, PlainEcho):
    pass


class PlainSyncEcho(JsonWebsocketConsumer):
    def receive_json(self, content: object, **kwargs: object) -> None:
        self.send_json(content)


class SealedSyncEcho(EncryptedJsonConsumer, PlainSyncEcho):
    pass


# Broadcast


class PlainMember(AsyncJsonWebsocketConsumer):
    groups = ["plain"]  # noqa: RUF012 - as Channels has it

    async def bench_message(self, event: dict[str, Any]) -> None:
        await self.send_json(event["content"])


class PlainMemberWithoutHop(PlainEchoWithoutHop):
    groups = ["plain-without-hop"]  # noqa: RUF012

    async def bench_message(self, event: dict[str, Any]) -> None:
        await self.send_json(event["content"])


class SealedMember(EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
    async def connect(self) -> None:
        await self.gcrypt.join("sealed")
        await self.accept()


class Channel(EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
    """Uses its own channel of the channel layer."""

    async def connect(self) -> None:
        _ = self.channel_name
        await self.accept()


class Trigger(AsyncWebsocketConsumer):
    """Sends :data:`CONTENT` to the group that a message names.

    With ``held`` in front it prints the longest time in ms for which nothing else could run.
    """

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        *watched, group = (text_data or "").split()
        if watched:
            self.watch = asyncio.create_task(self._watch())
            await asyncio.sleep(0)
        if group == "sealed":
            await broadcast(group, CONTENT)
        else:
            event = {"type": "bench.message", "content": CONTENT}
            await self.channel_layer.group_send(group, event)

    async def _watch(self) -> None:
        longest, start = 0.0, time.perf_counter()
        before = start
        while before < start + 0.3:
            await asyncio.sleep(0)
            now = time.perf_counter()
            longest, before = max(longest, now - before), now
        print(f"held {longest * 1e3:.3f}", flush=True)


async def fixed_keys(scope: object) -> Keyring:
    return KEYRING


def sealed(consumer: Any) -> Any:
    return GcryptMiddleware(consumer.as_asgi(), resolver=fixed_keys)


routes: dict[str, Any] = {
    "/plain/": PlainEcho.as_asgi(),
    "/plain-without-hop/": PlainEchoWithoutHop.as_asgi(),
    "/sealed/": sealed(SealedEcho),
    "/plain-fast/": PlainFastEcho.as_asgi(),
    "/sealed-fast/": sealed(SealedFastEcho),
    "/plain-sync/": PlainSyncEcho.as_asgi(),
    "/sealed-sync/": sealed(SealedSyncEcho),
    "/plain-member/": PlainMember.as_asgi(),
    "/plain-member-without-hop/": PlainMemberWithoutHop.as_asgi(),
    "/sealed-member/": sealed(SealedMember),
    "/sealed-channel/": sealed(Channel),
    "/plain-login/": AuthMiddlewareStack(PlainEcho.as_asgi()),
    "/sealed-login/": AuthMiddlewareStack(GcryptMiddleware(SealedEcho.as_asgi())),
    "/trigger/": Trigger.as_asgi(),
}


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Route by hand, so that nothing of a router is measured."""
    if scope["type"] == "websocket":
        await routes[scope["path"]](scope, receive, send)
