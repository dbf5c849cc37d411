"""JSON echoed over one socket: plain Channels, ``gcrypt.v1`` and ``gcrypt.v2``, real servers.

    python -m benchmarks.echo

"Latency" is the time of one message there and back. "Throughput" is what a client gets that keeps
64 messages under way. The contestants take turns on one server process; the client's own work, the
same websockets library for all and our sessions on top, is in the figures, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Literal

from websockets.asyncio.client import ClientConnection as Socket
from websockets.asyncio.client import connect as plain_connect

from benchmarks.site import KEYRING
from gcrypt_channels.client import connect
from gcrypt_channels.protocol.profiles import Profile
from tests.servers import Daphne, Site, Uvicorn

Contestant = Profile | Literal["plain"]

MESSAGES = 2000
UNDER_WAY = 64
ROUNDS = 5
CONTESTANTS: tuple[Contestant, ...] = ("plain", "gcrypt.v1", "gcrypt.v2")
TEXT = '{"text": "' + "x" * 100 + '"}'


class Peer:
    """What the measurement needs of a client: text out, text in."""

    def __init__(
        self, send: Callable[[str], Awaitable[None]], receive: Callable[[], Awaitable[object]]
    ) -> None:
        self.send = send
        self.receive = receive


@contextlib.asynccontextmanager
async def open_peer(contestant: Contestant, url: str) -> AsyncIterator[Peer]:
    if contestant == "plain":
        socket: Socket
        async with plain_connect(f"{url}/plain/", compression=None) as socket:
            yield Peer(socket.send, socket.recv)
        return
    key = KEYRING.session_keys[0]
    async with connect(
        f"{url}/sealed/",
        kid=key.kid,
        psk=key.psk,
        passphrase=KEYRING.passphrases[0],
        profile=contestant,
    ) as connection:
        yield Peer(connection.send, connection.receive)


async def latency(peer: Peer) -> float:
    """Microseconds for one message there and back."""
    start = time.perf_counter()
    for _ in range(MESSAGES // 4):
        await peer.send(TEXT)
        await peer.receive()
    return (time.perf_counter() - start) / (MESSAGES // 4) * 1e6


async def throughput(peer: Peer) -> float:
    """Microseconds for one message when many are under way."""
    start = time.perf_counter()
    for _ in range(UNDER_WAY):
        await peer.send(TEXT)
    for _ in range(MESSAGES - UNDER_WAY):
        await peer.receive()
        await peer.send(TEXT)
    for _ in range(UNDER_WAY):
        await peer.receive()
    return (time.perf_counter() - start) / MESSAGES * 1e6


async def measure(url: str) -> dict[tuple[str, str], list[float]]:
    figures: dict[tuple[str, str], list[float]] = {}
    for round_number in range(ROUNDS + 1):
        for contestant in CONTESTANTS:
            async with open_peer(contestant, url) as peer:
                for name, work in (("latency", latency), ("throughput", throughput)):
                    took = await work(peer)
                    if round_number:  # the first round only warms up
                        figures.setdefault((name, contestant), []).append(took)
    return figures


def main() -> None:
    print("| server | figure | contestant | µs per message, median (min - max) | times plain |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as directory:
        site = Site(Path(directory), settings="")
        for server in (
            Daphne("benchmarks.site:application", site, "-v", "1"),
            Uvicorn("benchmarks.site:application", site, "--ws-per-message-deflate", "false"),
        ):
            with server:
                figures = asyncio.run(measure(server.websocket_url))
            for (name, contestant), times in sorted(figures.items()):
                median = statistics.median(times)
                ratio = median / statistics.median(figures[name, "plain"])
                spread = f"{median:.0f} ({min(times):.0f} - {max(times):.0f})"
                label = type(server).__name__.lower()
                print(f"| {label} | {name} | {contestant} | {spread} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
