"""An ASGI application for tests that stop real servers: no database, one fixed key.

`/ws/echo/` sends back what it gets. `/ws/flood/` sends more than a client that does not read can be
sent. `GET /stuck/` has a synchronous view that awaits what does not come. Settings:
`tests.hub.drain_settings`.
"""

from __future__ import annotations

from typing import Any

from channels.auth import AuthMiddlewareStack
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import URLRouter
from django.core.asgi import get_asgi_application
from django.urls import path

http = get_asgi_application()  # loads the apps, which the imports below need

from gcrypt_channels import GcryptMiddleware  # noqa: E402
from tests.consumers import AsyncEchoMixinFirst  # noqa: E402
from tests.hub.drain_client import KEYRING  # noqa: E402

MIB = 1024 * 1024
MESSAGES = 20  # the buffers of both sides hold less


class Flood(AsyncEchoMixinFirst, AsyncWebsocketConsumer):
    async def connect(self) -> None:
        await self.accept()
        for _ in range(MESSAGES):
            await self.send(bytes_data=bytes(MIB))


async def fixed_keys(scope: object) -> Any:
    return KEYRING


routes: list[Any] = [
    path("ws/echo/", AsyncEchoMixinFirst.as_asgi()),  # type: ignore[arg-type]
    path("ws/flood/", Flood.as_asgi()),  # type: ignore[arg-type]
]
# As deployed: its wrapper of `send` is between the server and the encryption.
websocket: Any = AuthMiddlewareStack(GcryptMiddleware(URLRouter(routes), resolver=fixed_keys))


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while True:
            event = await receive()
            await send({"type": f"{event['type']}.complete"})
            if event["type"] == "lifespan.shutdown":
                return
    await (websocket if scope["type"] == "websocket" else http)(scope, receive, send)
