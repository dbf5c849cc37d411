"""Random histories of sessions: a key works exactly while its session is the live one.

What Django's session engines, Channels' authentication and this package make of a history is
compared with a model of a few lines.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from channels.auth import AuthMiddlewareStack
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core import signing
from django.test import Client
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gcrypt_channels import keys
from gcrypt_channels.keys import Keyring, SessionKey
from tests.visitors import ENGINES, Socket, announced, key_in, site

HISTORIES = int(os.environ.get("HISTORIES", "50"))
"""For each engine; `make campaign` sets the environment variable to 10,000."""

USERS = ("alice", "bob")
COOKIES_ONLY = "signed_cookies"


class Login:
    """The model of a session: the only thing a key hangs on.

    It is alive until something ends it. Where the cookie is the session, nothing but time and the
    password do: who kept a copy of the cookie goes on.
    """

    def __init__(self, user: str, password: int) -> None:
        self.user = user
        self.password = password
        self.alive = True
        self.key: SessionKey | None = None
        self.cookie = ""


class World:
    """Two browsers, two users, one site; each method is something that happens."""

    def __init__(self, engine: str, clock: Clock) -> None:
        self.engine = engine
        self.clock = clock
        self.browsers = [Client(), Client()]
        self.now: list[Login | None] = [None, None]
        self.logins: list[Login] = []
        self.passwords = dict.fromkeys(USERS, 0)

    # What happens

    def log_in(self, browser: int, user: str) -> None:
        before = self.now[browser]
        self.browsers[browser].post("/login/", {"user": user})
        if before is not None and self.is_live(before) and before.user == user:
            return  # Django lets the session go on
        self.end(before)
        self.begin(browser, user)

    def log_out(self, browser: int, user: str) -> None:
        self.browsers[browser].post("/logout/")
        self.end(self.now[browser])
        self.now[browser] = None

    def flush(self, browser: int, user: str) -> None:
        self.browsers[browser].post("/flush/")
        self.end(self.now[browser])
        self.now[browser] = None

    def change_own_password(self, browser: int, user: str) -> None:
        login = self.now[browser]
        if login is None or not self.is_live(login):
            return
        self.passwords[login.user] += 1
        password = f"password {self.passwords[login.user]}"
        self.browsers[browser].post("/password/", {"password": password, "stay": "yes"})
        self.begin(browser, login.user)

    def reset_password(self, browser: int, user: str) -> None:
        self.passwords[user] += 1
        row = User.objects.get(username=user)
        row.set_password(f"password {self.passwords[user]}")
        row.save()

    def cycle_key(self, browser: int, user: str) -> None:
        login = self.now[browser]
        self.browsers[browser].post("/cycle/")
        if login is not None and self.is_live(login) and self.engine != COOKIES_ONLY:
            self.end(login)
            self.begin(browser, login.user)

    def delete_session(self, browser: int, user: str) -> None:
        login = self.now[browser]
        if login is not None and self.engine != COOKIES_ONLY:
            self.store(browser).delete()
            self.end(login)

    def expire(self, browser: int, user: str) -> None:
        login = self.now[browser]
        if login is None or not self.is_live(login):
            return
        if self.engine == COOKIES_ONLY:
            self.clock.offset += 10_000_000  # seconds; longer than any session
            for each in self.logins:
                each.alive = False
            return
        self.end(login)
        store = self.store(browser)
        if self.engine in ("db", "cached_db"):
            Session.objects.filter(pk=store.session_key).update(expire_date=timezone.now())
        if self.engine in ("cache", "cached_db"):
            store._cache.touch(store.cache_key, 0)
        if self.engine == "file":
            os.utime(store._key_to_file(), (0, 0))

    def fetch_key(self, browser: int) -> None:
        login = self.now[browser]
        client = self.browsers[browser]
        key = key_in(client.post("/gcrypt/key/"))
        assert (key is not None) == (login is not None and self.is_live(login))
        if key is None or login is None:
            return
        assert login.key in (None, key), "one session, one key"
        login.key, login.cookie = key, client.cookies["sessionid"].value

    # The model

    def begin(self, browser: int, user: str) -> None:
        login = Login(user, self.passwords[user])
        self.now[browser] = login
        self.logins.append(login)

    def end(self, login: Login | None) -> None:
        if login is not None and self.engine != COOKIES_ONLY:
            login.alive = False

    def is_live(self, login: Login) -> bool:
        return login.alive and login.password == self.passwords[login.user]

    def store(self, browser: int) -> Any:
        engine = importlib.import_module(f"django.contrib.sessions.backends.{self.engine}")
        return engine.SessionStore(self.browsers[browser].cookies["sessionid"].value)

    # What must hold

    def check(self) -> None:
        """Every key that was ever fetched, behind every cookie that it could be used with."""
        fetched = [login for login in self.logins if login.key is not None]
        assert len({login.key.kid for login in fetched if login.key}) == len(fetched)
        for login in fetched:  # with the cookie of then
            ring = keyring_behind(login.cookie)
            assert works(login.key, ring) == self.is_live(login)
        code = handshake(fetched[-1].cookie, fetched[-1].key)  # one of them on the wire
        assert (code is None) == self.is_live(fetched[-1]), code
        for browser, now in zip(self.browsers, self.now, strict=True):
            cookie = browser.cookies.get("sessionid")
            ring = keyring_behind("" if cookie is None else cookie.value)
            for login in fetched:
                live = login is now and self.is_live(login)
                assert works(login.key, ring) == live


STEPS: list[Callable[[World, int, str], None]] = [
    World.log_in,
    World.log_in,
    World.log_out,
    World.flush,
    World.change_own_password,
    World.reset_password,
    World.cycle_key,
    World.delete_session,
    World.expire,
]

histories = st.lists(
    st.tuples(st.sampled_from(STEPS), st.integers(0, 1), st.sampled_from(USERS), st.booleans()),
    min_size=1,
    max_size=10,
)


def works(key: SessionKey | None, ring: Keyring | None) -> bool:
    return ring is not None and key in ring.session_keys


@async_to_sync
async def keyring_behind(cookie: str) -> Keyring | None:
    """The keys that the server would accept on a socket with this cookie."""
    found: list[Keyring | None] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        found.append(await keys.resolve(scope))

    headers = [(b"cookie", f"sessionid={cookie}".encode())]
    stack: Any = AuthMiddlewareStack(application)
    await stack({"type": "websocket", "headers": headers}, None, None)
    return found[0]


@async_to_sync
async def handshake(cookie: str, key: SessionKey | None) -> int | None:
    """`None` if a socket opens with this cookie and this key, else its close code.

    A thread announces what has ended so far. A notice that is still under way would close the
    socket, where a copy of the cookie of an ended login still opens one: so it is waited for.
    """
    await announced()
    socket = Socket(f"sessionid={cookie}".encode(), "/ws/", key)
    code = await socket.open()
    if code is None:
        await socket.leave()
    return code


class Clock:
    """The time by which Django judges the age of a signed cookie."""

    def __init__(self) -> None:
        self.offset = 0.0

    def time(self) -> float:
        return time.time() + self.offset


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path: Path, db: None) -> Iterator[str]:
    with site(request.param, tmp_path):
        for name in USERS:
            User.objects.create_user(name, password=name)
        yield request.param


@settings(
    max_examples=HISTORIES,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(history=histories)
def test_a_key_works_exactly_while_its_session_is_the_live_one(
    engine: str, history: list[tuple[Callable[[World, int, str], None], int, str, bool]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock()
        patch.setattr(signing, "time", clock)
        world = World(engine, clock)
        for browser, user in enumerate(USERS):
            world.log_in(browser, user)
            world.fetch_key(browser)
        for step, browser, user, wants_key in history:
            step(world, browser, user)
            if wants_key:
                world.fetch_key(browser)
        world.check()  # at the end alone: what begins a history is a history, too
