"""The demo site beside one consumer on two paths: plain under /plain/, encrypted under /sealed/.

The consumer chooses the last subprotocol that it is offered, sends messages back, closes when the
text `close CODE REASON` asks it to, and refuses connections to …/refuse/.
"""

from __future__ import annotations

from typing import Any

from channels.auth import AuthMiddlewareStack
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import path

from demo_project.asgi import application as demo
from gcrypt_channels import EncryptedJsonConsumer, GcryptMiddleware


class Plain(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        offered = list(self.scope["subprotocols"])
        if self.scope["path"].endswith("/refuse/"):
            await self.close(4403)
        else:
            await self.accept(offered[-1] if offered else None)

    async def receive(
        self, text_data: str | None = None, bytes_data: bytes | None = None, **kwargs: Any
    ) -> None:
        match (text_data or "").split(" ", 2):
            case ["close", code, reason]:
                await self.close(int(code), reason)
            case _:
                await self.send(text_data=text_data, bytes_data=bytes_data)


class Sealed(EncryptedJsonConsumer, Plain):
    pass


plain: Any = Plain.as_asgi()
sealed: Any = AuthMiddlewareStack(GcryptMiddleware(Sealed.as_asgi()))

application = ProtocolTypeRouter(
    {
        "http": demo,
        "websocket": URLRouter(
            [
                path("plain/", plain),
                path("plain/refuse/", plain),
                path("sealed/", sealed),
                path("sealed/refuse/", sealed),
            ]
        ),
    }
)
