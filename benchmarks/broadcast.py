"""1 KiB to 1,000 sockets: time to the last, through the hub and through plain Channels.

    python -m benchmarks.broadcast

Both groups are connected to the same server process all the time and are sent to in turns. Plain
Channels is `group_send` and `send_json`, ours is `broadcast`, sealed for the channel layer and then
for each of the members. The listeners count bytes, which costs both contestants the same; one full
client in each group looks at what it gets.

The server's CPU time (Linux only) is measured as well: it says the same on a busy machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from websockets.asyncio.client import connect as plain_connect
from websockets.client import ClientProtocol
from websockets.frames import Frame
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from benchmarks.broadcast_site import CONTENT, KEYRING, SIZE
from gcrypt_channels.client import connect
from gcrypt_channels.protocol.events import Accepted, Binding, HelloReceived
from gcrypt_channels.protocol.secure import SecureSession
from tests.servers import Daphne, Redis, Site, Uvicorn, WebServer

LISTENERS = 1000
ROUNDS = 15
WARM_UP = 3
IDLE = 1.0  # milliseconds of CPU in 50 ms that are still taken for rest
HEADER = 4  # bytes of the WebSocket frame's header around each message
FRAME_SIZES = {
    "plain": HEADER + len(json.dumps(CONTENT)),
    "sealed": HEADER + 1 + SIZE + 16,
}


class Race:
    """Counts how many listeners have yet to get a message."""

    def __init__(self, runners: int) -> None:
        self.remaining = runners
        self.finish: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def arrived(self) -> None:
        self.remaining -= 1
        if not self.remaining:
            self.finish.set_result(time.perf_counter())


class Listener(asyncio.Protocol):
    """A WebSocket client that, once it is open, counts bytes and nothing else."""

    def __init__(self, contestant: str, url: str) -> None:
        self.race: Race | None = None
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._size = FRAME_SIZES[contestant]
        self._received = 0
        self._session = SecureSession(role="client") if contestant == "sealed" else None
        offer = [Subprotocol("gcrypt.v2")] if self._session else None
        uri = parse_uri(url)
        self._binding = Binding(tuple(offer or ()), uri.host, uri.resource_name)
        self._http = ClientProtocol(uri, subprotocols=offer)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._http.send_request(self._http.connect())
        self._flush()

    def data_received(self, data: bytes) -> None:
        if not self.opened.done():
            self._open(data)
            return
        self._received += len(data)
        if self._received >= self._size and self.race is not None:
            self._received -= self._size
            self.race.arrived()

    def _open(self, data: bytes) -> None:
        self._http.receive_data(data)
        for event in self._http.events_received():
            if self._session is None:
                self.opened.set_result(None)  # the answer to the request
            elif isinstance(event, Frame):
                told = self._session.receive(bytes(event.data))
                if isinstance(told, HelloReceived):
                    psk = KEYRING.session_keys[0].psk
                    self._http.send_binary(self._session.reply(psk, (), self._binding))
                elif isinstance(told, Accepted):
                    self.opened.set_result(None)
        self._flush()

    def _flush(self) -> None:
        for data in self._http.data_to_send():
            self.transport.write(data)


@contextlib.asynccontextmanager
async def listening(contestant: str, server: WebServer) -> AsyncIterator[list[Listener]]:
    loop = asyncio.get_running_loop()
    url = f"{server.websocket_url}/{contestant}/"
    listeners = []
    for _ in range(LISTENERS):
        _, listener = await loop.create_connection(
            lambda: Listener(contestant, url), "127.0.0.1", server.port
        )
        await listener.opened
        listeners.append(listener)
    yield listeners
    for listener in listeners:
        listener.transport.close()


def cpu_time(server: WebServer) -> float:
    """Milliseconds for which the server's threads have run."""
    threads = Path(f"/proc/{server.pid}/task").iterdir()
    return sum(int((each / "schedstat").read_text().split()[0]) for each in threads) / 1e6


async def settled(server: WebServer) -> float:
    """The server's CPU time, once it has nothing left to do."""
    before, now = -1.0, cpu_time(server)
    while now - before > IDLE:
        await asyncio.sleep(0.05)
        before, now = now, cpu_time(server)
    return now


Figures = dict[tuple[str, str], list[float]]


async def measure(server: WebServer) -> Figures:
    """Milliseconds from the trigger to the last listener, and of CPU, for each round."""
    key = KEYRING.session_keys[0]
    url = server.websocket_url
    figures: Figures = {}
    async with (
        listening("plain", server) as plain,
        listening("sealed", server) as sealed,
        plain_connect(f"{url}/trigger/", compression=None) as trigger,
        plain_connect(f"{url}/plain/", compression=None) as plain_reader,
        connect(f"{url}/sealed/", kid=key.kid, psk=key.psk) as sealed_reader,
    ):
        for round_number in range(WARM_UP + ROUNDS):
            for contestant, listeners in (("plain", plain), ("sealed", sealed)):
                race = Race(LISTENERS)
                for listener in listeners:
                    listener.race = race
                used, start = await settled(server), time.perf_counter()
                await trigger.send(contestant)
                took = 1000 * (await race.finish - start)
                used = await settled(server) - used
                reader = plain_reader.recv() if contestant == "plain" else sealed_reader.receive()
                if json.loads(await reader) != CONTENT:
                    raise AssertionError("something else arrived")
                if round_number >= WARM_UP:
                    figures.setdefault(("to the last", contestant), []).append(took)
                    figures.setdefault(("server's CPU", contestant), []).append(used)
    return figures


def main() -> None:
    print("| server | layer | figure | plain Channels, ms | ours, ms | ours / plain |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as directory, Redis() as redis:
        for name, env in (("in memory", {}), ("Redis", {"REDIS_URL": redis.url})):
            site = Site(Path(directory), settings="", env=env)
            application = "benchmarks.broadcast_site:application"
            for server in (
                Daphne(application, site, "--ping-interval", "3600"),
                Uvicorn(
                    application,
                    site,
                    *("--ws-per-message-deflate", "false", "--ws-ping-interval", "3600"),
                    *("--log-level", "info", "--no-access-log"),
                ),
            ):
                with server:
                    figures = asyncio.run(measure(server))
                label = f"{type(server).__name__.lower()} | {name}"
                for figure in ("to the last", "server's CPU"):
                    plain, ours = figures[figure, "plain"], figures[figure, "sealed"]
                    ratio = statistics.median(ours) / statistics.median(plain)
                    print(
                        f"| {label} | {figure} | {spread(plain)} | {spread(ours)} | {ratio:.2f} |"
                    )


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.0f} ({min(values):.0f} - {max(values):.0f})"


if __name__ == "__main__":
    main()
