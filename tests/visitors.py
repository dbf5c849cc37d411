"""Visitors: browsers that log in over HTTP, fetch their keys and open sockets, all in process.

Everything is real but the network: requests pass through Django's middleware, sockets through
Channels' authentication and `GcryptMiddleware`, and sessions live in whichever engine is set.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from channels.auth import AuthMiddlewareStack
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import URLRouter
from django.contrib.auth import login, logout, update_session_auth_hash
from django.contrib.auth.models import User
from django.contrib.sessions.backends.file import SessionStore as FileStore
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.test import AsyncClient, override_settings
from django.urls import include, path

from gcrypt_channels import EncryptedJsonConsumer, GcryptMiddleware
from gcrypt_channels.hub.hub import current_hub
from gcrypt_channels.keys import SessionKey
from gcrypt_channels.protocol.events import (
    Accepted,
    Binding,
    Closed,
    HelloReceived,
    SessionEvent,
    Text,
)
from gcrypt_channels.protocol.secure import SecureSession
from gcrypt_channels.revocation import revocation
from tests.communicators import Communicator

ENGINES = ["db", "cached_db", "cache", "file", "signed_cookies"]
IN_DATABASE = ("db", "cached_db")
"""The engines whose sessions are rows, so that Django tells of their deletion."""


class Echo(EncryptedJsonConsumer, AsyncWebsocketConsumer):
    """Sends back what it gets, and counts that it did."""

    received: list[str | bytes] = []  # noqa: RUF012 - one for all, which is the point

    async def connect(self) -> None:
        await self.gcrypt.join("everyone")
        await self.accept()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.received.append(text_data if text_data is not None else bytes_data or b"")
        await self.send(text_data=text_data, bytes_data=bytes_data)


class Quiet(EncryptedJsonConsumer, AsyncWebsocketConsumer):
    """Accepts, and that is all: it does not even have the channel that Channels gives to each."""

    channel_layer_alias = "none"


# Channels' own way to write routes; Django's stubs know views only.
routes: Any = [path(where, Echo.as_asgi()) for where in ("ws/", "other/")]  # type: ignore[arg-type]
application = AuthMiddlewareStack(GcryptMiddleware(URLRouter(routes)))


# The site


def _log_in(request: HttpRequest) -> HttpResponse:
    login(request, User.objects.get(username=request.POST["user"]))
    return HttpResponse()


def _log_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return HttpResponse()


def _change_password(request: HttpRequest) -> HttpResponse:
    user = User.objects.get(pk=request.user.pk)
    user.set_password(request.POST["password"])
    user.save()
    if "stay" in request.POST:
        update_session_auth_hash(request, user)
    return HttpResponse()


def _cycle(request: HttpRequest) -> HttpResponse:
    request.session.cycle_key()
    return HttpResponse()


def _flush(request: HttpRequest) -> HttpResponse:
    request.session.flush()
    return HttpResponse()


def _who(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.user.get_username())


urlpatterns = [
    path("login/", _log_in),
    path("logout/", _log_out),
    path("password/", _change_password),
    path("cycle/", _cycle),
    path("flush/", _flush),
    path("who/", _who),
    path("gcrypt/", include("gcrypt_channels.urls")),
]


@contextmanager
def site(engine: str, directory: Path, **more: Any) -> Iterator[None]:
    """The settings of a site whose sessions live in `engine`."""
    _forget(directory)
    with override_settings(
        ROOT_URLCONF="tests.visitors",
        SESSION_ENGINE=f"django.contrib.sessions.backends.{engine}",
        SESSION_FILE_PATH=str(directory),
        **more,
    ):
        yield
    _forget(directory)


def _forget(directory: Path) -> None:
    cache.clear()
    if "_storage_path" in vars(FileStore):  # where the engine keeps SESSION_FILE_PATH for good
        del FileStore._storage_path  # type: ignore[attr-defined]
    for file in directory.glob("sessionid*"):
        file.unlink()


# The browser


class Visitor:
    """A browser: its cookies, and the key that it fetched last."""

    def __init__(self) -> None:
        self.client = AsyncClient()
        self.key: SessionKey | None = None

    @classmethod
    async def logged_in(cls, user: str) -> Visitor:
        """A new browser in which `user` has logged in."""
        visitor = cls()
        await visitor.log_in(user)
        return visitor

    async def post(self, where: str, **fields: str) -> HttpResponseBase:
        return await self.client.post(where, fields)

    async def log_in(self, user: str) -> None:
        assert (await self.post("/login/", user=user)).status_code == 200

    async def who(self) -> str:
        """Who the site says this is; `""` for nobody."""
        response = await self.client.get("/who/")
        return response.content.decode()

    async def fetch_key(self) -> SessionKey | None:
        """Fetch this visitor's key; `None` if there is none for it."""
        response = await self.post("/gcrypt/key/")
        self.key = key_in(response)
        return self.key

    async def fetch_keys(self) -> dict[str, Any]:
        """What the key endpoint answers, by profile."""
        keys: dict[str, Any] = json.loads((await self.client.post("/gcrypt/key/")).content)
        return keys

    @property
    def session_key(self) -> str:
        return str(self.client.cookies["sessionid"].value)

    @property
    def cookie(self) -> bytes:
        return "; ".join(
            f"{name}={each.value}" for name, each in self.client.cookies.items()
        ).encode()

    async def open(self, where: str = "/ws/") -> Socket:
        """Fetch the key and open a socket."""
        assert await self.fetch_key() is not None
        socket = self.socket(where)
        assert await socket.open() is None
        return socket

    def socket(self, where: str = "/ws/", *, key: SessionKey | None = None) -> Socket:
        return Socket(self.cookie, where, key or self.key)


def key_in(response: Any) -> SessionKey | None:
    """The key in an answer of the key endpoint."""
    if response.status_code != 200:
        return None
    member = json.loads(response.content)["session"]
    psk = base64.urlsafe_b64decode(member["psk"] + "=")
    return SessionKey(kid=bytes.fromhex(member["kid"]), psk=psk)


class Socket(Communicator):
    """One `gcrypt.v2` connection, which keeps every frame that it saw.

    `sent` and `got` hold the frames on the wire, `told` the authenticated close and `end` the code
    of the WebSocket's own with the reason. The key is used whatever HELLO names.
    """

    def __init__(
        self,
        cookie: bytes,
        where: str,
        key: SessionKey | None,
        *,
        offer: Sequence[str] | None = None,
        app: Any = application,
    ) -> None:
        if offer is None:
            offer = ["gcrypt.v2"] + ([f"gcrypt.kid.{key.kid.hex()}"] if key else [])
        headers = [(b"cookie", cookie), (b"host", b"testserver")]
        super().__init__(app, where, headers=headers, subprotocols=offer)
        self.key = key
        self.wire = SecureSession(role="client")
        self.binding = Binding(tuple(offer), "testserver", where)
        self.sent: list[bytes] = []
        self.got: list[bytes] = []
        self.told: Closed | None = None
        self.end: tuple[int, str] | None = None

    async def open(self) -> int | None:
        """Handshake; `None` once the application has accepted, else the close code."""
        hello = await self.greeting()
        if hello is None or self.key is None:
            return self.close_code
        reply = self.wire.reply(self.key.psk, (), self.binding)
        await self.send_frame(reply)
        return None if isinstance(await self.event(), Accepted) else self.close_code

    async def greeting(self) -> HelloReceived | None:
        """Connect and wait for HELLO, not for more."""
        await self.send_input({"type": "websocket.connect"})
        hello = await self.event()
        return hello if isinstance(hello, HelloReceived) else None

    async def send_frame(self, frame: bytes) -> None:
        self.sent.append(frame)
        await self.send_input({"type": "websocket.receive", "bytes": frame})

    async def send_text(self, text: str) -> None:
        for frame in self.wire.seal(text):
            await self.send_frame(frame)

    async def ask(self, text: str) -> str:
        """Send `text` to the echo and return its answer."""
        await self.send_text(text)
        answer = await self.event()
        assert isinstance(answer, Text), (answer, self.end)
        return answer.data

    async def event(self) -> SessionEvent | None:
        """The next event of the protocol; `None` when the WebSocket was closed, with its `end`."""
        while True:
            event = await self.receive_output()
            if event["type"] == "websocket.close":
                reason = self.told.reason if self.told else event["reason"]
                self.end = event["code"], reason
                await self.wait()
                return None
            if event["type"] == "websocket.send":
                self.got.append(event["bytes"])
                opened = self.wire.receive(event["bytes"])
                if isinstance(opened, Closed):
                    self.told = opened
                elif opened is not None:
                    return opened

    async def closed(self) -> tuple[int, str]:
        """Wait for the close; nothing else may come first."""
        event = await self.event()
        assert event is None, event
        assert self.end is not None
        return self.end

    @property
    def close_code(self) -> int:
        assert self.end is not None
        return self.end[0]

    async def leave(self) -> None:
        await self.disconnect()


# The server


async def sweep_now() -> None:
    """Look up all logins, and wait for the end of it."""
    await current_hub().sweep()


async def announced() -> None:
    """Wait until the announcer has done all that it was given so far."""
    await asyncio.get_running_loop().run_in_executor(revocation._announcer, lambda: None)
