"""Sockets and sessions: nothing synchronous on the event loop, and nothing is ever written."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import Any

import pytest
from django.contrib.sessions.backends.base import SessionBase
from django.core.cache.backends.locmem import LocMemCache
from django.core.exceptions import SynchronousOnlyOperation
from django.db.backends.utils import CursorWrapper

from gcrypt_channels.sessions import store as session_stores
from tests.visitors import Visitor, sweep_now

WRITING = ("save", "asave", "create", "acreate", "delete", "adelete", "cycle_key", "acycle_key")


def on_an_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@pytest.fixture
def sins(engine: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every synchronous access on an event loop, and every write of a session."""
    found: list[str] = []

    def watch(owner: Any, name: str, *, always: bool) -> None:
        original = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            if always or on_an_event_loop():
                found.append(f"{owner.__name__}.{name}")
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, watched)

    assert "DJANGO_ALLOW_ASYNC_UNSAFE" not in os.environ
    store = session_stores.session_store()
    get_session = vars(SessionBase)["_get_session"]

    def get_session_watched(session: Any, no_load: bool = False) -> Any:
        if not hasattr(session, "_session_cache") and on_an_event_loop():  # else it is in memory
            found.append("SessionBase._get_session")
        return get_session(session, no_load)

    monkeypatch.setattr(SessionBase, "_session", property(get_session_watched))
    watch(store, "load", always=False)
    watch(CursorWrapper, "execute", always=False)
    for name in ("get", "set", "delete", "has_key", "get_many"):
        watch(LocMemCache, name, always=False)
    for name in WRITING:
        watch(store, name, always=True)
    return found


async def test_a_socket_touches_no_session_synchronously_and_writes_none(
    engine: str, sins: list[str]
) -> None:
    alice = await Visitor.logged_in("alice")
    await alice.fetch_key()
    sins.clear()  # the site itself may do what it likes
    socket, other = alice.socket(), alice.socket("/other/")
    assert await socket.open() is None
    assert await other.open() is None
    assert await socket.ask("hello") == "hello"
    await sweep_now()
    await socket.leave()
    assert await other.ask("hello") == "hello"
    await other.leave()
    assert sins == []


async def test_a_refused_socket_touches_no_session_synchronously_and_writes_none(
    engine: str, sins: list[str]
) -> None:
    nobody = Visitor()
    await nobody.client.get("/who/")
    sins.clear()
    assert await nobody.socket().open() == 4401
    assert sins == []


async def test_the_watch_sees_what_it_watches_for(engine: str, sins: list[str]) -> None:
    session = session_stores.session_store()()
    session.get("anything")
    with suppress(SynchronousOnlyOperation):  # Django itself watches over the database
        session.save()
    assert sins[0] == "SessionBase._get_session"
    assert "SessionStore.save" in sins
