"""The process's one subscription to the channel layer: a channel, and a task that receives on it.

It survives the layer. A channel layer forgets memberships (Redis does when it restarts, and a day
after they were made) and says nothing, so the subscription sends itself a probe through a group of
its own: when one does not come back, everything is joined again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from secrets import token_hex
from typing import Any, Final

from ..asynctasks import end_task
from ..exceptions import TryAgainLater
from ..layers.envelope import CONTROL_GROUP, LAYER_TIMEOUT, RESERVED, layer_group

logger = logging.getLogger(__name__)

PROBE_INTERVAL: Final = 2.5
"""Seconds between two probes. A lost membership is noticed after two of them at the latest."""

LONG_OUTAGE: Final = 2 * PROBE_INTERVAL
"""Seconds of an outage after which messages may have been lost that nothing else would tell of."""

FIRST_RETRY: Final = 0.1
LAST_RETRY: Final = 2.0
"""Seconds from one attempt to reach the layer to the next: the first, doubled up to the last."""

_PROBE: Final = {"type": "gcrypt.probe"}
_DEFAULT_GROUP_EXPIRY: Final = 86_400  # seconds; what Channels' own layers have


class Subscription:
    """Receives the messages of the groups that one hub has members of.

    Args:
        layer: the channel layer.
        on_message: called with each message.
        rejoin: called to join every group again, with :meth:`add_now`.
        on_long_outage: called when the layer works again after :data:`LONG_OUTAGE` or more.

    Attributes:
        up: whether the layer is known to work.
        probed_at: when the last probe came back, in seconds of ``time.monotonic()``.
    """

    def __init__(
        self,
        layer: Any,
        *,
        on_message: Callable[[object], None],
        rejoin: Callable[[], Awaitable[None]],
        on_long_outage: Callable[[], None],
    ) -> None:
        self.up = False
        self.probed_at = time.monotonic()
        self._layer = layer
        self._on_message = on_message
        self._rejoin = rejoin
        self._on_long_outage = on_long_outage
        self._channel: str | None = None
        self._probe_group = RESERVED + token_hex(16)
        self._probe_back = False
        self._renew_at = 0.0
        self._retry = FIRST_RETRY
        self._outage_logged = False
        self._attempted = asyncio.Event()
        self._probe_now = asyncio.Event()
        self._receiver: asyncio.Task[None] | None = None
        self._prober = asyncio.create_task(self._probe_periodically())

    async def attempted(self) -> None:
        """Wait for the first attempt to subscribe, whether the layer was there or not."""
        await self._attempted.wait()

    async def add(self, group: str) -> None:
        """Join ``group``.

        Raises:
            TryAgainLater: the layer is down.
        """
        name = layer_group(group)
        if not self.up:
            raise TryAgainLater("the channel layer is down")
        try:
            await self.add_now(name)
        except Exception as error:
            self._on_outage(error)
            reason = "the channel layer is down"
            raise TryAgainLater(reason, cause=f"{reason}: {error!r}") from error

    async def add_now(self, name: str) -> None:
        """Join the layer group ``name``, and let every failure through."""
        await asyncio.wait_for(self._layer.group_add(name, self._channel), LAYER_TIMEOUT)

    async def discard(self, group: str) -> None:
        """Leave ``group``; a layer that is down has to forget it by itself."""
        if self.up:
            await self._discard_now(layer_group(group))

    async def close(self) -> None:
        """End the tasks and leave the subscription's own groups."""
        await end_task(self._prober)
        self._attempted.set()
        for name in (self._probe_group, layer_group(CONTROL_GROUP)):
            if self.up:
                await self._discard_now(name)
        self.up = False
        await end_task(self._receiver)

    async def _discard_now(self, name: str) -> None:
        try:
            await asyncio.wait_for(self._layer.group_discard(name, self._channel), LAYER_TIMEOUT)
        except Exception as error:  # noqa: BLE001 - a layer raises whatever its library raises
            self._on_outage(error)

    async def _probe_periodically(self) -> None:
        try:
            await self._probe()
            self._attempted.set()
            while True:
                if self.up:
                    with suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(self._probe_now.wait(), PROBE_INTERVAL)
                if not self.up:
                    await asyncio.sleep(self._retry)
                    self._retry = min(2 * self._retry, LAST_RETRY)
                await self._probe()
        finally:
            # A loop that ends cancels each task once, which is not enough for this one.
            await end_task(self._receiver)

    async def _probe(self) -> None:
        self._probe_now.clear()
        try:
            if not self.up or not self._probe_back or time.monotonic() >= self._renew_at:
                await self._renew()
            self._probe_back = False
            probe = self._layer.group_send(self._probe_group, dict(_PROBE))
            await asyncio.wait_for(probe, LAYER_TIMEOUT)
        except Exception as error:  # noqa: BLE001 - a layer raises whatever its library raises
            self._on_outage(error)

    async def _renew(self) -> None:
        """Join every group again, and receive again if receiving has ended.

        A task that receives is kept: channels_redis' pubsub layer forgets a channel whose
        ``receive`` is cancelled, and then refuses to add it to a group.
        """
        channel = self._channel
        if channel is None:
            # The prefix is Channels' own: channels_redis lets one receiver at a time read for the
            # whole process, and that one reads for its own prefix alone.
            new: str = await asyncio.wait_for(self._layer.new_channel(), LAYER_TIMEOUT)
            channel = self._channel = new
        await self.add_now(self._probe_group)
        await self.add_now(layer_group(CONTROL_GROUP))
        if self._receiver is None or self._receiver.done():
            self._receiver = asyncio.create_task(self._receive(channel))
        await self._rejoin()
        group_expiry = getattr(self._layer, "group_expiry", _DEFAULT_GROUP_EXPIRY)
        self._renew_at = time.monotonic() + group_expiry / 2
        self.up = True

    async def _receive(self, channel: str) -> None:
        try:
            while True:
                message = await self._receive_one(channel)
                if message == _PROBE:
                    self._on_probe()
                else:
                    self._on_message(message)
        except Exception as error:  # noqa: BLE001 - a layer raises whatever its library raises
            self._on_outage(error)

    async def _receive_one(self, channel: str) -> object:
        try:
            return await self._layer.receive(channel)
        except (TypeError, ValueError):
            # What the layer's serializer cannot read is no message of ours. The pause keeps a layer
            # that raises nothing else from keeping the event loop busy.
            await asyncio.sleep(FIRST_RETRY)
            return None

    def _on_probe(self) -> None:
        now = time.monotonic()
        if now - self.probed_at > LONG_OUTAGE + PROBE_INTERVAL:
            self._on_long_outage()
        self.probed_at = now
        self._probe_back = True
        self._retry = FIRST_RETRY
        if self._outage_logged:
            self._outage_logged = False
            logger.warning("The channel layer works again.")

    def _on_outage(self, error: Exception) -> None:
        self.up = False
        self._probe_now.set()
        if not self._outage_logged:
            self._outage_logged = True
            logger.error("The channel layer is down, group messages are lost: %r", error)
