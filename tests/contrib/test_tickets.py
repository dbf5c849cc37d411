"""Tickets of Django REST framework, django-rest-knox and SimpleJWT, each with its real tokens."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

import pytest
from channels.db import database_sync_to_async
from django.contrib.auth.models import User
from django.test import Client
from django.urls import path
from django.utils import timezone
from knox.models import AuthToken
from rest_framework.authtoken.models import Token, TokenProxy
from rest_framework_simplejwt.tokens import AccessToken

from gcrypt_channels import disconnect_token
from gcrypt_channels.contrib import drf, knox, simplejwt
from gcrypt_channels.sessions import token as names
from tests.test_tickets import Ticket, scopes
from tests.visitors import sweep_now

urlpatterns = [
    path("drf/", drf.TicketView.as_view()),
    path("knox/", knox.TicketView.as_view()),
    path("jwt/", simplejwt.TicketView.as_view()),
]


def held_tokens(tokens: Any) -> list[names.Token]:
    """A project with three kinds of tokens."""
    return [
        *drf.held_tokens(tokens),
        *knox.held_tokens(tokens),
        *simplejwt.held_tokens(tokens),
    ]


class Made(NamedTuple):
    """A token, and the header with which a request has it."""

    token: Any
    text: str


def make_drf(user: User) -> Made:
    token = Token.objects.create(user=user)
    return Made(token, f"Token {token.key}")


def make_knox(user: User) -> Made:
    token, text = AuthToken.objects.create(user=user)
    return Made(token, f"Token {text}")


def make_jwt(user: User) -> Made:
    token = AccessToken.for_user(user)
    return Made(token, f"Bearer {token}")


KINDS: dict[str, tuple[Any, Callable[[User], Made]]] = {
    "drf": (drf, make_drf),
    "knox": (knox, make_knox),
    "jwt": (simplejwt, make_jwt),
}

each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(autouse=True)
def project(db_engine: None, settings: Any) -> None:  # in this order: one swaps all settings
    settings.ROOT_URLCONF = __name__
    settings.GCRYPT = {"TOKEN_RESOLVER": f"{__name__}.held_tokens"}
    scopes.clear()


def make(kind: str, user: str = "alice") -> Made:
    return KINDS[kind][1](User.objects.get(username=user))


def ask(kind: str, authorization: str | None) -> Any:
    headers = {} if authorization is None else {"authorization": authorization}
    return Client(enforce_csrf_checks=True).post(f"/{kind}/", headers=headers)


@database_sync_to_async
def issued(kind: str, user: str = "alice") -> tuple[Made, Ticket]:
    made = make(kind, user)
    return made, Ticket(ask(kind, made.text))


@each_kind
async def test_a_token_gets_a_ticket_that_opens(kind: str) -> None:
    _, ticket = await issued(kind)
    socket = ticket.socket()
    assert await socket.open() is None
    assert [scope["user"].username for scope in scopes] == ["alice"]
    await socket.leave()


@each_kind
def test_without_a_valid_token_there_is_no_ticket_whatever_the_session(kind: str) -> None:
    made = make(kind)
    for authorization in (None, "", made.text[:-1] + "!", made.text.split()[0]):
        response = ask(kind, authorization)
        assert response.status_code == 401
        assert "ticket" not in json.loads(response.content)
    client = Client()
    client.force_login(User.objects.get(username="alice"))
    assert client.post(f"/{kind}/").status_code == 401
    assert client.get(f"/{kind}/", headers={"authorization": made.text}).status_code == 405


@each_kind
def test_the_answer_is_json_for_a_browser_too_and_is_not_cached(kind: str) -> None:
    made = make(kind)
    headers = {"authorization": made.text, "accept": "text/html"}
    response = Client().post(f"/{kind}/", headers=headers)
    assert response["Content-Type"] == "application/json"
    assert response["Cache-Control"] == "no-store"


@each_kind
def test_the_identity_does_not_lead_to_the_token(kind: str) -> None:
    made = make(kind)
    identity = KINDS[kind][0].identity_of(made.token)
    assert made.text.split()[1] not in identity
    assert len(identity) < 200


@each_kind
async def test_a_session_in_a_project_that_authenticates_by_it_gets_no_ticket(kind: str) -> None:
    from rest_framework.authentication import SessionAuthentication
    from rest_framework.test import APIRequestFactory, force_authenticate

    view = KINDS[kind][0].TicketView.as_view(authentication_classes=[SessionAuthentication])
    request = APIRequestFactory().post("/")
    user = await User.objects.aget(username="alice")
    force_authenticate(request, user)
    response = await database_sync_to_async(view)(request)
    assert response.status_code in (401, 403)


@pytest.mark.parametrize("kind", ["drf", "knox"])
async def test_deleting_the_token_closes_its_sockets_at_once_and_no_others(kind: str) -> None:
    made, ticket = await issued(kind)
    _, others = await issued(kind, "bob")
    socket, other = ticket.socket(), others.socket()
    for each in (socket, other):
        assert await each.open() is None
    await made.token.adelete()
    assert await socket.closed() == (4401, "token revoked")
    assert await other.ask("still here") == "still here"
    await other.leave()
    assert await ticket.socket().open() == 4401


async def test_the_admins_proxy_of_a_token_closes_its_sockets_too() -> None:
    made, ticket = await issued("drf")
    socket = ticket.socket()
    assert await socket.open() is None
    await database_sync_to_async(lambda: TokenProxy.objects.get(key=made.token.key).delete())()
    assert await socket.closed() == (4401, "token revoked")


async def test_a_new_token_of_the_same_user_does_not_revive_tickets_of_the_old() -> None:
    made, ticket = await issued("drf")
    await made.token.adelete()
    await issued("drf")
    assert await ticket.socket().open() == 4401


@each_kind
async def test_disconnect_token_closes_its_sockets(kind: str) -> None:
    made, ticket = await issued(kind)
    socket = ticket.socket()
    assert await socket.open() is None
    await disconnect_token(KINDS[kind][0].identity_of(made.token))
    assert await socket.closed() == (4401, "disconnected")


async def test_a_knox_token_ends_when_it_expires() -> None:
    made, ticket = await issued("knox")
    socket = ticket.socket()
    assert await socket.open() is None
    await AuthToken.objects.filter(pk=made.token.pk).aupdate(
        expiry=timezone.now() - timedelta(seconds=1)
    )
    await sweep_now()
    assert await socket.closed() == (4401, "session ended")
    assert await ticket.socket().open() == 4401


async def test_an_access_token_ends_when_it_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    made, ticket = await issued("jwt")
    socket = ticket.socket()
    assert await socket.open() is None
    monkeypatch.setattr(time, "time", lambda: made.token["exp"] + 0.5)
    await sweep_now()
    assert await socket.closed() == (4401, "session ended")


async def test_tickets_of_two_users_are_not_interchangeable() -> None:
    _, alices = await issued("drf")
    _, bobs = await issued("drf", "bob")
    mixed = alices.socket(key=bobs.key)
    await mixed.send_input({"type": "websocket.connect"})
    await mixed.receive_output()
    hello = await mixed.receive_output()
    assert hello["bytes"][1:9] == alices.key.kid != bobs.key.kid
    await mixed.leave()
    bob = str((await User.objects.aget(username="bob")).pk)
    asked = [names.Token(bob, drf.identity_of(await Token.objects.aget(user__username="alice")))]
    assert await database_sync_to_async(drf.held_tokens)(asked) == []


def test_the_resolvers_leave_the_tokens_of_others_alone() -> None:
    made = {kind: make(kind) for kind in KINDS}
    alice = str(User.objects.get(username="alice").pk)
    asked = {
        kind: names.Token(alice, KINDS[kind][0].identity_of(each.token))
        for kind, each in made.items()
    }
    for kind, (module, _) in KINDS.items():
        assert module.held_tokens([*asked.values(), names.Token(alice, "of my own")]) == [
            asked[kind]
        ]
        assert module.held_tokens([]) == []
