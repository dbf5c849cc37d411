"""A Django project for tests with real servers: one group, without sessions or a database.

Members connect to `/ws/` with the fixed `KEYRING`. One that sends `{"numbers": [...], "size": s}`
makes the server broadcast `[number, text of s characters]` to all of them, for each number.

Environment: `REDIS_URL`; `HISTORY`, if the group is to have one.
"""

from __future__ import annotations

import os
from typing import Any

import django
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.conf import settings

from tests.channel_layers import core, in_memory
from tests.settings import GCRYPT_PASSPHRASE

if not settings.configured:
    redis_url = os.environ.get("REDIS_URL", "")
    history: dict[str, Any] = {"GROUPS": {"room": {"messages": 100, "seconds": 300}}}
    if redis_url:
        history["URL"] = redis_url
    settings.configure(
        SECRET_KEY="only for the tests",
        ALLOWED_HOSTS=["*"],
        INSTALLED_APPS=["gcrypt_channels"],
        CHANNEL_LAYERS={"default": core(redis_url) if redis_url else in_memory("")},
        GCRYPT_PASSPHRASE=GCRYPT_PASSPHRASE,
        GCRYPT={"HISTORY": history} if os.environ.get("HISTORY") else {},
        USE_TZ=True,
    )
    django.setup()

from gcrypt_channels import EncryptedJsonConsumer, GcryptMiddleware, broadcast
from gcrypt_channels.keys import Keyring

KEYRING = Keyring.derive("the room")


class Member(EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
    groups = ["room"]  # noqa: RUF012 - as Channels has it

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        for number in content["numbers"]:
            await broadcast("room", [number, "x" * content["size"]])


async def fixed_keys(scope: object) -> Keyring:
    return KEYRING


application = GcryptMiddleware(Member.as_asgi(), resolver=fixed_keys)
