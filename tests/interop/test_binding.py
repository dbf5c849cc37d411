"""Nobody on the wire without the key leads a connection elsewhere, on whichever server.

A proxy rewrites single lines of the request, and holds no key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from secrets import token_hex
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from gcrypt_channels.exceptions import ConnectionClosed, NoProfile
from gcrypt_channels.protocol.profiles import V3, SecureProfile, is_available, secure_profiles
from tests.cluster.processes import Nginx, location
from tests.interop.conftest import WIRE_SITE, wire_site
from tests.interop.wire_client import began, first, own_lines, visit
from tests.interop.wire_site import KEYRING
from tests.proxy import Proxy, replaced, with_header
from tests.servers import Daphne, WebServer

pytestmark = pytest.mark.interop

Change = Callable[[bytes], bytes]


@pytest.fixture
def room() -> str:
    """A name that no other test uses, by which its log lines are found."""
    return token_hex(6)


async def refusal(url: str, **options: Any) -> ConnectionClosed:
    with pytest.raises(ConnectionClosed) as caught:
        await first(url, **options)
    return caught.value


async def assert_refused(server: WebServer, url: str, word: str, **options: Any) -> str:
    """It is refused under encryption, and without a hint; return what the log tells."""
    closed = await refusal(url, **options)
    assert (closed.code, closed.reason, closed.authentic) == (4400, "", True)
    server.wait_for_log(f"GCRYPT .*{word}.* closed with 4400")
    [*lines, _] = own_lines(server, word)
    return "\n".join(lines)


# What the wire rewrites


async def test_an_untouched_request_passes(wired: WebServer, proxy: Proxy, room: str) -> None:
    told = await first(f"{proxy.websocket_url}/ws/room/{room}/?id=1")
    assert told == {"room": room, "query": "id=1"}
    assert began(wired, room)


async def test_another_path_is_refused_and_both_are_logged(
    wired: WebServer, proxy: Proxy, room: str
) -> None:
    proxy.change_request = replaced(b"public", b"secret")
    told = await assert_refused(wired, f"{proxy.websocket_url}/ws/room/{room}-public/", room)
    assert f"('/ws/room/{room}-public/', here it is '/ws/room/{room}-secret/')" in told
    assert "FORCE_SCRIPT_NAME" in told
    assert "BIND_REQUEST" in told
    assert not began(wired, f"{room}-secret")


@pytest.mark.parametrize(
    ("query", "changed"),
    [
        ("?id=private1", "?id=private2"),
        ("", "?id=private2"),
        ("?id=private1", ""),
        ("?a=%41", "?a=A"),
    ],
)
async def test_another_query_is_refused_and_not_logged(
    wired: WebServer, proxy: Proxy, room: str, query: str, changed: str
) -> None:
    proxy.change_request = replaced(f"{room}/{query} ".encode(), f"{room}/{changed} ".encode())
    told = await assert_refused(wired, f"{proxy.websocket_url}/ws/room/{room}/{query}", room)
    assert "target (its query)" in told
    assert "private" not in told
    assert not began(wired, room)


async def test_an_empty_query_is_none(proxy: Proxy, room: str) -> None:
    proxy.change_request = replaced(f"{room}/ ".encode(), f"{room}/? ".encode())
    assert (await first(f"{proxy.websocket_url}/ws/room/{room}/"))["query"] == ""


async def test_another_host_is_refused_and_both_are_logged(
    wired: WebServer, proxy: Proxy, room: str
) -> None:
    proxy.change_request = replaced(b"Host: tenant-a", b"Host: tenant-b")
    url = f"ws://tenant-a.example:{proxy.port}/ws/room/{room}/"
    told = await assert_refused(wired, url, room, port=proxy.port)
    assert "('tenant-a.example', here it is 'tenant-b.example:" in told
    assert "proxy_set_header Host $host" in told
    assert "USE_X_FORWARDED_HOST" in told
    assert "BIND_REQUEST" in told
    assert not began(wired, room)


@pytest.mark.parametrize(
    ("name", "changed"),
    [("tenant.example", "TENANT.example"), ("tenant.example", "tenant.example.")],
)
async def test_case_and_a_final_dot_of_the_host_do_not_count(
    proxy: Proxy, room: str, name: str, changed: str
) -> None:
    proxy.change_request = replaced(f"Host: {name}".encode(), f"Host: {changed}".encode())
    await first(f"ws://{name}:{proxy.port}/ws/room/{room}/", port=proxy.port)


async def test_the_port_does_not_count(proxy: Proxy, room: str) -> None:
    proxy.change_request = replaced(f":{proxy.port}\r\n".encode(), b"\r\n")
    await first(f"{proxy.websocket_url}/ws/room/{room}/")


async def test_a_second_host_is_refused(wired: WebServer, proxy: Proxy, room: str) -> None:
    """By the server itself, or else by the package; never is the first or the last one taken."""
    proxy.change_request = with_header(b"Host: elsewhere.example")
    with pytest.raises((ConnectionClosed, InvalidStatus, OSError, EOFError)):
        await first(f"{proxy.websocket_url}/ws/room/{room}/")
    assert not began(wired, room)


async def test_a_forwarded_host_counts_for_nothing_unless_the_settings_say_so(
    proxy: Proxy, room: str
) -> None:
    proxy.change_request = with_header(b"X-Forwarded-Host: elsewhere.example")
    await first(f"{proxy.websocket_url}/ws/room/{room}/")


async def test_a_root_path_in_a_header_leads_nowhere(
    wired: WebServer, proxy: Proxy, room: str
) -> None:
    """Daphne takes the header for its root path, by which Channels routes; no other server does."""
    url = f"{proxy.websocket_url}/ws/room/admin/{room}/"
    proxy.change_request = with_header(b"Daphne-Root-Path: /ws/room")
    if isinstance(wired, Daphne):
        closed = await refusal(url)
        assert (closed.code, closed.reason, closed.authentic) == (4400, "", True)
        wired.wait_for_log(f"GCRYPT .*{room}.*Daphne-Root-Path")
        assert room not in "".join(line for line in wired.log.splitlines() if "BEGAN" in line)
    else:
        assert (await first(url))["room"] == f"admin/{room}"


async def test_a_redirect_is_not_followed(wired: WebServer, proxy: Proxy, room: str) -> None:
    def redirect(head: bytes) -> bytes:
        where = f"ws://127.0.0.1:{wired.port}/ws/room/{room}/"
        return f"HTTP/1.1 302 Found\r\nLocation: {where}\r\nContent-Length: 0\r\n\r\n".encode()

    proxy.change_response = redirect
    with pytest.raises(InvalidStatus) as caught:
        await first(f"{proxy.websocket_url}/ws/room/{room}/")
    assert caught.value.response.status_code == 302
    assert not began(wired, room)


KID = f"gcrypt.kid.{KEYRING.session_keys[0].kid.hex()}"
OFFER = ", ".join([*secure_profiles(), KID])


@pytest.mark.parametrize("profile", secure_profiles())
async def test_each_profile_passes(proxy: Proxy, room: str, profile: SecureProfile) -> None:
    url = f"{proxy.websocket_url}/ws/room/{room}/"
    async with visit(url, profile=profile) as connection:
        assert connection.profile == profile
        assert (await connection.receive_json())["room"] == room


@pytest.mark.skipif(not is_available(V3), reason="no ML-KEM-768 here")
async def test_stripping_the_better_profile_is_refused(
    wired: WebServer, proxy: Proxy, room: str
) -> None:
    proxy.change_request = replaced(b"gcrypt.v3, ", b"")
    told = await assert_refused(wired, f"{proxy.websocket_url}/ws/room/{room}/", room)
    assert "offered" in told
    assert b"sec-websocket-protocol: gcrypt.v2\r\n" in proxy.heads[-1].lower()  # as was selected
    assert not began(wired, room)


@pytest.mark.parametrize(
    "offered",
    [
        "gcrypt.v2",
        f"{KID}, {OFFER.removesuffix(f', {KID}')}",
        f"{OFFER}, gcrypt.v1",
        f"{OFFER}, chat",
        OFFER.replace(KID, "gcrypt.kid.0000000000000000"),
    ],
    ids=["stripped", "reordered", "added", "foreign", "replaced"],
)
async def test_other_offers_are_refused(
    wired: WebServer, proxy: Proxy, room: str, offered: str
) -> None:
    proxy.change_request = replaced(OFFER.encode(), offered.encode())
    told = await assert_refused(wired, f"{proxy.websocket_url}/ws/room/{room}/", room)
    assert "offered" in told
    assert not began(wired, room)


async def test_an_offer_made_twice_is_refused(wired: WebServer, proxy: Proxy, room: str) -> None:
    proxy.change_request = replaced(OFFER.encode(), f"{OFFER}, {KID}".encode())
    url = f"{proxy.websocket_url}/ws/room/{room}/"
    if isinstance(wired, Daphne):
        with pytest.raises(InvalidStatus):  # autobahn takes no token twice
            await first(url)
    else:
        await assert_refused(wired, url, room)
    assert not began(wired, room)


async def test_an_offer_without_the_profile_opens_nothing(
    wired: WebServer, proxy: Proxy, room: str
) -> None:
    """Such a client is taken for an old page, and the client takes no such answer."""
    proxy.change_request = replaced(OFFER.encode(), b"chat")
    with pytest.raises(NoProfile):
        await first(f"{proxy.websocket_url}/ws/room/{room}/")


async def test_a_downgrade_opens_nothing(wired: WebServer, proxy: Proxy, room: str) -> None:
    proxy.change_request = replaced(OFFER.encode(), b"gcrypt.v1")
    with pytest.raises(NoProfile):
        await first(f"{proxy.websocket_url}/ws/room/{room}/")


# What passes all servers


@pytest.mark.parametrize(
    ("target", "seen"),
    [
        ("caf%C3%A9", "café"),
        ("caf%c3%a9", "café"),
        ("a%20b", "a b"),
        ("a%2Fb", "a/b"),
        ("%41", "A"),
        ("a+b:c@d!$&'()*,=~", "a+b:c@d!$&'()*,=~"),
        ("100%25", "100%"),
        ("%FF", "\ufffd"),
        ("%F0%9F%94%90", "🔐"),
        ("a//b", "a//b"),
        ("%3Fid=1", "?id=1"),
        ("%23", "#"),
        ("x;y", "x;y"),
    ],
)
async def test_a_path_in_percent_encoding_passes(proxy: Proxy, target: str, seen: str) -> None:
    told = await first(f"{proxy.websocket_url}/ws/room/{target}/?q=%C3%A9+%2B;&=")
    assert told == {"room": seen, "query": "q=%C3%A9+%2B;&="}


@pytest.mark.parametrize("target", ["/ws/room/a/b;c", "//ws/room/a/"])
async def test_two_kinds_of_path_do_not_work_on_daphne(
    wired: WebServer, proxy: Proxy, target: str
) -> None:
    """It loses a `;` of the last segment, and takes what follows `//` for a host."""
    if isinstance(wired, Daphne):
        assert (await refusal(proxy.websocket_url + target)).code == 4400
    else:
        await first(proxy.websocket_url + target)


@pytest.mark.parametrize(
    "host",
    [
        "bücher.example",
        "xn--bcher-kva.example",
        "EXAMPLE.com",
        "[::1]",
        "[2001:db8::1]",
        "a_b.example",
    ],
)
async def test_a_host_of_any_kind_passes(proxy: Proxy, room: str, host: str) -> None:
    for address in (host, f"{host}:8443"):
        await first(f"ws://{address}/ws/room/{room}/", port=proxy.port)


async def test_a_host_of_the_applications_own_passes(proxy: Proxy, room: str) -> None:
    url = f"{proxy.websocket_url}/ws/room/{room}/"
    await first(url, additional_headers={"Host": "virtual.example"})


# nginx

LOCATIONS = [
    location("/"),
    location("/prefix/", uri="/"),
    location("/hostless/", header="X-Nothing 1"),
    location("/forwarded/", header="X-Forwarded-Host $host"),
]


@pytest.fixture(scope="session", params=["plain", "told"])
def behind_nginx(
    request: pytest.FixtureRequest, wired: WebServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[WebServer, Nginx, bool]]:
    """A server behind nginx, and whether its settings know of what nginx does."""
    with ExitStack() as running:
        server, is_told = wired, request.param == "told"
        if is_told:
            site = wire_site(
                tmp_path_factory, FORCE_SCRIPT_NAME="/prefix/", USE_X_FORWARDED_HOST="1"
            )
            server = running.enter_context(type(wired)(WIRE_SITE, site))
        directory = tmp_path_factory.mktemp("nginx")
        nginx = Nginx(directory, [server.port], locations=LOCATIONS)
        yield server, running.enter_context(nginx), is_told


async def test_nginx_that_passes_path_and_host_works(
    behind_nginx: tuple[WebServer, Nginx, bool], room: str
) -> None:
    _, nginx, _ = behind_nginx
    url = f"ws://site.example:{nginx.port}/ws/room/{room}%20%C3%A9/?a=%41"
    told = await first(url, port=nginx.port)
    assert told == {"room": f"{room} é", "query": "a=%41"}


async def test_nginx_that_strips_a_prefix_needs_force_script_name(
    behind_nginx: tuple[WebServer, Nginx, bool], room: str
) -> None:
    server, nginx, is_told = behind_nginx
    url = f"{nginx.websocket_url}/prefix/ws/room/{room}/"
    if is_told:
        assert (await first(url))["room"] == room
    else:
        assert "FORCE_SCRIPT_NAME" in await assert_refused(server, url, room)
        assert not began(server, room)


async def test_nginx_that_withholds_the_host_is_refused(
    behind_nginx: tuple[WebServer, Nginx, bool], room: str
) -> None:
    server, nginx, _ = behind_nginx
    url = f"ws://site.example:{nginx.port}/hostless/ws/room/{room}/"
    told = await assert_refused(server, url, room, port=nginx.port)
    assert "('site.example', here it is 'workers')" in told
    assert "proxy_set_header Host $host" in told
    assert not began(server, room)


async def test_nginx_that_forwards_the_host_needs_use_x_forwarded_host(
    behind_nginx: tuple[WebServer, Nginx, bool], room: str
) -> None:
    server, nginx, is_told = behind_nginx
    url = f"ws://site.example:{nginx.port}/forwarded/ws/room/{room}/"
    if is_told:
        assert (await first(url, port=nginx.port))["room"] == room
    else:
        told = await assert_refused(server, url, room, port=nginx.port)
        assert "USE_X_FORWARDED_HOST" in told
        assert not began(server, room)
