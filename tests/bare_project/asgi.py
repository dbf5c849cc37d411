"""A counter behind the middleware."""

from __future__ import annotations

from typing import Any

from channels.auth import AuthMiddlewareStack
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.core.asgi import get_asgi_application
from django.urls import path

from gcrypt_channels import EncryptedJsonConsumer, GcryptMiddleware


class CounterConsumer(EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        await self.send_json({"id": content["id"] + 1})


# Django's stubs know views only.
websocket_urlpatterns: list[Any] = [
    path("ws/counter/", CounterConsumer.as_asgi()),  # type: ignore[arg-type]
]
application = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": AllowedHostsOriginValidator(
            AuthMiddlewareStack(GcryptMiddleware(URLRouter(websocket_urlpatterns)))
        ),
    }
)
