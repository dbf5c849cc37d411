"""The smallest Django project with one echo, plain and under each profile.

There are no sessions and no database: every connection gets the same fixed keys, so that nothing
but WebSocket messages is measured.
"""

from __future__ import annotations

from typing import Any

import django
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.conf import settings

if not settings.configured:
    settings.configure(
        SECRET_KEY="for measuring only",  # noqa: S106
        ALLOWED_HOSTS=["*"],
        INSTALLED_APPS=["gcrypt_channels"],
        GCRYPT_PASSPHRASE="a passphrase for measuring only, no secret",  # noqa: S106
        GCRYPT={"PROFILES": ["gcrypt.v3", "gcrypt.v2", "gcrypt.v1"]},
        USE_TZ=True,
    )
    django.setup()

from gcrypt_channels import EncryptedJsonConsumer, GcryptMiddleware
from gcrypt_channels.keys import Keyring

KEYRING = Keyring.derive("benchmark")


class PlainEcho(AsyncJsonWebsocketConsumer):
    async def receive_json(self, content: object, **kwargs: object) -> None:
        await self.send_json(content)


class SealedEcho(EncryptedJsonConsumer, PlainEcho):
    pass


async def fixed_keys(scope: object) -> Keyring:
    return KEYRING


plain = PlainEcho.as_asgi()
sealed = GcryptMiddleware(SealedEcho.as_asgi(), resolver=fixed_keys)


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Route by hand: two paths need no router, and so nothing of one is measured."""
    if scope["type"] == "websocket":
        await (plain if scope["path"] == "/plain/" else sealed)(scope, receive, send)
