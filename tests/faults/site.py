"""The ASGI application of a worker: one group, and a route that counts what is left over.

Members connect to `/ws/`, or to `/ws/channels/` to have a channel of their own on the channel layer
as well. `GET /counts/` answers what this process holds.

With `PLANT` in the environment the members leave something behind, for a proof that the counts
show it: tasks that never end, open files, connections that the hub keeps, and a long log.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections import Counter
from pathlib import Path
from typing import Any

from channels.auth import AuthMiddlewareStack
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.routing import URLRouter
from django.core.asgi import get_asgi_application
from django.urls import path

django_application = get_asgi_application()  # loads the apps, which the imports below need

from gcrypt_channels import EncryptedJsonConsumer, GcryptMiddleware  # noqa: E402
from gcrypt_channels.hub.hub import current_hub  # noqa: E402

GROUP = "room"
PLANT = "PLANT" in os.environ

logger = logging.getLogger(__name__)

_planted: list[Any] = []


class Member(EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
    async def connect(self) -> None:
        await self.gcrypt.join(GROUP)
        await self.accept()
        if PLANT:
            _plant()


def _plant() -> None:
    _planted.append(asyncio.create_task(asyncio.Event().wait()))
    _planted.append(os.open(os.devnull, os.O_RDONLY))
    vars(current_hub().members)["remove"] = lambda connection: []
    for _ in range(100):
        logger.warning("planted")


class ChannelsMember(Member):
    """One that Channels gives a channel of its own to, which ends with an outage of the layer."""

    groups = [GROUP]  # noqa: RUF012 - as Channels has it


def _tasks() -> Counter[str]:
    """The tasks of this event loop by what they run."""
    running = asyncio.current_task()
    names: Counter[str] = Counter()
    for task in asyncio.all_tasks():
        work = task.get_coro()
        if task is not running:
            names[getattr(work, "__qualname__", repr(work))] += 1
    return names


def _established() -> dict[str, int]:
    """The inodes of the TCP sockets that do not listen, each with its local port."""
    lines = Path("/proc/self/net/tcp").read_text().splitlines()[1:]
    fields = (line.split() for line in lines)
    return {each[9]: int(each[1].split(":")[1], 16) for each in fields if each[3] != "0A"}


def _files(port: int) -> Counter[str]:
    """The open file descriptors: of clients, of stores, and others, but for the database's."""
    established = _established()
    kinds: Counter[str] = Counter()
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:  # the one that lists the directory
            continue
        inode = target.removeprefix("socket:[").removesuffix("]")
        if inode in established:
            kinds["clients" if established[inode] == port else "stores"] += 1
        elif "sqlite3" not in target and not target.startswith("/proc/"):
            kinds["others"] += 1
    return kinds


async def _counts(scope: Any, send: Any) -> None:
    members = current_hub().members
    counts = {
        "connections": len(members.connections),
        "users": len(members.by_user),
        "tasks": _tasks(),
        "files": _files(scope["server"][1]),
    }
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(counts).encode()})


routes: Any = [
    path("ws/", Member.as_asgi()),  # type: ignore[arg-type]
    path("ws/channels/", ChannelsMember.as_asgi()),  # type: ignore[arg-type]
]
websocket: Any = AuthMiddlewareStack(GcryptMiddleware(URLRouter(routes)))


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while (event := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{event['type']}.complete"})
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "websocket":
        await websocket(scope, receive, send)
    elif scope["path"] == "/counts/":
        await _counts(scope, send)
    else:
        await django_application(scope, receive, send)
