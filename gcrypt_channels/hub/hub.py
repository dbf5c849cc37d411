"""The process's switchboard: its live connections, and their share of the channel layer.

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
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

from channels.layers import channel_layers, get_channel_layer

from ..conf import conf
from ..connection.connection import Connection
from ..exceptions import DecryptionFailed, LocalError, TryAgainLater
from ..layers.envelope import (
    CONTROL_GROUP,
    RESERVED,
    USER_GROUP,
    Envelope,
    Kind,
    expiry_of,
    group_tag,
    layer_group,
)
from ..layers.locks import KeyedLock
from ..layers.receiver import Lost, Receiver
from ..layers.sender import is_own
from .members import Registry
from .subscription import Subscription
from .tasks import Duties, Work

logger = logging.getLogger(__name__)

DROP_LOG_INTERVAL: Final = 60.0
"""Seconds between two log lines about dropped layer messages."""

_hubs: dict[asyncio.AbstractEventLoop, Hub] = {}


class Hub(Registry):
    """The registry of one event loop, and what is delivered to those in it.

    Attributes:
        dropped: how many layer messages were forged, replayed, stale, foreign or garbled.
        lost: how many group messages are known not to have arrived.
    """

    def __init__(self) -> None:
        super().__init__()
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
        self._duties: Duties | None = None

    # Connections ---------------------------------------------------------------------------------

    async def add(self, connection: Connection) -> None:
        """Register a connection before its first frame."""
        self.register(connection)
        if self._duties is None:
            self._open()
        if self._subscription is not None:
            await self._subscription.attempted()

    async def join_user(self, connection: Connection) -> None:
        """Add a connection that has proved to hold its key to the group of its user."""
        if connection.user_id:
            await self._enter(connection, USER_GROUP + connection.user_id, insist=False)

    async def discard(self, connection: Connection) -> None:
        """Forget a connection and its memberships."""
        emptied = [group for group in list(connection.groups) if self._exit(connection, group)]
        self.unregister(connection)
        subscription, ended = self._subscription, None
        if not self.connections and self._duties is not None:
            ended = self._duties.end()
            self._duties = self._subscription = None
        # In a task of its own: the caller may be cancelled, and has nothing to wait for then.
        await asyncio.shield(asyncio.create_task(self._let_go(subscription, emptied, ended)))

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
        if self._exit(connection, group):
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
                if self.enter(connection, group, time.time_ns()):
                    self._tags[group_tag(group)] = group
            elif subscription is not None and group not in self.by_group:
                await subscription.discard(group)  # the connection ended meanwhile

    def _exit(self, connection: Connection, group: str) -> bool:
        was_last = self.exit(connection, group)
        if was_last:
            tag = group_tag(group)
            del self._tags[tag]
            self._left.append(tag)
        return was_last

    # The subscription ----------------------------------------------------------------------------

    def _open(self) -> None:
        self._duties = Duties(self)
        layer = get_channel_layer(conf.channel_layer)
        if layer is not None:
            self._began_at = time.time_ns()
            self._layer_expiry = expiry_of(layer)
            self._subscription = Subscription(layer, take=self._take, rejoin=self._rejoin)

    async def _unsubscribe(self, subscription: Subscription | None, group: str) -> None:
        async with self._turns(group):
            if subscription is not None and (
                group not in self.by_group or subscription is not self._subscription
            ):
                await subscription.discard(group)

    async def _let_go(
        self,
        subscription: Subscription | None,
        groups: Iterable[str],
        ended: asyncio.Future[Any] | None,
    ) -> None:
        for group in groups:
            await self._unsubscribe(subscription, group)
        if subscription is not None and subscription is not self._subscription:
            await subscription.close()
        if ended is not None:
            await ended

    async def _rejoin(self) -> None:
        """Join every group of the layer again."""
        subscription = self._subscription
        for group in list(self.by_group):
            async with self._turns(group):
                if group in self.by_group and subscription is not None:
                    await subscription.add_now(layer_group(group))
        self._sweep_now()  # control messages may have been lost meanwhile

    # Messages ------------------------------------------------------------------------------------

    def _take(self, message: object) -> None:
        """Open one message of the channel layer and deliver it."""
        try:
            envelope = Envelope.parse(message)
            group = self._tags.get(envelope.tag)
            if group is None:
                if envelope.tag in self._left:
                    return  # it was on its way when the last member left
                raise DecryptionFailed
            members = self.by_group.get(group)
            joined_at = self._began_at if members is None else members.since
            opened = self._receiver.open(
                envelope, group, joined_at=joined_at, expiry=self._layer_expiry
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
        elif self._duties is not None:
            self._duties.handle(json.loads(payload))

    def start(self, work: Work) -> None:
        """Do ``work`` beside everything else, as long as there are connections."""
        if self._duties is None:
            work.close()
        else:
            self._duties.start(work)

    def _sweep_now(self) -> None:
        if self._duties is not None:
            self._duties.start(self._duties.sweep())

    def _tell(self, group: str, lost: Lost) -> None:
        if group == CONTROL_GROUP:
            self._sweep_now()
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


def _after_fork() -> None:
    _hubs.clear()
    # A layer names its channels after the process that made it: this one needs its own.
    channel_layers.backends.clear()


os.register_at_fork(after_in_child=_after_fork)
