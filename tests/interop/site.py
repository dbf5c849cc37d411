"""An ASGI application for real servers: the demo's consumers, and some that end in every way."""

from __future__ import annotations

from typing import Any

from channels.auth import AuthMiddlewareStack
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.routing import URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.core.asgi import get_asgi_application
from django.urls import path

http = get_asgi_application()  # loads the apps, which the imports below need

from demo_project.routing import websocket_urlpatterns  # noqa: E402
from gcrypt_channels import EncryptedJsonConsumer, GcryptMiddleware  # noqa: E402


class Closer(EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
    """Closes with the code and the reason that the client asks for."""

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        await self.send_json("closing")
        await self.close(**content)


class Refuser(EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
    async def connect(self) -> None:
        await self.close(4123, "not today")


class WithHeaders(EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
    async def connect(self) -> None:
        await self.accept(self.scope["subprotocols"][0], headers=[(b"x-late", b"1")])  # type: ignore[index, list-item]


class Failing(EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        raise ZeroDivisionError


class Leaking(AsyncJsonWebsocketConsumer):
    """Without the mixin."""

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        await self.send_json(content)


routes = [
    *websocket_urlpatterns,
    path("ws/closer/", Closer.as_asgi()),  # type: ignore[arg-type]
    path("ws/refuser/", Refuser.as_asgi()),  # type: ignore[arg-type]
    path("ws/headers/", WithHeaders.as_asgi()),  # type: ignore[arg-type]
    path("ws/failing/", Failing.as_asgi()),  # type: ignore[arg-type]
    path("ws/leaking/", Leaking.as_asgi()),  # type: ignore[arg-type]
]
websocket = AllowedHostsOriginValidator(AuthMiddlewareStack(GcryptMiddleware(URLRouter(routes))))


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Route by protocol; one without lifespan events would make uvicorn say so."""
    if scope["type"] == "lifespan":
        while True:
            event = await receive()
            await send({"type": f"{event['type']}.complete"})
            if event["type"] == "lifespan.shutdown":
                return
    await (websocket if scope["type"] == "websocket" else http)(scope, receive, send)
