"""What Redis sees of the channel layer: `MONITOR`, which whoever may use that Redis can run.

Without Redis, what is handed to the layer in memory is shown in its place.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any

import redis.asyncio
from channels.layers import get_channel_layer

from demo_project.settings import REDIS_URL
from demo_project.stage.sandbox import SANDBOXES, Side
from gcrypt_channels.layers.envelope import layer_group

logger = logging.getLogger(__name__)

PLAIN_LAYER = "plain"  # the channel layer of the plain room; the other room has the default one
PLAIN_PREFIX = "plain."  # of its groups
SHOWN = 300  # characters
_GROUP = re.compile(r"ZRANGE asgi:group:(\S+) ")
_ADDED = re.compile(r"ZADD (\S+) \S+ (.+)", re.DOTALL)
_SIDES: dict[str, Side] = {PLAIN_LAYER: "plain", "default": "gcrypt"}
_watching: list[asyncio.Task[None]] = []


def plain_group(room: str) -> str:
    return f"{PLAIN_PREFIX}{room}"


def sealed_group(room: str) -> str:
    return f"stage.{room}"


def watch() -> None:
    """Begin to watch, once for each process."""
    if _watching and not _watching[0].done():
        return
    _watching.clear()
    if REDIS_URL:
        _watching.append(asyncio.get_running_loop().create_task(_monitor(REDIS_URL)))
    else:
        _spy()


async def _monitor(url: str) -> None:
    client = redis.asyncio.from_url(url)
    groups: dict[Side, str] = {"plain": "", "gcrypt": ""}  # that were asked for last
    own: Any = get_channel_layer(PLAIN_LAYER)
    try:
        async with client.monitor() as monitor:
            async for entry in monitor.listen():
                command = entry["command"]
                if found := _GROUP.match(command):
                    groups["plain" if found[1].startswith(PLAIN_PREFIX) else "gcrypt"] = found[1]
                elif entry["client_type"] == "lua" and (found := _ADDED.match(command)):
                    side: Side = "plain" if own.client_prefix in found[1] else "gcrypt"
                    _note(side, groups[side], found[1], found[2])
    except redis.RedisError:
        logger.warning("MONITOR ended; the next sandbox begins it anew.", exc_info=True)
    finally:
        await client.aclose()


def _spy() -> None:
    for alias, side in _SIDES.items():
        layer: Any = get_channel_layer(alias)
        if "group_send" not in vars(layer):
            layer.group_send = _shown(side, layer.group_send)


def _shown(side: Side, hand_over: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    async def group_send(group: str, message: dict[str, Any]) -> None:
        _note(side, group, "", str(message))
        await hand_over(group, message)

    return group_send


def _note(side: Side, group: str, channel: str, member: str) -> None:
    """Note a message for the sandbox whose group it was sent to, and for no other."""
    for sandbox in SANDBOXES.values():
        for room in (sandbox.name, sandbox.other_room):
            name = plain_group(room) if side == "plain" else layer_group(sealed_group(room))
            # Several groups may be under way at once: what can be read goes to whom it is for.
            is_theirs = (
                side == "gcrypt" or not channel or any(each in member for each in sandbox.channels)
            )
            if group == name and is_theirs:
                shown = member[:SHOWN]
                sandbox.note(
                    "redis", side, group=group, channel=channel, room=room, member=member,
                    data=shown,
                )  # fmt: skip
