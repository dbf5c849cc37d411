"""Group messages on their way through the channel layer: sealed once, opened once per process.

The format is that of ``docs/protocol.md``, *Group messages*. Two rules:

* No two messages share a key and a nonce. A key belongs to one group and one sender, and a sender
  belongs to one event loop of one process.
* Taking a message's number and handing it to the layer is one step, so that the messages of one
  sender reach a group in the order of their numbers, and a number left out is a message lost.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from enum import IntEnum
from functools import lru_cache
from typing import Any, Final, NamedTuple

from . import keys
from .conf import conf
from .crypto.primitives import AesGcm, hkdf, random_bytes, sha256
from .exceptions import DecryptionFailed, TryAgainLater

LAYER_TIMEOUT: Final = 5.0
"""Seconds that the channel layer has for anything that someone waits for."""

CLOCK_SKEW: Final = 1_000_000_000
"""Nanoseconds by which the clocks of two servers may differ without a message being lost."""

RESERVED: Final = "gcrypt."
"""The names of the package's own groups begin with this."""

CONTROL_GROUP: Final = "gcrypt.control"
"""The group of all processes: control messages."""

USER_GROUP: Final = "gcrypt.user."
"""Followed by a user's primary key, the group of all connections of that user."""

_MESSAGE_TYPE: Final = "gcrypt.layer"
_DEFAULT_EXPIRY: Final = 60  # seconds; what Channels' own layers have
_MAX_GROUPS: Final = 10_000  # for which one sender counts
_MAX_SEEN: Final = 10_000  # pairs of group and sender that one receiver remembers
_TAG, _SENDER, _NUMBER, _TIME = 16, 16, 8, 8
_HEADER: Final = _TAG + _SENDER + _NUMBER + _TIME
_PREFIX: Final = 1 + _TIME + _TIME  # kind, started, previous: inside the seal


class Kind(IntEnum):
    """What a group message is."""

    BROADCAST = 1  # JSON text for the clients
    EVENT = 2  # a JSON object with a "type", for the consumers
    CONTROL = 3  # a JSON object with an "op", for the hubs


class Lost(NamedTuple):
    """A hole in a sender's numbers; :meth:`since` says how much of it concerns a member."""

    messages: int
    before: int  # when the message before the hole was sent, in ns; 0: it is not known
    first_sent: int  # when the first lost message was sent, in ns; 0: it is not known
    last_sent: int  # when the last lost message was sent, in ns

    def since(self, joined_at: int) -> int:
        """How many messages a member that joined at ``joined_at`` (ns) missed, at least."""
        if self.last_sent < joined_at:
            return 0
        if joined_at <= max(self.before, self.first_sent):
            return self.messages
        return 1


class Opened(NamedTuple):
    """A group message that is authentic, fresh and new."""

    sender: bytes
    kind: Kind
    payload: bytes
    lost: Lost | None


def group_tag(group: str) -> bytes:
    """The 16 bytes by which a message names its group."""
    return sha256(group.encode())[:_TAG]


def layer_group(group: str) -> str:
    """The name of ``group`` in the channel layer.

    A hash, so that it is valid whatever the group is called, and does not collide with the group
    of the same name that Channels' own ``group_add`` joins.
    """
    return RESERVED + group_tag(group).hex()


class KeyedLock:
    """One lock per key, which exists only while somebody holds it or waits for it."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def __call__(self, key: str) -> AsyncIterator[None]:
        """Hold the lock of ``key``; callers get it in the order in which they asked."""
        lock, users = self._locks.get(key) or (asyncio.Lock(), 0)
        self._locks[key] = lock, users + 1
        try:
            async with lock:
                yield
        finally:
            users = self._locks[key][1]
            if users > 1:
                self._locks[key] = lock, users - 1
            else:
                del self._locks[key]


# Sending -----------------------------------------------------------------------------------------


class _Count:
    """What a sender knows of its messages to one group."""

    __slots__ = ("n", "previous", "started")

    def __init__(self, now: int) -> None:
        self.n = 0
        self.started = now
        self.previous = 0


class Sender:
    """The sealing side of one event loop: an identity, and a counter for each group."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._start()
        self.adopt(loop)

    def _start(self) -> None:
        self.id = random_bytes(_SENDER)
        self._counts: dict[str, _Count] = {}

    def adopt(self, loop: asyncio.AbstractEventLoop) -> None:
        """Serve ``loop`` from now on; the locks of the loop before died with it."""
        self.loop = loop
        self.turns = KeyedLock()

    def seal(self, group: str, kind: Kind, payload: bytes) -> bytes:
        """Seal the next message to ``group``; its number is spent, whatever becomes of it."""
        now = time.time_ns()
        count = self._counts.get(group)
        if count is None:
            if len(self._counts) >= _MAX_GROUPS:
                self._start()
            count = self._counts[group] = _Count(now)
        number = count.n.to_bytes(_NUMBER, "big")
        sent = now.to_bytes(_TIME, "big")
        plaintext = b"".join(
            (
                bytes((kind,)),
                count.started.to_bytes(_TIME, "big"),
                count.previous.to_bytes(_TIME, "big"),
                payload,
            )
        )
        count.n += 1
        count.previous = now
        aead = _aead(keys.root(conf.passphrases[0]), group, self.id)
        associated_data = _associated_data(group, self.id, number, sent)
        ciphertext = aead.seal(_nonce(number), plaintext, associated_data)
        return group_tag(group) + self.id + number + sent + ciphertext


_senders: list[Sender] = []
_senders_lock = threading.Lock()


def current_sender() -> Sender:
    """The sender of the running event loop.

    A loop that is closed leaves its sender to the next one: every ``async_to_sync`` without a
    running loop makes a new loop, and gaps are only seen among the messages of one sender.
    """
    loop = asyncio.get_running_loop()
    with _senders_lock:
        for sender in _senders:
            if sender.loop is loop:
                return sender
        for sender in _senders:
            if sender.loop.is_closed():
                sender.adopt(loop)
                return sender
        sender = Sender(loop)
        _senders.append(sender)
        return sender


def is_own(sender: bytes) -> bool:
    """Whether this process sent a message with this sender."""
    return any(each.id == sender for each in list(_senders))


def _forget_senders() -> None:
    global _senders_lock  # noqa: PLW0603 - the parent may have held it in another thread
    _senders_lock = threading.Lock()
    _senders.clear()


os.register_at_fork(after_in_child=_forget_senders)


async def send(layer: Any, group: str, kind: Kind, payload: bytes) -> None:
    """Seal ``payload`` and send it to ``group`` through ``layer``.

    Raises:
        TryAgainLater: the layer did not take it within :data:`LAYER_TIMEOUT`.
    """
    keys.root(conf.passphrases[0])  # a mistake in the settings is not an outage of the layer
    try:
        await asyncio.wait_for(_send(layer, group, kind, payload), LAYER_TIMEOUT)
    except Exception as error:
        raise TryAgainLater("the channel layer is down") from error


async def _send(layer: Any, group: str, kind: Kind, payload: bytes) -> None:
    sender = current_sender()
    async with sender.turns(group):
        # Text, because the JSON serializer of channels_redis carries no bytes.
        data = base64.b64encode(sender.seal(group, kind, payload)).decode()
        await layer.group_send(layer_group(group), {"type": _MESSAGE_TYPE, "data": data})


# Receiving ---------------------------------------------------------------------------------------


class _Seen(NamedTuple):
    number: int
    sent: int


class Receiver:
    """The opening side: what arrived from each sender, and what therefore must be missing."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[bytes, bytes], _Seen] = OrderedDict()
        self._forgotten = 0  # nothing that was sent up to here (ns) is known to be missing or new

    def open(self, data: bytes, group: str, *, joined_at: int, expiry: float) -> Opened:
        """Open one message.

        Args:
            data: what :func:`decode` returned.
            group: the group that the message names.
            joined_at: since when (ns) this process has been receiving the group's messages.
            expiry: seconds after which a message is stale.

        Raises:
            DecryptionFailed: it is garbled, forged, for another group, stale or a replay.
        """
        sender = data[_TAG : _TAG + _SENDER]
        number = data[_TAG + _SENDER : _HEADER - _TIME]
        sent = data[_HEADER - _TIME : _HEADER]
        plaintext = _open(group, sender, number, sent, data[_HEADER:])
        n, sent_at = int.from_bytes(number, "big"), int.from_bytes(sent, "big")
        seen = self._seen.get((data[:_TAG], sender))
        oldest = max(joined_at - CLOCK_SKEW, self._forgotten + 1)
        if (
            len(plaintext) < _PREFIX
            or abs(time.time_ns() - sent_at) > expiry * 1e9
            or (sent_at < oldest if seen is None else n <= seen.number)
        ):
            raise DecryptionFailed
        try:
            kind = Kind(plaintext[0])
        except ValueError:
            raise DecryptionFailed from None
        self._remember((data[:_TAG], sender), _Seen(n, sent_at))
        started = int.from_bytes(plaintext[1 : 1 + _TIME], "big")
        previous = int.from_bytes(plaintext[1 + _TIME : _PREFIX], "big")
        lost = self._lost(n, started, previous, seen)
        return Opened(sender, kind, plaintext[_PREFIX:], lost)

    def _lost(self, n: int, started: int, previous: int, seen: _Seen | None) -> Lost | None:
        if seen is not None:
            first, before, first_sent = seen.number + 1, seen.sent, 0
        else:
            first, before, first_sent = 0, 0, started
        if n <= first or previous <= self._forgotten:
            return None
        if first_sent <= self._forgotten:
            first_sent = 0
        return Lost(n - first, before, first_sent, previous)

    def _remember(self, key: tuple[bytes, bytes], seen: _Seen) -> None:
        self._seen[key] = seen
        self._seen.move_to_end(key)
        if len(self._seen) > _MAX_SEEN:
            _, evicted = self._seen.popitem(last=False)
            self._forgotten = max(self._forgotten, evicted.sent)


def decode(message: Mapping[str, Any]) -> bytes:
    """The sealed bytes of a layer message; its first 16 are the :func:`group_tag`.

    Raises:
        DecryptionFailed: this is no group message.
    """
    try:
        data = base64.b64decode(message["data"], validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise DecryptionFailed from None
    if len(data) < _HEADER or message.get("type") != _MESSAGE_TYPE:
        raise DecryptionFailed
    return data


def tag_of(data: bytes) -> bytes:
    """The group tag at the head of a sealed message."""
    return data[:_TAG]


def expiry_of(layer: Any) -> float:
    """Seconds for which ``layer`` keeps a message."""
    return float(getattr(layer, "expiry", _DEFAULT_EXPIRY))


def _open(group: str, sender: bytes, number: bytes, sent: bytes, ciphertext: bytes) -> bytes:
    associated_data = _associated_data(group, sender, number, sent)
    for passphrase in conf.passphrases:
        aead = _aead(keys.root(passphrase), group, sender)
        try:
            return aead.open(_nonce(number), ciphertext, associated_data)
        except DecryptionFailed:
            continue
    raise DecryptionFailed


@lru_cache(maxsize=_MAX_SEEN)
def _aead(root: bytes, group: str, sender: bytes) -> AesGcm:
    return AesGcm(hkdf(root, info=b"gcrypt layer" + group.encode() + sender, length=32))


def is_outage(error: Exception) -> bool:
    """Whether ``error`` says that the Redis behind the channel layer is away.

    It is told by its class: what is left of its traceback when Channels has passed it on no longer
    names the layer.
    """
    redis = sys.modules.get("redis.exceptions")
    return redis is not None and isinstance(error, (redis.ConnectionError, redis.TimeoutError))


def _nonce(number: bytes) -> bytes:
    return bytes(4) + number


def _associated_data(group: str, sender: bytes, number: bytes, sent: bytes) -> bytes:
    # The other three have fixed lengths, so no two lists of parts give the same bytes.
    return group.encode() + sender + number + sent
