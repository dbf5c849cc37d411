from __future__ import annotations

import asyncio
from typing import Any

import pytest
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.layers import channel_layers
from prometheus_client import CollectorRegistry, generate_latest

from gcrypt_channels import EncryptedJsonConsumer, GcryptMiddleware, broadcast
from gcrypt_channels.contrib import prometheus
from gcrypt_channels.exceptions import TryAgainLater
from gcrypt_channels.hub.hub import current_hub
from gcrypt_channels.keys import Keyring
from gcrypt_channels.layers.envelope import MessageKind, layer_group
from gcrypt_channels.layers.sender import current_sender
from gcrypt_channels.protocol.events import Binding
from gcrypt_channels.protocol.profiles import Profile, secure_profiles
from gcrypt_channels.signals import connection_closed, connection_opened, connection_refused
from tests.channel_layers import core, sealed
from tests.communicators import Communicator
from tests.proxy import flip_bit
from tests.servers import Redis
from tests.wire import KEYRING, Wire, resolver

# Channels looks after database connections wherever a consumer runs.
pytestmark = pytest.mark.django_db(transaction=True)

SIGNALS = (connection_opened, connection_closed, connection_refused)


class Consumer(EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
    async def connect(self) -> None:
        await self.gcrypt.join("room")
        await self.accept()


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> CollectorRegistry:
    for signal in SIGNALS:
        monkeypatch.setattr(signal, "receivers", [])
    registry = CollectorRegistry()
    prometheus.register(registry)
    return registry


def client(*subprotocols: str, profiles: tuple[Profile, ...] = ("gcrypt.v1",)) -> Communicator:
    application = GcryptMiddleware(
        Consumer.as_asgi(), profiles=profiles, resolver=lambda scope: Keyring.derive("anyone")
    )
    return Communicator(application, "/ws/", subprotocols=list(subprotocols))


def value(registry: CollectorRegistry, name: str, **labels: Any) -> float | None:
    return registry.get_sample_value(f"gcrypt_connections{name}", labels)


async def test_connections_are_counted_while_they_are_open_and_when_they_close(
    registry: CollectorRegistry,
) -> None:
    first, second = client("gcrypt.v1"), client()
    await first.connect()
    await second.connect()
    assert value(registry, "", profile="gcrypt.v1") == 2
    await first.disconnect(1001)
    await second.send_to(text_data="{}")
    await second.wait()
    assert value(registry, "", profile="gcrypt.v1") == 0
    assert value(registry, "_opened_total", profile="gcrypt.v1") == 2
    assert value(registry, "_closed_total", profile="gcrypt.v1", code="1001") == 1
    assert value(registry, "_closed_total", profile="gcrypt.v1", code="4400") == 1
    assert b"gcrypt_connections_refused_total{" not in generate_latest(registry)


@pytest.mark.parametrize("profile", secure_profiles())
async def test_a_failed_handshake_counts_as_refused_alone(
    registry: CollectorRegistry, profile: Profile
) -> None:
    stranger = client(profile, profiles=("gcrypt.v3", "gcrypt.v2"))
    await stranger.connect()
    await stranger.receive_from()
    await stranger.send_to(bytes_data=b"\x02 not a reply")
    await stranger.wait()
    assert value(registry, "_refused_total", profile=profile, code="4400") == 1
    assert value(registry, "_opened_total", profile=profile) is None


async def test_a_forged_handshake_is_not_counted_with_those_that_failed(
    registry: CollectorRegistry,
) -> None:
    forged, left = (Wire(GcryptMiddleware(Consumer.as_asgi(), resolver=resolver)) for _ in range(2))
    await forged.until(2)
    forged.client.receive(forged.sent[1]["bytes"])
    psk = KEYRING.session_keys[0].psk
    reply = forged.client.reply(psk, (), Binding(("gcrypt.v2",), "testserver", "/"))
    forged.put_frames([flip_bit(reply, -1)])
    await forged.end()
    await left.until(2)
    left.leave()
    await left.end()
    samples = {
        cause: registry.get_sample_value(
            f"gcrypt_handshakes_{cause}_total", {"profile": "gcrypt.v2"}
        )
        for cause in ("forged", "failed")
    }
    assert samples == {"forged": 1, "failed": 1}
    assert value(registry, "_refused_total", profile="gcrypt.v2", code="4400") == 1


async def test_the_time_of_a_handshake_is_observed(registry: CollectorRegistry) -> None:
    server = Wire(GcryptMiddleware(Consumer.as_asgi(), resolver=resolver))
    await server.open()
    count = "gcrypt_handshake_seconds_count"
    assert registry.get_sample_value(count, {"profile": "gcrypt.v2"}) == 1
    server.leave()
    await server.end()
    classic = client("gcrypt.v1")
    await classic.connect()
    await classic.disconnect()
    assert registry.get_sample_value(count, {"profile": "gcrypt.v1"}) is None


async def test_the_layer_is_up_while_this_process_receives_from_it(
    registry: CollectorRegistry, settings: Any, redis: Redis
) -> None:
    assert registry.get_sample_value("gcrypt_layer_up") is None
    with Redis() as own:
        settings.CHANNEL_LAYERS = {"default": core(own.url)}
        visitor = client()
        await visitor.connect()
        assert registry.get_sample_value("gcrypt_layer_up") == 1
        own.kill()
        with pytest.raises(TryAgainLater):
            await current_hub().join(next(iter(current_hub().members.connections)), "hall")
        assert registry.get_sample_value("gcrypt_layer_up") == 0
    await visitor.disconnect()


async def test_a_revocation_is_counted_once(registry: CollectorRegistry) -> None:
    visitor = client()
    await visitor.connect()
    [connection] = current_hub().members.connections
    for _ in range(2):
        current_hub().members.revoke(connection, "logged out")
    await visitor.wait()
    assert registry.get_sample_value("gcrypt_revocations_total") == 1


async def test_a_message_that_a_slow_client_does_not_get_is_counted(
    registry: CollectorRegistry, settings: Any
) -> None:
    settings.GCRYPT = {"PROFILES": ["gcrypt.v2"], "BACKLOG_SIZE": 1024}
    server, reads = Wire(GcryptMiddleware(Consumer.as_asgi(), resolver=resolver)), asyncio.Event()
    await server.open()
    server.before = reads.wait  # type: ignore[assignment]
    for number in range(6):  # one is being sent, and four of 256 bytes may wait
        await broadcast("room", number)
    assert registry.get_sample_value("gcrypt_backlog_drops_total") == 2
    reads.set()
    server.leave()
    await server.end()


@pytest.mark.parametrize(
    ("code", "label"), [(1015, "1015"), (1016, "1xxx"), (3999, "3xxx"), (4999, "4xxx")]
)
async def test_the_codes_that_a_client_may_choose_share_few_labels(
    registry: CollectorRegistry, code: int, label: str
) -> None:
    visitor = client()
    await visitor.connect()
    await visitor.disconnect(code)
    assert value(registry, "_closed_total", profile="gcrypt.v1", code=label) == 1


async def test_what_a_sealed_channel_layer_drops_is_counted(
    registry: CollectorRegistry, settings: Any, redis: Redis
) -> None:
    settings.CHANNEL_LAYERS = {"default": sealed(core(redis.url))}
    layer: Any = channel_layers["default"]
    await layer.inner.send("channel", {"type": "chat.message"})
    await layer.send("channel", {"type": "last"})
    assert await layer.receive("channel") == {"type": "last"}
    assert registry.get_sample_value("gcrypt_layer_messages_dropped_total") == 1
    await layer.flush()


async def test_what_becomes_of_group_messages_is_counted(registry: CollectorRegistry) -> None:
    members = [client(), client()]
    for member in members:
        await member.connect()
    assert registry.get_sample_value("gcrypt_group_members") == 2

    layer: Any = channel_layers["default"]
    await layer.group_send(layer_group("room"), {"type": "gcrypt.layer", "data": "forged"})
    current_sender().seal("room", MessageKind.BROADCAST, b"1")  # and the layer loses it
    await broadcast("room", 2)
    for member in members:
        await member.receive_from()
    assert registry.get_sample_value("gcrypt_layer_messages_dropped_total") == 1
    assert registry.get_sample_value("gcrypt_group_messages_lost_total") == 1

    for member in members:
        await member.disconnect()
    assert registry.get_sample_value("gcrypt_group_members") == 0


async def test_connections_without_encryption_are_counted_beside_the_others(
    registry: CollectorRegistry,
) -> None:
    def plain(name: str) -> float:
        return registry.get_sample_value(f"gcrypt_plain_connections{name}") or 0

    class Plain(AsyncJsonWebsocketConsumer):
        async def receive_json(self, content: Any, **kwargs: Any) -> None:
            raise LookupError("a fault of the application")

    before = plain("_opened_total")
    leaves, fails = (
        Communicator(prometheus.PlainConnections(Plain.as_asgi()), "/") for _ in range(2)
    )
    for visitor in (leaves, fails):
        await visitor.connect()
    assert plain("") == 2
    await leaves.disconnect()
    await fails.send_to(text_data="{}")
    with pytest.raises(LookupError):
        await fails.wait()
    assert (plain(""), plain("_opened_total") - before) == (0, 2)


def test_registering_twice_is_an_error(registry: CollectorRegistry) -> None:
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        prometheus.register(registry)
