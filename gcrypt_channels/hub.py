"""The process's switchboard: its live connections by session, user and group.

There is one hub for each event loop, and it has one subscription to the channel layer, however many
connections there are: a group message is opened once and sealed for each member from here.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any, Final

from channels.layers import channel_layers, get_channel_layer

from .conf import conf
from .connection import Connection
from .exceptions import DecryptionFailed, LocalError, TryAgainLater
from .layer import (
    CONTROL_GROUP,
    LAYER_TIMEOUT,
    RESERVED,
    USER_GROUP,
    KeyedLock,
    Kind,
    Lost,
    Receiver,
    decode,
    expiry_of,
    group_tag,
    is_own,
    layer_group,
    tag_of,
)
from .subscription import Subscription

logger = logging.getLogger(__name__)

ControlHandler = Callable[["Hub", Mapping[str, Any]], Coroutine[Any, Any, None]]
Sweep = Callable[["Hub"], Awaitable[None]]

DROP_LOG_INTERVAL: Final = 60.0
"""Seconds between two log lines about dropped layer messages."""

_control_handlers: dict[str, ControlHandler] = {}
_sweeps: list[Sweep] = []
_hubs: dict[asyncio.AbstractEventLoop, Hub] = {}


def on_control(op: str) -> Callable[[ControlHandler], ControlHandler]:
    """Register a handler for the control messages whose ``"op"`` is ``op``."""

    def register(handler: ControlHandler) -> ControlHandler:
        _control_handlers[op] = handler
        return handler

    return register


def on_sweep(sweep: Sweep) -> Sweep:
    """Register what every hub with connections does each ``GCRYPT["REVALIDATE_INTERVAL"]``."""
    _sweeps.append(sweep)
    return sweep


class Members(dict[Connection, int]):
    """A group's local members, each with the time (ns) at which it joined.

    ``since`` is when this process joined.
    """

    def __init__(self, since: int) -> None:
        super().__init__()
        self.since = since


class Hub:
    """The registry of one event loop's live connections, and their share of the channel layer.

    Attributes:
        connections: all of them.
        by_session: by ``session_id``; no set is ever empty.
        by_user: by ``user_id``; no set is ever empty.
        by_group: by group; no mapping is ever empty.
        dropped: how many layer messages were forged, replayed, stale, foreign or garbled.
        lost: how many group messages are known not to have arrived.
    """

    def __init__(self) -> None:
        self.connections: set[Connection] = set()
        self.by_session: dict[str, set[Connection]] = {}
        self.by_user: dict[str, set[Connection]] = {}
        self.by_group: dict[str, Members] = {}
        self.dropped = 0
        self.lost = 0
        self._drop_logged_at = -DROP_LOG_INTERVAL
        self._receiver = Receiver()
        self._tags: dict[bytes, str] = {group_tag(CONTROL_GROUP): CONTROL_GROUP}
        self._left: deque[bytes] = deque(maxlen=256)
        self._turns = KeyedLock()
        self._began_at = time.time_ns()
        self._layer_expiry = 0.0
        self._subscription: Subscription | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._working: set[asyncio.Task[None]] = set()

    # Connections ---------------------------------------------------------------------------------

    async def add(self, connection: Connection) -> None:
        """Register a connection before its first frame."""
        self.connections.add(connection)
        if connection.session_id:
            self.by_session.setdefault(connection.session_id, set()).add(connection)
        if connection.user_id:
            self.by_user.setdefault(connection.user_id, set()).add(connection)
        self._open()
        if self._subscription is not None:
            await self._subscription.attempted()

    async def join_user(self, connection: Connection) -> None:
        """Add a connection that has proved to hold its key to the group of its user."""
        if connection.user_id:
            await self._enter(connection, USER_GROUP + connection.user_id, insist=False)

    async def discard(self, connection: Connection) -> None:
        """Forget a connection and its memberships."""
        self.connections.discard(connection)
        _remove(self.by_session, connection.session_id, connection)
        _remove(self.by_user, connection.user_id, connection)
        groups = list(connection.groups)
        for group in groups:
            self._forget(connection, group)
        subscription = self._subscription
        closing = None if self.connections else self._close()
        for group in groups:
            await self._unsubscribe(subscription, group)
        if closing is not None:
            await closing

    async def join(self, connection: Connection, group: str) -> None:
        """Add a connection to a group.

        Raises:
            TryAgainLater: the channel layer is down.
            LocalError: the name is empty, or one of the package's own.
        """
        check_group(group)
        await self._enter(connection, group, insist=True)

    async def leave(self, connection: Connection, group: str) -> None:
        """Remove a connection from a group."""
        check_group(group)
        if self._forget(connection, group):
            await self._unsubscribe(self._subscription, group)

    async def _enter(self, connection: Connection, group: str, *, insist: bool) -> None:
        async with self._turns(group):
            subscription = self._subscription
            if subscription is not None and (group not in self.by_group or not subscription.up):
                try:
                    await subscription.add(group)
                except TryAgainLater:
                    if insist:
                        raise
            if connection in self.connections:
                now = time.time_ns()
                if group not in self.by_group:
                    self.by_group[group] = Members(now)
                    self._tags[group_tag(group)] = group
                self.by_group[group].setdefault(connection, now)
                connection.groups.add(group)
            elif subscription is not None and group not in self.by_group:
                await subscription.discard(group)  # the connection ended meanwhile

    def _forget(self, connection: Connection, group: str) -> bool:
        """End a membership; tell whether it was the group's last one here."""
        connection.groups.discard(group)
        members = self.by_group.get(group)
        if members is None or members.pop(connection, None) is None or members:
            return False
        del self.by_group[group]
        tag = group_tag(group)
        del self._tags[tag]
        self._left.append(tag)
        return True

    async def _unsubscribe(self, subscription: Subscription | None, group: str) -> None:
        async with self._turns(group):
            if subscription is not None and (
                group not in self.by_group or subscription is not self._subscription
            ):
                await subscription.discard(group)

    # The subscription ----------------------------------------------------------------------------

    def _open(self) -> None:
        if self._sweeper is not None:
            return
        self._sweeper = asyncio.create_task(self._sweep())
        layer = get_channel_layer(conf.channel_layer)
        if layer is not None:
            self._began_at = time.time_ns()
            self._layer_expiry = expiry_of(layer)
            self._subscription = Subscription(layer, take=self._take, rejoin=self._rejoin)

    def _close(self) -> Coroutine[Any, Any, None]:
        """Let go of everything at once; what is returned waits for its end."""
        tasks = list(self._working)
        if self._sweeper is not None:
            tasks.append(self._sweeper)
        subscription = self._subscription
        self._sweeper = self._subscription = None
        for task in tasks:
            task.cancel()

        async def closed() -> None:
            if subscription is not None:
                await subscription.close()
            if tasks:
                await asyncio.wait(tasks, timeout=LAYER_TIMEOUT)

        return closed()

    async def _rejoin(self) -> None:
        """Join every group of the layer again."""
        subscription = self._subscription
        for group in list(self.by_group):
            async with self._turns(group):
                if group in self.by_group and subscription is not None:
                    await subscription.add_now(layer_group(group))

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(conf.revalidate_interval)
            for sweep in _sweeps:
                try:
                    await sweep(self)
                except Exception:
                    logger.exception("A sweep over the connections failed.")

    # Messages ------------------------------------------------------------------------------------

    def _take(self, message: Mapping[str, Any]) -> None:
        """Open one message of the channel layer and deliver it."""
        try:
            data = decode(message)
            group = self._tags.get(tag_of(data))
            if group is None:
                if tag_of(data) in self._left:
                    return  # it was on its way when the last member left
                raise DecryptionFailed
            members = self.by_group.get(group)
            joined_at = self._began_at if members is None else members.since
            opened = self._receiver.open(
                data, group, joined_at=joined_at, expiry=self._layer_expiry
            )
            if opened.lost is not None:
                self._tell(group, opened.lost)
            if group != CONTROL_GROUP or not is_own(opened.sender):
                self.deliver(group, opened.kind, opened.payload)
        except DecryptionFailed:
            self._drop()
        except Exception:
            logger.exception("A group message could not be delivered.")

    def deliver(self, group: str, kind: Kind, payload: bytes) -> None:
        """Hand an authentic message to whom it concerns on this event loop.

        Raises:
            DecryptionFailed: the payload is not of its kind.
        """
        if (kind == Kind.CONTROL) != (group == CONTROL_GROUP):
            raise DecryptionFailed
        if kind == Kind.BROADCAST:
            text = payload.decode()
            for connection in list(self.by_group.get(group, ())):
                connection.push(group, text, len(payload))
        elif kind == Kind.EVENT:
            for connection in list(self.by_group.get(group, ())):
                connection.deliver(group, json.loads(payload))  # to each a copy of its own
        else:
            message = json.loads(payload)
            handler = _control_handlers.get(message["op"])
            if handler is not None and self.connections:
                self.start(handler(self, message))

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Do ``work`` beside everything else, as long as there are connections."""
        task = asyncio.create_task(self._guard(work))
        self._working.add(task)
        task.add_done_callback(self._working.discard)
        task.add_done_callback(lambda _: work.close())  # it may have been cancelled unstarted

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:
            logger.exception("Work on the connections of this process failed.")

    def _tell(self, group: str, lost: Lost) -> None:
        most = 0
        for connection, joined_at in list(self.by_group.get(group, {}).items()):
            missed = lost.since(joined_at)
            if missed:
                connection.tell_gap(group, missed)
                most = max(most, missed)
        self.lost += most

    def _drop(self) -> None:
        self.dropped += 1
        now = time.monotonic()
        if now - self._drop_logged_at >= DROP_LOG_INTERVAL:
            self._drop_logged_at = now
            logger.warning(
                "Dropped a message of the channel layer that is forged, replayed, stale or foreign "
                "(%d so far).",
                self.dropped,
            )


def current_hub() -> Hub:
    """The hub of the running event loop."""
    loop = asyncio.get_running_loop()
    hub = _hubs.get(loop)
    if hub is None:
        for other in [each for each in _hubs if each.is_closed()]:
            del _hubs[other]
        hub = _hubs[loop] = Hub()
    return hub


def hubs() -> list[Hub]:
    """The hubs of this process."""
    return list(_hubs.values())


def deliver_here(group: str, kind: Kind, payload: bytes) -> None:
    """Deliver to all hubs of this process, which may run on the event loops of other threads."""
    running = asyncio.get_running_loop()
    for loop, hub in list(_hubs.items()):
        if loop is running:
            hub.deliver(group, kind, payload)
        else:
            with suppress(RuntimeError):  # it was closed in this very moment
                loop.call_soon_threadsafe(hub.deliver, group, kind, payload)


def check_group(group: str) -> None:
    """Refuse what no application may name.

    Raises:
        LocalError: the name is empty, or one of the package's own.
    """
    if not group or group.startswith(RESERVED):
        raise LocalError(f"A group needs a name, and one that does not begin with {RESERVED!r}.")


def _remove(index: dict[str, set[Connection]], key: str, connection: Connection) -> None:
    found = index.get(key)
    if found is not None:
        found.discard(connection)
        if not found:
            del index[key]


def _after_fork() -> None:
    _hubs.clear()
    # A layer names its channels after the process that made it: this one needs its own.
    channel_layers.backends.clear()


os.register_at_fork(after_in_child=_after_fork)
