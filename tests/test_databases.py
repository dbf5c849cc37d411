"""Skipping the visit to the database thread changes nothing: compared with Django and Channels."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.consumer import AsyncConsumer
from channels.db import aclose_old_connections
from channels.generic.websocket import AsyncJsonWebsocketConsumer, JsonWebsocketConsumer
from django.db import DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from gcrypt_channels import EncryptedJsonConsumer, GcryptMiddleware, databases
from gcrypt_channels.protocol.events import Text
from tests.wire import Wire, resolver

ALIAS = "mortal"


@pytest.fixture(autouse=True)
def every_thread_may_use_a_database(django_db_blocker: Any) -> Iterator[None]:
    with django_db_blocker.unblock():
        yield


@pytest.fixture
async def visits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One item for each visit to the database thread, which has no connection to begin with."""
    made: list[str] = []

    def leave_no_connection() -> None:
        for connection in connections.all(initialized_only=True):
            if connection.connection is not None:
                connection.connection.close()  # Django keeps one to a database in memory open
                connection.connection = None
            del connections[connection.alias]

    async def counted() -> None:
        made.append("visit")
        await aclose_old_connections()

    await sync_to_async(leave_no_connection)()
    monkeypatch.setattr(databases, "aclose_old_connections", counted)
    return made


@pytest.fixture(params=[0, 60, None], ids=lambda age: f"CONN_MAX_AGE={age}")
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """A database in a file, beside those of the settings."""
    connections.settings[ALIAS] = {
        **connections.settings["default"],
        "ENGINE": "tests.mortal_database",
        "NAME": str(tmp_path / "database.sqlite3"),
        "CONN_MAX_AGE": request.param,
    }
    yield
    del connections.settings[ALIAS]


# The rule


def state(connection: BaseDatabaseWrapper) -> tuple[Any, ...]:
    return (
        connection.connection,
        connection.health_check_done,  # type: ignore[attr-defined]
        connection.errors_occurred,
        connection.autocommit,
        connection.close_at,
        connection.closed_in_transaction,
        connection.needs_rollback,
    )


GRID = list(
    product(
        (True, False),  # open
        (True, False),  # health_check_done
        (True, False),  # errors_occurred
        (True, False),  # autocommit
        (None, -1.0, 1e9),  # seconds until close_at
        (True, False),  # in_atomic_block
        (True, False),  # usable
    )
)


def test_the_visit_is_skipped_in_no_state_in_which_django_would_do_anything(
    database: None,
) -> None:
    assert len(GRID) == 192
    wrongly_skipped, skipped = [], 0
    for opened, checked, failed, autocommit, age, atomic, usable in GRID:
        connection = connections.create_connection(ALIAS)
        if opened:
            connection.connect()
            connection.autocommit = autocommit
        connection.health_check_done = checked  # type: ignore[attr-defined]
        connection.errors_occurred = failed
        connection.close_at = None if age is None else time.monotonic() + age
        connection.in_atomic_block = atomic
        connection.is_usable = lambda usable=usable: usable  # type: ignore[method-assign,misc]
        raw, before = connection.connection, state(connection)
        may_be_old = databases.may_be_old(connection)
        connection.close_if_unusable_or_obsolete()
        skipped += not may_be_old
        if state(connection) != before and not may_be_old:
            wrongly_skipped.append((opened, checked, failed, autocommit, age, atomic, usable))
        if raw is not None:
            raw.close()
    assert wrongly_skipped == []
    # All that are closed, and those open ones in which nothing is due: 2 ages x atomic x usable.
    assert skipped == 96 + 8


def test_a_connection_that_was_collected_is_not_old() -> None:
    assert not databases.may_be_old(None)


# The visits


class Asking(AsyncJsonWebsocketConsumer):
    """Does what each message names, in the thread of the synchronous code."""

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        await self.send_json(await sync_to_async(globals()[content])())


class SealedAsking(EncryptedJsonConsumer, Asking):
    pass


def query() -> str:
    try:
        with connections[ALIAS].cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return "failed"
    return "answered"


def kill() -> str:
    """The server ends the connection, and Django is not told."""
    if connections[ALIAS].connection is not None:
        connections[ALIAS].connection.close()
    return "killed"


def grow_old() -> str:
    connections[ALIAS].close_at = time.monotonic() - 1
    return "aged"


def stop_autocommit() -> str:
    connections[ALIAS].set_autocommit(False)
    return "set"


def enter_transaction() -> str:
    connections[ALIAS].ensure_connection()
    connections[ALIAS].in_atomic_block = True
    return "entered"


def leave_transaction() -> str:
    connections[ALIAS].in_atomic_block = False
    connections[ALIAS].closed_in_transaction = False
    return "left"


def look() -> list[Any]:
    """What a handler finds of the connection."""
    connection: Any = connections[ALIAS]
    return [
        connection.connection is not None,
        connection.health_check_done,
        connection.errors_occurred,
        connection.autocommit,
    ]


def idle() -> str:
    return "idle"


def forget() -> None:
    """Leave no connection in the thread."""
    if ALIAS in connections.settings:
        leave_transaction()
        connections[ALIAS].close()
        del connections[ALIAS]


LIVES = {
    "used": ["query", "look", "query", "look"],
    "killed": ["query", "kill", "query", "look", "query", "look"],
    "killed twice": ["query", "kill", "query", "kill", "query", "query", "look"],
    "too old": ["query", "grow_old", "look", "query"],
    "autocommit was left off": ["query", "stop_autocommit", "look", "query", "look"],
    "a transaction was left open": [
        *("query", "enter_transaction", "look", "kill", "query", "look"),
        *("query", "look", "leave_transaction", "query", "look"),
    ],
    "too old in a transaction": ["enter_transaction", "grow_old", "look", "query"],
}


async def live(consumer: Any, life: list[str]) -> list[Any]:
    """What ``consumer`` answers, on a server: Channels' communicators leave the connections be."""
    sealed = issubclass(consumer, EncryptedJsonConsumer)
    application = consumer.as_asgi()
    server = Wire(GcryptMiddleware(application, resolver=resolver) if sealed else application)
    await (server.open() if sealed else server.until(1))
    found = []
    for step in life:
        count, text = len(server.sent), json.dumps(step)
        if sealed:
            server.send(text)
        else:
            server.put({"type": "websocket.receive", "text": text})
        await server.until(count + 1)
        [answer] = server.opened(count) if sealed else [Text(server.sent[count]["text"])]
        assert isinstance(answer, Text)
        found.append(json.loads(answer.data))
    server.leave()
    await server.end()
    await sync_to_async(forget)()
    return found


@pytest.mark.parametrize("life", LIVES.values(), ids=LIVES.keys())
async def test_handlers_find_the_database_as_they_do_with_channels(
    database: None, life: list[str]
) -> None:
    assert await live(SealedAsking, life) == await live(Asking, life)


async def test_a_connection_that_died_serves_again_after_one_failure(database: None) -> None:
    connections.settings[ALIAS]["CONN_MAX_AGE"] = None
    life = ["query", "kill", "query", "query"]
    assert await live(SealedAsking, life) == ["answered", "killed", "failed", "answered"]


async def test_no_message_visits_the_thread_while_no_connection_is_open(
    visits: list[str],
) -> None:
    await live(SealedAsking, ["idle"])  # looks for connections once for the whole process
    visits.clear()
    await live(SealedAsking, ["idle"] * 10)
    assert visits == []


async def test_a_connection_in_order_is_visited_once(database: None, visits: list[str]) -> None:
    connections.settings[ALIAS]["CONN_MAX_AGE"] = None
    await live(SealedAsking, ["idle"])
    visits.clear()
    await live(SealedAsking, ["query"] * 10)
    assert visits == ["visit"]  # Django notes that the new connection's health was checked


@pytest.fixture
def connection_of_the_loops_thread(database: None) -> Iterator[None]:
    connections[ALIAS].ensure_connection()  # as an AppConfig.ready() with a query leaves it
    yield
    forget()


async def test_connections_that_the_visit_does_not_reach_cause_none(
    connection_of_the_loops_thread: None, visits: list[str]
) -> None:
    await live(SealedAsking, ["idle"])
    visits.clear()
    await live(SealedAsking, ["idle"] * 10)
    assert visits == []


# Whose dispatch it is


async def test_a_dispatch_of_the_projects_own_keeps_channels_behind_it(
    visits: list[str],
) -> None:
    dispatched = []

    class Own(Asking):
        async def dispatch(self, message: Any) -> None:
            dispatched.append(message["type"])
            await super().dispatch(message)

    class First(EncryptedJsonConsumer, Own):
        pass

    class Last(Own, EncryptedJsonConsumer):
        pass

    for consumer in (First, Last):
        dispatched.clear()
        assert await live(consumer, ["idle"]) == ["idle"]
        assert dispatched == ["websocket.connect", "websocket.receive", "websocket.disconnect"]


async def test_a_synchronous_consumer_runs_in_the_database_thread(
    database: None, visits: list[str]
) -> None:
    class Sync(EncryptedJsonConsumer, JsonWebsocketConsumer):
        def receive_json(self, content: Any, **kwargs: Any) -> None:
            self.send_json(globals()[content]())

    class PlainSync(JsonWebsocketConsumer):
        def receive_json(self, content: Any, **kwargs: Any) -> None:
            self.send_json(globals()[content]())

    visits.clear()
    life = LIVES["killed"]
    assert await live(Sync, life) == await live(PlainSync, life)
    assert visits == []


async def test_a_message_without_a_handler_is_the_error_that_channels_raises() -> None:
    messages = []
    for base in (AsyncConsumer, EncryptedJsonConsumer):
        with pytest.raises(ValueError, match="No handler") as raised:
            await base().dispatch({"type": "nobody.knows"})
        messages.append(str(raised.value))
    assert messages[0] == messages[1]
