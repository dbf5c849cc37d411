"""Sends sealed messages to groups, numbered so that a receiver notices what is missing.

Two rules:

* No two messages share a key and a nonce. A key belongs to one group and one sender, and a sender
  belongs to one event loop of one process.
* A message is numbered and handed to the layer under one lock, so the messages of one sender reach
  a group in the order of their numbers, and a missing number is a lost message.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import Any, Final

from ..conf import conf
from ..crypto.primitives import random_bytes
from ..exceptions import TryAgainLater
from .envelope import LAYER_TIMEOUT, SENDER_SIZE, Body, Envelope, MessageKind, layer_group
from .locks import KeyedLock

MAX_GROUPS: Final = 10_000
"""Groups for which one sender counts; with more, it takes a new identity."""


class _Count:
    """What a sender knows of its messages to one group."""

    __slots__ = ("number", "previous")

    def __init__(self) -> None:
        self.number = 0
        self.previous = 0


class Sender:
    """The sealing side of one event loop: an identity, and a counter for each group."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._start()
        self.adopt(loop)

    def _start(self) -> None:
        self.id = random_bytes(SENDER_SIZE)
        self._counts: dict[str, _Count] = {}

    def adopt(self, loop: asyncio.AbstractEventLoop) -> None:
        """Serve ``loop`` from now on, with new locks: those of the closed loop are of no use."""
        self.loop = loop
        self.locks = KeyedLock()

    def seal(self, group: str, kind: MessageKind, payload: bytes) -> Envelope:
        """Seal the next message to ``group``. Its number is never used again, sent or not."""
        now = time.time_ns()
        count = self._counts.get(group)
        if count is None:
            if len(self._counts) >= MAX_GROUPS:
                self._start()
            count = self._counts[group] = _Count()
        number, previous = count.number, count.previous
        count.number, count.previous = number + 1, now
        body = Body(kind, previous, payload)
        return Envelope.seal(group, self.id, number, now, body.serialize())


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


def forget_senders() -> None:
    """Begin anew, as a process does after a fork: two must not share a sender."""
    global _senders_lock  # noqa: PLW0603 - the parent may have held it in another thread
    _senders_lock = threading.Lock()
    _senders.clear()


os.register_at_fork(after_in_child=forget_senders)


async def send(layer: Any, group: str, kind: MessageKind, payload: bytes) -> None:
    """Seal ``payload`` and send it to ``group`` through ``layer``.

    Raises:
        TryAgainLater: the layer did not take it within :data:`LAYER_TIMEOUT`.
    """
    _ = conf.passphrases  # a mistake in the settings is not an outage of the layer
    try:
        await asyncio.wait_for(_send(layer, group, kind, payload), LAYER_TIMEOUT)
    except Exception as error:
        reason = "the channel layer is down"
        raise TryAgainLater(reason, cause=f"{reason}: {error!r}") from error


async def _send(layer: Any, group: str, kind: MessageKind, payload: bytes) -> None:
    sender = current_sender()
    async with sender.locks(group):
        envelope = sender.seal(group, kind, payload)
        await layer.group_send(layer_group(group), envelope.serialize())
