"""How long a connection takes to open on a link of 50 ms, and how many bytes: each profile.

    python -m benchmarks.opening

A relay in this process delays what passes it by 25 ms in each direction. "Opened" is the time from
the call of ``connect`` until the application has accepted: TCP, the WebSocket's own upgrade and,
with ``gcrypt.v2`` and ``gcrypt.v3``, one round trip of handshake. The contestants take turns on one
server process.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

from websockets.asyncio.client import connect as plain_connect

from benchmarks.site import KEYRING
from gcrypt_channels.client import connect
from gcrypt_channels.protocol.profiles import Profile, secure_profiles
from tests.servers import Site, Uvicorn

Contestant = Profile | Literal["plain"]

ONE_WAY = 0.025  # seconds
ROUNDS = 20
CONTESTANTS: tuple[Contestant, ...] = ("plain", "gcrypt.v1", *reversed(secure_profiles()))


class Relay:
    """Listens on a free port of 127.0.0.1 and passes all on to ``port``, later."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._tasks: set[asyncio.Task[None]] = set()
        self.passed = {"to the server": 0, "to the client": 0}

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(2 * ONE_WAY)  # TCP's own round trip, which this machine has not
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        for name, source, sink in (
            ("to the server", reader, far_writer),
            ("to the client", far_reader, writer),
        ):
            task = asyncio.create_task(self._pass(name, source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(
        self, name: str, source: asyncio.StreamReader, sink: asyncio.StreamWriter
    ) -> None:
        loop = asyncio.get_running_loop()
        while data := await source.read(65_536):
            self.passed[name] += len(data)
            loop.call_later(ONE_WAY, sink.write, data)
        loop.call_later(ONE_WAY, sink.close)


@asynccontextmanager
async def opened_by(contestant: Contestant, url: str) -> AsyncIterator[None]:
    if contestant == "plain":
        async with plain_connect(f"{url}/plain/", compression=None):
            yield
        return
    key = KEYRING.session_keys[0]
    async with connect(
        f"{url}/sealed/",
        kid=key.kid,
        psk=key.psk,
        passphrase=KEYRING.passphrases[0],
        profile=contestant,
    ):
        yield


async def measure(port: int) -> None:
    relay = Relay(port)
    async with relay as url:
        opened: dict[Contestant, list[float]] = {each: [] for each in CONTESTANTS}
        passed: dict[Contestant, dict[str, int]] = {}
        for _ in range(ROUNDS):
            for contestant in CONTESTANTS:
                relay.passed = dict.fromkeys(relay.passed, 0)
                start = time.perf_counter()
                async with opened_by(contestant, url):
                    opened[contestant].append((time.perf_counter() - start) * 1e3)
                    passed[contestant] = dict(relay.passed)
        for contestant, times in opened.items():
            spread = f"{statistics.median(times):.0f} ({min(times):.0f} - {max(times):.0f})"
            sizes = passed[contestant].values()
            print(f"| {contestant} | {spread} | {' | '.join(map(str, sizes))} |")


def main() -> None:
    print("| contestant | opened after, ms, median (min - max) | bytes sent | bytes received |")
    print("|---|---|--:|--:|")
    with tempfile.TemporaryDirectory() as directory:
        site = Site(Path(directory), settings="")
        with Uvicorn(
            "benchmarks.site:application", site, "--ws-per-message-deflate", "false"
        ) as server:
            asyncio.run(measure(server.port))


if __name__ == "__main__":
    main()
