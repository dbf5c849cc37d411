"""`async for socket in connect(…)`: what is carried on, what is waited for, and what ends it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from email.message import Message
from inspect import signature
from itertools import islice
from typing import Any
from urllib.error import HTTPError

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed as SocketClosed
from websockets.exceptions import InvalidStatus
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from gcrypt_channels.client import DjangoSession, connect, key, opening
from gcrypt_channels.client import process_exception as default_process_exception
from gcrypt_channels.exceptions import (
    ConnectionClosed,
    GcryptError,
    InvalidFrame,
    NoProfile,
    NoSessionKey,
)
from gcrypt_channels.keys import SessionKey
from gcrypt_channels.protocol.events import Joined, Position, Stamped
from gcrypt_channels.protocol.profiles import V2
from tests.client.test_client import KEY, PASSPHRASE, Peer, Script
from tests.client.test_site import key_answer, serving
from tests.clock import SteadyClock
from tests.servers import reserve_port

EPOCH = "0011223344556677"


class Delays:
    """No delay at all, and a record of those that were asked for: a list for each generator."""

    def __init__(self, seconds: float = 0) -> None:
        self.seconds = seconds
        self.asked: list[list[float]] = []

    def __call__(self) -> Iterator[float]:
        asked: list[float] = []
        self.asked.append(asked)
        while True:
            asked.append(self.seconds)
            yield self.seconds

    @property
    def taken(self) -> list[int]:
        """How many delays there were, of each generator that gave any."""
        return [len(asked) for asked in self.asked if asked]


class Site:
    """A server that plays one script after another, or answers one with an HTTP status."""

    def __init__(self, scripts: tuple[Script | int, ...], selects: str | None) -> None:
        self.scripts = list(scripts)
        self.selects = selects
        self.requests: list[Request] = []
        self.url = ""

    @property
    def offered(self) -> list[str]:
        """What each client offered in place of a cookie."""
        return [each.headers["Sec-WebSocket-Protocol"].split(", ")[-1] for each in self.requests]

    def answer(self, socket: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request)
        if not self.scripts:  # the client came once too often, which ends it
            return self.http(410)
        script = self.scripts[0]
        return self.http(self.scripts.pop(0)) if isinstance(script, int) else None  # type: ignore[arg-type]

    def http(self, status: int) -> Response:
        return Response(status, "", Headers(Connection="close"), b"")

    async def play(self, socket: ServerConnection) -> None:
        script = self.scripts.pop(0)
        assert not isinstance(script, int)
        with suppress(SocketClosed):
            await script(Peer(socket))

    def select(self, socket: ServerConnection, offered: Any) -> Subprotocol | None:
        return None if self.selects is None else Subprotocol(self.selects)


@asynccontextmanager
async def site(*scripts: Script | int, selects: str | None = V2) -> AsyncIterator[Site]:
    site = Site(scripts, selects)
    async with serve(
        site.play,
        "127.0.0.1",
        0,
        process_request=site.answer,
        select_subprotocol=site.select,
    ) as listening:
        site.url = f"ws://127.0.0.1:{listening.sockets[0].getsockname()[1]}/"
        yield site
    assert not site.scripts


def ends_with(code: int | None, key: SessionKey = KEY) -> Script:
    """A connection that is opened and ends: by a sealed close, or with `None` cut off."""

    async def script(peer: Peer) -> None:
        await peer.greet(key)
        await peer.accept()
        if code is None:
            peer.socket.transport.abort()
        else:
            await peer.close(code, "the end")

    return script


def refuses_with(code: int) -> Script:
    """A connection that is closed before its handshake."""

    async def script(peer: Peer) -> None:
        await peer.socket.close(code)

    return script


def connecting(url: str, **options: Any) -> connect:
    given = {"kid": KEY.kid, "psk": KEY.psk} if "key_source" not in options else {}
    options.setdefault("reconnect_delays", Delays())
    return connect(url, **{**given, "profile": V2, "proxy": None, **options})


async def heard(connecting: connect, connections: int) -> list[list[str | bytes]]:
    """What came on that many connections, of which each is read to its end."""
    heard: list[list[str | bytes]] = []
    async for socket in connecting:
        heard.append([])
        with suppress(ConnectionClosed):
            async for message in socket:
                heard[-1].append(message)
        if len(heard) == connections:
            break
    return heard


async def failure_of(connecting: connect) -> Exception:
    """What ends the iteration by itself."""
    with pytest.raises((GcryptError, ValueError, OSError, InvalidStatus)) as caught:
        await asyncio.wait_for(heard(connecting, 10), 20)  # where it does not end
    return caught.value


# What is tried again


@pytest.mark.parametrize("code", [1000, 1011, 1012, 1013, 4123, None])
async def test_an_end_that_a_retry_may_mend_is_followed_by_a_delay_and_a_connection(
    code: int | None,
) -> None:
    delays = Delays()
    async with site(ends_with(code), ends_with(1000)) as server:
        await heard(connecting(server.url, reconnect_delays=delays), 2)
    assert delays.taken == [1]


@pytest.mark.parametrize("failure", [refuses_with(1012), refuses_with(1013), 500, 502, 503, 504])
async def test_a_failure_to_connect_that_a_retry_may_mend_is_followed_by_another_delay(
    failure: Script | int,
) -> None:
    delays = Delays()
    async with site(failure, failure, ends_with(1000)) as server:
        await heard(connecting(server.url, reconnect_delays=delays), 1)
    assert delays.taken == [2]


async def test_a_server_that_is_down_is_found_when_it_is_back() -> None:
    with reserve_port() as reserved:
        port = reserved.getsockname()[1]
        delays = Delays()
        waiting = asyncio.create_task(
            heard(connecting(f"ws://127.0.0.1:{port}/", reconnect_delays=delays), 1)
        )
        while delays.taken < [2]:  # noqa: ASYNC110 - the client tells nobody of its attempts
            await asyncio.sleep(0)
        back = Site((ends_with(1000),), V2)
        async with serve(
            back.play, "127.0.0.1", port, select_subprotocol=back.select, reuse_address=True
        ):
            assert await asyncio.wait_for(waiting, 30) == [[]]


async def test_a_handshake_that_takes_too_long_is_tried_again() -> None:
    async def hangs(peer: Peer) -> None:
        await peer.greet()
        await peer.socket.wait_closed()

    async with site(hangs, ends_with(1000)) as server:
        assert await heard(connecting(server.url, open_timeout=1), 1) == [[]]


async def test_the_delays_begin_anew_only_after_a_connection_that_outlived_the_last_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SteadyClock()
    monkeypatch.setattr(opening, "time", clock)
    delays = Delays(0.001)
    async with site(*[ends_with(1000)] * 4) as server:
        count = 0
        async for socket in connecting(server.url, reconnect_delays=delays):
            [_ async for _ in socket]
            count += 1
            if count == 3:
                clock.pass_seconds(1)
            if count == 4:
                break
    assert delays.taken == [2, 1]


def test_the_first_delay_is_random_which_spreads_the_clients_of_a_drain_and_later_ones_grow() -> (
    None
):
    backoff = signature(connect).parameters["reconnect_delays"].default
    delays = [[*islice(backoff(), 4)] for _ in range(3)]
    assert len({first for first, *_ in delays}) == 3
    for first, *later in delays:
        assert 0 <= first <= 5
        assert later == sorted(set(later))


async def test_a_block_that_ends_by_itself_closes_its_connection() -> None:
    closed = []

    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.accept()
        closed.append(await peer.receive())

    async with site(script, script) as server:
        count = 0
        async for _ in connecting(server.url):
            count += 1
            if count == 2:
                break
    assert [each.code for each in closed] == [1000, 1000]


# What ends it


@pytest.mark.parametrize("code", [1009, 4400, 4401, 4406])
async def test_after_an_end_that_no_retry_can_mend_nothing_is_asked_again(code: int) -> None:
    delays = Delays()
    async with site(ends_with(code)) as server:
        error = await failure_of(connecting(server.url, reconnect_delays=delays))
    assert isinstance(error, ConnectionClosed)
    assert (error.code, error.reason, error.authentic) == (code, "the end", True)
    assert delays.taken == []


@pytest.mark.parametrize("code", [4400, 4401, 4406])
async def test_a_refusal_that_no_retry_can_mend_is_raised(code: int) -> None:
    async with site(refuses_with(code)) as server:
        error = await failure_of(connecting(server.url))
    assert isinstance(error, ConnectionClosed)
    assert error.code == code


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404])
async def test_a_refusal_over_http_is_raised(status: int) -> None:
    async with site(status) as server:
        error = await failure_of(connecting(server.url))
    assert isinstance(error, InvalidStatus)
    assert error.response.status_code == status


async def test_a_server_without_the_profile_is_raised() -> None:
    async def left(peer: Peer) -> None:
        await peer.socket.wait_closed()

    async with site(left, selects=None) as server:
        assert isinstance(await failure_of(connecting(server.url)), NoProfile)


async def test_a_server_without_the_key_is_raised() -> None:
    async def impostor(peer: Peer) -> None:
        await peer.socket.send(peer.session.hello(KEY.kid, b"?" * 32))
        await peer.socket.wait_closed()

    async with site(impostor) as server:
        assert isinstance(await failure_of(connecting(server.url)), InvalidFrame)


async def test_a_message_that_is_not_valid_ends_it_although_the_program_goes_on() -> None:
    async def garbage(peer: Peer) -> None:
        await peer.greet()
        await peer.accept()
        await peer.socket.send(b"\x10" + bytes(20))
        await peer.socket.wait_closed()

    async def read(url: str) -> None:
        async for socket in connecting(url):
            with suppress(InvalidFrame):
                await socket.receive()

    async with site(garbage) as server:
        with pytest.raises(ConnectionClosed) as caught:
            await read(server.url)
    assert caught.value.code == 4400


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "http://example.org/"},
        {"psk": b"short"},
        {"subprotocols": ["two words"]},
        {"profile": "gcrypt.v4"},
        {"additional_headers": {"X-Name": "a\nb"}},
    ],
)
def test_a_wrong_argument_is_refused_by_the_call_itself(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"URL|gcrypt|subprotocol|header"):
        connecting(**{"url": "ws://127.0.0.1:1/", **wrong})


async def test_the_program_may_decide_otherwise() -> None:
    seen: list[Exception] = []

    def decide(error: Exception) -> Exception | None:
        seen.append(error)
        return None if len(seen) < 3 else RuntimeError("enough")

    async with site(ends_with(4401), 404, ends_with(1012)) as server:
        with pytest.raises(RuntimeError, match="enough") as caught:
            await heard(connecting(server.url, process_exception=decide), 10)
    assert [type(each) for each in seen[:2]] == [ConnectionClosed, opening._Refused]
    assert caught.value.__cause__ is seen[2]
    assert [default_process_exception(each) is each for each in seen] == [True, True, False]


async def test_a_connection_that_is_not_iterated_is_made_once() -> None:
    async with site(ends_with(1012)) as server:
        once = connecting(server.url)
        async with once as socket:
            with pytest.raises(RuntimeError, match="entered already"):
                async with once:
                    pass
            with pytest.raises(ConnectionClosed):
                await socket.receive()


# The key


class Source:
    """A `key_source` that counts: it gives tickets, and raises what it is told to."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self) -> Any:
        self.asked += 1
        answer = self.answers[min(self.asked, len(self.answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer


def ticket(text: str, **more: Any) -> dict[str, Any]:
    return {"kid": KEY.kid, "psk": KEY.psk, "ticket": text, **more}


def refused_by_the_endpoint(status: int) -> HTTPError:
    return HTTPError("https://example.org/ticket/", status, "", Message(), None)


async def test_it_connects_again_with_the_key_that_it_has() -> None:
    source = Source(KEY)
    async with site(ends_with(1012), ends_with(None), ends_with(1000)) as server:
        await heard(connecting(server.url, key_source=source), 3)
    assert source.asked == 1


async def test_a_key_that_was_rotated_is_fetched_once_and_kept() -> None:
    rotated = SessionKey(kid=b"rotated!", psk=b"R" * 32)
    source = Source(KEY, rotated)
    async with site(ends_with(1012), ends_with(1012, rotated), ends_with(1000, rotated)) as server:
        await heard(connecting(server.url, key_source=source), 3)
    assert source.asked == 2
    assert server.offered[2] == f"gcrypt.kid.{rotated.kid.hex()}"


@pytest.mark.parametrize(
    ("later", "offered"),
    [(44, ["one", "one"]), (46, ["one", "two"]), (3600, ["one", "two"])],
)
async def test_a_ticket_is_asked_for_where_the_last_has_less_than_15_seconds_left(
    monkeypatch: pytest.MonkeyPatch, later: int, offered: list[str]
) -> None:
    clock = SteadyClock()
    monkeypatch.setattr(key, "time", clock)
    source = Source(ticket("one", expires_in=60), ticket("two", expires_in=60))
    async with site(ends_with(1012), ends_with(1000)) as server:
        count = 0
        async for socket in connecting(server.url, key_source=source):
            with suppress(ConnectionClosed):
                await socket.receive()
            clock.pass_seconds(later)
            count += 1
            if count == 2:
                break
    assert server.offered == [f"gcrypt.ticket.{each}" for each in offered]


async def test_a_ticket_that_does_not_say_how_long_it_holds_is_used_once() -> None:
    source = Source(ticket("one"), ticket("two"))
    async with site(ends_with(1012), ends_with(1000)) as server:
        await heard(connecting(server.url, key_source=source), 2)
    assert server.offered == ["gcrypt.ticket.one", "gcrypt.ticket.two"]


@pytest.mark.parametrize("refusal", [ends_with(4401), refuses_with(4401)])
async def test_after_4401_one_more_ticket_is_asked_for_and_no_third(refusal: Script) -> None:
    source = Source(*[ticket(each, expires_in=3600) for each in ("one", "two", "three")])
    clock = Delays(0.001)
    async with site(refusal, refuses_with(4401)) as server:
        error = await failure_of(connecting(server.url, key_source=source, reconnect_delays=clock))
    assert isinstance(error, ConnectionClosed)
    assert error.code == 4401
    assert source.asked == 2


async def test_when_the_new_ticket_opens_it_goes_on() -> None:
    source = Source(*[ticket(each, expires_in=3600) for each in ("one", "two")])
    async with site(ends_with(4401), ends_with(1000)) as server:
        await heard(connecting(server.url, key_source=source), 2)
    assert server.offered == ["gcrypt.ticket.one", "gcrypt.ticket.two"]


@pytest.mark.parametrize(
    "failure",
    [
        NoSessionKey("log in"),
        refused_by_the_endpoint(401),
        refused_by_the_endpoint(404),
        ValueError("no key"),
    ],
    ids=["NoSessionKey", "HTTP 401", "HTTP 404", "ValueError"],
)
async def test_when_the_endpoint_gives_no_ticket_any_more_it_gives_up(failure: Exception) -> None:
    source = Source(ticket("one", expires_in=3600), failure)
    async with site(ends_with(4401)) as server:
        assert await failure_of(connecting(server.url, key_source=source)) is failure
    assert source.asked == 2


@pytest.mark.parametrize("failure", [ConnectionResetError(), refused_by_the_endpoint(503)])
async def test_an_endpoint_that_is_down_is_asked_again_after_a_delay(failure: Exception) -> None:
    delays, source = Delays(), Source(failure, failure, KEY)
    async with site(ends_with(1000)) as server:
        await heard(connecting(server.url, key_source=source, reconnect_delays=delays), 1)
    assert delays.taken == [2]


@pytest.mark.parametrize(
    "answer", [None, {}, {"kid": 1, "psk": 2}, ticket(""), ticket("one", expires_in="soon")]
)
async def test_nonsense_of_a_key_source_is_raised_and_not_asked_for_again(answer: Any) -> None:
    source = Source(answer)
    error = await failure_of(connecting("ws://127.0.0.1:1/", key_source=source))
    assert isinstance(error, ValueError)
    assert source.asked == 1


# Positions


async def test_positions_are_carried_from_one_connection_to_the_next() -> None:
    offered: list[Any] = []

    def room(*numbers: int) -> Script:
        async def script(peer: Peer) -> None:
            await peer.greet()
            offered.append(peer.resume)
            await peer.accept()
            joined = Joined(1, Position("room", EPOCH, numbers[0] - 1), recovered=False)
            await peer.write(peer.session.seal_joined(joined))
            for number in numbers:
                await peer.write(peer.session.seal(Stamped(1, number, str(number))))
            await peer.close(1012)

        return script

    async with site(room(1, 2), 503, room(3), ends_with(1000)) as server:
        assert await heard(connecting(server.url, resume=()), 3) == [["1", "2"], ["3"], []]
    assert offered == [(), (Position("room", EPOCH, 2),)]


async def test_without_resume_it_has_no_positions() -> None:
    offered: list[Any] = []

    async def script(peer: Peer) -> None:
        await peer.greet()
        offered.append(peer.resume)
        await peer.accept()
        await peer.close(1012)

    async with site(script, script) as server:
        await heard(connecting(server.url), 2)
    assert offered == [None, None]


# A site with sessions


async def test_a_session_connects_again_with_one_key_and_the_cookies_of_its_answer() -> None:
    members = {"kid": KEY.kid.hex(), "psk": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"}
    status, body = key_answer({"session": members})
    with serving(key=(status, body, {"Set-Cookie": "sessionid=cycled; Path=/"})) as http:
        async with site(ends_with(1012), ends_with(1000)) as server:
            port = int(server.url.rsplit(":", 1)[1].rstrip("/"))
            session = DjangoSession(http.url)
            await heard(
                session.connect(
                    "/ws/",
                    profile=V2,
                    proxy=None,
                    host="127.0.0.1",
                    port=port,
                    reconnect_delays=Delays(),
                ),
                2,
            )
    assert all("sessionid=cycled" in each.headers["Cookie"] for each in server.requests)
    assert http.keys_given == 1


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_site_that_gives_no_key_ends_it(status: int) -> None:
    with serving(key=(status, b"{}")) as http:
        error = await failure_of(
            DjangoSession(http.url).connect("/ws/", proxy=None, reconnect_delays=Delays())
        )
    assert f"{http.url}/gcrypt/key/" in str(error) or isinstance(error, NoSessionKey)


def test_no_secret_is_in_a_repr() -> None:
    client = connect("ws://127.0.0.1:1/", kid=KEY.kid, psk=KEY.psk, ticket="the-ticket")
    classic = connect("ws://127.0.0.1:1/", profile="gcrypt.v1", passphrase=PASSPHRASE)
    for shown in (repr(client), repr(classic)):
        assert repr(KEY.psk)[2:20] not in shown
        assert PASSPHRASE not in shown
