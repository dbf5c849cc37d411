"""The ASGI application of a worker: whoever connects to `/NAME` is a member of the group NAME.

Its channel layer loses messages, and it asks the history soon whether it has lost some.
"""

from __future__ import annotations

import random

import django

django.setup()

from channels.generic.websocket import AsyncJsonWebsocketConsumer  # noqa: E402
from channels.layers import get_channel_layer  # noqa: E402

from gcrypt_channels import EncryptedJsonConsumer, GcryptMiddleware  # noqa: E402
from gcrypt_channels.hub import subscription  # noqa: E402
from gcrypt_channels.keys import Keyring  # noqa: E402
from tests.faults.losses import Losses  # noqa: E402

KEYRING = Keyring.derive("the members")


class Member(EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
    async def connect(self) -> None:
        await self.gcrypt.join(self.scope["path"].strip("/"))
        await self.accept()


async def fixed_keys(scope: object) -> Keyring:
    return KEYRING


subscription.PROBE_INTERVAL = 0.2  # type: ignore[misc]
Losses(get_channel_layer(), random.Random())
application = GcryptMiddleware(Member.as_asgi(), resolver=fixed_keys)
