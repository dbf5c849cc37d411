"""One group, joined twice: as plain Channels does it, and through the hub.

``/plain/`` and ``/sealed/`` are the members' paths; what comes in at ``/trigger/``, the name of one
of the two, makes the server send :data:`CONTENT` to that group.
"""

from __future__ import annotations

import os
from typing import Any

import django
from channels.generic.websocket import AsyncJsonWebsocketConsumer, AsyncWebsocketConsumer
from django.conf import settings

if not settings.configured:
    if redis_url := os.environ.get("REDIS_URL"):
        layer: dict[str, Any] = {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {"hosts": [{"address": redis_url, "socket_timeout": 15}]},
        }
    else:
        layer = {"BACKEND": "channels.layers.InMemoryChannelLayer"}
    settings.configure(
        SECRET_KEY="for measuring only",  # noqa: S106
        ALLOWED_HOSTS=["*"],
        INSTALLED_APPS=["gcrypt_channels"],
        CHANNEL_LAYERS={"default": layer},
        GCRYPT_PASSPHRASE="a passphrase for measuring only, no secret",  # noqa: S106
        USE_TZ=True,
    )
    django.setup()

from gcrypt_channels import EncryptedJsonConsumer, GcryptMiddleware, broadcast
from gcrypt_channels.keys import Keyring

KEYRING = Keyring.derive("benchmark")
SIZE = 1024  # bytes of JSON text
CONTENT = {"text": "x" * (SIZE - len('{"text":""}'))}


class PlainMember(AsyncJsonWebsocketConsumer):
    groups = ["plain"]  # noqa: RUF012 - as Channels has it

    async def bench_message(self, event: dict[str, Any]) -> None:
        await self.send_json(event["content"])


class SealedMember(EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
    async def connect(self) -> None:
        await self.gcrypt.join("sealed")
        await self.accept()


class Trigger(AsyncWebsocketConsumer):
    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data == "plain":
            event = {"type": "bench.message", "content": CONTENT}
            await self.channel_layer.group_send("plain", event)
        else:
            await broadcast("sealed", CONTENT)


async def fixed_keys(scope: object) -> Keyring:
    return KEYRING


routes: dict[str, Any] = {
    "/plain/": PlainMember.as_asgi(),
    "/sealed/": GcryptMiddleware(SealedMember.as_asgi(), resolver=fixed_keys),
    "/trigger/": Trigger.as_asgi(),
}


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await routes[scope["path"]](scope, receive, send)
