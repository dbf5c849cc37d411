"""The live connections of one process, and their share of the channel layer.

There is one hub for each event loop, and it has one subscription to the channel layer, however many
connections there are: a group message is opened once, and sealed here for each member.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, Final, NamedTuple

from channels.layers import channel_layers, get_channel_layer

from ..conf import conf
from ..connection.connection import Connection
from ..crypto.jsontext import SURROGATE, JsonText
from ..exceptions import DecryptionFailed, LocalError, TryAgainLater
from ..layers.envelope import (
    CONTROL_GROUP,
    RESERVED,
    USER_GROUP,
    Envelope,
    MessageKind,
    expiry_of,
    group_tag,
    layer_group,
)
from ..layers.locks import KeyedLock
from ..layers.receiver import Lost, Receiver
from ..layers.sealed import unwrap
from ..layers.sender import is_own
from ..outbox import Send
from .members import MAX_HANDSHAKES, Members
from .subscription import Subscription
from .tasks import Tasks

logger = logging.getLogger(__name__)

DROP_LOG_INTERVAL: Final = 60.0
"""Seconds between two log lines about dropped layer messages."""

BURST: Final = 50
"""Members that a broadcast is pushed to before the event loop goes on with something else."""

MAX_LEFT: Final = 10_000
"""Groups left that are remembered, so that what was on its way to them is not taken for forged."""

_hubs: dict[asyncio.AbstractEventLoop, Hub] = {}


class HubStatus(NamedTuple):
    """How one hub does.

    ``layer_up`` and ``probe_age``, in seconds since the last probe of the channel layer came back,
    are ``None`` while the hub has no connection or the project no channel layer.
    """

    layer_up: bool | None
    probe_age: float | None
    sweep_failures: int
    connections: int
    draining: bool


class Hub:
    """The members of one event loop, and what is delivered to them.

    Attributes:
        members: the live connections.
        dropped: how many layer messages were forged, replayed, stale, foreign or garbled.
        lost: how many group messages are known not to have arrived.
        backlog_drops: how many group messages were not sent to clients that read too slowly.
        serving: the tasks that serve one WebSocket each, with the server's ``send``.
        draining: whether the process is about to stop and takes no connections any more.
    """

    def __init__(self) -> None:
        self.members = Members()
        self.dropped = 0
        self.lost = 0
        self.backlog_drops = 0
        self.serving: dict[asyncio.Task[Any], Send] = {}
        self.draining = False
        self._drop_logged_at = -DROP_LOG_INTERVAL
        self._receiver = Receiver()
        self._tags: dict[bytes, str] = {group_tag(CONTROL_GROUP): CONTROL_GROUP}
        self._left: OrderedDict[bytes, float] = OrderedDict()
        self._locks = KeyedLock()
        self._broadcasts: deque[tuple[str, str, int, Iterator[Connection]]] = deque()
        self._broadcasting = False
        self._opened_at = time.time_ns()
        self._layer_expiry = 0.0
        self._subscription: Subscription | None = None
        self._tasks: Tasks | None = None

    def status(self) -> HubStatus:
        """How the hub does; may be called from any thread."""
        subscription, tasks = self._subscription, self._tasks
        return HubStatus(
            layer_up=None if subscription is None else subscription.up,
            probe_age=None if subscription is None else time.monotonic() - subscription.probed_at,
            sweep_failures=0 if tasks is None else tasks.sweep.failures,
            connections=len(self.members.connections),
            draining=self.draining,
        )

    # Connections

    async def add(self, connection: Connection) -> None:
        """Register a connection before its first frame.

        Its login is looked up again soon: a logout just before was not announced to it.

        Raises:
            TryAgainLater: too many connections of its session are shaking hands.
        """
        if not self.members.add(connection):
            reason = "too many sockets of the session are shaking hands"
            cause = (
                f"{reason}: over {MAX_HANDSHAKES} at a time, which a client that opens them does"
            )
            raise TryAgainLater(reason, cause=cause)
        if self._tasks is None:
            self._tasks = Tasks(self.members)
            self._subscribe()
        if self._subscription is not None:
            await self._subscription.attempted()
        if self._tasks is not None:
            self._tasks.sweep.recheck_soon([connection])

    async def join_user(self, connection: Connection) -> None:
        """Add a connection that has proved to hold its key to the group of its user."""
        self.members.end_handshake(connection)
        if connection.user_id:
            await self._enter(connection, USER_GROUP + connection.user_id, insist=False)

    async def discard(self, connection: Connection) -> None:
        """Forget a connection and its memberships."""
        emptied = self.members.remove(connection)
        for group in emptied:
            self._forget_tag(group)
        subscription, ended = self._subscription, None
        if not self.members.connections and self._tasks is not None:
            ended = self._tasks.end()
            self._tasks = self._subscription = None
        # In a task of its own: the caller may be cancelled, and has nothing to wait for then.
        await asyncio.shield(asyncio.create_task(self._release(subscription, emptied, ended)))

    async def join(self, connection: Connection, group: str) -> None:
        """Add a connection to a group.

        Raises:
            TryAgainLater: the channel layer is down.
            LocalError: the name cannot be a group's; see :func:`check_group`.
        """
        check_group(group)
        await self._enter(connection, group, insist=True)

    async def leave(self, connection: Connection, group: str) -> None:
        """Remove a connection from a group."""
        check_group(group)
        if self.members.leave(connection, group):
            self._forget_tag(group)
            await self._unsubscribe(self._subscription, group)

    async def _enter(self, connection: Connection, group: str, *, insist: bool) -> None:
        by_group = self.members.by_group
        async with self._locks(group):
            subscription = self._subscription
            if subscription is not None and (group not in by_group or not subscription.up):
                try:
                    await subscription.add(group)
                except TryAgainLater:
                    if insist:
                        raise
            if connection in self.members.connections:
                if self.members.join(connection, group, time.time_ns()):
                    self._tags[group_tag(group)] = group
            elif subscription is not None and group not in by_group:
                await subscription.discard(group)  # the connection ended meanwhile

    def _forget_tag(self, group: str) -> None:
        tag = group_tag(group)
        self._tags.pop(tag, None)
        self._left[tag] = time.monotonic()
        self._left.move_to_end(tag)
        if len(self._left) > MAX_LEFT:
            self._left.popitem(last=False)

    def _was_left(self, tag: bytes) -> bool:
        """Whether the group was left so recently that its messages may still arrive."""
        left_at = self._left.get(tag)
        return left_at is not None and time.monotonic() - left_at <= self._layer_expiry

    # The subscription

    def _subscribe(self) -> None:
        layer = unwrap(get_channel_layer(conf.channel_layer))
        if layer is not None:
            self._opened_at = time.time_ns()
            self._layer_expiry = expiry_of(layer)
            self._subscription = Subscription(
                layer,
                on_message=self._on_layer_message,
                rejoin=self._renew_memberships,
                on_long_outage=self._on_long_outage,
            )

    async def _unsubscribe(self, subscription: Subscription | None, group: str) -> None:
        async with self._locks(group):
            if subscription is not None and (
                group not in self.members.by_group or subscription is not self._subscription
            ):
                await subscription.discard(group)

    async def _release(
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

    async def _renew_memberships(self) -> None:
        """Join every group of the layer again."""
        subscription = self._subscription
        for group in list(self.members.by_group):
            async with self._locks(group):
                if group in self.members.by_group and subscription is not None:
                    await subscription.add_now(layer_group(group))
        self._sweep_soon()  # control messages may have been lost meanwhile

    def _on_long_outage(self) -> None:
        """Tell every member of every group that at least one message may have been lost."""
        logger.warning("The channel layer was down for long: all groups are told of a gap.")
        for group, members in list(self.members.by_group.items()):
            for connection in list(members):
                connection.tell_gap(group, 1)
            self.lost += 1

    # Messages

    def _on_layer_message(self, message: object) -> None:
        """Open one message of the channel layer and deliver it."""
        try:
            envelope = Envelope.parse(message)
            group = self._tags.get(envelope.tag)
            if group is None:
                if self._was_left(envelope.tag):
                    return  # it was on its way when the last member left
                raise DecryptionFailed
            members = self.members.by_group.get(group)
            joined_at = self._opened_at if members is None else members.since
            opened = self._receiver.open(
                envelope, group, joined_at=joined_at, expiry=self._layer_expiry
            )
            if opened.lost is not None:
                self._report_lost(group, opened.lost)
            if group != CONTROL_GROUP or not is_own(opened.sender):
                self.deliver(group, opened.kind, opened.payload)
        except DecryptionFailed:
            self._count_dropped()
        except Exception:
            logger.exception("A group message could not be delivered.")

    def deliver(self, group: str, kind: MessageKind, payload: bytes) -> None:
        """Deliver a verified message to local connections or to the control handler.

        Raises:
            DecryptionFailed: the payload is not of its kind.
        """
        if (kind == MessageKind.CONTROL) != (group == CONTROL_GROUP):
            raise DecryptionFailed
        if kind == MessageKind.BROADCAST:
            members = iter(list(self.members.by_group.get(group, ())))
            self._broadcasts.append((group, JsonText(payload.decode()), len(payload), members))
            if not self._broadcasting:
                self._push_broadcasts()
        elif kind == MessageKind.EVENT:
            for connection in list(self.members.by_group.get(group, ())):
                connection.deliver(group, json.loads(payload))  # to each a copy of its own
        elif self._tasks is not None:
            self._tasks.handle_control(json.loads(payload))

    def _push_broadcasts(self) -> None:
        """Push to :data:`BURST` members, and go on behind what else the event loop has to do."""
        left = BURST
        while self._broadcasts:
            group, text, size, members = self._broadcasts[0]
            for connection in members:
                if group in connection.groups:  # it may have left since the last burst
                    self.backlog_drops += not connection.push(group, text, size)
                left -= 1
                if not left:
                    self._broadcasting = True
                    asyncio.get_running_loop().call_soon(self._push_broadcasts)
                    return
            self._broadcasts.popleft()
        self._broadcasting = False

    def recheck_soon(self, connections: Iterable[Connection]) -> None:
        """Look up the logins of ``connections`` in a moment."""
        if self._tasks is not None:
            self._tasks.sweep.recheck_soon(connections)

    async def sweep(self) -> None:
        """Look up the logins of all connections now."""
        if self._tasks is not None:
            await self._tasks.sweep.run()

    def _sweep_soon(self) -> None:
        if self._tasks is not None:
            self._tasks.sweep_soon()

    def _report_lost(self, group: str, lost: Lost) -> None:
        if group == CONTROL_GROUP:
            self._sweep_soon()
        most = 0
        for connection, joined_at in list(self.members.by_group.get(group, {}).items()):
            missed = lost.since(joined_at)
            if missed:
                connection.tell_gap(group, missed)
                most = max(most, missed)
        self.lost += most

    def _count_dropped(self) -> None:
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


def hubs_by_loop() -> dict[asyncio.AbstractEventLoop, Hub]:
    """The hubs of this process, each under the event loop that it lives on."""
    return dict(_hubs)


def deliver_here(group: str, kind: MessageKind, payload: bytes) -> None:
    """Deliver to all hubs of this process, which may run on the event loops of other threads."""
    running = asyncio.get_running_loop()
    for loop, hub in list(_hubs.items()):
        if loop is running:
            hub.deliver(group, kind, payload)
        else:
            with suppress(RuntimeError):  # it was closed in this very moment
                loop.call_soon_threadsafe(_delivery(hub, group, kind, payload))


def _delivery(hub: Hub, group: str, kind: MessageKind, payload: bytes) -> Callable[[], None]:
    """A callback without arguments: asyncio's debug log would print them."""
    return lambda: hub.deliver(group, kind, payload)


def check_group(group: str) -> None:
    """Refuse a name that no application may give to a group.

    Raises:
        LocalError: the name is empty, one of the package's own, or has no UTF-8 form.
    """
    if not group or group.startswith(RESERVED):
        raise LocalError(f"A group needs a name, and one that does not begin with {RESERVED!r}.")
    if SURROGATE.search(group):
        raise LocalError("A group's name holds a lone surrogate, which has no UTF-8 form.")


def _after_fork() -> None:
    _hubs.clear()
    # A layer names its channels after the process that made it: this one needs its own.
    channel_layers.backends.clear()


os.register_at_fork(after_in_child=_after_fork)
