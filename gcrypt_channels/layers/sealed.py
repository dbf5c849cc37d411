"""A channel layer that seals everything another layer carries (``docs/channel-layer.md``).

Three rules:

* No two messages share a key and a nonce. A key belongs to one sender, a sender to one process, and
  a sender's serial number is never given twice.
* Nothing leaves :meth:`SealedChannelLayer.receive` that is not authentic, fresh, new and meant for
  this very channel.
* What is refused, and why, is in the log; nobody else learns it.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import os
import struct
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from channels.exceptions import ChannelFull, InvalidChannelLayerError
from channels.layers import InMemoryChannelLayer
from django.utils.module_loading import import_string
from django.views.decorators.debug import sensitive_variables

from ..conf import conf
from ..crypto.primitives import AesGcm, hkdf, hmac_sha256, random_bytes
from ..exceptions import DecryptionFailed
from ..keys import purpose_secret
from .envelope import expiry_of

logger = logging.getLogger(__name__)

SKEW: Final = 2_000_000_000
"""Nanoseconds by which the clocks of two servers may differ without a message being lost."""

WINDOW: Final = 1024
"""How far (in messages) a sender's messages to one target may overtake each other."""

MAX_TARGETS: Final = 10_000
"""For so many groups and channels one sender counts; for more, it begins anew."""

MAX_WINDOWS: Final = 10_000
"""Pairs of sender and target that are remembered for one channel."""

MAX_LEFT: Final = 1_000
"""Groups that one channel has left and whose messages may be on their way."""

MAX_CHANNELS: Final = 10_000
"""From so many on, a channel that nobody reads is forgotten although it is in a group."""

MAX_OPENED: Final = 64
MAX_OPENED_SIZE: Final = 1_048_576
"""How many messages, and bytes of them, are kept open for further channels of this process."""

LOG_INTERVAL: Final = 60.0
"""Seconds between two log lines about refused messages of one cause."""

_MESSAGE_TYPE: Final = "gcrypt.sealed"
_GROUP_PREFIX: Final = "sealed."
_TAG_SIZE: Final = 16
_SENDER_SIZE: Final = 16
_AEAD_TAG_SIZE: Final = 16
_HEADER: Final = struct.Struct(">B16s16sQQQ")  # kind, tag, sender, serial, number, sent
_SOURCE: Final = slice(1, 1 + _TAG_SIZE + _SENDER_SIZE)  # tag and sender, where they stand in it
_NONCE: Final = struct.Struct(">4xQ")
_WINDOW_MASK: Final = (1 << WINDOW) - 1
_DEFAULT_GROUP_EXPIRY: Final = 86_400  # seconds; what Channels' own layers have
_DEFAULT_PREFIX: Final = "asgi"  # what channels_redis has
_UNREADABLE: Final[dict[str, Any]] = {}  # stands for what the inner layer could not read

# What a sealed message is. A message, a grant and a revocation are sent to a channel.
_MESSAGE: Final = 1
_GROUP_MESSAGE: Final = 2
_GRANT: Final = 3  # the channel was added to a group
_REVOKE: Final = 4  # the channel was removed from a group
_KINDS: Final = (_MESSAGE, _GROUP_MESSAGE, _GRANT, _REVOKE)

# Why a message was refused.
_PLAINTEXT: Final = "it is not sealed: its sender does not use SealedChannelLayer"
_GARBLED: Final = "it cannot be read"
_FORGED: Final = "no passphrase of GCRYPT_PASSPHRASE opens it"
_STALE: Final = "it is older than the layer's expiry allows, or a server's clock is wrong"
_EARLY: Final = "it was sent before the channel joined the group"
_REDIRECTED: Final = "it was sent to another channel"
_NOT_A_MEMBER: Final = (
    "this process does not know the channel as a member of its group (on a channel without '!', "
    "only processes that called group_add deliver group messages)"
)
_REPEATED: Final = "it arrived before, or too much has arrived since to tell"


class _Refused(Exception):  # noqa: N818 - named for what happened
    """A message is not for the application; ``cause`` is for the log, where it deserves a line."""

    def __init__(self, cause: str | None) -> None:
        super().__init__(cause)
        self.cause = cause


# Sending ------------------------------------------------------------------------------------------


class _Sender:
    """The sealing side of one process: an identity, and its counters."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._id = random_bytes(_SENDER_SIZE)
        self._serial = 0
        self._numbers: dict[bytes, int] = {}

    def next(self, tag: bytes) -> tuple[bytes, int, int]:
        """The identity, the next serial number, and the next number to the target ``tag``."""
        with _lock:
            number = self._numbers.get(tag, 0)
            if not number and len(self._numbers) >= MAX_TARGETS:
                self._begin()
            self._numbers[tag] = number + 1
            self._serial += 1
            return self._id, self._serial, number


_lock = threading.Lock()
_sender = _Sender()


def _after_fork() -> None:
    global _lock, _sender  # noqa: PLW0603 - the parent's lock may be held in another thread
    _lock = threading.Lock()
    _sender = _Sender()


os.register_at_fork(after_in_child=_after_fork)


# Receiving ----------------------------------------------------------------------------------------


class _Opened(NamedTuple):
    """A message that is authentic; ``source`` is its target's tag and its sender."""

    kind: int
    tag: bytes
    source: bytes
    number: int
    sent: int  # in ns, by the sender's clock
    body: bytes


class Window:
    """Which of the last :data:`WINDOW` numbers of one sender to one target have arrived."""

    __slots__ = ("_highest", "_missing", "until")

    def __init__(self, number: int, until: int) -> None:
        self._highest = number
        # Bit n stands for the number ``_highest - n``; there are none below 0.
        self._missing = (1 << min(number + 1, WINDOW)) - 2
        self.until = until  # when (ns, monotonic) everything that it covers is stale

    def accepts(self, number: int) -> bool:
        """Whether ``number`` is new. It counts as arrived from now on."""
        ahead = number - self._highest
        if ahead > 0:
            if ahead > 1 or self._missing:
                skipped = (1 << min(ahead, WINDOW)) - 2
                self._missing = (self._missing << min(ahead, WINDOW) | skipped) & _WINDOW_MASK
            self._highest = number
            return True
        if not self._missing >> -ahead & 1:
            return False
        self._missing ^= 1 << -ahead
        return True


class _Channel:
    """What this process knows of one channel. All times are in ns, monotonic.

    Attributes:
        joined: the tags of its groups, and since when it is a member.
        left: the tags of groups it has left, and until when messages may be on their way.
        windows: what has arrived, by source.
        forgotten: up to when (see ``Window.until``) windows had to give way to newer ones.
        receivers: how many are receiving on it.
        idle_since: since when nobody is.
    """

    __slots__ = ("forgotten", "idle_since", "joined", "left", "receivers", "windows")

    def __init__(self, now: int) -> None:
        self.joined: dict[bytes, int] = {}
        self.left: OrderedDict[bytes, int] = OrderedDict()
        self.windows: OrderedDict[bytes, Window] = OrderedDict()
        self.forgotten = 0
        self.receivers = 0
        self.idle_since = now


class SealedChannelLayer:
    """A channel layer that seals what another one carries, for consumers that do not know it.

    It has every method and attribute of the layer inside. Over an in-memory layer it does nothing,
    since nothing leaves the process. ``docs/channel-layer.md`` says what it protects from whom.

    ::

        CHANNEL_LAYERS = {
            "default": {
                "BACKEND": "gcrypt_channels.layers.SealedChannelLayer",
                "CONFIG": {"layer": {"BACKEND": …, "CONFIG": …}},
            },
        }

    Args:
        layer: the configuration of the layer inside, ``{"BACKEND": …, "CONFIG": …}``.

    Attributes:
        inner: the layer inside.
        dropped: how many messages were forged, redirected, stale, repeated or unreadable.

    Raises:
        InvalidChannelLayerError: the configuration is wrong; the message names the key.
    """

    def __init__(self, **config: Any) -> None:
        problem = configuration_problem(config)
        if problem is not None:
            raise InvalidChannelLayerError(problem)
        inner_config = config["layer"].get("CONFIG", {})
        self.inner: Any = import_string(config["layer"]["BACKEND"])(**inner_config)
        self.dropped = 0
        if isinstance(self.inner, InMemoryChannelLayer):
            for name in ("send", "receive", "group_send", "group_add", "group_discard"):
                setattr(self, name, getattr(self.inner, name))
            return
        # Not by getattr: pubsub answers for every name, and needs an event loop for it.
        given = vars(self.inner)
        prefix = given.get("prefix", inner_config.get("prefix", _DEFAULT_PREFIX))
        self._prefix = str(prefix).encode()
        self._own_channels = given.get("client_prefix")
        self._limit = int(expiry_of(self.inner) * 1e9) + SKEW
        # What was received may be fresh for so long, if its sender's clock is as fast as allowed.
        self._memory = 2 * self._limit + SKEW
        group_expiry = int(given.get("group_expiry", _DEFAULT_GROUP_EXPIRY) * 1e9)
        self._group_expiry = max(group_expiry, self._memory)
        self._dumps, self._loads = _serializer(self.inner, inner_config)
        self._carries_bytes = _carries_bytes(self.inner)
        if hasattr(type(self.inner), "deserialize"):
            self.inner.deserialize = self._never_raising(self.inner.deserialize)
        self._channels: OrderedDict[str, _Channel] = OrderedDict()
        self._opened: OrderedDict[bytes | str, _Opened] = OrderedDict()
        self._opened_size = 0
        self._logged_at: dict[str, float] = {}

    def __getattr__(self, name: str) -> Any:
        if name == "inner":  # not set yet
            raise AttributeError(name)
        return getattr(self.inner, name)

    def group_name(self, group: str) -> str:
        """The name that ``group`` has in the layer inside: 39 ASCII characters, no secret.

        Raises:
            TypeError: the layer inside does not allow a group of this name.
        """
        if isinstance(self.inner, InMemoryChannelLayer):
            return group
        self._require_valid("group", group)
        return _GROUP_PREFIX + self._tags(_GROUP_MESSAGE, group)[0].hex()

    # Channels' own methods. Their arguments and errors are those of the layer inside.

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        """Send ``message`` to ``channel``."""
        self._require_dict(message)
        sealed, _ = self._seal(_MESSAGE, channel, self._dumps(message))
        await self.inner.send(channel, sealed)

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        """Send ``message`` to every channel in ``group``."""
        self._require_valid("group", group)
        self._require_dict(message)
        sealed, tag = self._seal(_GROUP_MESSAGE, group, self._dumps(message))
        await self.inner.group_send(_GROUP_PREFIX + tag.hex(), sealed)

    async def group_add(self, group: str, channel: str) -> None:
        """Add ``channel`` to ``group``. The channel may be another process's.

        Raises:
            ChannelFull: it is, and there is no room for the message that tells that process.
        """
        tags = self._group_tags(group)
        if self._is_of_another_process(channel):
            grant, _ = self._seal(_GRANT, channel, _encoded(group))
            await self.inner.send(channel, grant)
        else:
            self._join(self._channel(channel), tags, time.monotonic_ns())
        for tag in tags:
            await self.inner.group_add(_GROUP_PREFIX + tag.hex(), channel)

    async def group_discard(self, group: str, channel: str) -> None:
        """Remove ``channel`` from ``group``. The channel may be another process's."""
        tags = self._group_tags(group)
        of_another_process = self._is_of_another_process(channel)
        if not of_another_process:
            self._leave(self._channel(channel), tags)
        for tag in tags:
            await self.inner.group_discard(_GROUP_PREFIX + tag.hex(), channel)
        if of_another_process:
            revocation, _ = self._seal(_REVOKE, channel, _encoded(group))
            try:
                await self.inner.send(channel, revocation)
            except ChannelFull:
                # The layer has forgotten the membership, so nothing is delivered from now on.
                self._log("A full channel could not be told that it left a group", channel)

    async def receive(self, channel: str) -> Any:
        """Wait for the next message to ``channel`` and return it.

        Whatever is not authentic, fresh, new and meant for this channel is dropped, counted in
        ``dropped``, and logged with its cause at most once in :data:`LOG_INTERVAL`.
        """
        state = self._channels.get(channel) or self._channel(channel)
        state.receivers += 1
        try:
            while True:
                message = await self.inner.receive(channel)
                try:
                    return self._open(channel, state, message)
                except _Refused as refused:
                    if refused.cause is not None:
                        self._drop(refused.cause, channel)
        except BaseException:
            state.idle_since = time.monotonic_ns()
            raise
        finally:
            state.receivers -= 1

    # Sealing and opening

    def _seal(self, kind: int, name: str, body: bytes) -> tuple[dict[str, Any], bytes]:
        """What the layer inside carries to the group or channel ``name``, and the tag of that."""
        keys = _all_keys()[0]
        target = _GROUP_MESSAGE if kind == _GROUP_MESSAGE else _MESSAGE
        tag = _tag(keys, target, self._prefix, _encoded(name))
        sender, serial, number = _sender.next(tag)
        header = _HEADER.pack(kind, tag, sender, serial, number, time.time_ns())
        data = header + _aead(keys, sender).seal(_NONCE.pack(serial), body, header)
        carried = data if self._carries_bytes else base64.b64encode(data).decode()
        return {"type": _MESSAGE_TYPE, "data": carried}, tag

    def _open(self, channel: str, state: _Channel, message: Any) -> Any:
        """The application's message in what the layer inside delivered on ``channel``.

        Raises:
            _Refused: there is none for the application.
        """
        if message is _UNREADABLE:
            raise _Refused(None)  # it has been counted
        try:
            if message["type"] != _MESSAGE_TYPE:
                raise _Refused(_PLAINTEXT)
            data = message["data"]
            opened = self._opened.get(data)
        except (KeyError, TypeError):
            raise _Refused(_PLAINTEXT) from None
        if opened is None:
            opened = self._decrypt(data)
        kind, tag, source, number, sent, body = opened
        age, now = time.time_ns() - sent, time.monotonic_ns()
        if not -self._limit <= age <= self._limit:
            raise _Refused(_STALE)
        if kind != _GROUP_MESSAGE:
            if tag not in self._tags(_MESSAGE, channel):
                raise _Refused(_REDIRECTED)
        else:
            since = state.joined.get(tag)
            if since is None:
                # What was on its way when the group was left is no attack.
                raise _Refused(None if state.left.get(tag, 0) > now else _NOT_A_MEMBER)
            if age > now - since + SKEW:
                raise _Refused(_EARLY)
        state.idle_since = now
        # The skew on top, because the clock that makes a message stale may be set back a little.
        until = now - age + self._limit + SKEW
        with _lock:
            window = state.windows.get(source)
            if window is None:
                self._remember(state, source, number, until, now)
            elif not window.accepts(number):
                raise _Refused(_REPEATED)
            elif until > window.until:
                window.until = until
        if kind == _GRANT:
            self._join(state, self._tags(_GROUP_MESSAGE, body.decode()), now - max(age, 0))
            raise _Refused(None)
        if kind == _REVOKE:
            self._leave(state, self._tags(_GROUP_MESSAGE, body.decode()))
            raise _Refused(None)
        try:
            return self._loads(body)
        except Exception as error:  # a serializer raises what it likes
            raise _Refused(_GARBLED) from error

    def _decrypt(self, data: Any) -> _Opened:
        raw = data
        if isinstance(data, str):
            try:
                raw = base64.b64decode(data, validate=True)
            except (ValueError, binascii.Error):
                raise _Refused(_GARBLED) from None
        if not isinstance(raw, bytes) or len(raw) < _HEADER.size + _AEAD_TAG_SIZE:
            raise _Refused(_GARBLED)
        header, ciphertext = raw[: _HEADER.size], raw[_HEADER.size :]
        kind, tag, sender, serial, number, sent = _HEADER.unpack(header)
        if kind not in _KINDS:
            raise _Refused(_GARBLED)
        for keys in _all_keys():
            try:
                body = _aead(keys, sender).open(_NONCE.pack(serial), ciphertext, header)
            except DecryptionFailed:
                continue
            opened = _Opened(kind, tag, header[_SOURCE], number, sent, body)
            self._keep_open(data, opened)
            return opened
        raise _Refused(_FORGED)

    def _keep_open(self, data: bytes | str, opened: _Opened) -> None:
        """Keep a message for the other channels of this process that it goes to."""
        with _lock:
            if data in self._opened:
                return
            self._opened[data] = opened
            self._opened_size += len(data)
            while len(self._opened) > MAX_OPENED or (
                self._opened_size > MAX_OPENED_SIZE and len(self._opened) > 1
            ):
                oldest, _ = self._opened.popitem(last=False)
                self._opened_size -= len(oldest)

    # What is remembered. Whatever is added looks at two older ones, so that there is always at most
    # about twice as much as is needed, and no timer and no long pause.

    def _channel(self, name: str) -> _Channel:
        state = self._channels.get(name)
        if state is None:
            now = time.monotonic_ns()
            with _lock:
                crowded_out = self._forget_channels(now)
                state = self._channels.setdefault(name, _Channel(now))
            for each in crowded_out:
                self._log("Forgot the groups of a channel that has not been read for long", each)
        return state

    def _forget_channels(self, now: int) -> list[str]:
        """Forget what is over. Returns the channels that had to give way although in a group."""
        crowded_out = []
        for _ in range(min(2, len(self._channels))):
            name, state = next(iter(self._channels.items()))
            idle = 0 if state.receivers else now - state.idle_since
            if idle > self._group_expiry or (idle > self._memory and not state.joined):
                del self._channels[name]
            elif idle > self._memory and len(self._channels) >= MAX_CHANNELS:
                del self._channels[name]
                crowded_out.append(name)
            else:
                self._channels.move_to_end(name)
        return crowded_out

    def _remember(self, state: _Channel, source: bytes, number: int, until: int, now: int) -> None:
        """Open the window of a source that has not been heard of, or not for long."""
        if until - SKEW <= state.forgotten:
            raise _Refused(_REPEATED)
        for _ in range(min(2, len(state.windows))):
            oldest, window = next(iter(state.windows.items()))
            if window.until <= now:
                del state.windows[oldest]
            elif len(state.windows) >= MAX_WINDOWS:
                del state.windows[oldest]
                state.forgotten = max(state.forgotten, window.until)
            else:
                state.windows.move_to_end(oldest)
        state.windows[source] = Window(number, until)

    def _join(self, state: _Channel, tags: tuple[bytes, ...], since: int) -> None:
        for tag in tags:
            state.joined.setdefault(tag, since)
            state.left.pop(tag, None)

    def _leave(self, state: _Channel, tags: tuple[bytes, ...]) -> None:
        now = time.monotonic_ns()
        for tag in tags:
            if state.joined.pop(tag, None) is not None:
                state.left[tag] = now + self._limit
        with _lock:
            while state.left and (
                next(iter(state.left.values())) <= now or len(state.left) > MAX_LEFT
            ):
                state.left.popitem(last=False)

    # Names

    def _tags(self, target: int, name: str) -> tuple[bytes, ...]:
        """The tags of a group or channel under every passphrase, the primary's first."""
        encoded = _encoded(name)
        return tuple(_tag(keys, target, self._prefix, encoded) for keys in _all_keys())

    def _group_tags(self, group: str) -> tuple[bytes, ...]:
        self._require_valid("group", group)
        return self._tags(_GROUP_MESSAGE, group)

    def _is_of_another_process(self, channel: str) -> bool:
        """Whether ``channel`` is one that a single process receives on, and not this one.

        Raises:
            TypeError: the layer inside does not allow a channel of this name.
        """
        self._require_valid("channel", channel)
        if self._own_channels is None:
            return False
        process, specific, _ = channel.partition("!")
        return bool(specific) and not process.endswith(self._own_channels)

    # As the layer inside has it, which sees neither the group's name nor the message.

    def _require_valid(self, what: str, name: str) -> None:
        check = getattr(type(self.inner), f"require_valid_{what}_name", None)
        if check is not None:
            check(self.inner, name)

    def _require_dict(self, message: Any) -> None:
        if hasattr(type(self.inner), "require_valid_channel_name"):
            assert isinstance(message, dict), "message is not a dict"  # noqa: S101  # nosec B101

    # What is refused

    def _never_raising(self, deserialize: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Wrap the inner layer's ``deserialize``, so that what it cannot read ends no consumer.

        Here, because the exception's class does not tell a message that cannot be read from a
        mistake in the settings or in the call: both are a ``TypeError`` or a ``ValueError``.
        """

        def deserialize_or_drop(data: Any) -> Any:
            try:
                message = deserialize(data)
            except Exception:  # noqa: BLE001 - a serializer raises what it likes
                message = _UNREADABLE
            if message is _UNREADABLE or not _is_addressed_well(message):
                self._drop(_GARBLED, None)
                return _UNREADABLE
            return message

        return deserialize_or_drop

    def _drop(self, cause: str, channel: str | None) -> None:
        self.dropped += 1
        self._log(f"Dropped a message of the channel layer: {cause}", channel)

    def _log(self, event: str, channel: str | None) -> None:
        now = time.monotonic()
        if now - self._logged_at.get(event, -LOG_INTERVAL) >= LOG_INTERVAL:
            self._logged_at[event] = now
            logger.warning("%s (channel %r; %d dropped so far).", event, channel, self.dropped)


# The layer inside ---------------------------------------------------------------------------------


def unwrap(layer: Any) -> Any:
    """The layer inside a :class:`SealedChannelLayer`, or ``layer`` itself."""
    return layer.inner if isinstance(layer, SealedChannelLayer) else layer


def inner_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration of the layer inside a sealed one, or ``config`` itself.

    Args:
        config: an entry of ``CHANNEL_LAYERS``.
    """
    if _backend_is_sealed(config) and configuration_problem(config.get("CONFIG")) is None:
        inside: Mapping[str, Any] = config["CONFIG"]["layer"]
        return inside
    return config


def layer_problem(config: Mapping[str, Any], where: str) -> str | None:
    """What is wrong with the way in which one layer is put into the other; names the key.

    Args:
        config: an entry of ``CHANNEL_LAYERS``.
        where: how messages name that entry.
    """
    inside = config.get("CONFIG")
    if _backend_is_sealed(config):
        return configuration_problem(inside, f"{where}['CONFIG']")
    layer = inside.get("layer") if isinstance(inside, Mapping) else None
    if isinstance(layer, Mapping) and _backend_is_sealed(layer):
        return f"{where}['CONFIG']['layer'] is SealedChannelLayer, which has to be the outer one."
    return None


def configuration_problem(config: object, where: str = "CONFIG") -> str | None:
    """What is wrong with the ``CONFIG`` of a sealed layer; names the key.

    Args:
        config: ``{"layer": {"BACKEND": …, "CONFIG": …}}``, if it is right.
        where: how the message names ``config``.
    """
    if not isinstance(config, Mapping) or not isinstance(config.get("layer"), Mapping):
        return f"{where}['layer'] must be a dictionary with the BACKEND and CONFIG of a layer."
    if unknown := [key for key in config if key != "layer"]:
        return f"{where}[{unknown[0]!r}] belongs into {where}['layer']['CONFIG']."
    layer, inside = config["layer"], f"{where}['layer']"
    if unknown := [key for key in layer if key not in ("BACKEND", "CONFIG", "TEST_CONFIG")]:
        return f"{inside}[{unknown[0]!r}] belongs into {inside}['CONFIG']."
    if not isinstance(layer.get("CONFIG", {}), Mapping):
        return f"{inside}['CONFIG'] must be a dictionary."
    try:
        sealed = issubclass(import_string(layer["BACKEND"]), SealedChannelLayer)
    except (KeyError, TypeError, AttributeError, ImportError) as error:
        return f"{inside}['BACKEND'] must be the path of a channel layer: {error!r}."
    if sealed:
        return f"{inside}['BACKEND'] is SealedChannelLayer itself: nothing is sealed twice."
    return None


def _backend_is_sealed(config: Mapping[str, Any]) -> bool:
    try:
        return issubclass(import_string(config["BACKEND"]), SealedChannelLayer)
    except (KeyError, TypeError, AttributeError, ImportError):
        return False  # whoever uses the layer is told


def _serializer(
    inner: Any, config: Mapping[str, Any]
) -> tuple[Callable[[Any], bytes], Callable[[bytes], Any]]:
    """How ``inner`` writes and reads a message, without the random prefix and the symmetric keys.

    A class that overrides channels_redis's own methods knows types that those do not.
    """
    for name in ("serialize", "deserialize"):
        method = getattr(type(inner), name, None)
        if method is not None and not method.__module__.startswith("channels_redis."):
            return inner.serialize, inner.deserialize
    try:
        from channels_redis.serializers import BaseMessageSerializer, registry
    except ImportError:
        return _to_json, json.loads
    serializer = registry.get_serializer(config.get("serializer_format", "msgpack"))
    if isinstance(serializer, BaseMessageSerializer):
        return serializer.as_bytes, serializer.from_bytes
    return serializer.serialize, serializer.deserialize


def _to_json(message: Any) -> bytes:
    return json.dumps(message).encode()


def _carries_bytes(inner: Any) -> bool:
    probe = {"data": b"\xff"}
    try:
        return bool(inner.deserialize(inner.serialize(probe)) == probe)
    except Exception:  # noqa: BLE001 - a serializer raises what it likes
        return False


def _is_addressed_well(message: Any) -> bool:
    """Whether channels_redis can read the names of the channels that ``message`` is for."""
    if not isinstance(message, dict):
        return False
    channels = message.get("__asgi_channel__", "")
    return isinstance(channels, str) or (
        isinstance(channels, list) and all(isinstance(each, str) for each in channels)
    )


# Keys and names -----------------------------------------------------------------------------------


def _encoded(name: object) -> bytes:
    # Formatted, because pubsub takes names that are no text.
    return f"{name}".encode()


class _Keys:
    """What is derived from one passphrase; error reports, which show the frames, show nothing."""

    __slots__ = ("names", "secret")

    def __init__(self, secret: bytes) -> None:
        self.secret = secret
        self.names = hkdf(secret, info=b"gcrypt sealed layer names", length=32)


def _all_keys() -> tuple[_Keys, ...]:
    """The keys of every passphrase, the primary's first."""
    return tuple(map(_derive, conf.passphrases))


@lru_cache(maxsize=16)
@sensitive_variables()
def _derive(passphrase: str) -> _Keys:
    return _Keys(purpose_secret("layer", passphrase))


@lru_cache(maxsize=20_000)
def _tag(keys: _Keys, target: int, prefix: bytes, name: bytes) -> bytes:
    """The bytes by which a message names its target: a group or a channel of one prefix."""
    # The lengths are fixed or given, so no two lists of parts give the same bytes.
    data = bytes((target,)) + len(prefix).to_bytes(4, "big") + prefix + name
    return hmac_sha256(keys.names, data)[:_TAG_SIZE]


@lru_cache(maxsize=1_000)
def _aead(keys: _Keys, sender: bytes) -> AesGcm:
    return AesGcm(hkdf(keys.secret, info=b"gcrypt sealed layer" + sender, length=32))
