"""Logins without a cookie: the ticket endpoint, `TicketMiddleware`, and what ends a ticket."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Collection, Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from channels.auth import AuthMiddlewareStack
from channels.db import database_sync_to_async
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError
from django.http import HttpRequest
from django.test import RequestFactory
from django.views.debug import ExceptionReporter

from gcrypt_channels import GcryptMiddleware, disconnect_token, disconnect_user, tickets
from gcrypt_channels.crypto.ticket import open_ticket, seal_ticket
from gcrypt_channels.keys import Keyring, SessionKey, purpose_secret
from gcrypt_channels.protocol.profiles import V1, V2
from gcrypt_channels.protocol.secure import SecureSession
from gcrypt_channels.sessions.token import Token
from gcrypt_channels.tickets import TicketMiddleware, ticket_response, ticket_view
from gcrypt_channels.views import key_response
from tests.visitors import Echo, Socket, Visitor, key_in, sweep_now

pytestmark = pytest.mark.usefixtures("db_engine")

scopes: list[Any] = []
revoked: set[str] = set()


def held_tokens(asked: Collection[Token]) -> list[Token]:
    """The project's resolver: all tokens hold that are not revoked."""
    if "down" in revoked:
        raise DatabaseError
    return [each for each in asked if each.identity not in revoked]


@pytest.fixture(autouse=True)
def project(settings: Any) -> Iterator[None]:
    settings.GCRYPT = {"TOKEN_RESOLVER": "tests.test_tickets.held_tokens", "PROFILES": [V2, V1]}
    scopes.clear()
    revoked.clear()
    yield
    revoked.clear()


async def inner(scope: Any, receive: Any, send: Any) -> None:
    scopes.append(scope)
    await Echo.as_asgi()(scope, receive, send)


plain = TicketMiddleware(GcryptMiddleware(inner))
stack = AuthMiddlewareStack(plain)


class Ticket:
    """What a client has of the ticket endpoint."""

    def __init__(self, response: Any) -> None:
        self.answer = json.loads(response.content)
        self.text: str = self.answer["ticket"]
        key = key_in(response)
        assert key is not None
        self.key: SessionKey = key

    def socket(self, *, app: Any = plain, cookie: bytes = b"", **more: Any) -> Socket:
        more.setdefault("key", self.key)
        more.setdefault("offer", [V2, f"gcrypt.ticket.{self.text}"])
        return Socket(cookie, "/ws/", app=app, **more)


@database_sync_to_async
def ticket_of(user: str, identity: str = "token 1") -> Ticket:
    return Ticket(ticket_response(User.objects.get(username=user), identity))


async def refused(socket: Socket) -> int | None:
    code = await socket.open()
    assert not scopes
    return code


async def end_of_a_thief(socket: Socket, psk: bytes) -> int:
    """How a connection ends whose client answers HELLO, which it cannot open, with `psk`."""
    await socket.send_input({"type": "websocket.connect"})
    await socket.receive_output()
    assert (await socket.receive_output())["bytes"][0] == 1  # HELLO
    thief, server = SecureSession(role="client"), SecureSession(role="server")
    hello = server.hello(bytes(8), psk)  # what the thief's own psk would open
    thief.receive(hello)
    await socket.send_frame(thief.reply(psk, (), socket.binding))
    close = await socket.receive_output()
    await socket.wait()
    assert not scopes
    return int(close["code"])


# What a ticket opens


async def test_a_ticket_opens_a_connection_without_a_cookie() -> None:
    ticket = await ticket_of("alice")
    socket = ticket.socket()
    assert await socket.open() is None
    assert await socket.ask("hello") == "hello"
    [scope] = scopes
    assert scope["user"].username == "alice"
    assert scope["session"] is None
    assert not [name for name in scope if name.startswith("gcrypt.")]
    await socket.leave()


async def test_a_ticket_opens_several_connections() -> None:
    ticket = await ticket_of("alice")
    for _ in range(3):
        socket = ticket.socket()
        assert await socket.open() is None
        await socket.leave()


async def test_one_route_serves_cookies_and_tickets() -> None:
    visitor = await Visitor.logged_in("bob")
    await visitor.fetch_key()
    by_cookie = Socket(visitor.cookie, "/ws/", visitor.key, app=stack)
    by_ticket = (await ticket_of("alice")).socket(app=stack)
    for socket in (by_cookie, by_ticket):
        assert await socket.open() is None
    assert [scope["user"].username for scope in scopes] == ["bob", "alice"]
    assert scopes[0]["session"] is not None
    for socket in (by_cookie, by_ticket):
        await socket.leave()


async def test_a_cookie_beside_a_ticket_counts_for_nothing() -> None:
    visitor = await Visitor.logged_in("bob")
    key = await visitor.fetch_key()
    ticket = await ticket_of("alice")
    socket = ticket.socket(app=stack, cookie=visitor.cookie)
    assert await socket.open() is None
    [scope] = scopes
    assert scope["user"].username == "alice"
    assert scope["session"] is None
    await visitor.post("/logout/")
    assert await socket.ask("still here") == "still here"
    await socket.leave()
    scopes.clear()
    with_cookies_key = ticket.socket(app=stack, cookie=visitor.cookie)
    assert key is not None
    assert await end_of_a_thief(with_cookies_key, key.psk) == 4400
    garbled = ticket.socket(app=stack, cookie=visitor.cookie, offer=[V2, "gcrypt.ticket.AAAA"])
    assert await refused(garbled) == 4401


async def test_a_ticket_without_its_psk_ends_at_reply_with_4400() -> None:
    ticket = await ticket_of("alice")
    others = await ticket_of("bob")
    for psk in (bytes(32), others.key.psk):
        assert await end_of_a_thief(ticket.socket(), psk) == 4400


async def test_a_kid_beside_a_ticket_changes_nothing() -> None:
    ticket = await ticket_of("alice")
    offer = [V2, f"gcrypt.kid.{bytes(8).hex()}", f"gcrypt.ticket.{ticket.text}"]
    socket = ticket.socket(offer=offer)
    assert await socket.open() is None
    await socket.leave()


# What it does not open


async def test_whatever_is_wrong_with_a_ticket_it_is_4401_alike(
    caplog: pytest.LogCaptureFixture, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket = await ticket_of("alice")
    text = ticket.text

    async def sent(offer: list[str]) -> list[dict[str, Any]]:
        socket = ticket.socket(offer=offer)
        await socket.send_input({"type": "websocket.connect"})
        events = [await socket.receive_output(), await socket.receive_output()]
        await socket.wait()
        return events

    swapped = "B" if text[40] == "A" else "A"
    wrong = {
        "garbled": ["gcrypt.ticket." + text[:40] + swapped + text[41:]],
        "empty": ["gcrypt.ticket."],
        "padded": [f"gcrypt.ticket.{text}=="],
        "too long": ["gcrypt.ticket." + "A" * 1100],
        "two": [f"gcrypt.ticket.{text}", f"gcrypt.ticket.{(await ticket_of('bob')).text}"],
        "twice the same": [f"gcrypt.ticket.{text}"] * 2,
    }
    answers = [await sent([V2, *offer]) for offer in wrong.values()]
    revoked.add("token 1")
    answers.append(await sent([V2, f"gcrypt.ticket.{text}"]))
    revoked.clear()
    settings.GCRYPT_PASSPHRASE = "another site's passphrase, of this length"
    answers.append(await sent([V2, f"gcrypt.ticket.{text}"]))
    close = {"type": "websocket.close", "code": 4401, "reason": ""}
    accept = {"type": "websocket.accept", "subprotocol": V2}
    assert answers == [[accept, close]] * len(answers)
    assert not scopes


@pytest.mark.parametrize(
    "change",
    [
        {"is_active": False},
        {"password": "another hash"},
        None,
    ],
    ids=["inactive", "another password", "gone"],
)
@pytest.mark.parametrize("identity", ["", "token 1"])
async def test_a_ticket_ends_with_its_user(change: Any, identity: str) -> None:
    ticket = await ticket_of("alice", identity)
    users = User.objects.filter(username="alice")
    await (users.adelete() if change is None else users.aupdate(**change))
    assert await refused(ticket.socket()) == 4401


async def test_a_ticket_ends_with_its_token() -> None:
    ticket, other = await ticket_of("alice"), await ticket_of("alice", "token 2")
    revoked.add("token 1")
    assert await refused(ticket.socket()) == 4401
    socket = other.socket()
    assert await socket.open() is None
    await socket.leave()


@pytest.mark.parametrize(("later", "opens"), [(0, True), (64, True), (66, False), (-3600, True)])
async def test_a_ticket_opens_for_60_seconds_and_5_for_clocks(
    monkeypatch: pytest.MonkeyPatch, later: int, opens: bool
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_000_000_000.0)
    ticket = await ticket_of("alice")
    assert ticket.answer["expires_in"] == 60
    monkeypatch.setattr(time, "time", lambda: 1_000_000_000.0 + later)
    socket = ticket.socket()
    assert await socket.open() == (None if opens else 4401)
    if opens:
        await socket.leave()


async def test_tickets_outlive_a_rotation_of_the_passphrase(settings: Any) -> None:
    before = settings.GCRYPT_PASSPHRASE
    ticket = await ticket_of("alice")
    settings.GCRYPT_PASSPHRASE = ["the new passphrase, long enough for all", before]
    newer = await ticket_of("alice")
    for each in (ticket, newer):
        socket = each.socket()
        assert await socket.open() is None
        await socket.leave()
    settings.GCRYPT_PASSPHRASE = before
    scopes.clear()
    assert await refused(newer.socket()) == 4401


@pytest.mark.parametrize("offer", [[V1], [V1, "chat"]])
async def test_tickets_do_not_serve_gcrypt_v1(offer: list[str]) -> None:
    ticket = await ticket_of("alice")
    visitor = await Visitor.logged_in("alice")
    for app in (plain, stack):
        socket = ticket.socket(
            app=app, cookie=visitor.cookie, offer=[*offer, f"gcrypt.ticket.{ticket.text}"]
        )
        assert await refused(socket) == 4401


async def test_where_the_token_cannot_be_looked_up_it_is_1013_and_the_log_says_what_was_asked(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ticket = await ticket_of("alice")
    revoked.add("down")
    assert await refused(ticket.socket()) == 1013
    assert (
        "'/ws/': refused with 1013: the database or GCRYPT['TOKEN_RESOLVER'] failed or took over "
        "5 s (DatabaseError)."
    ) in caplog.text
    assert "passphrase resolver" not in caplog.text


async def test_without_the_middleware_a_ticket_is_4401_and_the_log_says_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    visitor = await Visitor.logged_in("bob")
    ticket = await ticket_of("alice")
    app = AuthMiddlewareStack(GcryptMiddleware(inner))
    assert await refused(ticket.socket(app=app, cookie=visitor.cookie)) == 4401
    assert "put TicketMiddleware around GcryptMiddleware" in caplog.text


# What ends a connection


async def test_disconnect_token_closes_the_sockets_of_a_token_and_no_others() -> None:
    first, second = await ticket_of("alice"), await ticket_of("alice", "token 2")
    sockets = [each.socket() for each in (first, first, second)]
    for socket in sockets:
        assert await socket.open() is None
    await disconnect_token("token 1", "revoked")
    for socket in sockets[:2]:
        assert await socket.closed() == (4401, "revoked")
    assert await sockets[2].ask("still here") == "still here"
    await disconnect_user(await User.objects.aget(username="alice"))
    assert (await sockets[2].closed())[0] == 4401


async def test_the_sweep_finds_a_token_that_ended_unannounced() -> None:
    first, second = await ticket_of("alice"), await ticket_of("alice", "token 2")
    sockets = [each.socket() for each in (first, second)]
    for socket in sockets:
        assert await socket.open() is None
    revoked.add("token 1")
    await sweep_now()
    assert await sockets[0].closed() == (4401, "session ended")
    assert await sockets[1].ask("still here") == "still here"
    await sockets[1].leave()


@pytest.mark.parametrize("identity", ["", "token 1"])
@pytest.mark.parametrize("change", [{"is_active": False}, {"password": "another hash"}])
async def test_a_connection_ends_with_its_user(identity: str, change: Any) -> None:
    socket = (await ticket_of("alice", identity)).socket()
    assert await socket.open() is None
    await User.objects.filter(username="alice").aupdate(**change)
    await sweep_now()
    assert (await socket.closed())[0] == 4401


async def test_an_open_connection_outlives_its_ticket(monkeypatch: pytest.MonkeyPatch) -> None:
    socket = (await ticket_of("alice")).socket()
    assert await socket.open() is None
    ended = time.time() + 3600
    monkeypatch.setattr(time, "time", lambda: ended)
    await sweep_now()
    assert await socket.ask("still here") == "still here"
    await socket.leave()


# The endpoint


def answer_of(authenticate: Any, method: str = "post") -> Any:
    request = getattr(RequestFactory(), method)("/ticket/")
    return ticket_view(authenticate)(request)


def test_the_view_answers_with_session_ticket_and_lifetime_and_is_not_cached() -> None:
    alice = User.objects.get(username="alice")
    response = answer_of(lambda request: (alice, "token 1"))
    answer = json.loads(response.content)
    assert [*answer] == ["session", "ticket", "expires_in"]
    assert [*answer["session"]] == ["kid", "psk"]
    assert re.fullmatch("[0-9a-f]{16}", answer["session"]["kid"])
    assert re.fullmatch("[A-Za-z0-9_-]{43}", answer["session"]["psk"])
    assert re.fullmatch("[A-Za-z0-9_-]{100,400}", answer["ticket"])
    assert response["Cache-Control"] == "no-store"


def test_the_view_refuses_who_is_not_authenticated_and_other_methods() -> None:
    response = answer_of(lambda request: None)
    assert response.status_code == 401
    assert json.loads(response.content)["error"] == "login"
    assert response["Cache-Control"] == "no-store"
    assert answer_of(lambda request: None, "get").status_code == 405
    with pytest.raises(ValueError, match="not authenticated"):
        ticket_response(AnonymousUser())


def longest_identity() -> int:
    """How long an identity may be, so that a T of 757 bytes holds it; alice's key has one digit."""
    claims = '{"expires":1000000000,"user":"1","backend":"","auth":"","token":""}'
    return 757 - 1 - 16 - 16 - len(claims) - 32


@pytest.mark.parametrize("size", [1, 500])
def test_what_is_too_long_for_a_ticket_is_an_error_of_the_endpoint(size: int) -> None:
    alice = User.objects.get(username="alice")
    too_long = longest_identity() - len(str(alice.pk)) + 1 + size
    with pytest.raises(ValueError, match="too long"):
        ticket_response(alice, "t" * too_long)


async def test_the_longest_ticket_is_accepted() -> None:
    pk = (await User.objects.aget(username="alice")).pk
    ticket = await ticket_of("alice", "t" * (longest_identity() - len(str(pk)) + 1))
    assert len("gcrypt.ticket." + ticket.text) in (1023, 1024)
    socket = ticket.socket()
    assert await socket.open() is None
    await socket.leave()


@pytest.mark.parametrize(("spaces", "code"), [(0, None), (700, 4401)])
async def test_a_ticket_over_the_limit_is_refused_whatever_is_in_it(
    settings: Any, spaces: int, code: int | None
) -> None:
    secret = purpose_secret("ticket", settings.GCRYPT_PASSPHRASE)
    ticket = await ticket_of("alice")
    claims, _ = open_ticket([secret], ticket.text)
    ticket.text, ticket.key = seal_ticket(secret, claims + b" " * spaces)
    socket = ticket.socket()
    assert await socket.open() == code
    if code is None:
        await socket.leave()


def test_a_token_needs_a_resolver(settings: Any) -> None:
    settings.GCRYPT = {}
    alice = User.objects.get(username="alice")
    ticket_response(alice)
    with pytest.raises(ImproperlyConfigured, match="TOKEN_RESOLVER"):
        ticket_response(alice, "token 1")


@pytest.mark.parametrize(
    ("value", "check", "match"),
    [
        ("no.such.function", "E006", "cannot be imported"),
        ("tests.test_tickets.scopes", "E006", "not callable"),
        (7, "E005", "TOKEN_RESOLVER"),
    ],
)
def test_a_wrong_resolver_is_found_by_the_checks(
    settings: Any, value: Any, check: str, match: str
) -> None:
    from gcrypt_channels.conf import problems

    settings.GCRYPT = {"TOKEN_RESOLVER": value}
    [problem] = problems()
    assert problem.id == f"gcrypt_channels.{check}"
    assert re.search(match, problem.message)
    with pytest.raises(ImproperlyConfigured, match=match):
        GcryptMiddleware(inner)


def test_key_response_is_the_key_endpoints_answer_for_a_view_of_the_projects_own(
    rf: RequestFactory,
) -> None:
    keyring = Keyring.derive("device", "7")
    request: HttpRequest = rf.post("/key/")
    response = key_response(request, keyring)
    assert key_in(response) == keyring.session_keys[0]
    assert json.loads(response.content)[V1] == {"passphrase": keyring.passphrases[0]}
    assert response["Cache-Control"] == "no-store"
    assert key_response(request, None).status_code == 401


# Nothing secret is shown


async def test_no_key_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    ticket = await ticket_of("alice")
    socket = ticket.socket()
    assert await socket.open() is None
    await socket.leave()
    scopes.clear()
    assert await end_of_a_thief(ticket.socket(), bytes(32)) == 4400
    revoked.add("token 1")
    assert await refused(ticket.socket()) == 4401
    revoked.add("down")
    assert await refused(ticket.socket()) == 1013
    for shown in (ticket.key.psk.hex(), ticket.answer["session"]["psk"], repr(ticket.key.psk)):
        assert shown not in caplog.text
    assert ticket.text not in caplog.text


TESTS = str(Path(__file__).parent)


class OthersReporter(ExceptionReporter):
    """A report without the frames of the tests, which know every secret."""

    def get_traceback_frames(self) -> list[Any]:
        frames = super().get_traceback_frames()
        return [each for each in frames if not each["filename"].startswith(TESTS)]


@pytest.mark.parametrize("wrong", ["too long", "no resolver", "down"])
def test_no_error_report_shows_a_key(settings: Any, wrong: str) -> None:
    settings.DEBUG = True  # nothing is hidden
    alice = User.objects.get(username="alice")
    ticket = Ticket(ticket_response(alice, "token 1"))
    if wrong == "no resolver":
        settings.GCRYPT = {}
    revoked.add("down")
    text = ""
    try:
        if wrong == "too long":
            ticket_response(alice, "t" * 1000)
        else:
            tickets._admit([ticket.text], "/ws/")
    except (ValueError, ImproperlyConfigured, DatabaseError):
        reporter = OthersReporter(None, *sys.exc_info())
        text = reporter.get_traceback_text() + unescape(reporter.get_traceback_html())
    assert "tickets.py" in text
    secret = purpose_secret("ticket", settings.GCRYPT_PASSPHRASE)
    for each in (secret, ticket.key.psk):
        assert repr(each[:4])[2:-1] not in text
        assert each.hex() not in text
    assert ticket.answer["session"]["psk"] not in text
