"""A Django project behind a hostile wire: fixed keys, and consumers that say what they see.

A consumer prints a line when it begins (`BEGAN <room>`) and one when it ends (`ENDED <room>
{"code": …, "reason": …, "authentic": …}`). `CLOSED <path>` follows when nothing of the connection
is left. What the package logs begins with `GCRYPT `.

Environment: `DRAIN`, `FORCE_SCRIPT_NAME`, `USE_X_FORWARDED_HOST`, `SENTRY`.
"""

from __future__ import annotations

import json
import os
from typing import Any

import django
from channels.generic.websocket import AsyncJsonWebsocketConsumer, JsonWebsocketConsumer
from channels.routing import URLRouter
from django.conf import settings
from django.dispatch import receiver
from django.urls import path, re_path

from tests.channel_layers import in_memory
from tests.settings import GCRYPT_PASSPHRASE

if not settings.configured:
    settings.configure(
        SECRET_KEY="only for the tests",
        ALLOWED_HOSTS=["*"],
        INSTALLED_APPS=["gcrypt_channels"],
        CHANNEL_LAYERS={"default": in_memory("")},
        FORCE_SCRIPT_NAME=os.environ.get("FORCE_SCRIPT_NAME"),
        USE_X_FORWARDED_HOST="USE_X_FORWARDED_HOST" in os.environ,
        GCRYPT_PASSPHRASE=GCRYPT_PASSPHRASE,
        GCRYPT={
            "PROFILES": ["gcrypt.v3", "gcrypt.v2", "gcrypt.v1"],
            "DRAIN": float(os.environ.get("DRAIN", "3")),
        },
        USE_TZ=True,
        LOGGING={
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"plain": {"format": "GCRYPT %(message)s"}},
            "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
            "loggers": {"gcrypt_channels": {"handlers": ["console"], "level": "INFO"}},
        },
    )
    django.setup()

from gcrypt_channels import EncryptedJsonConsumer, GcryptMiddleware
from gcrypt_channels.exceptions import LocalError
from gcrypt_channels.hub.hub import current_hub
from gcrypt_channels.keys import Keyring
from gcrypt_channels.signals import connection_closed

KEYRING = Keyring.derive("the wire")
FLOOD = 64 * 1024  # characters of each message of a flood


def print_line(line: str) -> None:
    """Print a line at once: consumers and receivers print from several threads."""
    os.write(1, f"{line}\n".encode())


def say(word: str, consumer: Any, **more: Any) -> None:
    room = consumer.scope["url_route"]["kwargs"].get("room", "")
    print_line(f"{word} {room!a} {json.dumps(more)}")


@receiver(connection_closed)
def on_closed(path: str, **kwargs: Any) -> None:
    print_line(f"CLOSED {path!a}")


class Room(EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
    groups = ["everyone"]  # noqa: RUF012 - as Channels has it

    async def connect(self) -> None:
        say("BEGAN", self)
        await self.accept()
        kwargs: Any = self.scope["url_route"]["kwargs"]
        await self.send_json({"room": kwargs["room"], "query": self.scope["query_string"].decode()})

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        match content:
            case {"close": [code, reason]}:
                try:
                    await self.close(code, reason)
                except LocalError:
                    await self.send_json("refused")
            case "settled":
                await self.send_json(all(map(has_application, daphne_connections(self.scope))))
            case "members":
                await self.send_json(len(current_hub().members.by_group.get("everyone", ())))
            case "flood":
                for _ in range(1000):
                    await self.send(text_data="x" * FLOOD)
            case _:
                await self.send_json(content)

    async def websocket_disconnect(self, message: Any) -> None:
        end = {"code": message["code"], "reason": message["reason"]}
        say("ENDED", self, **end, authentic=self.gcrypt.authentic)
        await super().websocket_disconnect(message)


class SyncRoom(EncryptedJsonConsumer, JsonWebsocketConsumer):
    groups = ["everyone"]  # noqa: RUF012 - as Channels has it

    def connect(self) -> None:
        say("BEGAN", self)
        self.accept()
        self.send_json("ready")

    def receive_json(self, content: Any, **kwargs: Any) -> None:
        match content:
            case {"close": [code, reason]}:
                try:
                    self.close(code, reason)
                except LocalError:
                    self.send_json("refused")
            case "flood":
                for _ in range(1000):
                    self.send(text_data="x" * FLOOD)
            case _:
                self.send_json(content)

    def websocket_disconnect(self, message: Any) -> None:
        end = {"code": message["code"], "reason": message["reason"]}
        say("ENDED", self, **end, authentic=self.gcrypt.authentic)
        super().websocket_disconnect(message)


async def fixed_keys(scope: object) -> Keyring:
    return KEYRING


# Channels' own way to write routes; Django's stubs know views only.
routes: Any = [
    path("admin/<room>/", Room.as_asgi()),  # type: ignore[arg-type]
    re_path(r"^(?:.*/)?ws/sync/(?P<room>.*)/$", SyncRoom.as_asgi()),  # type: ignore[arg-type]
    re_path(r"^(?:.*/)?ws/room/(?P<room>.*?)/?$", Room.as_asgi()),  # type: ignore[arg-type]
]
websocket = GcryptMiddleware(URLRouter(routes), resolver=fixed_keys)


def daphne_connections(scope: Any) -> list[Any]:
    """What daphne knows of its connections; nothing on another server."""
    server = getattr(getattr(scope["real_send"], "func", None), "__self__", None)
    return list(getattr(server, "connections", {}).values())


def has_application(details: Any) -> bool:
    """False for the request of an upgrade, which daphne forgets some time after it.

    As long as there is one, daphne's own handler of SIGTERM fails and cancels nothing.
    """
    return "application_instance" in details


async def lifespan(receive: Any, send: Any) -> None:
    while True:
        event = await receive()
        await send({"type": f"{event['type']}.complete"})
        if event["type"] == "lifespan.shutdown":
            return


async def plain_application(scope: Any, receive: Any, send: Any) -> None:
    """Route by protocol; one without lifespan events would make the servers say so."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    else:
        await websocket(scope, receive, send)


outermost: Any = plain_application
if "SENTRY" in os.environ:
    import sentry_sdk
    from sentry_sdk.integrations.asgi import SentryAsgiMiddleware

    sentry_sdk.init()  # without an address: it watches, and sends nothing
    outermost = SentryAsgiMiddleware(plain_application)


async def application(scope: Any, receive: Any, send: Any) -> None:
    await outermost({**scope, "real_send": send}, receive, send)
