from __future__ import annotations

import base64
import os
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer
from channels_redis.pubsub import RedisPubSubChannelLayer
from redis.exceptions import ConnectionError as RedisConnectionError

from gcrypt_channels.crypto.primitives import AesGcm, hkdf, sha256
from gcrypt_channels.exceptions import DecryptionFailed
from gcrypt_channels.keys import purpose_secret
from gcrypt_channels.layers import envelope as envelopes
from gcrypt_channels.layers.envelope import Body, Envelope, MessageKind

SENDER = os.urandom(16)
SENT = 1_800_000_000_000_000_000


def sealed(body: bytes = b"body", group: str = "room") -> Envelope:
    return Envelope.seal(group, SENDER, 7, SENT, body)


def test_a_message_survives_the_layer() -> None:
    message = sealed().serialize()
    assert all(isinstance(each, str) for each in message.values())
    assert Envelope.parse(message) == sealed()
    assert Envelope.parse(message).open("room") == b"body"


def test_the_format_is_the_documented_one(settings: Any) -> None:
    data = base64.b64decode(sealed(group="räume").serialize()["data"])
    group = "räume".encode()
    number, sent = (7).to_bytes(8, "big"), SENT.to_bytes(8, "big")
    assert data[:48] == sha256(group)[:16] + SENDER + number + sent
    secret = purpose_secret("layer", settings.GCRYPT_PASSPHRASE)
    key = hkdf(secret, info=b"gcrypt layer" + group + SENDER, length=32)
    associated_data = group + SENDER + number + sent
    assert AesGcm(key).open(bytes(4) + number, data[48:], associated_data) == b"body"


def test_a_body_says_its_kind_and_what_came_before() -> None:
    body = Body(MessageKind.EVENT, 1, b"payload")
    assert body.serialize() == b"\x02" + bytes(7) + b"\x01" + b"payload"
    assert Body.parse(body.serialize()) == body


@pytest.mark.parametrize("data", [b"", bytes(9), b"\x05" + bytes(8), b"\x01" + bytes(7)])
def test_what_is_no_body_is_refused(data: bytes) -> None:
    with pytest.raises(DecryptionFailed):
        Body.parse(data)


def test_every_flipped_bit_is_noticed() -> None:
    data = base64.b64decode(sealed().serialize()["data"])
    for position in range(8 * 16, 8 * len(data)):  # the tag before only says which group to try
        forged = bytearray(data)
        forged[position // 8] ^= 1 << position % 8
        message = {"type": "gcrypt.layer", "data": base64.b64encode(forged).decode()}
        with pytest.raises(DecryptionFailed):
            Envelope.parse(message).open("room")


def test_every_truncation_is_noticed() -> None:
    data = base64.b64decode(sealed().serialize()["data"])
    for length in range(len(data)):
        message = {"type": "gcrypt.layer", "data": base64.b64encode(data[:length]).decode()}
        with pytest.raises(DecryptionFailed):
            Envelope.parse(message).open("room")


def test_a_message_to_another_group_is_not_opened() -> None:
    with pytest.raises(DecryptionFailed):
        sealed().open("other")


def test_another_root_opens_nothing(settings: Any) -> None:
    envelope = sealed()
    settings.GCRYPT_PASSPHRASE = "another passphrase that is long enough"
    with pytest.raises(DecryptionFailed):
        envelope.open("room")


def test_a_previous_root_still_opens_and_the_primary_seals(settings: Any) -> None:
    old, new = settings.GCRYPT_PASSPHRASE, "another passphrase that is long enough"
    before = sealed()
    settings.GCRYPT_PASSPHRASE = [new, old]
    assert before.open("room") == b"body"
    after = sealed()
    settings.GCRYPT_PASSPHRASE = [new]
    assert after.open("room") == b"body"
    settings.GCRYPT_PASSPHRASE = [old, new]
    assert after.open("room") == b"body"


@pytest.mark.parametrize(
    "message",
    [
        None,
        b"bytes",
        {},
        {"type": "gcrypt.layer"},
        {"type": "gcrypt.layer", "data": None},
        {"type": "gcrypt.layer", "data": "&"},
        {"type": "gcrypt.layer", "data": "é"},
        {"type": "gcrypt.layer", "data": ""},
        {"type": "gcrypt.layer", "data": base64.b64encode(bytes(47)).decode()},
        {"type": "chat.message", "data": base64.b64encode(bytes(100)).decode()},
    ],
)
def test_what_is_no_group_message_is_refused(message: Any) -> None:
    with pytest.raises(DecryptionFailed):
        Envelope.parse(message)


def test_no_group_is_named_in_the_layer() -> None:
    name = envelopes.layer_group("Straße 12/b")
    assert name == "gcrypt." + sha256("Straße 12/b".encode()).hex()[:32]


def test_an_outage_of_redis_is_told_from_other_errors() -> None:
    assert envelopes.is_outage(RedisConnectionError())
    assert not envelopes.is_outage(ConnectionRefusedError())


def test_the_expiry_is_that_of_the_layer_or_the_default_one() -> None:
    assert envelopes.expiry_of(InMemoryChannelLayer(expiry=5)) == 5
    assert envelopes.expiry_of(RedisPubSubChannelLayer()) == 60  # without an event loop
