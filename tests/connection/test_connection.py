from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from typing import Any

import pytest

from gcrypt_channels import GcryptMiddleware
from gcrypt_channels.connection import connection as connection_module
from gcrypt_channels.connection import connection as connections
from gcrypt_channels.connection.connection import Connection
from gcrypt_channels.connection.facade import connection_of
from gcrypt_channels.connection.inbox import CAPACITY, GAP_EVENT
from gcrypt_channels.exceptions import LocalError, MessageTooBig
from gcrypt_channels.hub.hub import current_hub
from gcrypt_channels.protocol.events import Accepted, Closed, Gap, Text
from tests.wire import Wire, resolver

V1, V2 = "gcrypt.v1", "gcrypt.v2"


class Application:
    """Accepts, hands its connection to the test, and collects what it receives."""

    def __init__(self, *, accepts: bool = True, reads: bool = True) -> None:
        self.accepts = accepts
        self.reads = reads
        self.received: list[Any] = []
        self.connection: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
        self.done = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        connection = connection_of(scope["gcrypt"])
        assert connection is not None
        connection.seals = True  # as the mixin does
        assert (await receive())["type"] == "websocket.connect"
        if self.accepts:
            await connection.send({"type": "websocket.accept"})
        self.connection.set_result(connection)
        if not self.reads:
            await self.done.wait()
        while not self.received or self.received[-1]["type"] != "websocket.disconnect":
            self.received.append(await receive())


class Gate:
    """Holds the server up, as a full socket does."""

    def __init__(self, server: Wire) -> None:
        self.event = asyncio.Event()
        self.reached = asyncio.Event()
        server.before = self.wait

    async def wait(self) -> None:
        self.reached.set()
        await self.event.wait()


async def connected(application: Application) -> tuple[Wire, Connection]:
    server = Wire(GcryptMiddleware(application, resolver=resolver))
    if application.accepts:
        await server.open()
    else:
        await server.handshake()
    return server, await application.connection


def text(message: str) -> dict[str, str]:
    return {"type": "websocket.send", "text": message}


# Order


async def test_fifty_tasks_at_once_never_misorder() -> None:
    server, connection = await connected(Application())
    server.before = server.after = lambda: asyncio.sleep(0)
    messages = [f"{number}:" + "x" * (number % 3 * 200_000) for number in range(50)]
    await asyncio.gather(*(connection.send(text(message)) for message in messages))
    assert [event for event in server.opened(3) if event] == [Text(each) for each in messages]
    server.leave()
    await server.end()


async def test_threads_with_loops_of_their_own_never_misorder() -> None:
    server, connection = await connected(Application())
    server.before = server.after = lambda: asyncio.sleep(0)

    def work(name: int) -> None:
        async def send() -> None:
            for number in range(20):
                await connection.send(text(f"{name}:{number}"))

        asyncio.run(send())

    loop = asyncio.get_running_loop()
    await asyncio.gather(*(loop.run_in_executor(None, work, name) for name in range(4)))
    received = [event.data for event in server.opened(3) if isinstance(event, Text)]
    for name in range(4):
        own = [each for each in received if each.startswith(f"{name}:")]
        assert own == [f"{name}:{number}" for number in range(20)]
    server.leave()
    await server.end()


@pytest.mark.parametrize("seed", range(20))
async def test_cancelled_senders_leave_the_session_in_step(seed: int) -> None:
    """Wherever the server suspends and whenever a sender is cancelled."""
    chance = random.Random(seed)

    async def pause() -> None:
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)

    server, connection = await connected(Application())
    server.before = server.after = pause
    messages = [f"{number}:" + "x" * chance.choice([1, 300_000]) for number in range(30)]
    senders = [asyncio.create_task(connection.send(text(message))) for message in messages]
    cancelled = chance.sample(range(30), 15)
    for number in cancelled:
        await pause()
        senders[number].cancel()
    await asyncio.gather(*senders, return_exceptions=True)
    await connection.send(text("last"))
    received = [event.data for event in server.opened(3) if isinstance(event, Text)]
    assert received.pop() == "last"
    assert received == sorted(received, key=messages.index)
    kept = [messages[number] for number in range(30) if number not in cancelled]
    assert [each for each in received if each in kept] == kept
    server.leave()
    await server.end()


async def test_a_sender_waits_for_the_server() -> None:
    server, connection = await connected(Application())
    gate = asyncio.Event()

    async def gated() -> None:
        await gate.wait()

    server.after = gated
    sender = asyncio.create_task(connection.send(text("slow")))
    await server.until(4)
    assert not sender.done()
    gate.set()
    await sender
    server.leave()
    await server.end()


# What cannot be sent


async def test_a_message_over_the_clients_limit_raises_and_the_next_one_arrives() -> None:
    server, connection = await connected(Application())
    connection._session.peer_max_message = 1024
    with pytest.raises(MessageTooBig):
        await connection.send(text("x" * 1025))
    await connection.send(text("small"))
    assert server.opened(3) == [Text("small")]
    server.leave()
    await server.end()


async def test_text_without_a_utf8_form_raises_and_the_next_one_arrives() -> None:
    server, connection = await connected(Application())
    with pytest.raises(LocalError):
        await connection.send(text("\ud800"))
    await connection.send(text("small"))
    assert server.opened(3) == [Text("small")]
    server.leave()
    await server.end()


@pytest.mark.parametrize(
    "event", [{"type": "websocket.send"}, {"type": "http.response.start"}, {"type": "anything"}]
)
async def test_an_event_without_a_meaning_is_refused(event: Any) -> None:
    server, connection = await connected(Application())
    with pytest.raises(ValueError, match=r"websocket\.send|WebSocket"):
        await connection.send(event)
    server.leave()
    await server.end()


async def test_a_client_that_went_while_something_was_sent_ends_the_connection() -> None:
    """The application is not interrupted; it hears of the end by its disconnect event."""
    application = Application()
    server, connection = await connected(application)
    server.before = lambda: asyncio.sleep(0)
    server.broken = OSError("the client is gone")
    await asyncio.gather(*(connection.send(text("lost")) for _ in range(3)))
    server.broken = None
    await connection.send(text("too late"))  # nothing can follow a frame that was lost
    assert len(server.sent) == 3
    server.send("what it had sent before")
    server.leave(1006)
    await server.end()
    assert application.received == [
        {"type": "websocket.receive", "text": "what it had sent before"},
        {"type": "websocket.disconnect", "code": 1006, "reason": ""},
    ]


@pytest.mark.parametrize("suspends", [False, True])
async def test_a_send_of_the_server_that_is_cancelled_is_the_end_of_the_connection(
    suspends: bool,
) -> None:
    """Its frame may be lost, and nothing could be opened behind it."""
    application = Application()
    server, connection = await connected(application)
    if suspends:
        server.before = lambda: asyncio.sleep(0)
    server.broken = asyncio.CancelledError()
    await connection.send(text("lost"))
    server.broken = None
    await connection.send(text("too late"))
    assert len(server.sent) == 3
    server.leave(1006)
    await server.end()
    assert application.received == [
        {"type": "websocket.disconnect", "code": 1006, "reason": ""},
    ]


async def test_a_client_that_went_is_reported_even_if_the_server_never_tells(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection_module, "END_TIMEOUT", 0)
    application = Application()
    server, connection = await connected(application)
    server.broken = OSError("the client is gone")
    await connection.send(text("lost"))
    await server.end()
    assert application.received == [
        {"type": "websocket.disconnect", "code": 1006, "reason": ""},
    ]


# The end


async def test_close_goes_behind_what_was_sent_and_happens_once() -> None:
    application = Application()
    server, connection = await connected(application)
    server.before = lambda: asyncio.sleep(0)
    sending = asyncio.create_task(connection.send(text("first")))
    await asyncio.sleep(0)
    await asyncio.gather(connection.close(4001, "one"), connection.close(4002, "two"))
    await sending
    await connection.send(text("behind the end"))
    await server.end()
    assert server.opened(3) == [Text("first"), Closed(4001, "one")]
    assert server.close == {"type": "websocket.close", "code": 4001, "reason": ""}
    assert application.received == [{"type": "websocket.disconnect", "code": 4001, "reason": "one"}]


async def test_abort_drops_what_still_waits_and_keeps_what_is_under_way() -> None:
    application = Application()
    server, connection = await connected(application)
    gate = Gate(server)
    senders = [
        asyncio.create_task(connection.send(text(message))) for message in ("under way", "waits")
    ]
    await gate.reached.wait()
    connection.deliver("news", {"type": "news"})
    connection.abort(4401, "logged out")
    gate.event.set()
    await asyncio.gather(*senders)
    await server.end()
    assert server.opened(3) == [Text("under way"), Closed(4401, "logged out")]
    assert [event["type"] for event in application.received] == ["websocket.disconnect"]
    assert connection.close_code == 4401


@pytest.mark.parametrize(("profile", "reason"), [(V2, ""), (V1, "told")])
async def test_a_reason_is_in_the_clear_only_where_nothing_else_tells_it(
    profile: str, reason: str
) -> None:
    application = Application()
    server = Wire(GcryptMiddleware(application, resolver=resolver), subprotocols=[profile])
    if profile == V2:
        await server.open()
    await (await application.connection).close(4001, "told")
    await server.end()
    assert server.close == {"type": "websocket.close", "code": 4001, "reason": reason}


async def test_nothing_is_delivered_behind_the_end() -> None:
    application = Application()
    server, connection = await connected(application)
    connection.abort(4401)
    server.send("late")
    connection.deliver("news", {"type": "news"})
    connection.push("news", '"late"', 6)
    connection.tell_gap("news", 1)
    await server.end()
    assert server.opened(3) == [Closed(4401, "")]
    assert [event["type"] for event in application.received] == ["websocket.disconnect"]


async def test_a_frame_behind_the_end_is_not_delivered_to_one_who_goes_on_reading() -> None:
    server, connection = await connected(Application(reads=False))
    connection.abort(4401)
    server.send("late")
    server.leave(1006)
    assert (await connection.receive())["code"] == 4401
    assert (await connection.receive())["code"] == 4401  # the server tells of it as well
    server.task.cancel()


async def test_a_message_under_way_ends_between_its_frames() -> None:
    """Nothing more of it is sent to a login that has ended; then no sealed close can follow it."""
    server, connection = await connected(Application())
    gate = Gate(server)
    sending = asyncio.create_task(connection.send(text("x" * 1_000_000)))
    await gate.reached.wait()
    connection.abort(4401, "logged out")
    gate.event.set()
    await sending
    await server.end()
    assert [event["type"] for event in server.sent[3:]] == ["websocket.send", "websocket.close"]
    assert server.close == {"type": "websocket.close", "code": 4401, "reason": ""}
    assert not connection.authentic


async def test_a_client_that_does_not_read_cannot_keep_a_connection_that_has_ended(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connections, "WRITE_TIMEOUT", 0.01)
    server, connection = await connected(Application())
    gate = Gate(server)
    sending = asyncio.create_task(connection.send(text("never read")))
    await gate.reached.wait()
    connection.abort(4401, "logged out")
    await server.end()
    await sending
    assert "the client does not read" in caplog.text


async def test_a_client_that_reads_slowly_gets_what_was_sent_before_the_close(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "WRITE_TIMEOUT", 0.2)
    server, connection = await connected(Application())
    server.before = lambda: asyncio.sleep(0.05)  # each of nine frames within the limit
    sending = asyncio.create_task(connection.send(text("x" * 1_000_000)))
    await asyncio.sleep(0)
    await connection.close(4001)
    await sending
    await server.end()
    assert [event for event in server.opened(3) if event] == [
        Text("x" * 1_000_000),
        Closed(4001, ""),
    ]


async def test_the_hub_forgets_a_connection_that_has_ended_before_its_application_returns() -> None:
    application = Application(reads=False)
    server, connection = await connected(application)
    assert connection in current_hub().members.connections
    server.leave()
    connection.abort(4401)
    assert connection.forgotten is not None
    await connection.forgotten
    assert not current_hub().members.connections
    assert not server.task.done()
    application.done.set()
    await server.end()


async def test_an_application_that_goes_on_behind_the_end_is_cancelled(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is cancelled again and again: redis-py may swallow the first."""
    monkeypatch.setattr(connections, "APPLICATION_TIMEOUT", 0.01)
    swallowed: list[str] = []

    async def stubborn(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "websocket.disconnect":
            pass
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            swallowed.append("once")
        await asyncio.Event().wait()

    server = Wire(GcryptMiddleware(stubborn, resolver=resolver))
    await server.handshake()
    server.leave()
    await server.end()
    assert swallowed == ["once"]
    assert "did not end and is cancelled" in caplog.text


async def test_a_refusal_is_an_authenticated_close_without_an_accept() -> None:
    server, connection = await connected(Application(accepts=False))
    await connection.close(4123, "not today")
    await server.end()
    assert server.opened(2) == [Closed(4123, "not today")]
    assert server.close["code"] == 4123


async def test_a_classic_refusal_is_accepted_first() -> None:
    application = Application(accepts=False)
    server = Wire(GcryptMiddleware(application, resolver=resolver), subprotocols=[V1])
    connection = await application.connection
    await connection.close(4123, "not today")
    await server.end()
    assert server.sent == [
        {"type": "websocket.accept", "subprotocol": V1},
        {"type": "websocket.close", "code": 4123, "reason": "not today"},
    ]


# Group messages: a client that reads slowly


async def test_push_never_waits_and_keeps_the_order_with_the_consumers_own() -> None:
    server, connection = await connected(Application())
    gate = Gate(server)
    sending = asyncio.create_task(connection.send(text('"one"')))
    await asyncio.sleep(0)
    connection.push("news", '"two"', 5)
    sending_too = asyncio.create_task(connection.send(text('"three"')))
    await asyncio.sleep(0)
    gate.event.set()
    await asyncio.gather(sending, sending_too)
    assert server.opened(3) == [Text('"one"'), Text('"two"'), Text('"three"')]
    server.leave()
    await server.end()


async def test_past_the_backlog_messages_are_dropped_and_counted_in_a_gap(settings: Any) -> None:
    settings.GCRYPT = {"BACKLOG_SIZE": 1024}
    application = Application()
    server, connection = await connected(application)
    gate = Gate(server)
    for _ in range(2):
        connection.push("news", "x" * 500, 500)
    for group, count in [("news", 3), ("sport", 2)]:
        for _ in range(count):
            connection.push(group, "y" * 500, 500)
    gate.event.set()
    await server.until(3 + 2 + 2)
    assert server.opened(3) == [
        Text("x" * 500),
        Text("x" * 500),
        Gap("news", 3),
        Gap("sport", 2),
    ]
    connection.push("news", "z" * 500, 500)  # the client reads again
    await server.until(8)
    assert server.opened(7) == [Text("z" * 500)]
    server.leave()
    await server.end()


async def test_one_message_larger_than_the_backlog_still_gets_through(settings: Any) -> None:
    settings.GCRYPT = {"BACKLOG_SIZE": 1024}
    server, connection = await connected(Application())
    connection.push("news", "x" * 5000, 5000)
    await server.until(4)
    assert server.opened(3) == [Text("x" * 5000)]
    server.leave()
    await server.end()


async def test_a_group_message_over_the_clients_limit_is_a_gap() -> None:
    server, connection = await connected(Application())
    connection._session.peer_max_message = 1024
    connection.push("news", "x" * 1025, 1025)
    await server.until(4)
    assert server.opened(3) == [Gap("news", 1)]
    server.leave()
    await server.end()


async def test_gaps_wait_for_a_client_that_takes_next_to_nothing_as_one_for_each_group() -> None:
    """Their number is bounded by that of the groups, not by that of the messages."""
    server, connection = await connected(Application())
    connection._session.peer_max_message = 1
    gate = Gate(server)
    for _ in range(10_000):
        for group in ("news", "sport"):
            connection.push(group, "yy", 2)
    gate.event.set()
    await server.until(3 + 2)
    server.leave()
    await server.end()
    told = server.opened(3)
    assert len(told) <= 3  # one was on its way already where a write begins at once
    missed = Counter[str]()
    for each in told:
        assert isinstance(each, Gap)
        missed[each.group] += each.missed
    assert missed == {"news": 10_000, "sport": 10_000}


async def test_a_group_message_before_the_accept_waits_for_it() -> None:
    server, connection = await connected(Application(accepts=False))
    connection.push("news", '"early"', 7)
    assert len(server.sent) == 2
    await connection.send({"type": "websocket.accept"})
    await server.until(4)
    assert server.opened(2) == [Accepted(None), Text('"early"')]
    server.leave()
    await server.end()


# Group events: a consumer that reads slowly


async def test_events_for_the_consumer_come_in_turn() -> None:
    application = Application()
    server, connection = await connected(application)
    connection.deliver("news", {"type": "news", "n": 1})
    connection.deliver("news", {"type": "news", "n": 2})
    server.leave()
    await server.end()
    assert [each.get("n") for each in application.received] == [1, 2, None]


async def test_past_the_inbox_events_are_dropped_and_counted_in_a_gap() -> None:
    application = Application(reads=False)
    server, connection = await connected(application)
    connection.inbox.has_gap_handler = True
    for number in range(CAPACITY + 5):
        connection.deliver("news", {"type": "news", "n": number})
    application.done.set()
    await server.until(4)
    server.leave()
    await server.end()
    *events, gap, end = application.received
    assert [each["n"] for each in events] == list(range(CAPACITY))
    assert gap == {"type": GAP_EVENT, "group": "news", "missed": 5}
    assert end["type"] == "websocket.disconnect"
    assert Gap("news", 5) in server.opened(3)


async def test_an_application_that_does_not_hear_gaps_is_not_told() -> None:
    application = Application()
    server, connection = await connected(application)
    connection.tell_gap("news", 1)
    await server.until(4)
    assert server.opened(3) == [Gap("news", 1)]
    server.leave()
    await server.end()
    assert [each["type"] for each in application.received] == ["websocket.disconnect"]


async def test_a_frame_is_not_read_before_the_application_asks_for_it() -> None:
    application = Application(reads=False)
    server, _ = await connected(application)
    server.send("waits with the server")
    await asyncio.sleep(0)
    assert server._inbound.qsize() == 1
    application.done.set()
    server.leave()
    await server.end()
    assert [each["type"] for each in application.received] == [
        "websocket.receive",
        "websocket.disconnect",
    ]


# Secrets


async def test_the_repr_shows_profile_and_path_alone() -> None:
    server, connection = await connected(Application())
    assert repr(connection) == "<Connection gcrypt.v2 '/'>"
    server.leave()
    await server.end()


async def test_close_from_a_foreign_thread_waits_until_it_is_written() -> None:
    server, connection = await connected(Application())
    thread = threading.Thread(target=lambda: asyncio.run(connection.close(4001, "from afar")))
    thread.start()
    await server.end()
    thread.join()
    assert server.close["code"] == 4001
