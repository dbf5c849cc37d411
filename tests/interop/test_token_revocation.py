"""A revoked token closes its sockets within a second, in the other server process as well."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from gcrypt_channels.client import ClientConnection, connect
from gcrypt_channels.exceptions import ConnectionClosed
from tests.channel_layers import core
from tests.servers import Redis, Site, Uvicorn, side_by_side
from tests.ticket_site import ticket_site

pytestmark = pytest.mark.interop

LIMIT = 1.0
"""Seconds, far below ``REVALIDATE_INTERVAL``: only the notice can have closed what closed."""

URLS = {
    "drf": """
from rest_framework.authentication import TokenAuthentication
from rest_framework.decorators import api_view, authentication_classes
from rest_framework.response import Response


@api_view(["POST"])
@authentication_classes([TokenAuthentication])
def log_out(request):
    request.auth.delete()
    return Response({})


urlpatterns += [path("logout/", log_out)]
""",
    "knox": """
from knox.auth import TokenAuthentication
from knox.views import LogoutView

urlpatterns += [
    path("logout/", LogoutView.as_view(authentication_classes=[TokenAuthentication])),
]
""",
}
MAKE_TOKEN = {
    "drf": "from rest_framework.authtoken.models import Token; "
    "print('token:' + Token.objects.create(user=user).key)",
    "knox": "from knox.models import AuthToken; "
    "print('token:' + AuthToken.objects.create(user=user)[1])",
}


@pytest.fixture(params=["drf", "knox"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def site(kind: str, redis: Redis, tmp_path: Path) -> Site:
    """The DRF site of `docs/tickets.md`, with two users, a log-out and a Redis layer."""
    site = ticket_site(tmp_path, "Django REST framework")
    project = tmp_path / "ticketed"
    settings, urls = project / "settings.py", project / "urls.py"
    for file, more in (
        (settings, f"\nCHANNEL_LAYERS = {{'default': {core(redis.url)!r}}}\n"),
        (urls, URLS[kind]),
    ):
        text = file.read_text("utf-8")
        if kind == "knox":
            text = text.replace("contrib.drf", "contrib.knox")
            text = text.replace(', "rest_framework.authtoken"]', ', "knox"]')
        file.write_text(text + more, "utf-8")
    site.manage("migrate", "--verbosity", "0")
    return site


@pytest.fixture
def servers(site: Site) -> Iterator[list[Uvicorn]]:
    servers = [Uvicorn("ticketed.asgi:application", site, "--lifespan", "off") for _ in range(2)]
    with side_by_side(*servers):
        yield servers


def new_token(site: Site, kind: str, user: str) -> str:
    find = "from django.contrib.auth.models import User; "
    find += f"user, _ = User.objects.get_or_create(username={user!r}); "
    return site.manage("shell", "-c", find + MAKE_TOKEN[kind]).rpartition("token:")[2].strip()


def post(url: str, token: str) -> Any:
    headers = {"Authorization": f"Token {token}"}
    with urlopen(Request(url, method="POST", headers=headers), timeout=30) as response:
        text = response.read()
    return json.loads(text) if text else None


class Client:
    """A program that reconnects, and asks `server` for its tickets."""

    def __init__(self, server: Uvicorn, token: str) -> None:
        self.server = server
        self.token = token
        self.is_open = asyncio.Event()
        self.end: ConnectionClosed | None = None
        self.socket: ClientConnection | None = None
        self.is_closed = asyncio.Event()

    async def key_source(self) -> Any:
        answer = await asyncio.to_thread(post, f"{self.server.url}/gcrypt/ticket/", self.token)
        return {**answer.pop("session"), **answer}

    async def run(self) -> None:
        url = f"{self.server.websocket_url}/ws/counter/"
        delays = iter(lambda: 0.01, None)
        async for socket in connect(
            url, key_source=self.key_source, proxy=None, reconnect_delays=lambda: delays
        ):
            self.socket = socket
            await socket.send_json({"id": 1})
            await socket.receive_json()
            self.is_open.set()
            try:
                await socket.receive()
            except ConnectionClosed as error:
                self.end = error
                self.is_closed.set()


async def test_a_revoked_token_closes_its_sockets_in_both_processes_and_no_others(
    site: Site, kind: str, servers: list[Uvicorn]
) -> None:
    alices, bobs = [
        await asyncio.to_thread(new_token, site, kind, user) for user in ("alice", "bob")
    ]
    clients = [Client(server, alices) for server in servers]
    bob = Client(servers[1], bobs)
    running = [asyncio.create_task(each.run()) for each in (*clients, bob)]
    for each in (*clients, bob):
        await asyncio.wait_for(each.is_open.wait(), 30)
    await asyncio.to_thread(post, f"{servers[0].url}/logout/", alices)
    for each in clients:
        await asyncio.wait_for(each.is_closed.wait(), LIMIT)
        assert repr(each.end) == "ConnectionClosed(4401, 'token revoked', authentic=True)"
    # They ask for one more ticket, get none, and give up.
    for task in running[:2]:
        with pytest.raises(HTTPError) as caught:
            await asyncio.wait_for(task, 30)
        assert caught.value.code == 401
        caught.value.close()
    assert bob.socket is not None
    assert bob.end is None
    await bob.socket.close()
    running[2].cancel()
    await asyncio.wait([running[2]])
