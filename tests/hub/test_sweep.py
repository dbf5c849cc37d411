from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from channels.auth import AuthMiddlewareStack
from channels.layers import get_channel_layer
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.cache.backends.locmem import LocMemCache
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from gcrypt_channels import (
    GcryptMiddleware,
)
from gcrypt_channels.hub import sweep
from gcrypt_channels.hub.hub import current_hub
from gcrypt_channels.hub.sweep import MAX_FAILURES, Sweep
from gcrypt_channels.layers.envelope import CONTROL_GROUP, MessageKind
from gcrypt_channels.layers.sender import send
from gcrypt_channels.sessions import store as session_stores
from tests.visitors import IN_DATABASE, Quiet, Visitor, announced, site, sweep_now


async def test_the_sweep_happens_by_itself(db_engine: None, settings: Any) -> None:
    settings.GCRYPT = {**settings.GCRYPT, "REVALIDATE_INTERVAL": 0.05}
    alice = await Visitor.logged_in("alice")
    socket = await alice.open()
    await execute("DELETE FROM django_session")
    assert await socket.closed() == (4401, "session ended")


async def test_a_control_message_that_was_lost_is_made_up_for(
    db_engine: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await Visitor.logged_in("alice")
    socket = await alice.open()
    layer: Any = get_channel_layer()

    async def lose(*args: object) -> None: ...

    with monkeypatch.context() as loss:
        loss.setattr(layer, "group_send", lose)
        await send(layer, CONTROL_GROUP, MessageKind.CONTROL, b'{"op": "of another process"}')
    await execute("DELETE FROM django_session")
    await send(layer, CONTROL_GROUP, MessageKind.CONTROL, b'{"op": "of another process"}')
    assert await socket.closed() == (4401, "session ended")


async def test_a_row_that_is_gone_is_noticed(users: None, tmp_path: Path) -> None:
    for engine in IN_DATABASE:
        with site(engine, tmp_path):
            alice = await Visitor.logged_in("alice")
            socket = await alice.open()
            await execute("DELETE FROM django_session")
            await sweep_now()
            assert await socket.closed() == (4401, "session ended")


async def test_a_deactivation_that_django_does_not_tell_of_is_noticed(engine: str) -> None:
    alice = await Visitor.logged_in("alice")
    socket = await alice.open()
    await User.objects.filter(username="alice").aupdate(is_active=False)
    await sweep_now()
    assert await socket.closed() == (4401, "session ended")


async def test_a_password_that_django_does_not_tell_of_is_noticed(engine: str) -> None:
    alice = await Visitor.logged_in("alice")
    socket = await alice.open()
    await User.objects.filter(username="alice").aupdate(password="md5$a$b")
    await sweep_now()
    assert await socket.closed() == (4401, "session ended")


async def test_expiry_closes_the_sockets(engine: str, settings: Any) -> None:
    alice = await Visitor.logged_in("alice")
    socket = await alice.open()
    await expire(engine, alice, settings)
    await sweep_now()
    assert await socket.closed() == (4401, "session ended")


async def expire(engine: str, who: Visitor, settings: Any) -> None:
    """Let the session of `who` have expired, as its engine sees it."""
    store = session_stores.session_store()(who.session_key)
    if engine in IN_DATABASE:
        past = timezone.now() - timedelta(seconds=1)
        await Session.objects.filter(pk=who.session_key).aupdate(expire_date=past)
    elif engine == "cache":
        await store._cache.adelete(await store.acache_key())  # type: ignore[attr-defined]
    else:
        settings.SESSION_COOKIE_AGE = -1


async def test_the_log_says_why_a_login_ended(
    db_engine: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="gcrypt_channels")
    alice = await Visitor.logged_in("alice")
    socket = await alice.open()
    await Session.objects.all().adelete()
    await sweep_now()
    assert await socket.closed() == (4401, "session ended")
    assert "'/ws/': closed with 4401, the login ended: 'session ended'." in caplog.messages


async def test_a_session_that_was_emptied_is_noticed(users: None, tmp_path: Path) -> None:
    for engine in ("db", "cached_db", "cache", "file"):
        with site(engine, tmp_path):
            alice = await Visitor.logged_in("alice")
            socket = await alice.open()
            store = session_stores.session_store()(alice.session_key)
            await store.aget("load it")
            store.clear()
            await store.asave()
            await sweep_now()
            assert await socket.closed() == (4401, "session ended")


async def test_a_logout_between_reading_the_session_and_registering_is_noticed(
    engine: str,
) -> None:
    alice, bob = await Visitor.logged_in("alice"), await Visitor.logged_in("bob")
    other = await bob.open()  # so that the process has looked around already
    inner = GcryptMiddleware(Quiet.as_asgi())

    async def logout_meanwhile(scope: Any, receive: Any, send: Any) -> None:
        await alice.post("/logout/")
        await announced()
        await inner(scope, receive, send)

    socket = alice.socket(key=await alice.fetch_key())
    socket.application = AuthMiddlewareStack(logout_meanwhile)
    assert await socket.open() is None
    if engine == "signed_cookies":
        await sweep_now()
        await socket.leave()
    else:
        assert await socket.closed() == (4401, "session ended")
    await other.leave()


async def test_a_sweep_takes_two_queries_however_many_sessions_there_are(db_engine: None) -> None:
    visitors = [await Visitor.logged_in(name) for name in ("alice", "bob") for _ in range(10)]
    sockets = [await each.open() for each in visitors for _ in range(2)]
    count = await queries(sweep_now)
    assert count == 2
    for socket in sockets:
        await socket.leave()


async def test_sessions_in_a_cache_are_asked_for_all_at_once(
    users: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    get_many = LocMemCache.get_many

    def count(cache: LocMemCache, keys: Any, *args: Any) -> dict[str, Any]:
        asked.append(len(keys))
        return get_many(cache, keys, *args)

    with site("cache", tmp_path):
        sockets = [await (await Visitor.logged_in("alice")).open() for _ in range(5)]
        monkeypatch.setattr(LocMemCache, "get_many", count)
        await sweep_now()
        assert asked == [5]
        for socket in sockets:
            await socket.leave()


@pytest.mark.parametrize("engine", ["db", "cache"], indirect=True)
async def test_a_store_that_is_down_closes_with_1013_and_only_after_a_while(
    engine: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def down(*args: object) -> None:
        raise ConnectionError("the store is down")

    alice = await Visitor.logged_in("alice")
    socket = await alice.open()
    if engine == "cache":
        monkeypatch.setattr(LocMemCache, "get_many", down)
    else:
        await execute("ALTER TABLE django_session RENAME TO elsewhere")
    for _ in range(MAX_FAILURES - 1):
        await sweep_now()
        assert await socket.ask("still here") == "still here"
    await sweep_now()
    if engine == "db":
        await execute("ALTER TABLE elsewhere RENAME TO django_session")
    assert await socket.closed() == (1013, "try again later")
    assert "Sessions could not be looked up" in caplog.text
    assert "Closed with 1013: 1 connections. The session store or the database" in caplog.text


async def test_one_sweep_that_works_forgives_those_that_failed(db_engine: None) -> None:
    alice = await Visitor.logged_in("alice")
    socket = await alice.open()
    for _ in range(MAX_FAILURES):
        await execute("ALTER TABLE django_session RENAME TO elsewhere")
        await sweep_now()
        await execute("ALTER TABLE elsewhere RENAME TO django_session")
        await sweep_now()
    assert await socket.ask("still here") == "still here"
    await socket.leave()


async def test_a_sweep_that_follows_an_outage_is_no_reason_to_close(db_engine: None) -> None:
    """However often the channel layer fails, connections have the time of several intervals."""
    alice = await Visitor.logged_in("alice")
    socket = await alice.open()
    tasks = set[asyncio.Task[None]]()
    swept = Sweep(current_hub().members, lambda work: tasks.add(asyncio.create_task(work)))
    await execute("ALTER TABLE django_session RENAME TO elsewhere")
    for _ in range(MAX_FAILURES + 1):
        await swept.run(is_periodic=False)
    await execute("ALTER TABLE elsewhere RENAME TO django_session")
    assert await socket.ask("still here") == "still here"
    assert not tasks
    await socket.leave()


async def test_a_look_up_of_a_new_connection_that_failed_is_made_again(
    db_engine: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sweep, "RETRY_DELAY", 0.1)
    alice = await Visitor.logged_in("alice")
    socket = await alice.open()
    await execute("ALTER TABLE django_session RENAME TO elsewhere")
    current_hub().recheck_soon(current_hub().members.connections)
    while "tried again" not in caplog.text:  # noqa: ASYNC110 - a log has no event
        await asyncio.sleep(0.01)
    await execute("DELETE FROM elsewhere")
    await execute("ALTER TABLE elsewhere RENAME TO django_session")
    assert await socket.closed() == (4401, "session ended")


async def execute(sql: str) -> None:
    """Change the database behind Django's back."""

    @sync_to_async
    def run() -> None:
        with connection.cursor() as cursor:
            cursor.execute(sql)

    await run()


async def queries(work: Callable[[], Awaitable[None]]) -> int:
    """How many queries `work` makes in the thread of synchronous code."""

    @sync_to_async
    def count() -> int:
        with CaptureQueriesContext(connection) as captured:
            async_to_sync(work)()
            return len(captured)

    return await count()
