"""Cross-site pages: kept out by the origin, and with the door open still without a key."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from django.test import AsyncClient
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin, Subprotocol

from gcrypt_channels.client import DjangoSession
from gcrypt_channels.protocol.events import HelloReceived
from tests.servers import Daphne, Site
from tests.visitors import Echo, Visitor

HOST = "app.example.test"


@pytest.fixture(scope="module")
def server(shared_demo: Site) -> Iterator[Daphne]:
    """The demo as deployed, on a host of its own."""
    site = replace(shared_demo, env={"DJANGO_ALLOWED_HOSTS": f"{HOST},127.0.0.1"})
    with Daphne("demo_project.asgi:application", site) as server:
        yield server


@pytest.fixture(scope="module")
def alice(server: Daphne) -> DjangoSession:
    session = DjangoSession(server.url)
    asyncio.run(session.login("alice", "alice-demo"))
    return session


async def knock(server: Daphne, alice: DjangoSession, origin: str | None) -> int | str:
    """What a page from `origin` meets that has alice's cookie: an HTTP status or a first frame."""
    connection = connect(
        f"{server.websocket_url}/ws/echo/",
        origin=None if origin is None else Origin(origin),
        additional_headers={"Cookie": alice.cookie_header("/")},
        subprotocols=[Subprotocol("gcrypt.v2")],
        proxy=None,
    )
    try:
        async with connection as socket:
            hello = await socket.recv()
            assert isinstance(hello, bytes)
            return f"frame {hello[0]:#04x}"
    except InvalidStatus as refusal:
        return refusal.response.status_code


@pytest.mark.parametrize(
    "origin",
    [
        pytest.param(None, id="absent"),
        pytest.param("null", id="null"),
        pytest.param("http://evil.test", id="another site"),
        pytest.param("http://example.test", id="parent"),
        pytest.param("http://other.example.test", id="sibling"),
        pytest.param(f"http://{HOST}.evil.test", id="lookalike"),
        pytest.param("file://", id="file"),
    ],
)
async def test_a_foreign_origin_is_refused_as_deployed(
    server: Daphne, alice: DjangoSession, origin: str | None
) -> None:
    assert await knock(server, alice, origin) == 403


@pytest.mark.parametrize(
    "origin",
    [
        pytest.param(f"http://{HOST}", id="own"),
        # Channels compares hosts alone where ALLOWED_HOSTS names no more, so a page on another
        # port gets as far as the greeting, for which it has no key.
        pytest.param(f"http://{HOST}:8443", id="other port"),
        pytest.param(f"https://{HOST}", id="other scheme"),
    ],
)
async def test_an_origin_on_an_allowed_host_gets_the_greeting(
    server: Daphne, alice: DjangoSession, origin: str
) -> None:
    assert await knock(server, alice, origin) == "frame 0x01"


# With origin validation off: the visitors' sockets pass through no validator at all.


@pytest.fixture
def foreign_headers() -> dict[str, str]:
    """What a browser adds to a form that another site has it send."""
    return {"origin": "https://evil.test", "referer": "https://evil.test/"}


@pytest.mark.parametrize("guess", [None, "", "0" * 32, "cookie"])
async def test_a_cross_site_page_gets_no_key(
    db_engine: None, foreign_headers: dict[str, str], guess: str | None
) -> None:
    alice = await Visitor.logged_in("alice")
    strict = AsyncClient(enforce_csrf_checks=True)
    strict.cookies = alice.client.cookies
    if guess == "cookie":  # even if it knew the token, it cannot hide where it comes from
        guess = strict.cookies["csrftoken"].value
    fields = {} if guess is None else {"csrfmiddlewaretoken": guess}
    answer: Any = await strict.post("/gcrypt/key/", fields, headers=foreign_headers)
    assert answer.status_code == 403
    assert json.loads(answer.content)["error"] == "csrf"
    assert "access-control-allow-origin" not in answer.headers
    reading: Any = await strict.get("/gcrypt/key/", headers=foreign_headers)
    assert reading.status_code == 405


async def test_a_cross_site_page_gets_a_greeting_that_it_cannot_answer(db_engine: None) -> None:
    Echo.received.clear()
    alice = await Visitor.logged_in("alice")
    await alice.fetch_key()
    for frame in (
        b"\x02" + secrets.token_bytes(80),
        b"\x02" + secrets.token_bytes(32),
        b"\x10" + secrets.token_bytes(80),
        b"",
    ):
        socket = alice.socket()
        assert isinstance(await socket.greeting(), HelloReceived)
        await socket.send_frame(frame)
        assert await socket.closed() == (4400, "")
        assert len(socket.got) == 1, "nothing but the greeting"
    assert Echo.received == []


async def test_a_cross_site_page_cannot_have_its_plaintext_taken(
    db_engine: None, settings: Any
) -> None:
    settings.GCRYPT = {"PROFILES": ["gcrypt.v2"]}
    alice = await Visitor.logged_in("alice")
    await alice.fetch_key()
    for offer in ([], ["chat"], ["gcrypt.v1"]):
        socket = alice.socket()
        socket.scope["subprotocols"] = offer
        await socket.send_input({"type": "websocket.connect"})
        assert (await socket.receive_output())["type"] == "websocket.accept"
        assert (await socket.receive_output())["code"] == 4406


async def test_a_cross_site_page_on_the_classic_profile_can_do_nothing(db_engine: None) -> None:
    Echo.received.clear()
    alice = await Visitor.logged_in("alice")
    await alice.fetch_key()
    for text in ('{"id": 1}', '{"ct":"AAAAAAAAAAAAAAAAAAAAAA==","s":"0000000000000000"}', ""):
        socket = alice.socket()
        socket.scope["subprotocols"] = []
        await socket.send_input({"type": "websocket.connect"})
        assert (await socket.receive_output())["type"] == "websocket.accept"
        await socket.send_input({"type": "websocket.receive", "text": text})
        assert await socket.closed() == (4400, "invalid frame")
        assert socket.got == []
    assert Echo.received == []
