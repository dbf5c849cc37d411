"""Sends sealed messages to groups: from any process, to every connection that has joined.

Synchronous code calls ``broadcast_sync`` and ``group_send_sync``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from asgiref.sync import async_to_sync
from channels.layers import InMemoryChannelLayer, get_channel_layer

from .conf import HistoryLimits, conf
from .connection.inbox import is_reserved
from .crypto import jsontext
from .exceptions import LocalError, TryAgainLater
from .hub.hub import check_group, deliver_here
from .layers.envelope import CONTROL_GROUP, LAYER_TIMEOUT, USER_GROUP, MessageKind, counted_group
from .layers.history import current_history, limits_of
from .layers.sealed import unwrap
from .layers.sender import current_sender, send, send_counted
from .protocol.messages import encode_text

logger = logging.getLogger(__name__)


async def broadcast(group: str, content: Any) -> None:
    """Send ``content`` as JSON to the client of every connection in ``group``.

    It is encoded once, passes through no consumer, and reaches the clients of every profile alike.
    If the group has a history, it is counted and kept, and will reach its members whether the
    channel layer works or not.

    Raises:
        TryAgainLater: the channel layer is down; or, if the group has a history, that.
        TypeError, ValueError: ``content`` has no JSON form.
        LocalError: the name is no group's: empty, one of the package's own, or not UTF-8.
    """
    _check(group)
    payload, limits = _encode(content), limits_of(group)
    if limits is None:
        await _publish(group, MessageKind.BROADCAST, payload)
    else:
        await _publish_counted(group, payload, limits)


async def group_send(group: str, event: Mapping[str, Any]) -> None:
    """Send an event to the consumer of every connection in ``group``.

    ``{"type": "chat.message", …}`` calls ``chat_message(event)``, as with
    ``channel_layer.group_send``; but the channel layer sees ciphertext alone.

    Raises:
        TryAgainLater: the channel layer is down.
        TypeError, ValueError: the event has no JSON form.
        LocalError: the name is no group's: empty, one of the package's own, or not UTF-8; or the
            event's type is missing, or one that belongs to the server or to the package.
    """
    _check(group)
    kind = event.get("type")
    if not isinstance(kind, str) or not kind or kind[0] in "._" or is_reserved(kind):
        raise LocalError("An event needs a type that names a handler of the application's own.")
    await _publish(group, MessageKind.EVENT, _encode(event))


def user_group(user: Any) -> str:
    """The group of all connections of ``user``, in all tabs; nobody else can join it."""
    return f"{USER_GROUP}{user.pk}"


async def publish_control(message: Mapping[str, Any]) -> None:
    """Send a control message to all processes; see ``hub/tasks.py``.

    This process receives it whether the channel layer works or not.

    Args:
        message: JSON values; ``"op"`` names the handler.

    Raises:
        TryAgainLater: the channel layer is down: only this process has been told.
    """
    payload = _encode(message)
    deliver_here(CONTROL_GROUP, MessageKind.CONTROL, payload)
    layer = unwrap(get_channel_layer(conf.channel_layer))
    # An in-memory layer reaches no one else, and is not for the threads that revocations come from.
    if layer is not None and not isinstance(layer, InMemoryChannelLayer):
        await send(layer, CONTROL_GROUP, MessageKind.CONTROL, payload)


async def _publish(group: str, kind: MessageKind, payload: bytes) -> None:
    layer = unwrap(get_channel_layer(conf.channel_layer))
    if layer is None:
        deliver_here(group, kind, payload)
    else:
        await send(layer, group, kind, payload)


async def _publish_counted(group: str, payload: bytes, limits: HistoryLimits) -> None:
    layer = unwrap(get_channel_layer(conf.channel_layer))
    history = current_history(layer)
    _ = conf.passphrases  # a mistake in the settings is no outage
    is_counted = False

    async def publish() -> None:
        nonlocal is_counted
        async with current_sender().locks(counted_group(group)):
            epoch, n = await history.append(group, payload, limits)
            is_counted = True
            counted = bytes.fromhex(epoch) + n.to_bytes(8, "big") + payload
            if layer is None:
                deliver_here(group, MessageKind.COUNTED, counted)
            else:
                await send_counted(layer, group, counted)

    try:
        await asyncio.wait_for(publish(), LAYER_TIMEOUT)
    except Exception as error:
        if not is_counted:
            raise TryAgainLater("the history is down") from error
        # The members get it from the history; who called would only send it twice.
        logger.warning("A message to group %r was counted, and not sent at once: %r.", group, error)


def _check(group: str) -> None:
    if group.startswith(USER_GROUP):
        encode_text(group)
    else:
        check_group(group)


def _encode(content: Any) -> bytes:
    return jsontext.serialize(content).encode()


broadcast_sync = async_to_sync(broadcast)
group_send_sync = async_to_sync(group_send)
