"""What Django prints and mails about an exception: frames with their local variables, no secret.

With `DEBUG=False` Django hides what `sensitive_variables` marks; with `DEBUG=True` it hides
nothing, so that there must be nothing to print.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import sys
from collections.abc import Callable, Iterator
from functools import cache
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError
from django.test import Client
from django.views.debug import ExceptionReporter
from websockets.asyncio.server import ServerConnection, serve

from gcrypt_channels import keys
from gcrypt_channels.client import DjangoSession, connect
from gcrypt_channels.client.key import KeyRefusedError
from gcrypt_channels.conf import conf
from gcrypt_channels.exceptions import DecryptionFailed, NoSessionKey
from gcrypt_channels.keys import Keyring, Purpose, SessionKey, purpose_secret
from gcrypt_channels.protocol.secure import SecureSession
from gcrypt_channels.sessions.login import Login, find_ended_logins
from tests.client.test_site import serving
from tests.sessions.stores import GivenCookie, GivenSession

TESTS = str(Path(__file__).parent)

PASSPHRASE = "the-passphrase-of-the-root-and-a-canary"
OLDER = "an-older-passphrase-and-another-canary"
SHARED = "the-shared-passphrase-a-third-canary"
CHOSEN = "a-chosen-passphrase-the-fourth-canary"
PASSWORD = "the-password-of-alice-a-fifth-canary"
SESSION_KEY = "thesessionkeyofalicethesixthcana"
AUTH_HASH = "a5" * 32
PSK = hashlib.sha256(b"a psk").digest()
KID = bytes(range(8))


@pytest.fixture(autouse=True)
def site(settings: Any) -> None:
    settings.GCRYPT_PASSPHRASE = [PASSPHRASE, OLDER]
    settings.GCRYPT_SHARED_PASSPHRASE = SHARED


def forms(secret: str | bytes) -> set[str]:
    """How a report could show a secret: as it is or as Python shows it, in hex and in base64."""
    data = secret.encode() if isinstance(secret, str) else secret
    encoded = base64.b64encode(data).decode().rstrip("=")
    # Django breaks long bytes into lines of several times four bytes.
    shown = {secret} if isinstance(secret, str) else {repr(secret[:4])[2:-1]}
    return {*shown, data.hex(), encoded, encoded.translate(str.maketrans("+/", "-_"))}


@cache
def secrets() -> frozenset[str | bytes]:
    """All that the settings of these tests and the identities below lead to."""
    return frozenset(_secrets())


def _secrets() -> Iterator[str | bytes]:
    yield from (PASSPHRASE, OLDER, SHARED, CHOSEN, PASSWORD, SESSION_KEY, AUTH_HASH, PSK)
    for passphrase in (PASSPHRASE, OLDER):
        salt = b"gcrypt_channels root v1"
        data, memory = passphrase.encode(), 64 * 2**20
        yield hashlib.scrypt(data, salt=salt, n=2**15, r=8, p=1, dklen=32, maxmem=memory)
        yield from (purpose_secret(purpose, passphrase) for purpose in get_args(Purpose))
    for identity in (("x",), ("session", "user", SESSION_KEY, "1", AUTH_HASH)):
        for found in (Keyring.derive(*identity), Keyring.derive(*identity, passphrases=[CHOSEN])):
            yield from found.passphrases
            yield from (key.psk for key in found.session_keys)


class OthersReporter(ExceptionReporter):
    """A report without the frames of the tests, which know every secret."""

    def get_traceback_frames(self) -> list[Any]:
        frames = super().get_traceback_frames()
        return [each for each in frames if not each["filename"].startswith(TESTS)]


def report(call: Callable[[], object], kind: type[ExceptionReporter] = OthersReporter) -> str:
    """Text and HTML of Django's report about what `call` raises."""
    try:
        call()
    except Exception:  # noqa: BLE001 - whatever it is
        reporter = kind(None, *sys.exc_info())
        assert reporter.get_traceback_frames()
        return reporter.get_traceback_text() + unescape(reporter.get_traceback_html())
    raise AssertionError("nothing was raised")


def found_in(text: str, secret: str | bytes) -> bool:
    return any(form in text for form in forms(secret))


# A canary, so that the search is known to find


@pytest.mark.parametrize("shape", [lambda each: each, bytes.hex, base64.b64encode, lambda b: [b]])
def test_a_secret_in_a_local_variable_would_be_found(shape: Any) -> None:
    def careless() -> None:
        leaked = shape(PSK)
        raise RuntimeError(f"not in the message: {len(leaked)}")

    assert found_in(report(careless, ExceptionReporter), PSK)


def test_a_passphrase_in_a_local_variable_would_be_found() -> None:
    def careless(passphrase: str) -> None:
        raise RuntimeError

    text = report(lambda: careless(PASSPHRASE), ExceptionReporter)
    assert found_in(text, PASSPHRASE)


# What raises


def session(**data: Any) -> GivenSession:
    return GivenSession(SESSION_KEY, _auth_user_hash=AUTH_HASH, **data)


def resolve(answer: Any = None, pk: str = "1", **scope: Any) -> object:
    """Ask the resolver of the sessions, or one that gives `answer`."""
    user = SimpleNamespace(pk=pk, is_authenticated=True)

    async def resolver(scope: Any) -> Any:
        return answer

    chosen = "session" if answer is None else resolver
    return async_to_sync(keys.resolve)({"user": user, **scope}, chosen)


def connecting(**options: Any) -> object:
    async def run() -> None:
        async with connect(**{"url": "ws://127.0.0.1:1/", "proxy": None, **options}):
            pass

    return asyncio.run(run())


def connecting_to_a_server_without_the_key() -> None:
    async def play(socket: ServerConnection) -> None:
        await socket.send(SecureSession(role="server").hello(KID, bytes(32)))
        await socket.wait_closed()

    async def run() -> None:
        async with serve(play, "127.0.0.1", 0, subprotocols=["gcrypt.v2"]) as server:  # type: ignore[list-item]
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            async with connect(url, kid=KID, psk=PSK, proxy=None):
                pass

    asyncio.run(run())


def logging_in(url: str = "http://127.0.0.1:1") -> object:
    return asyncio.run(DjangoSession(url).login("alice", PASSWORD))


def logging_in_in_vain() -> None:
    with serving(login=(200, b"<html>")) as site:
        logging_in(site.url)


def connecting_with_keys_that_are_none() -> None:
    answer = b'{"session": {"kid": "short", "psk": "%s"}}' % base64.b64encode(PSK)
    with serving(key=(200, answer)) as site:
        asyncio.run(DjangoSession(site.url).connect("/").__aenter__())


def with_passphrases(*values: Any) -> Callable[[], object]:
    """What a call does with another GCRYPT_PASSPHRASE; the fixture `settings` undoes it."""

    def call() -> object:
        from django.conf import settings

        settings.GCRYPT_PASSPHRASE = list(values)
        return Keyring.derive("session", SESSION_KEY, AUTH_HASH, passphrases=[CHOSEN])

    return call


SURROGATE = "\ud800"

RAISING: dict[str, tuple[type[Exception], Callable[[], object]]] = {
    "derive: an int": (TypeError, lambda: Keyring.derive("device", 7, AUTH_HASH)),  # type: ignore[arg-type]
    "derive: a surrogate": (ValueError, lambda: Keyring.derive(SESSION_KEY, AUTH_HASH, SURROGATE)),
    "derive: a passphrase": (
        ValueError,
        lambda: Keyring.derive("x", passphrases=[CHOSEN, SURROGATE]),
    ),
    "derive: a passphrase of bytes": (
        TypeError,
        lambda: Keyring.derive("x", passphrases=[CHOSEN, b""]),  # type: ignore[list-item]
    ),
    "derive: one str": (TypeError, lambda: Keyring.derive("x", passphrases=CHOSEN)),
    "derive: the setting": (ImproperlyConfigured, with_passphrases(PASSPHRASE, SURROGATE)),
    "derive: the setting is none": (ImproperlyConfigured, with_passphrases(PASSPHRASE, None)),
    "purpose_secret": (ValueError, lambda: purpose_secret("client", PASSPHRASE + SURROGATE)),
    "session_key": (
        ImproperlyConfigured,
        lambda: Keyring(passphrases=(CHOSEN,), session_keys=()).session_key(None),
    ),
    "resolver: a list": (ImproperlyConfigured, lambda: resolve([CHOSEN, None])),
    "resolver: a surrogate": (ImproperlyConfigured, lambda: resolve(CHOSEN + SURROGATE)),
    "resolver: a keyring": (
        ImproperlyConfigured,
        lambda: resolve(Keyring((CHOSEN, ""), (SessionKey(KID, PSK),))),
    ),
    "resolver: a key": (
        ImproperlyConfigured,
        lambda: resolve(Keyring((CHOSEN,), (SessionKey(b"short", PSK),))),
    ),
    "session: a surrogate": (
        ImproperlyConfigured,
        lambda: resolve(session=session(gcrypt_passphrase=CHOSEN + SURROGATE)),
    ),
    "session: a list": (
        ImproperlyConfigured,
        lambda: resolve(session=session(gcrypt_passphrase=[CHOSEN])),
    ),
    "session: a cookie": (
        ImproperlyConfigured,
        lambda: resolve(
            session=GivenCookie("cookie-x", _gcrypt_identity="x", gcrypt_passphrase=CHOSEN)
        ),
    ),
    "session: a primary key": (ValueError, lambda: resolve(session=session(), pk=SURROGATE)),
    "connect: a url": (ValueError, lambda: connecting(url=SURROGATE, kid=KID, psk=PSK)),
    "connect: a kid": (ValueError, lambda: connecting(kid=b"short", psk=PSK)),
    "connect: a kid in hex": (
        ValueError,
        lambda: connecting(kid="x", psk=base64.b64encode(PSK).decode()),
    ),
    "connect: a profile": (
        ValueError,
        lambda: connecting(profile="gcrypt.v9", psk=PSK, passphrase=CHOSEN),
    ),
    "connect: no server": (ConnectionRefusedError, lambda: connecting(kid=KID, psk=PSK)),
    "connect: no server, v1": (
        ConnectionRefusedError,
        lambda: connecting(profile="gcrypt.v1", passphrase=CHOSEN),
    ),
    "connect: another key": (DecryptionFailed, connecting_to_a_server_without_the_key),
    "site: keys that are none": (KeyRefusedError, connecting_with_keys_that_are_none),
    "site: no site": (OSError, logging_in),
    "site: a wrong password": (NoSessionKey, logging_in_in_vain),
}


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("name", RAISING)
def test_no_report_shows_a_secret(settings: Any, name: str, debug: bool) -> None:
    searched = secrets()
    settings.DEBUG = debug
    error, call = RAISING[name]
    text = report(call)
    assert f"Exception Type: {error.__name__}\n" in text
    assert [each for each in searched if found_in(text, each)] == []


@pytest.mark.parametrize("name", ["passphrases", "shared_passphrases"])
@pytest.mark.parametrize("debug", [False, True])
def test_no_report_shows_a_passphrase_of_the_settings(
    settings: Any, name: str, debug: bool
) -> None:
    settings.GCRYPT_PASSPHRASE = settings.GCRYPT_SHARED_PASSPHRASE = [PASSPHRASE, SURROGATE]
    settings.DEBUG = debug
    text = report(lambda: getattr(conf, name))
    assert "ImproperlyConfigured" in text
    assert not found_in(text, PASSPHRASE)


# The site


@pytest.mark.parametrize("debug", [False, True])
def test_no_report_about_the_key_endpoint_shows_a_secret(
    settings: Any, transactional_db: None, debug: bool
) -> None:
    client = Client()
    client.force_login(User.objects.create_user("alice"))
    stored = client.session
    stored["gcrypt_passphrase"] = CHOSEN + SURROGATE
    stored.save()
    settings.DEBUG = debug
    text = report(lambda: client.post("/gcrypt/key/"))
    assert "ImproperlyConfigured" in text
    for secret in (CHOSEN, *secrets(), stored["_auth_user_hash"]):
        assert not found_in(text, secret)


def test_no_report_about_a_look_up_shows_a_session_or_a_hash(
    settings: Any, transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = SessionStore()
    snapshot = ("1", "django.contrib.auth.backends.ModelBackend", AUTH_HASH)
    names = ("_auth_user_id", "_auth_user_backend", "_auth_user_hash", "gcrypt_passphrase")
    stored.update(zip(names, (*snapshot, CHOSEN), strict=True))
    stored.create()
    stored.save()
    session_key = str(stored.session_key)
    login = Login("id", "1", session_key, snapshot)

    def down(*args: Any, **kwargs: Any) -> None:
        raise OperationalError

    monkeypatch.setattr(User._default_manager, "using", down)
    settings.DEBUG = False
    text = report(lambda: find_ended_logins([login]))
    assert "OperationalError" in text
    for secret in (session_key, AUTH_HASH, CHOSEN):
        assert not found_in(text, secret)
