from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.auth import AuthMiddlewareStack, logout
from channels.generic.websocket import AsyncWebsocketConsumer
from django.contrib.auth import logout as http_logout
from django.contrib.auth.models import User
from django.contrib.sessions.backends.cache import SessionStore as CacheStore
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone

from gcrypt_channels import (
    EncryptedJsonConsumer,
    GcryptMiddleware,
    broadcast,
    disconnect_session,
    disconnect_user,
    groups,
)
from gcrypt_channels.exceptions import LocalError, TryAgainLater
from gcrypt_channels.hub import sweep
from gcrypt_channels.hub.hub import current_hub
from gcrypt_channels.protocol.events import Text
from gcrypt_channels.revocation import revocation
from gcrypt_channels.revocation.revocation import disconnect_session_sync, disconnect_user_sync
from tests.servers import ROOT
from tests.visitors import IN_DATABASE, Echo, Quiet, Visitor, announced, site, sweep_now

# Reasons


REASONS = ["x" * 124, "é" * 62, "\ud800", 5, None]


@pytest.mark.parametrize("reason", REASONS)
async def test_a_reason_that_cannot_be_sent_ends_nothing(db_engine: None, reason: Any) -> None:
    alice = await Visitor.logged_in("alice")
    socket = await alice.open()
    user = await User.objects.aget(username="alice")
    with pytest.raises(LocalError):
        await disconnect_user(user, reason)
    with pytest.raises(LocalError):
        await disconnect_session(alice.session_key, reason)
    assert await socket.ask("still here") == "still here"
    await socket.leave()


async def test_the_longest_reason_arrives(db_engine: None) -> None:
    socket = await (await Visitor.logged_in("alice")).open()
    await disconnect_user(await User.objects.aget(username="alice"), "é" * 61 + "x")
    assert await socket.closed() == (4401, "é" * 61 + "x")


@pytest.mark.parametrize("how", ["user", "session"])
async def test_a_socket_that_shakes_hands_is_told_no_reason_in_clear(
    db_engine: None, how: str
) -> None:
    alice = await Visitor.logged_in("alice")
    assert await alice.fetch_key() is not None
    socket = alice.socket("/ws/")
    assert await socket.greeting() is not None
    if how == "user":
        await disconnect_user(await User.objects.aget(username="alice"), "SECRET")
    else:
        await disconnect_session(alice.session_key, "SECRET")
    assert await socket.closed() == (4401, "")


# Too many at a time


async def test_a_session_may_shake_hands_on_a_hundred_sockets_at_a_time(
    db_engine: None, caplog: pytest.LogCaptureFixture
) -> None:
    alice, bob = await Visitor.logged_in("alice"), await Visitor.logged_in("bob")
    assert await alice.fetch_key() is not None
    shaking = []
    for _ in range(100):
        socket = alice.socket("/ws/")
        assert await socket.greeting() is not None
        shaking.append(socket)
    refused = alice.socket("/ws/")
    assert await refused.greeting() is None
    assert refused.end == (1013, "")
    assert "too many sockets of the session are shaking hands" in caplog.text
    other = await bob.open()
    await shaking.pop().leave()
    one = await alice.open()  # a handshake that has ended makes room, however it ended
    two = await alice.open()
    assert await two.ask("hello") == "hello"
    for socket in (*shaking, one, two, other):
        await socket.leave()
    assert not current_hub().members.shaking_hands


# What Django tells of


async def test_logout_closes_every_socket_of_the_session_and_no_other(engine: str) -> None:
    alice, elsewhere = await Visitor.logged_in("alice"), await Visitor.logged_in("alice")
    one, two, other = await alice.open(), await alice.open("/other/"), await elsewhere.open()
    await alice.post("/logout/")
    assert await one.closed() == (4401, "logged out")
    assert await two.closed() == (4401, "logged out")
    await sweep_now()
    assert await other.ask("still here") == "still here"
    await other.leave()


async def test_a_login_as_someone_else_closes_the_sockets_of_before(engine: str) -> None:
    browser = await Visitor.logged_in("alice")
    socket = await browser.open()
    await browser.log_in("bob")
    code, _ = await socket.closed()
    assert code == 4401
    again = await browser.open()
    assert await again.ask("as bob") == "as bob"
    await again.leave()


async def test_a_login_ends_what_the_anonymous_session_had(engine: str, settings: Any) -> None:
    settings.GCRYPT = {**settings.GCRYPT, "ANONYMOUS": True}
    browser = Visitor()
    socket = await browser.open()
    await browser.log_in("alice")
    code, _ = await socket.closed()
    assert code == 4401


@pytest.fixture
def settle_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """New connections are looked up before the test goes on, so that only news can end them."""
    monkeypatch.setattr(sweep, "RECHECK_DELAY", 0)


async def test_a_changed_password_closes_the_sockets_of_all_sessions(
    engine: str, settle_at_once: None
) -> None:
    here, elsewhere = await Visitor.logged_in("alice"), await Visitor.logged_in("alice")
    sockets = [await here.open(), await elsewhere.open()]
    await sweep_now()
    await here.post("/password/", password="another", stay="yes")
    for socket in sockets:
        assert (await socket.closed())[0] == 4401
    assert await here.who() == "alice"
    again = await here.open()
    assert await again.ask("hello") == "hello"
    await again.leave()
    assert await elsewhere.fetch_key() is None


async def test_a_flush_closes_the_sockets(engine: str) -> None:
    alice = await Visitor.logged_in("alice")
    socket = await alice.open()
    await alice.post("/flush/")
    if engine == "signed_cookies":
        # The cookie is all there is, and nobody can take it from who has a copy of it.
        await sweep_now()
        assert await socket.ask("still here") == "still here"
        await socket.leave()
        return
    if engine not in IN_DATABASE:
        await sweep_now()
    assert await socket.closed() == (4401, "session ended")


async def test_a_new_session_key_closes_the_sockets_of_the_old_one(engine: str) -> None:
    alice = await Visitor.logged_in("alice")
    socket = await alice.open()
    await alice.post("/cycle/")
    if engine == "signed_cookies":
        await sweep_now()
        assert await socket.ask("still here") == "still here"
        await socket.leave()
        return
    if engine not in IN_DATABASE:
        await sweep_now()
    assert await socket.closed() == (4401, "session ended")
    again = await alice.open()
    assert await again.ask("hello") == "hello"
    await again.leave()


async def test_a_deactivated_user_is_disconnected(engine: str, settle_at_once: None) -> None:
    alice = await Visitor.logged_in("alice")
    socket = await alice.open()
    await sweep_now()
    user = await User.objects.aget(username="alice")
    user.is_active = False
    await user.asave()
    assert await socket.closed() == (4401, "session ended")


async def test_a_deleted_user_is_disconnected(engine: str) -> None:
    alice = await Visitor.logged_in("alice")
    socket = await alice.open()
    await User.objects.filter(username="alice").adelete()
    assert await socket.closed() == (4401, "account deleted")


async def test_a_user_who_is_saved_without_a_reason_to_go_stays(engine: str) -> None:
    alice = await Visitor.logged_in("alice")
    socket = await alice.open()
    user = await User.objects.aget(username="alice")
    user.first_name = "Alice"
    await user.asave()
    await announced()
    await sweep_now()
    assert await socket.ask("still here") == "still here"
    await socket.leave()


async def test_a_logout_by_a_consumer_closes_the_other_sockets_of_the_session(
    db_engine: None,
) -> None:
    class Leaver(EncryptedJsonConsumer, AsyncWebsocketConsumer):
        async def receive(
            self, text_data: str | None = None, bytes_data: bytes | None = None
        ) -> None:
            await logout(self.scope)

    alice = await Visitor.logged_in("alice")
    other = await alice.open()
    leaver = alice.socket()
    leaver.application = AuthMiddlewareStack(GcryptMiddleware(Leaver.as_asgi()))
    assert await leaver.open() is None
    await leaver.send_text("bye")
    assert await other.closed() == (4401, "session ended")
    assert await leaver.closed() == (4401, "session ended")


async def test_a_synchronous_logout_on_an_event_loop_is_heard(users: None, tmp_path: Path) -> None:
    with site("cache", tmp_path):
        alice = await Visitor.logged_in("alice")
        socket = await alice.open()
        request = HttpRequest()
        request.session = CacheStore(alice.session_key)
        request.user = await User.objects.aget(username="alice")
        http_logout(request)
        assert await socket.closed() == (4401, "logged out")


async def test_what_is_rolled_back_is_not_told(db_engine: None) -> None:
    alice = await Visitor.logged_in("alice")
    socket = await alice.open()

    @sync_to_async
    def end_sessions_and_think_better_of_it() -> None:
        with transaction.atomic():
            Session.objects.all().delete()
            user = User.objects.get(username="alice")
            user.set_password("another")
            user.save()
            transaction.set_rollback(True)

    await end_sessions_and_think_better_of_it()
    await announced()
    await sweep_now()
    assert await socket.ask("still here") == "still here"
    await socket.leave()


async def test_what_is_committed_is_told_then(db_engine: None) -> None:
    alice = await Visitor.logged_in("alice")
    socket = await alice.open()

    (connection,) = current_hub().members.connections

    @sync_to_async
    def end_sessions() -> None:
        with transaction.atomic():
            Session.objects.all().delete()
            revocation._announcer.submit(lambda: None).result()
            assert not connection.closed

    await end_sessions()
    assert await socket.closed() == (4401, "session ended")


async def test_deleting_many_sessions_takes_few_messages(
    db_engine: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    published: list[int] = []
    publish = groups.publish_control

    async def count(message: dict[str, Any]) -> None:
        published.append(len(message["sessions"]))
        await publish(message)

    monkeypatch.setattr(revocation, "publish_control", count)
    later = timezone.now() + timedelta(days=1)
    await Session.objects.abulk_create(
        Session(session_key=f"{n:032}", session_data="", expire_date=later) for n in range(2000)
    )
    await Session.objects.all().adelete()
    await announced()
    assert sum(published) == 2000
    assert max(published) <= revocation.MAX_NOTICES
    assert len(published) < 200


async def test_clearsessions_announces_nothing(
    db_engine: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    announced: list[revocation.Notice] = []
    monkeypatch.setattr("gcrypt_channels.revocation.receivers.announce", announced.append)
    past = timezone.now() - timedelta(days=1)
    await Session.objects.acreate(session_key="0" * 32, session_data="", expire_date=past)
    await sync_to_async(call_command)("clearsessions")
    assert not await Session.objects.aexists()
    assert announced == []


async def test_a_login_is_not_taken_for_a_change_of_the_user(
    db_engine: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    announced: list[revocation.Notice] = []
    monkeypatch.setattr("gcrypt_channels.revocation.receivers.announce", announced.append)
    await Visitor.logged_in("alice")  # Django saves last_login
    assert announced == []


async def test_a_receiver_that_fails_does_not_fail_the_logout(
    db_engine: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("no way")

    monkeypatch.setattr("gcrypt_channels.revocation.receivers.session_store", fail)
    alice = await Visitor.logged_in("alice")
    assert (await alice.post("/logout/")).status_code == 200
    assert "end of a session was not announced" in caplog.text


async def test_a_channel_layer_that_is_down_delays_no_logout_and_keeps_no_socket_here(
    db_engine: None, settings: Any, caplog: pytest.LogCaptureFixture, closed_port: int
) -> None:
    settings.CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {"hosts": [f"redis://127.0.0.1:{closed_port}/0"]},
        }
    }
    alice = await Visitor.logged_in("alice")
    socket = alice.socket(key=await alice.fetch_key())
    socket.application = AuthMiddlewareStack(GcryptMiddleware(Quiet.as_asgi()))
    assert await socket.open() is None
    await alice.post("/logout/")
    assert await socket.closed() == (4401, "logged out")
    await announced()
    assert "Other processes may not know" in caplog.text


async def test_an_application_hears_that_a_channel_layer_is_down(
    db_engine: None, settings: Any, closed_port: int
) -> None:
    settings.CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {"hosts": [f"redis://127.0.0.1:{closed_port}/0"]},
        }
    }
    alice = await Visitor.logged_in("alice")
    socket = alice.socket(key=await alice.fetch_key())
    socket.application = AuthMiddlewareStack(GcryptMiddleware(Quiet.as_asgi()))
    assert await socket.open() is None
    with pytest.raises(TryAgainLater):
        await disconnect_user(await User.objects.aget(username="alice"))
    assert await socket.closed() == (4401, "disconnected")


async def test_without_a_channel_layer_this_process_is_told(db_engine: None, settings: Any) -> None:
    settings.CHANNEL_LAYERS = {}
    alice = await Visitor.logged_in("alice")
    socket = alice.socket(key=await alice.fetch_key())
    socket.application = AuthMiddlewareStack(GcryptMiddleware(Quiet.as_asgi()))
    assert await socket.open() is None
    await alice.post("/logout/")
    assert await socket.closed() == (4401, "logged out")


# What the application tells of


@pytest.mark.parametrize("call", ["async", "sync"])
async def test_an_application_can_disconnect_a_user(engine: str, call: str) -> None:
    alice, elsewhere, bob = [await Visitor.logged_in(name) for name in ("alice", "alice", "bob")]
    sockets = [await alice.open(), await elsewhere.open()]
    other = await bob.open()
    user = await User.objects.aget(username="alice")
    if call == "async":
        await disconnect_user(user)
    else:
        await sync_to_async(disconnect_user_sync)(user)
    for socket in sockets:
        assert await socket.closed() == (4401, "disconnected")
    assert await other.ask("still here") == "still here"
    await other.leave()


@pytest.mark.parametrize("call", ["async", "sync"])
async def test_an_application_can_disconnect_a_session(engine: str, call: str) -> None:
    alice, elsewhere = await Visitor.logged_in("alice"), await Visitor.logged_in("alice")
    socket, other = await alice.open(), await elsewhere.open()
    if call == "async":
        await disconnect_session(alice.session_key, "tea time")
    else:
        await sync_to_async(disconnect_session_sync)(alice.session_key, "tea time")
    assert await socket.closed() == (4401, "tea time")
    assert await other.ask("still here") == "still here"
    await other.leave()


def test_disconnecting_works_where_there_is_no_event_loop_and_no_socket(users: None) -> None:
    disconnect_user_sync(User.objects.get(username="alice"))
    disconnect_session_sync("0" * 32)


# After the end


async def test_messages_that_wait_for_a_slow_client_are_dropped(db_engine: None) -> None:
    alice, bob = await Visitor.logged_in("alice"), await Visitor.logged_in("bob")
    other = await bob.open()
    await alice.fetch_key()
    slow = alice.socket()
    slow._output_queue = asyncio.Queue(1)  # one frame fits
    assert await slow.open() is None
    for n in range(5):
        await broadcast("everyone", n)
    for n in range(5):
        assert await other.event() == Text(str(n))
    await disconnect_user(await User.objects.aget(username="alice"))
    await sweep_now()  # by its end, what was told above has been done
    events = [await slow.event()]
    while events[-1] is not None:
        events.append(await slow.event())
    # One frame lay in the queue and one was about to: these two have their counters.
    assert events == [Text("0"), Text("1"), None]
    assert slow.end == (4401, "disconnected")
    await other.leave()


async def test_nothing_is_delivered_in_either_direction_afterwards(engine: str) -> None:
    Echo.received.clear()
    alice, bob = await Visitor.logged_in("alice"), await Visitor.logged_in("bob")
    socket, other = await alice.open(), await bob.open()
    await disconnect_user(await User.objects.aget(username="alice"))
    await socket.send_text("too late")
    await broadcast("everyone", "after the end")
    event = await other.event()
    assert event == Text('"after the end"')
    assert await socket.closed() == (4401, "disconnected")
    assert Echo.received == []
    assert socket.output_queue.empty()
    await other.leave()


def test_a_project_without_sessions_starts() -> None:
    script = """
import django
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "gcrypt_channels"]
)
django.setup()
"""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, timeout=60, check=True)


FORK = """
import os
import django
django.setup()
from gcrypt_channels.revocation import revocation

async def publish(message):
    for each in message["users"]:
        who = "parent" if os.getpid() == parent else "child"
        os.write(1, f"{who} {each}\\n".encode())  # at once: two processes share the pipe

parent = os.getpid()
revocation.publish_control = publish
revocation.announce(revocation.Notice("users", "1"))
revocation._announcer.submit(int).result()
child = os.fork()
revocation.announce(revocation.Notice("users", "2" if child else "3"))
revocation._announcer.shutdown()
if child:
    os.waitpid(child, 0)
"""


def test_a_forked_process_tells_its_own_news() -> None:
    """Servers fork their workers, and a thread of the parent is none of the child."""
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert sorted(told.stdout.splitlines()) == ["child 3", "parent 1", "parent 2"]
