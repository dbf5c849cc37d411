"""`docs/tickets.md` under real servers: a Python client with a DRF token, and CORS."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from gcrypt_channels.client import connect
from gcrypt_channels.exceptions import ConnectionClosed
from tests.servers import ROOT, Daphne, Site, Uvicorn, WebServer
from tests.ticket_site import shown, ticket_site

pytestmark = pytest.mark.interop

APP = "https://app.example.org"

servers = pytest.mark.parametrize("kind", [Daphne, Uvicorn], ids=["daphne", "uvicorn"])


@pytest.fixture(scope="module")
def drf(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return ticket_site(tmp_path_factory.mktemp("drf"), "Django REST framework")


@pytest.fixture(scope="module")
def jwt(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return ticket_site(tmp_path_factory.mktemp("jwt"), "SimpleJWT from another origin")


@servers
def test_the_python_client_of_the_page_connects_with_a_drf_token(
    drf: Site, kind: type[WebServer], tmp_path: Path
) -> None:
    [script] = [
        each.text for each in shown("Django REST framework", "python") if each.title == "client.py"
    ]
    token = re.search(r"[0-9a-f]{40}", drf.manage("drf_create_token", "alice"))
    assert token is not None
    file = tmp_path / "client.py"
    file.write_text(script, "utf-8")
    with kind("ticketed.asgi:application", drf, *quiet(kind)) as server:
        host = server.url.removeprefix("http://")
        env = {**os.environ, "SITE": host, "TOKEN": token[0], "SCHEME": "http"}
        env["PYTHONPATH"] = str(ROOT)
        done = subprocess.run(
            [sys.executable, file], env=env, capture_output=True, text=True, check=False
        )
        assert done.stdout == "{'id': 2, 'user': 'alice'}\n", done.stderr
        assert token[0] not in server.log


def quiet(kind: type[WebServer]) -> tuple[str, ...]:
    return ("--lifespan", "off") if kind is Uvicorn else ()


@pytest.fixture(params=[Daphne, Uvicorn], ids=["daphne", "uvicorn"])
def server(request: pytest.FixtureRequest, jwt: Site) -> Iterator[WebServer]:
    with request.param("ticketed.asgi:application", jwt, *quiet(request.param)) as running:
        yield running


def ask(
    server: WebServer, path: str, method: str = "POST", body: Any = None, **headers: str
) -> tuple[int, Any, Any]:
    data = None if body is None else json.dumps(body).encode()
    sent = {
        "Content-Type": "application/json",
        **{k.replace("_", "-"): v for k, v in headers.items()},
    }
    request = Request(server.url + path, data=data, method=method, headers=sent)
    try:
        with urlopen(request, timeout=10) as response:
            text = response.read()
            return response.status, response.headers, json.loads(text) if text else None
    except HTTPError as error:
        with error:
            return error.code, error.headers, None


async def test_a_client_of_another_origin_gets_in_with_a_jwt_and_a_stranger_does_not(
    server: WebServer,
) -> None:
    login = {"username": "alice", "password": "alices password"}
    status, headers, tokens = ask(server, "/api/token/", body=login, Origin=APP)
    assert (status, headers["Access-Control-Allow-Origin"]) == (200, APP)
    status, headers, _ = ask(
        server,
        "/gcrypt/ticket/",
        "OPTIONS",
        Origin=APP,
        Access_Control_Request_Method="POST",
        Access_Control_Request_Headers="authorization",
    )
    assert (status, headers["Access-Control-Allow-Origin"]) == (200, APP)
    assert "authorization" in headers["Access-Control-Allow-Headers"]
    assert "Access-Control-Allow-Credentials" not in headers
    authorization = f"Bearer {tokens['access']}"
    status, headers, answer = ask(
        server, "/gcrypt/ticket/", Origin=APP, Authorization=authorization
    )
    assert (status, headers["Access-Control-Allow-Origin"]) == (200, APP)
    url = server.websocket_url + "/ws/counter/"
    key = {**answer["session"], "ticket": answer["ticket"], "proxy": None}
    async with connect(url, **key, origin=Origin(APP)) as socket:
        await socket.send_json({"id": 1})
        assert await socket.receive_json() == {"id": 2, "user": "alice"}
    with pytest.raises(InvalidStatus):
        async with connect(url, **key, origin=Origin("https://evil.example.org")):
            pass
    garbled = {**key, "ticket": answer["ticket"][:-4] + "AAAA"}
    with pytest.raises(ConnectionClosed) as caught:
        async with connect(url, **garbled, origin=Origin(APP)):
            pass
    assert caught.value.code == 4401
    status, headers, _ = ask(
        server, "/gcrypt/ticket/", Origin="https://evil.example.org", Authorization=authorization
    )
    assert "Access-Control-Allow-Origin" not in headers
    assert ask(server, "/gcrypt/ticket/", Origin=APP, Authorization="Bearer x")[0] == 401
    for secret in (answer["session"]["psk"], tokens["access"]):
        assert secret not in server.log
