"""What a client asks for, and what it does not let the wire change."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.http11 import Request, Response

from gcrypt_channels.client import DjangoSession, connect
from gcrypt_channels.exceptions import ConnectionClosed, LocalError, NoProfile
from gcrypt_channels.keys import SessionKey
from gcrypt_channels.protocol.events import Binding, Closed, HandshakeDone
from gcrypt_channels.protocol.profiles import secure_profiles
from gcrypt_channels.protocol.secure import SecureSession
from tests.client.test_site import serving
from tests.hostile import ANY_TEXT, documented

KEY = SessionKey(kid=bytes(range(8)), psk=bytes(range(32)))
BEST = secure_profiles()[0]
OFFER = (*secure_profiles(), "gcrypt.kid.0001020304050607")


def connected(url: str, **options: Any) -> Any:
    return connect(url, kid=KEY.kid, psk=KEY.psk, **{"proxy": None, **options})


class Recorder:
    """A server on 127.0.0.1 that accepts every client; it keeps requests and bindings."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.bindings: list[Binding] = []

    async def __call__(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        self.requests.append(socket.request)
        session = SecureSession(BEST, role="server")
        await socket.send(session.hello(KEY.kid, KEY.psk))
        done = session.receive(await socket.recv())
        assert isinstance(done, HandshakeDone)
        self.bindings.append(done.binding)
        for frame in session.seal_accept(None):
            await socket.send(frame)
        while not isinstance(session.receive(await socket.recv()), Closed):
            pass


@asynccontextmanager
async def open_server() -> AsyncIterator[str]:
    async with serve(Recorder(), "127.0.0.1", 0, subprotocols=OFFER[:1]) as server:  # type: ignore[arg-type]
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


@pytest.fixture(scope="module")
def key_site() -> Iterator[str]:
    """A site with a key endpoint, and without WebSockets."""
    members = {"kid": KEY.kid.hex(), "psk": base64.urlsafe_b64encode(KEY.psk).decode()}
    with serving(key=(200, json.dumps({"session": members}).encode())) as site:
        yield site.url


async def request_of(url: str, **options: Any) -> tuple[Request, Binding]:
    """The request that arrives when a client asks for `url`, and what its REPLY says of it."""
    recorder = Recorder()
    async with serve(recorder, "127.0.0.1", 0, subprotocols=OFFER[:1]) as server:  # type: ignore[arg-type]
        port = server.sockets[0].getsockname()[1]
        async with connected(url, host="127.0.0.1", port=port, **options):
            pass
        [request], [binding] = recorder.requests, recorder.bindings
    return request, binding


# The request is bound


@pytest.mark.parametrize(
    ("url", "host", "target"),
    [
        ("ws://example.org/ws/room/?x=1", "example.org", "/ws/room/?x=1"),
        ("ws://example.org", "example.org", "/"),
        ("ws://example.org?x=1", "example.org", "/?x=1"),
        ("ws://example.org/ws/?", "example.org", "/ws/"),
        ("ws://EXAMPLE.org/WS/", "example.org", "/WS/"),
        ("ws://example.org:80/", "example.org", "/"),
        ("ws://example.org:8000/", "example.org", "/"),
        ("ws://example.org./", "example.org.", "/"),
        ("ws://bücher.example/ä?ö=1", "xn--bcher-kva.example", "/%C3%A4?%C3%B6=1"),
        ("ws://xn--bcher-kva.example/%C3%A4", "xn--bcher-kva.example", "/%C3%A4"),
        ("ws://[::1]:8000/ws/", "[::1]", "/ws/"),
        ("ws://[2001:DB8::1]/", "[2001:db8::1]", "/"),
        ("ws://127.0.0.1/", "127.0.0.1", "/"),
        ("ws://alice:secret@example.org/", "example.org", "/"),
        ("ws://example.org/a%2Fb//c;d=1/", "example.org", "/a%2Fb//c;d=1/"),
    ],
)
async def test_the_reply_names_the_request_as_it_was_asked_for(
    url: str, host: str, target: str
) -> None:
    request, binding = await request_of(url)
    assert binding == Binding(OFFER, host, target)
    assert request.path == target
    [sent] = request.headers.get_all("Host")
    assert sent.removesuffix(":8000") == host


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("internal.example", "internal.example"),
        ("Internal.Example:8443", "internal.example"),
        ("[::1]:8000", "[::1]"),
    ],
)
@pytest.mark.parametrize("make", [dict, list, Headers])
async def test_a_host_among_the_headers_counts_and_is_sent_once(
    header: str, host: str, make: Any
) -> None:
    headers = make([("Host", header), ("X-Other", "kept")])
    request, binding = await request_of("ws://example.org/ws/", additional_headers=headers)
    assert binding == Binding(OFFER, host, "/ws/")
    assert request.headers.get_all("Host") == [header.lower()]
    assert request.headers["X-Other"] == "kept"


@pytest.mark.parametrize(
    "headers",
    [
        [("Host", "one.example"), ("host", "two.example")],
        [("Host", "")],
        [("Host", "user@example.org")],
        [("Host", "example.org/path")],
        [("Host", "example.org:port")],
        [("Host", "exämple.org")],
    ],
)
async def test_a_host_that_is_none_is_refused_before_connecting(headers: Any) -> None:
    with pytest.raises(ValueError, match="Host"):
        async with connected("ws://127.0.0.1:1/", additional_headers=headers):
            pass


# Redirects


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(status: int) -> None:
    elsewhere = Recorder()

    def redirect(socket: ServerConnection, request: Request) -> Response:
        assert request.headers["Cookie"] == "sessionid=1"
        return Response(status, "Elsewhere", Headers(Location=url, Connection="close"), b"")

    async with serve(elsewhere, "127.0.0.1", 0, subprotocols=OFFER[:1]) as target:  # type: ignore[arg-type]
        url = f"ws://127.0.0.1:{target.sockets[0].getsockname()[1]}/"
        async with serve(elsewhere, "127.0.0.1", 0, process_request=redirect) as server:
            asked = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            with pytest.raises(InvalidStatus) as caught:
                async with connected(asked, additional_headers={"Cookie": "sessionid=1"}):
                    pass
    assert caught.value.response.status_code == status
    assert elsewhere.requests == []


async def test_a_refusal_over_http_names_the_url_without_its_query() -> None:
    def refuse(socket: ServerConnection, request: Request) -> Response:
        return Response(404, "Not Found", Headers(Connection="close"), b"")

    async with serve(Recorder(), "127.0.0.1", 0, process_request=refuse) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws/nowhere/"
        with pytest.raises(InvalidStatus) as caught:
            async with connected(f"{url}?token=secret"):
                pass
    assert caught.value.response.status_code == 404
    assert str(caught.value) == (
        f"{url} answered HTTP 404: check the path, the site's WebSocket routes and the origins "
        "that it allows"
    )


# What the server selects


async def test_a_subprotocol_that_was_not_offered_is_refused() -> None:
    def select(socket: ServerConnection, offered: Any) -> Any:
        return None

    def add(socket: ServerConnection, request: Request, response: Response) -> Response:
        response.headers["Sec-WebSocket-Protocol"] = "gcrypt.v1"
        return response

    async with serve(
        Recorder(), "127.0.0.1", 0, select_subprotocol=select, process_response=add
    ) as server:
        with pytest.raises(NoProfile):
            async with connected(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"):
                pass


# Hostile text


@given(url=ANY_TEXT | ANY_TEXT.map("ws://127.0.0.1:1/{}".format) | ANY_TEXT.map("ws://{}".format))
async def test_any_url_is_refused_or_not_reached(url: str) -> None:
    # Whatever it names, the connection goes to a port on which nothing listens.
    with pytest.raises((ValueError, OSError)) as caught:
        async with connected(url, host="127.0.0.1", port=1):
            pass
    assert not isinstance(caught.value, UnicodeError)


@given(name=ANY_TEXT | st.from_regex(r"[!-~]{1,5}", fullmatch=True))
async def test_any_subprotocol_is_offered_or_refused(name: str) -> None:
    with documented(ValueError):
        async with open_server() as url, connected(url, subprotocols=[name]) as socket:
            assert socket.subprotocol is None


@pytest.mark.parametrize("name", ["", "two words", "comma,", "\ud800", "ü", None])
@pytest.mark.parametrize("profile", [*secure_profiles(), "gcrypt.v1"])
async def test_what_is_no_subprotocol_is_refused_before_connecting(profile: Any, name: Any) -> None:
    with pytest.raises(ValueError, match="subprotocol"):
        async with connected(
            "ws://127.0.0.1:1/", subprotocols=[name], profile=profile, passphrase="a passphrase"
        ):
            pass


@pytest.mark.parametrize(
    "url", ["", "http://x/", "ws:///", "ws://x/a b", "ws://x/#f", "ws://x/\ud800", "ws://[x/"]
)
async def test_what_is_no_url_is_refused_before_connecting(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        async with connected(url):
            pass


@given(passphrase=ANY_TEXT, kid=ANY_TEXT, psk=ANY_TEXT)
async def test_any_key_is_refused_or_not_reached(passphrase: str, kid: str, psk: str) -> None:
    for keys in (
        {"passphrase": passphrase, "profile": "gcrypt.v1"},
        {"kid": kid, "psk": psk},
    ):
        with pytest.raises((ValueError, OSError)) as caught:
            async with connect("ws://127.0.0.1:1/", proxy=None, **keys):  # type: ignore[arg-type]
                pass
        assert not isinstance(caught.value, UnicodeError)


@given(name=ANY_TEXT, value=ANY_TEXT, origin=st.none() | ANY_TEXT)
async def test_any_header_is_sent_or_refused(name: str, value: str, origin: Any) -> None:
    headers = [("X-Name", name), ("Cookie", f"name={value}")]
    with documented(ValueError):
        async with (
            open_server() as url,
            connected(url, additional_headers=headers, origin=origin),
        ):
            pass


@pytest.mark.parametrize("text", ["\ud800", "a\r\nX-Other: b", "a\nb", "\0", "\x7f", "Ā"])
@pytest.mark.parametrize("place", ["value", "name", "origin"])
async def test_a_header_that_cannot_be_sent_is_refused_before_connecting(
    place: str, text: str
) -> None:
    options: dict[str, dict[str, Any]] = {
        "value": {"additional_headers": {"X-Name": text}},
        "name": {"additional_headers": {text: "value"}},
        "origin": {"origin": text},
    }
    with pytest.raises(ValueError, match="header"):
        async with connected("ws://127.0.0.1:1/", **options[place]):
            pass


@given(text=ANY_TEXT, code=st.integers() | ANY_TEXT, reason=ANY_TEXT)
async def test_any_text_is_sent_or_refused_and_the_connection_goes_on(
    text: str, code: Any, reason: str
) -> None:
    async with open_server() as url, connected(url) as socket:
        with documented(LocalError):
            await socket.send(text)
        with documented(LocalError):
            await socket.send_json({text: reason})
        await socket.send("in step")
        with documented(LocalError):
            await socket.close(code, reason)


@given(path=ANY_TEXT)
async def test_any_path_is_asked_for_or_refused(key_site: str, path: str) -> None:
    with documented(ValueError, OSError, InvalidHandshake):
        async with DjangoSession(key_site).connect(path, proxy=None, open_timeout=10):
            pass


# A server that does not read


async def test_a_server_that_does_not_read_cannot_hold_up_a_close() -> None:
    stop = asyncio.Event()

    async def stall(socket: ServerConnection) -> None:
        session = SecureSession(BEST, role="server")
        await socket.send(session.hello(KEY.kid, KEY.psk))
        session.receive(await socket.recv())
        for frame in session.seal_accept(None):
            await socket.send(frame)
        socket.transport.pause_reading()
        await stop.wait()
        socket.transport.abort()

    async with serve(stall, "127.0.0.1", 0, subprotocols=OFFER[:1]) as server:  # type: ignore[arg-type]
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with connected(url, close_timeout=0.2) as socket:
            sending = [asyncio.ensure_future(socket.send(bytes(1_000_000))) for _ in range(20)]
            await asyncio.wait(sending, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait_for(socket.close(), 30)
            ends = await asyncio.wait_for(asyncio.gather(*sending, return_exceptions=True), 30)
        assert any(isinstance(end, ConnectionClosed) for end in ends)
        stop.set()


# What is imported

IMPORTS = """
import sys
import {module}
print([name for name in sys.modules if name.split(".")[0] in ("django", "channels", "asgiref")])
"""


@pytest.mark.parametrize("module", ["gcrypt_channels", "gcrypt_channels.client"])
def test_neither_django_nor_channels_is_imported(module: str) -> None:
    code = IMPORTS.format(module=module)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
