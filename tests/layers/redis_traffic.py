"""What the tests of `SealedChannelLayer` need of Redis: to watch it, and to write to it."""

from __future__ import annotations

import asyncio
import copy
from typing import TYPE_CHECKING, Any

from gcrypt_channels.layers import SealedChannelLayer
from tests.channel_layers import Config
from tests.servers import Redis

if TYPE_CHECKING:
    from typing_extensions import Self

PATIENCE = 30.0  # seconds; only a failing test waits so long


def make(config: Config) -> Any:
    """A process's sealed layer around the one that `config` describes."""
    return SealedChannelLayer(layer=config)


async def received(layer: Any, channel: str) -> Any:
    return await asyncio.wait_for(layer.receive(channel), PATIENCE)


def tap(layer: Any) -> list[Any]:
    """A list of everything that `layer` hands to the layer inside from now on."""
    carried: list[Any] = []

    def tapped(method: Any) -> Any:
        async def call(name: str, message: Any) -> None:
            carried.append(copy.deepcopy(message))
            await method(name, message)

        return call

    for name in ("send", "group_send"):
        setattr(layer.inner, name, tapped(getattr(layer.inner, name)))
    return carried


class Monitor:
    """Everything that a Redis is told meanwhile, as its own MONITOR command shows it."""

    MARK = b"that is all"

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._redis.port)
        self._writer.write(b"MONITOR\r\n")
        assert await self._reader.readline() == b"+OK\r\n"
        return self

    async def __aexit__(self, *_: object) -> None:
        lines: list[bytes] = []
        marking = (await asyncio.open_connection("127.0.0.1", self._redis.port))[1]
        marking.write(b'ECHO "%s"\r\n' % self.MARK)
        while not lines or self.MARK not in lines[-1]:
            lines.append(await asyncio.wait_for(self._reader.readline(), PATIENCE))
        self.text = b"".join(lines).decode()
        for each in (marking, self._writer):
            each.close()
            await each.wait_closed()
