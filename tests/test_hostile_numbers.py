"""Numbers that are not JSON, in and out: no consumer gets one, and no client does."""

from __future__ import annotations

from typing import Any

import pytest
from channels.generic.websocket import AsyncJsonWebsocketConsumer, JsonWebsocketConsumer

from gcrypt_channels import EncryptedJsonConsumer, GcryptMiddleware, broadcast, group_send
from gcrypt_channels.crypto.classic import Crypt
from gcrypt_channels.protocol.events import Text
from tests.wire import KEYRING, Wire, resolver

# Channels looks after database connections wherever a consumer runs.
pytestmark = pytest.mark.django_db(transaction=True)

NAN, INFINITY = float("nan"), float("inf")


class AsyncSender:
    """Tries to send each number, and answers with those that it could."""

    received: list[Any]

    async def receive_json(self: Any, content: Any, **kwargs: Any) -> None:
        self.received.append(content)
        sent = []
        for number in (NAN, INFINITY, -INFINITY, [{"id": NAN}]):
            try:
                await self.send_json(number)
            except ValueError:
                continue
            sent.append(number)
        await self.send_json(sent)


class SyncSender:
    received: list[Any]

    def receive_json(self: Any, content: Any, **kwargs: Any) -> None:
        self.received.append(content)
        sent = []
        for number in (NAN, INFINITY, -INFINITY, [{"id": NAN}]):
            try:
                self.send_json(number)
            except ValueError:
                continue
            sent.append(number)
        self.send_json(sent)


class AsyncMixinFirst(AsyncSender, EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
    pass


class AsyncMixinLast(AsyncSender, AsyncJsonWebsocketConsumer, EncryptedJsonConsumer):
    pass


class SyncMixinFirst(SyncSender, EncryptedJsonConsumer, JsonWebsocketConsumer):
    pass


class SyncMixinLast(SyncSender, JsonWebsocketConsumer, EncryptedJsonConsumer):
    pass


every_style = pytest.mark.parametrize(
    "style", [AsyncMixinFirst, AsyncMixinLast, SyncMixinFirst, SyncMixinLast]
)
every_profile = pytest.mark.parametrize("profile", ["gcrypt.v2", "gcrypt.v1"])


class Peer:
    """A client that seals whatever text it is given."""

    def __init__(self, style: Any, profile: str) -> None:
        style.received = []
        self.crypt = Crypt(KEYRING.passphrases[0]) if profile == "gcrypt.v1" else None
        application = GcryptMiddleware(style.as_asgi(), resolver=resolver)
        self.wire = Wire(application, subprotocols=[profile])

    async def open(self) -> int:
        """Connect; return the number of events that the server has sent."""
        await (self.wire.open() if self.crypt is None else self.wire.until(1))
        return len(self.wire.sent)

    def send(self, text: str) -> None:
        if self.crypt is None:
            self.wire.send(text)
        else:
            self.wire.put_frames([self.crypt.seal(text)])

    def texts(self, first: int) -> list[str]:
        if self.crypt is None:
            return [each.data for each in self.wire.opened(first) if isinstance(each, Text)]
        return [self.crypt.open(each["text"]) for each in self.wire.sent[first:]]


@every_style
@every_profile
@pytest.mark.parametrize(
    "text", ['{"id": NaN}', "NaN", "Infinity", "[-Infinity]", "1e400", '{"id": -1e999}', "1" * 5000]
)
async def test_a_number_that_is_not_json_closes_with_4400(
    style: Any, profile: str, text: str
) -> None:
    peer = Peer(style, profile)
    await peer.open()
    peer.send(text)
    await peer.wire.end()
    assert peer.wire.close["code"] == 4400
    assert style.received == []


@every_style
@every_profile
async def test_a_consumer_cannot_send_one(style: Any, profile: str) -> None:
    peer = Peer(style, profile)
    first = await peer.open()
    peer.send('{"id":1}')
    await peer.wire.until(first + 1)
    assert peer.texts(first) == ["[]"]
    peer.wire.leave()
    await peer.wire.end()


@pytest.mark.parametrize("number", [NAN, INFINITY, -INFINITY])
async def test_no_group_is_sent_one(number: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        await broadcast("room", {"id": number})
    with pytest.raises(ValueError, match="JSON"):
        await group_send("room", {"type": "chat.message", "id": [number]})
