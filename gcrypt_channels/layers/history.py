"""The history of groups: their last broadcasts, sealed, each with its position.

A group with history has an epoch and counts its messages 1, 2, …; see ``docs/protocol.md``,
*History*. The store counts and keeps: Redis with one script for each message, or this process.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol
from urllib.parse import urlsplit

from channels.layers import InMemoryChannelLayer
from django.core.exceptions import ImproperlyConfigured

from ..conf import HistoryLimits, HistorySettings, conf
from ..crypto.primitives import random_bytes
from ..exceptions import DecryptionFailed, TryAgainLater
from .envelope import LAYER_TIMEOUT, RESERVED, Envelope, group_tag
from .sender import current_sender

if TYPE_CHECKING:
    from redis.asyncio import Redis

logger = logging.getLogger(__name__)

EPOCH_SIZE: Final = 8
"""Bytes of an epoch."""

KEEP_EPOCH: Final = 7 * 86_400
"""Seconds for which the store remembers how far a silent group has counted."""

MAX_CONNECTIONS: Final = 16
"""Connections to Redis of one event loop; who finds none free waits."""

WHOLE: Final = "*"
"""In place of an epoch: everything that is kept, whatever the epoch."""


class Place(NamedTuple):
    """How far a group has counted: ``n`` messages in ``epoch`` (16 hexadecimal digits)."""

    epoch: str
    n: int


class Window(NamedTuple):
    """The messages of a group from ``after + 1`` to ``n``, as JSON text in UTF-8, in order."""

    epoch: str
    n: int
    messages: list[bytes]

    @property
    def after(self) -> int:
        """The position before the first of them."""
        return self.n - len(self.messages)


class Store(Protocol):
    """Counts and keeps sealed messages; a group is named by its tag.

    Each call begins a new epoch where there is none, or where the store may have forgotten
    messages: their positions must not be given to others. It raises what its library raises.
    """

    async def append(self, tag: str, sealed: bytes, limits: HistoryLimits) -> Place:
        """Count a message and keep it."""

    async def read(
        self, tag: str, limits: HistoryLimits, epoch: str, after: int
    ) -> tuple[Place, Sequence[bytes]]:
        """Return how far the group has counted, and its last messages.

        With ``epoch`` ``""`` there are none of them. Where it is the present one, they are those
        behind ``after`` that are kept, otherwise all that are kept.
        """

    async def places(self, tags: Sequence[str]) -> list[Place | None]:
        """Return how far each group has counted, ``None`` where a new epoch is due."""


class History:
    """Seals what a store keeps, and opens it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def append(self, group: str, payload: bytes, limits: HistoryLimits) -> Place:
        """Keep a broadcast; the caller holds the sender's lock of the group.

        Raises:
            TryAgainLater: the store does not answer. It may have counted the message in spite of
                that; then it is delivered later.
        """
        sender = current_sender()
        sealed = sender.seal_for_history(group, payload).to_bytes()
        try:
            return await self._store.append(group_tag(group).hex(), sealed, limits)
        except BaseException as error:
            # The store may carry it out later, behind what follows. Only a new sender's numbers
            # rise then whatever happens.
            sender.renew()
            if isinstance(error, Exception):
                raise TryAgainLater("the history is down") from error
            raise

    async def read(self, group: str, limits: HistoryLimits, epoch: str, after: int) -> Window:
        """Return the last messages of a group; see :meth:`Store.read`.

        A window that does not open, or in which the messages of a sender are not in the order of
        their numbers, has no messages: somebody has changed it.

        Raises:
            TryAgainLater: the store does not answer in time.
        """
        reading = self._store.read(group_tag(group).hex(), limits, epoch, after)
        try:
            place, kept = await asyncio.wait_for(reading, LAYER_TIMEOUT)
        except Exception as error:
            logger.warning("The history of group %r cannot be read: %r.", group, error)
            raise TryAgainLater("the history is down") from error
        try:
            return Window(*place, _open(group, kept))
        except DecryptionFailed:
            logger.error(
                "The history of group %r was changed, or holds messages of another passphrase: "
                "none of it is delivered.",
                group,
            )
            return Window(*place, [])

    async def places(self, groups: Sequence[str]) -> list[Place | None]:
        """Return how far each group has counted, ``None`` where a new epoch is due.

        Raises:
            TryAgainLater: the store does not answer in time.
        """
        looking = self._store.places([group_tag(group).hex() for group in groups])
        try:
            return await asyncio.wait_for(looking, LAYER_TIMEOUT)
        except Exception as error:
            raise TryAgainLater("the history is down") from error


def _open(group: str, kept: Sequence[bytes]) -> list[bytes]:
    last: dict[bytes, int] = {}
    messages = []
    for sealed in kept:
        envelope = Envelope.from_bytes(sealed)
        messages.append(envelope.open(group, purpose="history"))
        if envelope.number <= last.get(envelope.sender, -1):
            raise DecryptionFailed
        last[envelope.sender] = envelope.number
    return messages


def limits_of(group: str) -> HistoryLimits | None:
    """What is kept of ``group``; ``None`` if it has no history.

    The longest prefix decides. The package's own groups have none, because no application joins
    them.
    """
    settings = conf.history
    if settings is None or group.startswith(RESERVED):
        return None
    return next((limits for prefix, limits in settings.groups if group.startswith(prefix)), None)


_histories: dict[HistorySettings, History] = {}


def current_history(layer: Any) -> History:
    """The history of the settings, for messages that travel through ``layer``.

    Raises:
        ImproperlyConfigured: this process would keep for itself what others have to know.
    """
    settings = conf.history
    if settings is None:
        raise ImproperlyConfigured("GCRYPT['HISTORY'] is not set.")
    if not settings.url and layer is not None and not isinstance(layer, InMemoryChannelLayer):
        raise ImproperlyConfigured(
            "GCRYPT['HISTORY'] needs a 'URL': the channel layer reaches other processes, and "
            "without one each of them would count for itself."
        )
    history = _histories.get(settings)
    if history is None:
        store = RedisStore(settings) if settings.url else ProcessStore()
        history = _histories[settings] = History(store)
    return history


def forget_histories() -> None:
    """Begin anew, as a process does after a fork: two must not share a connection."""
    _histories.clear()


os.register_at_fork(after_in_child=forget_histories)


# In this process


class _Kept:
    """What is kept of one group: each message with the time (s) at which it came."""

    def __init__(self) -> None:
        self.epoch = _new_epoch()
        self.n = 0
        self.messages: deque[tuple[float, bytes]] = deque()
        self.used = 0.0

    def trim(self, limits: HistoryLimits) -> None:
        oldest = time.monotonic() - limits.seconds
        while self.messages and (
            len(self.messages) > limits.messages or self.messages[0][0] < oldest
        ):
            self.messages.popleft()


class ProcessStore:
    """Keeps messages in this process, for all its event loops."""

    def __init__(self) -> None:
        self._groups: OrderedDict[str, _Kept] = OrderedDict()  # what was used last comes last
        self._lock = threading.Lock()

    async def append(self, tag: str, sealed: bytes, limits: HistoryLimits) -> Place:
        """See :class:`Store`."""
        with self._lock:
            kept = self._use(tag)
            kept.n += 1
            kept.messages.append((time.monotonic(), sealed))
            kept.trim(limits)
            return Place(kept.epoch, kept.n)

    async def read(
        self, tag: str, limits: HistoryLimits, epoch: str, after: int
    ) -> tuple[Place, Sequence[bytes]]:
        """See :class:`Store`."""
        with self._lock:
            kept = self._use(tag)
            kept.trim(limits)
            messages = [sealed for _, sealed in kept.messages]
            place = Place(kept.epoch, kept.n)
        if epoch == kept.epoch:
            return place, messages[max(0, len(messages) - max(0, place.n - after)) :]
        return place, messages if epoch else []

    async def places(self, tags: Sequence[str]) -> list[Place | None]:
        """See :class:`Store`."""
        with self._lock:
            found = [self._groups.get(tag) for tag in tags]
            return [None if kept is None else Place(kept.epoch, kept.n) for kept in found]

    def _use(self, tag: str) -> _Kept:
        now = time.monotonic()
        while self._groups and next(iter(self._groups.values())).used < now - KEEP_EPOCH:
            self._groups.popitem(last=False)
        kept = self._groups.setdefault(tag, _Kept())
        kept.used = now
        self._groups.move_to_end(tag)
        return kept


# In Redis

_COUNT: Final = """
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
if not run then
    return redis.error_reply('GCRYPT INFO has no run_id')
end
local kept = redis.call('HMGET', KEYS[1], 'epoch', 'run', 'n')
local epoch, n = kept[1], kept[3]
if not epoch or kept[2] ~= run then
    epoch, n = ARGV[1], 0
    redis.call('DEL', KEYS[2])
    redis.call('HSET', KEYS[1], 'epoch', epoch, 'run', run, 'n', n)
end
n = tonumber(n)
redis.call('EXPIRE', KEYS[1], ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function trim()
    while true do
        local head = redis.call('LINDEX', KEYS[2], 0)
        if not head or tonumber(string.match(head, '^%d+')) >= now - ARGV[2] * 1000 then
            return
        end
        redis.call('LPOP', KEYS[2])
    end
end
"""
"""Makes epoch and count those of this run of the server: Redis may come back with an older state,
and would then give positions again that other messages have had. An entry of the list is the time
(ms), a colon, and the sealed message.

Keys: the hash of the group's place, the list of its messages. Arguments: an epoch that is new; the
seconds for which a message is kept, and for which the place is.
"""

_APPEND: Final = (
    _COUNT
    + """
if ARGV[6] == '1' then
    local list = redis.call('LRANGE', KEYS[2], 0, -1)
    for i = #list, 1, -1 do
        if string.sub(list[i], string.find(list[i], ':', 1, true) + 1) == ARGV[4] then
            return {epoch, n - #list + i}
        end
    end
end
n = redis.call('HINCRBY', KEYS[1], 'n', 1)
redis.call('RPUSH', KEYS[2], string.format('%.0f:', now) .. ARGV[4])
redis.call('LTRIM', KEYS[2], -ARGV[5], -1)
redis.call('EXPIRE', KEYS[2], ARGV[2])
trim()
return {epoch, n}
"""
)
"""Further arguments: the sealed message, how many are kept, and 1 if it may be there already."""

_READ: Final = (
    _COUNT
    + """
trim()
local first = n
if ARGV[4] == epoch then
    first = tonumber(ARGV[5])
elseif ARGV[4] ~= '' then
    first = 0
end
local messages = {}
if first < n then
    messages = redis.call('LRANGE', KEYS[2], string.format('%.0f', first - n), -1)
end
return {epoch, n, messages}
"""
)
"""Further arguments: those of :meth:`Store.read`."""


class RedisStore:
    """Keeps messages in Redis or Valkey, 6.2 or newer, through redis-py.

    An event loop has a client of its own, which ends with it.
    """

    def __init__(self, settings: HistorySettings) -> None:
        self._settings = settings
        self._clients: dict[asyncio.AbstractEventLoop, _Client] = {}

    async def append(self, tag: str, sealed: bytes, limits: HistoryLimits) -> Place:
        """See :class:`Store`."""
        common = (_new_epoch(), limits.seconds, KEEP_EPOCH)

        async def call(client: _Client, *, again: bool) -> Any:
            arguments: list[str | bytes | int] = [*common, sealed, limits.messages, int(again)]
            return await client.append(_keys(tag), arguments)

        return _place(await self._run(call))

    async def read(
        self, tag: str, limits: HistoryLimits, epoch: str, after: int
    ) -> tuple[Place, Sequence[bytes]]:
        """See :class:`Store`."""
        arguments = (_new_epoch(), limits.seconds, KEEP_EPOCH, epoch, after)

        async def call(client: _Client, *, again: bool) -> Any:
            return await client.read(_keys(tag), arguments)

        *place, kept = await self._run(call)
        return _place(place), [entry.partition(b":")[2] for entry in kept]

    async def places(self, tags: Sequence[str]) -> list[Place | None]:
        """See :class:`Store`."""

        async def call(client: _Client, *, again: bool) -> Any:
            async with client.redis.pipeline(transaction=False) as pipeline:
                pipeline.info("server")
                for tag in tags:
                    pipeline.hmget(_keys(tag)[0], "epoch", "run", "n")
                return await pipeline.execute()

        info, *found = await self._run(call)
        run = info["run_id"].encode()
        return [_place((epoch, n)) if run == kept else None for epoch, kept, n in found]

    async def _run(self, call: Callable[..., Awaitable[Any]]) -> Any:
        """Call Redis, once again if the connection was closed: while it was idle, as a rule."""
        client = await self._client()
        try:
            return await call(client, again=False)
        except client.lost:
            await client.redis.connection_pool.disconnect(inuse_connections=False)
            return await call(client, again=True)

    async def _client(self) -> _Client:
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            for other in [each for each in self._clients if each.is_closed()]:
                del self._clients[other]
            client = self._clients[loop] = _Client(self._settings)
            await anext(client.lifetime)
        return client


class _Client:
    """A client of one event loop, with the two scripts.

    Attributes:
        lost: what it raises when its connection has gone.
        lifetime: an asynchronous generator that has begun; the loop closes those before it ends,
            which is how the connections are closed in time.
    """

    def __init__(self, settings: HistorySettings) -> None:
        from redis.exceptions import ConnectionError as Lost  # optional; see E013

        self.lost = Lost
        self.redis, *self._sentinels = _connect(settings)
        self.append = self.redis.register_script(_APPEND)
        self.read = self.redis.register_script(_READ)
        self.lifetime = self._live()

    async def _live(self) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            for each in (self.redis, *self._sentinels):
                with suppress(Exception):  # a connection that is broken already
                    await each.aclose(close_connection_pool=True)


def _connect(settings: HistorySettings) -> list[Redis]:
    """A client that neither waits for ever nor sends anything twice, and those of its Sentinels."""
    from redis import asyncio as redis
    from redis.asyncio.connection import parse_url
    from redis.asyncio.retry import Retry
    from redis.asyncio.sentinel import Sentinel
    from redis.backoff import NoBackoff

    options: dict[str, Any] = {
        "socket_timeout": LAYER_TIMEOUT,
        "socket_connect_timeout": LAYER_TIMEOUT,
        "retry": Retry(NoBackoff(), 0),
    }
    if not settings.sentinels:
        pool = redis.BlockingConnectionPool.from_url(
            settings.url, max_connections=MAX_CONNECTIONS, timeout=LAYER_TIMEOUT, **options
        )
        return [redis.Redis.from_pool(pool)]
    sentinel: Any = Sentinel([])  # type: ignore[no-untyped-call]
    sentinel.sentinels = [redis.Redis.from_url(url, **options) for url in settings.sentinels]
    url: dict[str, Any] = {**parse_url(settings.url)}
    service = url.pop("host", "")
    url.pop("port", None)
    url.pop("connection_class", None)
    is_tls = urlsplit(settings.url).scheme == "rediss"
    client = sentinel.master_for(service, ssl=is_tls, **options, **url)
    return [client, *sentinel.sentinels]


def _keys(tag: str) -> list[str]:
    return [f"gcrypt:history:{{{tag}}}:place", f"gcrypt:history:{{{tag}}}:messages"]


def _place(reply: Sequence[Any]) -> Place:
    epoch, n = reply
    return Place(epoch.decode(), int(n))


def _new_epoch() -> str:
    return random_bytes(EPOCH_SIZE).hex()
