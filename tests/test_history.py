"""Groups with history, from `broadcast` to the client: over every layer and both stores."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.layers import get_channel_layer
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from redis import Redis as RedisClient

from gcrypt_channels import EncryptedJsonConsumer, GcryptMiddleware
from gcrypt_channels.exceptions import TryAgainLater
from gcrypt_channels.groups import broadcast, group_send
from gcrypt_channels.hub import subscription
from gcrypt_channels.hub.hub import current_hub
from gcrypt_channels.layers.envelope import layer_group
from gcrypt_channels.layers.sealed import unwrap
from gcrypt_channels.protocol.events import Position
from gcrypt_channels.protocol.profiles import V1, V2
from tests.channel_layers import core, in_memory, pubsub, sealed
from tests.communicators import EncryptedCommunicator
from tests.servers import Redis

KEPT = {"messages": 5, "seconds": 300}


class Member(EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
    """Joins what the client names; tells what came of it."""

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        match content:
            case {"join": group}:
                joined = await self.gcrypt.join(group, content.get("after"))
                await self.send_json({"did": [joined.position, joined.recovered]})
            case {"leave": group}:
                await self.gcrypt.leave(group)
                await self.send_json({"did": "leave"})
            case _:
                await self.send_json({"did": content})

    async def chat_message(self, event: dict[str, Any]) -> None:
        await self.send_json({"event": event["text"]})

    async def group_gap(self, group: str, missed: int) -> None:
        await self.send_json({"gap": group, "missed": missed})


class Early(EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
    """Joins before it accepts."""

    groups = ["chat.room"]  # noqa: RUF012 - as Channels has it

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        await self.send_json({"did": content})


MEMBER = GcryptMiddleware(Member.as_asgi())
EARLY = GcryptMiddleware(Early.as_asgi())

Connect = Callable[..., Awaitable[EncryptedCommunicator]]


def without_redis(url: str) -> tuple[Any, Any]:
    return in_memory(url), {}


def with_core(url: str) -> tuple[Any, Any]:
    return core(url), {"URL": url}


def with_sealed_pubsub(url: str) -> tuple[Any, Any]:
    return sealed(pubsub(url)), {"URL": url}


@pytest.fixture(params=[without_redis, with_core, with_sealed_pubsub])
async def deployment(request: pytest.FixtureRequest, redis: Redis, settings: Any) -> Any:
    layer, history = request.param(redis.url)
    settings.CHANNEL_LAYERS = {"default": layer}
    settings.GCRYPT = {**settings.GCRYPT, "HISTORY": {**history, "GROUPS": {"chat.": KEPT}}}
    return history


@pytest.fixture
async def alice(transactional_db: None) -> Any:
    return await User.objects.acreate_user("alice")


@pytest.fixture
async def connect(alice: User, deployment: Any) -> AsyncIterator[Connect]:
    connected: list[EncryptedCommunicator] = []

    async def connect(application: Any = MEMBER, **options: Any) -> EncryptedCommunicator:
        client = EncryptedCommunicator(application, "/", user=alice, **options)
        assert (await client.connect())[0]
        connected.append(client)
        return client

    yield connect
    await asyncio.gather(*(client.disconnect() for client in connected))
    assert not current_hub().members.connections
    assert not current_hub()._catch_up._groups


@pytest.fixture
def room(request: pytest.FixtureRequest) -> str:
    """A group that no other test has counted for."""
    return f"chat.{request.node.name}"


async def do(client: EncryptedCommunicator, content: Any) -> Any:
    """Have the consumer do something; what came before is returned as well."""
    await client.send_json_to(content)
    events: list[dict[str, Any]] = []
    while not events or "did" not in events[-1]:
        event = await client.receive_output()
        if event["type"] == "websocket.send":
            text = json.loads(event["text"])
            if isinstance(text, dict):
                events.append(text)
                continue
            events.append({"message": text, "position": event.get("position")})
        else:
            events.append({key: value for key, value in event.items() if key != "group"})
    return events


async def messages(client: EncryptedCommunicator, count: int) -> list[tuple[Any, Any]]:
    """The next messages of groups, each with its position."""
    found = []
    for _ in range(count):
        event = await client.receive_output()
        assert event["type"] == "websocket.send", event
        found.append((event["text"], event.get("position")))
    return found


async def test_a_client_gets_what_it_missed_in_order_and_then_what_follows(
    connect: Connect, room: str
) -> None:
    first = await connect(resume=())
    joined, did = await do(first, {"join": room})
    assert joined == {"type": "gcrypt.joined", "position": 0, "recovered": False}
    assert did == {"did": [0, False]}
    await broadcast(room, 1)
    await broadcast(room, 2)
    assert await messages(first, 2) == [("1", 1), ("2", 2)]
    positions = first.positions
    await first.disconnect()
    for number in (3, 4, 5):
        await broadcast(room, number)
    again = await connect(resume=positions)
    joined, *missed, did = await do(again, {"join": room})
    assert joined == {"type": "gcrypt.joined", "position": 2, "recovered": True}
    assert did == {"did": [2, True]}
    assert missed == [{"message": n, "position": n} for n in (3, 4, 5)]
    await broadcast(room, 6)
    assert await messages(again, 1) == [("6", 6)]
    assert [each.n for each in again.positions] == [6]


async def test_who_joins_before_the_accept_gets_it_behind_the_accept(connect: Connect) -> None:
    await broadcast("chat.room", "before")
    first = await connect(EARLY, resume=())
    event = await first.receive_output()
    assert event["type"] == "gcrypt.joined"
    positions = first.positions
    await first.disconnect()
    await broadcast("chat.room", "missed")
    again = await connect(EARLY, resume=positions)
    event = await again.receive_output()
    assert (event["type"], event["recovered"]) == ("gcrypt.joined", True)
    assert [text for text, _ in await messages(again, 1)] == ['"missed"']


@pytest.mark.parametrize("profile", [V1, V2])
async def test_a_client_that_knows_no_positions_gets_live_messages_alone(
    connect: Connect, room: str, profile: Any
) -> None:
    await broadcast(room, 1)
    client = await connect(profile=profile)
    assert await do(client, {"join": room}) == [{"did": [1, False]}]
    await broadcast(room, 2)
    assert await messages(client, 1) == [("2", None)]


async def test_a_position_that_time_explains_is_not_recovered(connect: Connect, room: str) -> None:
    await broadcast(room, 1)
    client = await connect(resume=())
    await do(client, {"join": room})
    [position] = client.positions
    for offered in (
        position._replace(epoch="0" * 16),
        position._replace(n=2),
        position._replace(n=2**53 - 1),
    ):
        other = await connect(resume=[offered])
        joined, did = await do(other, {"join": room})
        assert joined == {"type": "gcrypt.joined", "position": 1, "recovered": False}
        assert did == {"did": [1, False]}
    for number in range(2, 8):
        await broadcast(room, number)
    await messages(client, 6)  # this process knows of all of them
    trimmed = await connect(resume=[position])  # 5 are kept, and 6 were missed
    joined, did = await do(trimmed, {"join": room})
    assert joined == {"type": "gcrypt.joined", "position": 7, "recovered": False}
    whole = await connect(resume=[position._replace(n=2)])
    joined, *missed, did = await do(whole, {"join": room})
    assert did == {"did": [2, True]}
    assert [each["position"] for each in missed] == [3, 4, 5, 6, 7]


async def test_an_application_may_refuse_what_was_before(connect: Connect, room: str) -> None:
    client = await connect(resume=())
    await do(client, {"join": room})
    positions = client.positions
    await broadcast(room, 1)
    await messages(client, 1)
    refused = await connect(resume=positions)
    assert (await do(refused, {"join": room, "after": 1}))[-1] == {"did": [1, False]}
    allowed = await connect(resume=[positions[0]._replace(n=1)])
    assert (await do(allowed, {"join": room, "after": 1}))[-1] == {"did": [1, True]}


async def test_an_offer_serves_one_join_and_a_left_group_says_so(
    connect: Connect, room: str
) -> None:
    client = await connect(resume=())
    await do(client, {"join": room})
    positions = client.positions
    await broadcast(room, 1)
    again = await connect(resume=positions)
    assert (await do(again, {"join": room}))[-1] == {"did": [0, True]}
    left, _ = await do(again, {"leave": room})
    assert left == {"type": "gcrypt.left"}
    assert again.positions == ()
    joined, did = await do(again, {"join": room})
    assert joined == {"type": "gcrypt.joined", "position": 1, "recovered": False}
    assert did == {"did": [1, False]}
    assert await do(again, {"join": room}) == [{"did": [1, False]}]  # it is a member already


async def test_a_group_that_is_not_joined_is_not_answered(connect: Connect, room: str) -> None:
    client = await connect(resume=[Position("chat.secret", "0" * 16, 1)])
    await broadcast("chat.secret", 1)
    assert await do(client, "nothing else") == [{"did": "nothing else"}]


async def test_events_and_other_groups_are_not_counted(connect: Connect, room: str) -> None:
    client = await connect(resume=())
    await do(client, {"join": room})
    assert await do(client, {"join": "hall"}) == [{"did": [None, False]}]
    await group_send(room, {"type": "chat.message", "text": "x"})
    assert await client.receive_json_from() == {"event": "x"}
    await broadcast("hall", 1)
    await broadcast(room, 1)
    assert await messages(client, 2) == [("1", None), ("1", 1)]


async def test_what_does_not_fit_is_not_recovered(
    connect: Connect, room: str, settings: Any
) -> None:
    client = await connect(resume=())
    await do(client, {"join": room})
    positions = client.positions
    await broadcast(room, "x" * 2000)
    await messages(client, 1)  # so that this process has it
    settings.GCRYPT = {**settings.GCRYPT, "BACKLOG_SIZE": 2048}
    again = await connect(resume=positions)
    joined, _ = await do(again, {"join": room})
    assert joined == {"type": "gcrypt.joined", "position": 1, "recovered": False}
    settings.GCRYPT = {**settings.GCRYPT, "BACKLOG_SIZE": 1_000_000}
    again = await connect(resume=positions)
    assert (await do(again, {"join": room}))[-1] == {"did": [0, True]}


async def test_after_a_logout_nothing_is_replayed(connect: Connect, room: str) -> None:
    first = await connect(resume=())
    await do(first, {"join": room})
    await broadcast(room, 1)
    old = await connect(resume=first.positions, session=first.session)
    await sync_delete(first)
    await old.send_json_to({"join": room})
    event = await old.receive_output()
    assert (event["type"], event["code"]) == ("websocket.close", 4401)


async def sync_delete(client: EncryptedCommunicator) -> None:
    """End a session behind the back of Django's signals, which would close its sockets."""
    assert client.session is not None
    ended = Session.objects.filter(pk=client.session.session_key)
    await sync_to_async(ended._raw_delete)(ended.db)


# What does not work


@pytest.fixture
def own_redis() -> Iterator[Redis]:
    with Redis() as server:
        yield server


async def test_a_group_that_is_not_joined_is_not_looked_up(
    connect: Connect, settings: Any, own_redis: Redis
) -> None:
    history = {"URL": own_redis.url, "GROUPS": {"chat.": KEPT}}
    settings.CHANNEL_LAYERS = {"default": in_memory("")}
    settings.GCRYPT = {**settings.GCRYPT, "HISTORY": history}

    def looks() -> int:
        with RedisClient(port=own_redis.port) as store:
            stats: dict[str, Any] = store.info("commandstats")
        return sum(each["calls"] for name, each in stats.items() if "eval" in name)

    client = await connect(resume=[Position("chat.secret", "0" * 16, 1)])
    assert await do(client, "nothing else") == [{"did": "nothing else"}]
    assert looks() == 0
    await do(client, {"join": "chat.secret"})
    assert looks() > 0


async def test_while_the_store_is_away_nothing_is_sent_by_half(
    connect: Connect, settings: Any, own_redis: Redis
) -> None:
    groups = {"chat.": KEPT}
    settings.CHANNEL_LAYERS = {"default": in_memory("")}
    settings.GCRYPT = {**settings.GCRYPT, "HISTORY": {"URL": own_redis.url, "GROUPS": groups}}
    member = await connect(resume=())
    await do(member, {"join": "chat.room"})
    await broadcast("chat.room", 1)
    own_redis.kill()
    with pytest.raises(TryAgainLater):
        await broadcast("chat.room", 2)
    await broadcast("hall", 1)  # which has no history
    other = await connect(resume=())
    await other.send_json_to({"join": "chat.room"})
    event = await other.receive_output()
    assert (event["type"], event["code"]) == ("websocket.close", 1013)
    own_redis.start()
    await broadcast("chat.room", 3)
    assert await messages(member, 1) == [("1", 1)]
    events = [await member.receive_output() for _ in range(3)]
    assert [each["type"] for each in events] == ["gcrypt.left", "gcrypt.joined", "websocket.send"]
    assert (events[1]["position"], events[1]["recovered"]) == (0, False)
    assert (events[2]["text"], events[2]["position"]) == ("3", 1)
    # The consumer hears of it as well: it does not know what was forgotten.
    assert await member.receive_json_from() == {"gap": "chat.room", "missed": 1}


async def test_what_was_counted_arrives_though_the_layer_has_lost_it(
    connect: Connect, room: str, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr(subscription, "PROBE_INTERVAL", 0.1)
    member = await connect(resume=())
    await do(member, {"join": room})
    layer: Any = unwrap(get_channel_layer())
    group_send = layer.group_send

    async def fail(group: str, message: Any) -> None:
        if group == layer_group(room):
            raise OSError
        await group_send(group, message)

    monkeypatch.setattr(layer, "group_send", fail)
    await broadcast(room, 1)
    assert await messages(member, 1) == [("1", 1)]
    assert "was counted, and not sent at once" in caplog.text
