"""A client of `wire_site`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from gcrypt_channels.client import connect
from gcrypt_channels.client.connection import ClientConnection
from tests.interop.wire_site import KEYRING
from tests.servers import WebServer

DEADLINE = 20.0  # seconds; only a failing test waits as long


@asynccontextmanager
async def visit(
    url: str, *, port: int | None = None, **options: Any
) -> AsyncIterator[ClientConnection]:
    """Connect; with `port` to 127.0.0.1, whatever host the URL names."""
    key = KEYRING.session_keys[0]
    if port is not None:
        options |= {"host": "127.0.0.1", "port": port}
    async with connect(url, kid=key.kid, psk=key.psk, proxy=None, **options) as connection:
        yield connection


async def first(url: str, **options: Any) -> Any:
    """What the consumer says first."""
    async with visit(url, **options) as connection:
        return await asyncio.wait_for(connection.receive_json(), DEADLINE)


def own_lines(server: WebServer, word: str) -> list[str]:
    """The log lines of the package that have `word` in them."""
    lines = [line for line in server.log.splitlines() if line.startswith("GCRYPT ")]
    return [line for line in lines if word in line]


def began(server: WebServer, room: str) -> bool:
    return re.search(f"BEGAN '{re.escape(room)}'", server.log) is not None
