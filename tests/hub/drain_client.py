"""A client of `drain_site`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import connect as open_socket
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from gcrypt_channels.client import ClientConnection, connect
from gcrypt_channels.exceptions import ConnectionClosed
from gcrypt_channels.keys import Keyring

KEYRING = Keyring.derive("everybody")
DEADLINE = 30.0  # seconds; only a failing test waits as long


@asynccontextmanager
async def visit(
    url: str, path: str = "/ws/echo/", **options: Any
) -> AsyncIterator[ClientConnection]:
    """Connect to one path of the site."""
    key = KEYRING.session_keys[0]
    async with connect(url + path, kid=key.kid, psk=key.psk, proxy=None, **options) as connection:
        yield connection


async def echo(connection: ClientConnection) -> None:
    await connection.send("hello")
    assert await asyncio.wait_for(connection.receive(), DEADLINE) == "hello"


async def end_of(connection: ClientConnection) -> tuple[int, str, bool]:
    """Read until the end: its code and reason, and whether it is authentic."""
    try:
        while True:
            await asyncio.wait_for(connection.receive(), DEADLINE)
    except ConnectionClosed as closed:
        return closed.code, closed.reason, closed.authentic


@asynccontextmanager
async def deaf(url: str) -> AsyncIterator[None]:
    """A client that reads nothing of a flood, and whose server waits for it."""
    async with visit(url, "/ws/flood/", close_timeout=0) as connection:
        connection._socket.transport.pause_reading()
        yield
        connection._socket.transport.abort()


async def status_of(url: str) -> int:
    """The HTTP status of the answer to a new WebSocket: 101 if it is taken."""
    try:
        offered = [Subprotocol("gcrypt.v2")]
        async with open_socket(url + "/ws/echo/", subprotocols=offered, proxy=None):
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code
