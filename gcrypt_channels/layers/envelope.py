"""The format of a group message on the channel layer (``docs/protocol.md``, *Group messages*)."""

from __future__ import annotations

import base64
import binascii
import sys
from collections.abc import Mapping
from enum import IntEnum
from functools import lru_cache
from typing import Any, Final, NamedTuple

from .. import keys
from ..conf import conf
from ..crypto.primitives import AesGcm, hkdf, sha256
from ..exceptions import DecryptionFailed

LAYER_TIMEOUT: Final = 5.0
"""Seconds that the channel layer has for anything that someone waits for."""

RESERVED: Final = "gcrypt."
"""The names of the package's own groups begin with this."""

CONTROL_GROUP: Final = "gcrypt.control"
"""The group of all processes: control messages."""

USER_GROUP: Final = "gcrypt.user."
"""Followed by a user's primary key, the group of all connections of that user."""

_COUNTED_GROUP: Final = "gcrypt.counted."

SENDER_SIZE: Final = 16
"""Bytes of a sender's identity."""

_OUTAGE_ANSWERS: Final = ("UNBLOCKED", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "NOREPLICAS")
"""With these words Redis says that it cannot serve now."""

_MESSAGE_TYPE: Final = "gcrypt.layer"
_DEFAULT_EXPIRY: Final = 60  # seconds; what Channels' own layers have
_TAG_SIZE: Final = 16
_INTEGER_SIZE: Final = 8
_HEADER_SIZE: Final = _TAG_SIZE + SENDER_SIZE + 2 * _INTEGER_SIZE
_CACHED_KEYS: Final = 10_000


class MessageKind(IntEnum):
    """What a group message is."""

    BROADCAST = 1  # JSON text for the clients
    EVENT = 2  # a JSON object with a "type", for the consumers
    CONTROL = 3  # a JSON object with an "op", for the hubs
    COUNTED = 4  # a broadcast to a group with history: epoch(8) ‖ n(8) ‖ JSON text


class Envelope(NamedTuple):
    """What a process sends to a group: a sealed body, and what is needed to open it.

    ``tag`` names the group, ``sender`` the sending process; ``number`` counts the sender's messages
    to this group from 0, and is the nonce; ``sent`` is the sender's time in ns.
    """

    tag: bytes
    sender: bytes
    number: int
    sent: int
    ciphertext: bytes

    @classmethod
    def seal(
        cls,
        group: str,
        sender: bytes,
        number: int,
        sent: int,
        body: bytes,
        *,
        purpose: keys.Purpose = "layer",
    ) -> Envelope:
        """Seal ``body`` under the primary passphrase.

        For each purpose, (group, sender, number) must be unique.
        """
        aead = _aead_for(purpose, conf.passphrases[0], group, sender)
        associated_data = _associated_data(group, sender, number, sent)
        ciphertext = aead.seal(_nonce(number), body, associated_data)
        return cls(group_tag(group), sender, number, sent, ciphertext)

    def open(self, group: str, *, purpose: keys.Purpose = "layer") -> bytes:
        """Return the body of a message to ``group``.

        Raises ``DecryptionFailed`` when it was not sealed for this group and purpose under one of
        ``GCRYPT_PASSPHRASE``.
        """
        associated_data = _associated_data(group, self.sender, self.number, self.sent)
        for passphrase in conf.passphrases:
            aead = _aead_for(purpose, passphrase, group, self.sender)
            try:
                return aead.open(_nonce(self.number), self.ciphertext, associated_data)
            except DecryptionFailed:
                continue
        raise DecryptionFailed

    def serialize(self) -> dict[str, str]:
        """The channel layer's message; text, because not every serializer carries bytes."""
        return {"type": _MESSAGE_TYPE, "data": base64.b64encode(self.to_bytes()).decode()}

    def to_bytes(self) -> bytes:
        """Return ``tag(16) ‖ sender(16) ‖ number(8) ‖ sent(8) ‖ ciphertext``."""
        integers = _integer(self.number) + _integer(self.sent)
        return self.tag + self.sender + integers + self.ciphertext

    @classmethod
    def parse(cls, message: Any) -> Envelope:
        """Read what the channel layer delivered.

        Raises ``DecryptionFailed`` when it is no group message.
        """
        if not isinstance(message, Mapping) or message.get("type") != _MESSAGE_TYPE:
            raise DecryptionFailed
        try:
            data = base64.b64decode(message["data"], validate=True)
        except (KeyError, TypeError, ValueError, binascii.Error):
            raise DecryptionFailed from None
        return cls.from_bytes(data)

    @classmethod
    def from_bytes(cls, data: bytes) -> Envelope:
        """Undo :meth:`to_bytes`. Raises ``DecryptionFailed`` when it is too short."""
        if len(data) < _HEADER_SIZE:
            raise DecryptionFailed
        integers = data[_TAG_SIZE + SENDER_SIZE : _HEADER_SIZE]
        return cls(
            tag=data[:_TAG_SIZE],
            sender=data[_TAG_SIZE : _TAG_SIZE + SENDER_SIZE],
            number=int.from_bytes(integers[:_INTEGER_SIZE], "big"),
            sent=int.from_bytes(integers[_INTEGER_SIZE:], "big"),
            ciphertext=data[_HEADER_SIZE:],
        )


class Body(NamedTuple):
    """What is sealed: the payload, and what tells a receiver which message came before.

    ``previous`` is when the sender sent its message before this one to the group, in ns; 0 if this
    is its first.
    """

    kind: MessageKind
    previous: int
    payload: bytes

    def serialize(self) -> bytes:
        """Return ``kind(1) ‖ previous(8) ‖ payload``."""
        return bytes((self.kind,)) + _integer(self.previous) + self.payload

    @classmethod
    def parse(cls, data: bytes) -> Body:
        """Undo :meth:`serialize`. Raises ``DecryptionFailed`` when it is something else."""
        if len(data) < 1 + _INTEGER_SIZE:
            raise DecryptionFailed
        try:
            kind = MessageKind(data[0])
        except ValueError:
            raise DecryptionFailed from None
        previous = int.from_bytes(data[1 : 1 + _INTEGER_SIZE], "big")
        return cls(kind, previous, data[1 + _INTEGER_SIZE :])


def group_tag(group: str) -> bytes:
    """The 16 bytes by which a message names its group."""
    return sha256(group.encode())[:_TAG_SIZE]


def layer_group(group: str) -> str:
    """The name of ``group`` in the channel layer.

    A hash, so that it is valid whatever the group is called, and does not collide with the group
    of the same name that Channels' own ``group_add`` joins.
    """
    return RESERVED + group_tag(group).hex()


def counted_group(group: str) -> str:
    """The name under which the broadcasts to a group with history are numbered and sealed.

    They travel in the layer's group of ``group``. A number that is missing among them is no loss
    that is reported, as it is among events: the history has the message.
    """
    return _COUNTED_GROUP + group


def expiry_of(layer: Any) -> float:
    """Seconds for which ``layer`` keeps a message."""
    # Not by getattr: channels_redis's pubsub answers for every name, and needs an event loop.
    return float(vars(layer).get("expiry", _DEFAULT_EXPIRY))


def retention_of(layer: Any) -> float:
    """Seconds for which ``layer`` keeps the messages of a process that does not receive.

    Only channels_redis' core layer has a queue for each channel; on its pubsub layer, what nobody
    receives at once is gone. 0 as well for a layer that this package does not know.
    """
    core = sys.modules.get("channels_redis.core")
    if core is None or not isinstance(layer, core.RedisChannelLayer):
        return 0.0
    return expiry_of(layer)


def is_outage(error: Exception) -> bool:
    """Whether ``error`` means that the Redis behind the channel layer cannot serve now.

    The class of the error decides: when Channels has passed the error on, its traceback no longer
    names the layer.
    """
    redis = sys.modules.get("redis.exceptions")
    if redis is None:
        return False
    away = (redis.ConnectionError, redis.TimeoutError, redis.ReadOnlyError, redis.OutOfMemoryError)
    return isinstance(error, away) or (
        isinstance(error, redis.ResponseError) and str(error).startswith(_OUTAGE_ANSWERS)
    )


def _aead_for(purpose: keys.Purpose, passphrase: str, group: str, sender: bytes) -> AesGcm:
    if group == CONTROL_GROUP:
        purpose = "control"
    label = b"gcrypt history" if purpose == "history" else b"gcrypt layer"
    return _aead(keys.purpose_secret(purpose, passphrase), label, group, sender)


@lru_cache(maxsize=_CACHED_KEYS)
def _aead(secret: bytes, label: bytes, group: str, sender: bytes) -> AesGcm:
    return AesGcm(hkdf(secret, info=label + group.encode() + sender, length=32))


def _nonce(number: int) -> bytes:
    return bytes(4) + _integer(number)


def _associated_data(group: str, sender: bytes, number: int, sent: int) -> bytes:
    # The other three have fixed lengths, so no two lists of parts give the same bytes.
    return group.encode() + sender + _integer(number) + _integer(sent)


def _integer(value: int) -> bytes:
    return value.to_bytes(_INTEGER_SIZE, "big")
