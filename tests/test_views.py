from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache.backends.locmem import LocMemCache
from django.test import AsyncClient, Client
from django.urls import reverse

from tests.visitors import Visitor

pytestmark = pytest.mark.django_db(transaction=True)

URL = "/gcrypt/key/"
V1, V2, V3 = "gcrypt.v1", "gcrypt.v2", "gcrypt.v3"
SESSION = "session"


@pytest.fixture
def alice() -> User:
    user: User = User.objects.create_user("alice", password="alice's password")
    return user


@pytest.fixture
def client(alice: User) -> Client:
    logged_in = Client()
    logged_in.force_login(alice)
    return logged_in


def test_the_url_is_named_in_its_namespace() -> None:
    assert reverse("gcrypt_channels:key") == URL


def test_a_logged_in_user_gets_the_keys_of_every_enabled_profile(client: Client) -> None:
    response = client.post(URL)
    assert response.status_code == 200
    assert response["Content-Type"] == "application/json"
    keys = response.json()
    assert keys.keys() == {V1, SESSION}
    assert keys[V1].keys() == {"passphrase"}
    assert len(keys[V1]["passphrase"]) == 64
    assert keys[SESSION].keys() == {"kid", "psk"}
    assert len(bytes.fromhex(keys[SESSION]["kid"])) == 8
    assert "=" not in keys[SESSION]["psk"]
    assert len(base64.urlsafe_b64decode(keys[SESSION]["psk"] + "=")) == 32


@pytest.mark.parametrize(
    ("profiles", "members"),
    [([V1], {V1}), ([V2], {SESSION}), ([V3], {SESSION}), ([V3, V2], {SESSION})],
)
def test_a_profile_that_is_off_has_no_member(
    client: Client, settings: Any, profiles: list[str], members: set[str]
) -> None:
    settings.GCRYPT = {"PROFILES": profiles}
    assert client.post(URL).json().keys() == members


def test_one_session_key_serves_v2_and_v3(client: Client, settings: Any) -> None:
    answers = []
    for profile in (V2, V3):
        settings.GCRYPT = {"PROFILES": [profile]}
        answers.append(client.post(URL).json())
    assert answers[0] == answers[1]


def test_the_keys_stay_the_same_within_a_session(client: Client) -> None:
    assert client.post(URL).json() == client.post(URL).json()


def test_another_login_has_other_keys(client: Client, alice: User) -> None:
    other = Client()
    other.force_login(alice)
    mine, others = client.post(URL).json(), other.post(URL).json()
    assert mine[V1]["passphrase"] != others[V1]["passphrase"]
    assert mine[SESSION]["kid"] != others[SESSION]["kid"]
    assert mine[SESSION]["psk"] != others[SESSION]["psk"]


async def test_the_keys_open_a_connection(db_engine: None) -> None:
    visitor = await Visitor.logged_in("alice")
    socket = await visitor.open()  # with the key that it has just fetched
    assert await socket.ask("hello") == "hello"
    await socket.leave()


@pytest.mark.parametrize("engine", ["db", "cached_db", "cache", "file", "signed_cookies"])
def test_every_session_engine_keeps_the_keys(
    alice: User, settings: Any, engine: str, tmp_path: Any
) -> None:
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    settings.SESSION_FILE_PATH = str(tmp_path)
    client = Client()
    client.force_login(alice)
    first = client.post(URL).json()
    assert first[SESSION]["kid"]
    assert client.post(URL).json() == first


async def test_it_answers_under_asgi(alice: User) -> None:
    client = AsyncClient()
    await client.aforce_login(alice)
    response = await client.post(URL)
    assert response.status_code == 200
    assert response.json().keys() == {V1, SESSION}


# Who gets none


def test_a_visitor_gets_401_in_json() -> None:
    response = Client().post(URL)
    assert response.status_code == 401
    assert response.json()["error"] == "login"
    assert response["Cache-Control"] == "no-store"


def test_a_visitor_gets_a_key_and_a_session_where_the_settings_allow_it(settings: Any) -> None:
    settings.GCRYPT = {"ANONYMOUS": True}
    client = Client()
    first = client.post(URL)
    assert first.status_code == 200
    assert settings.SESSION_COOKIE_NAME in client.cookies
    assert client.post(URL).json() == first.json()
    assert Client().post(URL).json() != first.json()


def test_a_resolver_that_answers_none_gives_401(client: Client, settings: Any) -> None:
    settings.GCRYPT = {"PASSPHRASE_RESOLVER": lambda scope: None}
    assert client.post(URL).status_code == 401


def test_the_shared_resolver_gives_the_shared_passphrase(client: Client, settings: Any) -> None:
    settings.GCRYPT = {"PASSPHRASE_RESOLVER": "shared", "PROFILES": [V1]}
    settings.GCRYPT_SHARED_PASSPHRASE = "the passphrase of a g-crypt page"
    assert client.post(URL).json() == {V1: {"passphrase": "the passphrase of a g-crypt page"}}


@pytest.mark.parametrize("method", ["get", "head", "put", "patch", "delete", "options"])
def test_another_method_than_post_gets_405(client: Client, method: str) -> None:
    response = getattr(client, method)(URL)
    assert response.status_code == 405
    assert response["Allow"] == "POST"
    assert response["Cache-Control"] == "no-store"
    if method != "head":
        assert response.json()["error"] == "method"


# Sites that ask for a login everywhere


@pytest.fixture
def login_required(settings: Any) -> None:
    """As `LoginRequiredMiddleware` makes it: a view redirects who is not logged in."""
    middleware = "django.contrib.auth.middleware.LoginRequiredMiddleware"
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, middleware]


def test_a_visitor_is_not_redirected_to_a_page(login_required: None) -> None:
    assert Client().get("/page/").status_code == 302
    response = Client().post(URL)
    assert response.status_code == 401
    assert response.json()["error"] == "login"


def test_a_visitor_may_have_a_key_there_as_well(login_required: None, settings: Any) -> None:
    settings.GCRYPT = {"ANONYMOUS": True}
    assert Client().post(URL).status_code == 200


def test_a_user_gets_the_keys_there_as_well(login_required: None, client: Client) -> None:
    assert client.post(URL).status_code == 200


# Cross-site requests


@pytest.fixture
def browser(alice: User) -> Client:
    enforcing = Client(enforce_csrf_checks=True)
    enforcing.force_login(alice)
    return enforcing


def test_without_a_csrf_token_it_answers_403_in_json(browser: Client) -> None:
    response = browser.post(URL)
    assert response.status_code == 403
    assert response["Content-Type"] == "application/json"
    assert response.json()["error"] == "csrf"
    assert response["Cache-Control"] == "no-store"


def test_a_csrf_refusal_says_what_to_do_and_the_log_has_it_too(
    browser: Client, caplog: pytest.LogCaptureFixture
) -> None:
    browser.get("/page/")
    token = browser.cookies["csrftoken"].value
    origin = browser.post(
        URL,
        headers={"X-CSRFToken": token, "Origin": "https://testserver"},  # as behind a TLS proxy
    )
    detail = origin.json()["detail"]
    assert "Origin checking failed - https://testserver does not match" in detail
    assert "SECURE_PROXY_SSL_HEADER" in detail
    assert f"'{URL}': refused with 403: {detail}" in caplog.text
    caplog.clear()
    missing = browser.post(URL).json()["detail"]
    assert "CSRF token missing. Send the CSRF cookie" in missing
    assert f"refused with 403: {missing}" in caplog.text


def test_with_the_token_of_the_cookie_in_the_header_it_answers(browser: Client) -> None:
    browser.get("/page/")
    token = browser.cookies["csrftoken"].value
    assert browser.post(URL, headers={"X-CSRFToken": token}).status_code == 200


def test_a_cross_site_origin_gets_403_even_with_a_token(browser: Client) -> None:
    browser.get("/page/")
    headers = {
        "X-CSRFToken": browser.cookies["csrftoken"].value,
        "Origin": "https://evil.example",
    }
    assert browser.post(URL, headers=headers).status_code == 403


def test_with_the_token_in_the_session_it_answers(browser: Client, settings: Any) -> None:
    settings.CSRF_USE_SESSIONS = True
    found = re.search(r'"csrfToken": "(\w+)"', browser.get("/page/").content.decode())
    assert "csrftoken" not in browser.cookies
    assert found is not None
    assert browser.post(URL, headers={"X-CSRFToken": found[1]}).status_code == 200
    assert browser.post(URL).status_code == 403


def test_it_is_protected_in_a_project_without_the_csrf_middleware(
    browser: Client, settings: Any
) -> None:
    settings.MIDDLEWARE = [each for each in settings.MIDDLEWARE if "csrf" not in each.lower()]
    assert browser.post(URL).status_code == 403


# Secrets


def test_no_answer_may_be_stored(client: Client) -> None:
    assert client.post(URL)["Cache-Control"] == "no-store"


def test_no_key_is_logged(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    keys = client.post(URL).json()
    assert keys[V1]["passphrase"] not in caplog.text
    assert keys[SESSION]["psk"] not in caplog.text


async def test_a_cache_that_is_down_is_no_logout(
    users: None, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Django's cache engine takes it for a session that is gone; pages must not log off."""
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.cache"
    settings.ROOT_URLCONF = "tests.visitors"
    alice = await Visitor.logged_in("alice")
    await alice.fetch_key()

    def down(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError("the cache is down")

    with monkeypatch.context() as outage:
        outage.setattr(LocMemCache, "get", down)
        assert await alice.socket().open() == 1013
    socket = await alice.open()
    await socket.leave()
    monkeypatch.setattr(LocMemCache, "get", down)
    response = await alice.post("/gcrypt/key/")
    assert response.status_code == 503
    assert json.loads(response.content)["error"] == "store"  # type: ignore[attr-defined]
    assert "sessionid" not in response.cookies  # Django deletes that of a session that is gone
