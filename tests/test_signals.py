from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any
from unittest.mock import ANY

import pytest
from channels.generic.websocket import AsyncJsonWebsocketConsumer, JsonWebsocketConsumer
from django.core.exceptions import ImproperlyConfigured

from gcrypt_channels import EncryptedJsonConsumer, GcryptMiddleware
from gcrypt_channels.keys import Keyring
from gcrypt_channels.protocol.events import Binding
from gcrypt_channels.protocol.secure import SecureSession
from gcrypt_channels.signals import connection_closed, connection_opened, connection_refused
from tests.communicators import Communicator
from tests.wire import Wire
from tests.wire import resolver as wire_resolver

# Channels looks after database connections wherever a consumer runs.
pytestmark = pytest.mark.django_db(transaction=True)

SIGNALS = {
    "opened": connection_opened,
    "closed": connection_closed,
    "refused": connection_refused,
}


class Consumer(EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        await self.close(content["code"])


def resolver(scope: Any) -> Keyring:
    return Keyring.derive("the only session")


def application(**options: Any) -> GcryptMiddleware:
    return GcryptMiddleware(Consumer.as_asgi(), **{"resolver": resolver, **options})


class Visitor:
    """A user of some authentication that is not Django's: there is no login to look up."""

    pk = 7
    is_authenticated = True


class Client(Communicator):
    """One socket to the middleware, up to the WebSocket accept."""

    def __init__(self, app: Any, *subprotocols: str, user: Visitor | None = None) -> None:
        headers = [(b"host", b"testserver")]
        super().__init__(app, "/ws/", headers, list(subprotocols))
        if user is not None:
            self.scope.update({"user": user})  # type: ignore[misc]

    async def left(self) -> None:
        await self.disconnect(1001)


@pytest.fixture
def told() -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """Every signal in the order it was sent, with its arguments."""
    told: list[tuple[str, dict[str, Any]]] = []

    def recorder(name: str) -> Any:
        async def record(sender: object, signal: object, **arguments: Any) -> None:
            assert sender is GcryptMiddleware
            told.append((name, arguments))

        return record

    recorders = {name: recorder(name) for name in SIGNALS}
    for name, signal in SIGNALS.items():
        signal.connect(recorders[name])
    yield told
    for name, signal in SIGNALS.items():
        signal.disconnect(recorders[name])


async def handshake(client: Client, psk: bytes) -> SecureSession:
    session = SecureSession(role="client")
    session.receive(await client.receive_from())
    binding = Binding(("gcrypt.v2",), "testserver", "/ws/")
    await client.send_to(bytes_data=session.reply(psk, (), binding))
    return session


def opened(profile: str = "gcrypt.v2", user_id: str = "") -> dict[str, Any]:
    handshake = 0.0 if profile == "gcrypt.v1" else ANY
    return {"profile": profile, "path": "/ws/", "user_id": user_id, "handshake": handshake}


def ended(
    profile: str = "gcrypt.v2", user_id: str = "", *, code: int, forged: bool = False
) -> dict[str, Any]:
    facts = {"profile": profile, "path": "/ws/", "user_id": user_id}
    return {**facts, "code": code, "forged": forged}


async def test_a_connection_is_opened_once_and_closed_once_with_the_code_of_the_application(
    told: list[Any],
) -> None:
    client = Client(application(), "gcrypt.v2", user=Visitor())
    await client.connect()
    session = await handshake(client, resolver({}).session_keys[0].psk)
    session.receive(await client.receive_from())  # the accept
    await client.send_to(bytes_data=session.seal('{"code": 4321}')[0])
    await client.wait()
    assert told == [
        ("opened", opened(user_id="7")),
        ("closed", ended(user_id="7", code=4321)),
    ]


async def test_the_close_code_of_a_client_is_told(told: list[Any]) -> None:
    client = Client(application(), "gcrypt.v1")
    await client.connect()
    await client.left()
    assert told == [
        ("opened", opened("gcrypt.v1")),
        ("closed", ended("gcrypt.v1", code=1001)),
    ]


async def test_the_code_of_an_authenticated_close_counts_before_that_of_the_socket(
    told: list[Any],
) -> None:
    client = Client(application(), "gcrypt.v2")
    await client.connect()
    session = await handshake(client, resolver({}).session_keys[0].psk)
    session.receive(await client.receive_from())
    await client.send_to(bytes_data=session.seal_close(3000, "done")[0])
    await client.left()
    assert told[1] == ("closed", ended(code=3000))


async def test_an_invalid_frame_is_told_as_4400(told: list[Any]) -> None:
    client = Client(application(), "gcrypt.v1")
    await client.connect()
    await client.send_to(text_data="{}")
    await client.wait()
    assert told[1] == ("closed", ended("gcrypt.v1", code=4400))


async def test_a_client_without_a_profile_is_refused_without_being_opened(
    told: list[Any],
) -> None:
    client = Client(application(profiles=["gcrypt.v2"]), "gcrypt.v1")
    await client.connect()
    await client.wait()
    assert told == [("refused", ended("", code=4406))]


async def test_a_client_without_a_key_is_refused(told: list[Any]) -> None:
    client = Client(application(resolver=lambda scope: None), "gcrypt.v2")
    await client.connect()
    await client.wait()
    assert told == [("refused", ended(code=4401))]


async def test_a_client_with_the_wrong_key_is_refused(told: list[Any]) -> None:
    client = Client(application(), "gcrypt.v2")
    await client.connect()
    await client.receive_from()
    await client.send_to(bytes_data=b"\x02" + bytes(48))
    await client.wait()
    assert told == [("refused", ended(code=4400, forged=True))]


async def test_a_client_that_leaves_during_the_handshake_is_told_as_refused_with_1006(
    told: list[Any],
) -> None:
    client = Client(application(), "gcrypt.v2")
    await client.connect()
    await client.receive_from()
    await client.left()
    assert told == [("refused", ended(code=1006))]


async def test_a_mistake_of_the_project_refuses_the_client_with_1011(told: list[Any]) -> None:
    client = Client(
        application(resolver=lambda scope: Keyring(("for gcrypt.v1",), ())), "gcrypt.v2"
    )
    assert await client.connect() == (True, "gcrypt.v2")
    closed = await client.receive_output()
    assert (closed["type"], closed["code"]) == ("websocket.close", 1011)
    with pytest.raises(ImproperlyConfigured, match="without session_keys"):
        await client.wait()
    assert told == [("refused", ended(code=1011))]


@pytest.fixture
async def broken_receiver() -> AsyncIterator[None]:
    async def fail(**arguments: Any) -> None:
        raise RuntimeError("a receiver of the project")

    connection_opened.connect(fail)
    yield
    connection_opened.disconnect(fail)


@pytest.mark.usefixtures("broken_receiver")
async def test_a_receiver_that_raises_harms_no_connection(told: list[Any]) -> None:
    client = Client(application(), "gcrypt.v1")
    assert await client.connect() == (True, "gcrypt.v1")
    await client.left()
    assert [name for name, _ in told] == ["opened", "closed"]


async def test_a_synchronous_receiver_hears_of_the_close_of_a_synchronous_consumer() -> None:
    """Whose thread is gone by then: the receiver is called in the connection's own context."""
    codes: list[int] = []

    class Closing(EncryptedJsonConsumer, JsonWebsocketConsumer):
        def connect(self) -> None:
            self.accept()
            self.close(4001)

    def receiver(code: int, **arguments: Any) -> None:
        codes.append(code)

    connection_closed.connect(receiver)
    server = Wire(GcryptMiddleware(Closing.as_asgi(), resolver=wire_resolver))
    await server.handshake()
    await server.end()
    connection_closed.disconnect(receiver)
    assert codes == [4001]
