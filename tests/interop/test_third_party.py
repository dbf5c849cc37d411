"""Consumers of other people's packages, with the mixin and without any change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
import strawberry
from channels.auth import AuthMiddlewareStack
from django.contrib.auth.models import User
from djangochannelsrestframework.consumers import AsyncAPIConsumer  # type: ignore[import-untyped]
from djangochannelsrestframework.decorators import action  # type: ignore[import-untyped]
from djangochannelsrestframework.permissions import IsAuthenticated  # type: ignore[import-untyped]
from strawberry.channels import GraphQLWSConsumer

from gcrypt_channels import EncryptedJsonConsumer, GcryptMiddleware
from gcrypt_channels.protocol.profiles import V1, Profile, secure_profiles
from tests.communicators import EncryptedCommunicator

pytestmark = [pytest.mark.interop, pytest.mark.django_db(transaction=True)]


@pytest.fixture
async def alice() -> User:
    user: User = await User.objects.acreate_user("alice")
    return user


def with_mixin(consumer: type) -> Any:
    return type("WithMixin", (EncryptedJsonConsumer, consumer), {})


def with_mixin_last(consumer: type) -> Any:
    return type("WithMixinLast", (consumer, EncryptedJsonConsumer), {})


def serve(style: str, consumer: Any, **initial: Any) -> Any:
    """The consumer behind the whole stack, in one of the ways the documentation names."""
    if style == "seal_outbound":
        inner = GcryptMiddleware(consumer.as_asgi(**initial), seal_outbound=True)
    else:
        mixed = with_mixin(consumer) if style == "mixin first" else with_mixin_last(consumer)
        inner = GcryptMiddleware(mixed.as_asgi(**initial))
    return AuthMiddlewareStack(inner)


every_style = pytest.mark.parametrize("style", ["mixin first", "mixin last", "seal_outbound"])
every_profile = pytest.mark.parametrize("profile", [*secure_profiles(), V1])


# djangochannelsrestframework


class TaskConsumer(AsyncAPIConsumer):  # type: ignore[misc]
    permission_classes = (IsAuthenticated,)

    @action()  # type: ignore[untyped-decorator]
    async def whoami(self, **kwargs: Any) -> tuple[Any, int]:
        return {"user": self.scope["user"].get_username()}, 200

    @action()  # type: ignore[untyped-decorator]
    def count(self, to: int, **kwargs: Any) -> tuple[Any, int]:
        return list(range(to)), 200

    @action()  # type: ignore[untyped-decorator]
    async def listen(self, **kwargs: Any) -> tuple[Any, int]:
        await self.add_group("tasks")
        await self.channel_layer.group_send("tasks", {"type": "task.changed", "task": 7})
        return None, 204

    async def task_changed(self, event: Any) -> None:
        await self.send_json({"task": event["task"]})


@every_style
@every_profile
async def test_rest_framework_actions_are_answered(
    alice: User, style: str, profile: Profile
) -> None:
    communicator = EncryptedCommunicator(
        serve(style, TaskConsumer), "/", user=alice, profile=profile
    )
    assert await communicator.connect() == (True, None)
    for name, arguments, data in [
        ("whoami", {}, {"user": "alice"}),
        ("count", {"to": 3}, [0, 1, 2]),
    ]:
        await communicator.send_json_to({"action": name, "request_id": 1, **arguments})
        answer = await communicator.receive_json_from()
        assert (answer["action"], answer["data"]) == (name, data)
        assert answer["response_status"] == 200
    await communicator.send_json_to({"action": "nothing", "request_id": 2})
    assert (await communicator.receive_json_from())["response_status"] == 405
    await communicator.disconnect()


@every_style
async def test_rest_framework_observers_hear_of_a_change(alice: User, style: str) -> None:
    communicator = EncryptedCommunicator(serve(style, TaskConsumer), "/", user=alice)
    await communicator.connect()
    await communicator.send_json_to({"action": "listen", "request_id": 1})
    received = [await communicator.receive_json_from() for _ in range(2)]
    assert {"task": 7} in received
    await communicator.disconnect()


@pytest.mark.parametrize("style", ["mixin first", "mixin last"])
async def test_rest_framework_closes_on_what_is_not_json(alice: User, style: str) -> None:
    communicator = EncryptedCommunicator(serve(style, TaskConsumer), "/", user=alice)
    await communicator.connect()
    await communicator.send_to(text_data="{")
    assert (await communicator.receive_output())["code"] == 4400
    await communicator.disconnect()


# strawberry-graphql


@strawberry.type
class Query:
    @strawberry.field
    def hello(self, name: str) -> str:
        return f"Hello, {name}."


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def count(self, info: strawberry.Info, to: int) -> AsyncGenerator[str, None]:
        user = info.context["ws"].scope["user"]
        for number in range(to):
            yield f"{number} for {user}"
            await asyncio.sleep(0)


SCHEMA = strawberry.Schema(query=Query, subscription=Subscription)


def graphql(alice: User, style: str, *subprotocols: str) -> EncryptedCommunicator:
    application = serve(style, GraphQLWSConsumer, schema=SCHEMA)
    return EncryptedCommunicator(application, "/graphql", subprotocols=subprotocols, user=alice)


@every_style
async def test_a_graphql_subscription_runs_through_the_encryption(alice: User, style: str) -> None:
    communicator = graphql(alice, style, "json", "graphql-transport-ws")
    assert await communicator.connect() == (True, "graphql-transport-ws")
    await communicator.send_json_to({"type": "connection_init"})
    assert (await communicator.receive_json_from())["type"] == "connection_ack"
    for identifier, query in [
        ("sub", "subscription { count(to: 3) }"),
        ("query", '{ hello(name: "you") }'),
    ]:
        await communicator.send_json_to(
            {"type": "subscribe", "id": identifier, "payload": {"query": query}}
        )
        results = []
        while (message := await communicator.receive_json_from())["type"] == "next":
            assert message["id"] == identifier
            results.append(message["payload"]["data"])
        assert message == {"type": "complete", "id": identifier}
        if identifier == "sub":
            assert results == [{"count": f"{number} for alice"} for number in range(3)]
        else:
            assert results == [{"hello": "Hello, you."}]
    await communicator.disconnect()


@every_style
async def test_graphql_refuses_a_client_of_another_subprotocol(alice: User, style: str) -> None:
    communicator = graphql(alice, style, "json")
    assert await communicator.connect() == (True, None)  # strawberry accepts, and then closes
    closed = await communicator.receive_output()
    assert (closed["code"], closed["reason"]) == (4406, "Subprotocol not acceptable")
    await communicator.disconnect()


@every_style
async def test_graphql_closes_with_its_own_code_on_what_is_not_json(
    alice: User, style: str
) -> None:
    communicator = graphql(alice, style, "graphql-transport-ws")
    await communicator.connect()
    await communicator.send_to(text_data="{")
    closed = await communicator.receive_output()
    assert (closed["code"], closed["reason"]) == (
        4400,
        "WebSocket message must be valid JSON",
    )
    await communicator.disconnect()
