"""Random histories of a group with history: everything befalls it, and nothing is lost unsaid.

Three workers are three hubs, each with a channel layer of its own; clients are connections to them
under the real handshake, and reconnect with their positions. The layer loses messages, the store
behind a proxy is wiped, trimmed, killed and started again with an older state, and replaced by a
replica that lags; workers and clients come and go. Each client's record is compared with what was
published.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from channels.layers import channel_layers
from redis import Redis as RedisClient

from gcrypt_channels.connection.connection import Connection
from gcrypt_channels.crypto.psk import SessionKey
from gcrypt_channels.exceptions import TryAgainLater
from gcrypt_channels.groups import broadcast
from gcrypt_channels.hub.hub import Hub
from gcrypt_channels.protocol.events import (
    Accepted,
    Binding,
    Gap,
    GroupText,
    HelloReceived,
    Joined,
    Left,
    Position,
)
from gcrypt_channels.protocol.secure import SecureSession
from tests.faults.losses import Losses
from tests.faults.wire import Wire
from tests.servers import Redis

ROOM: Final = "chat.room"
PATIENCE: Final = 30.0
KEY: Final = SessionKey(kid=bytes(8), psk=bytes(32))
AT_ONCE: Final = ("--repl-diskless-sync-delay", "0")
"""A replica is served at once, and not after the seconds in which others might join it."""
BINDING: Final = Binding((), "h", "/")


class Record:
    """What one client was told of the group, over all its connections.

    Attributes:
        heard: the numbers of the messages, in order; ``None`` where something may be missing.
    """

    def __init__(self) -> None:
        self.heard: list[int | None] = []

    def check(self, published: list[int], uncertain: set[int]) -> None:
        """Compare with what was published, in order; what failed may have been counted or not.

        Raises:
            AssertionError: a message came twice or out of order, or is missing without a word.
        """
        place = {number: index for index, number in enumerate(published)}
        last, is_told = -1, False
        for number in [*self.heard, None]:
            if number is None:
                is_told = True
                continue
            index = place[number]
            assert index > last, f"{number} came twice or too late: {self.heard}"
            missing = {*published[last + 1 : index]} - uncertain
            assert is_told or not missing, f"{missing} are missing: {self.heard}"
            last, is_told = index, False

    def ends_with(self, number: int) -> bool:
        return bool(self.heard) and self.heard[-1] == number


class Worker:
    """A hub, and a layer that loses messages."""

    def __init__(self, make_layer: Callable[[], Any], draw: random.Random) -> None:
        self.hub = Hub()
        self.layer = make_layer()
        self.losses = Losses(self.layer, draw)


class Client:
    """Connects to a worker, and again to another whenever it is cut."""

    def __init__(self) -> None:
        self.record = Record()
        self.worker: Worker | None = None
        self._positions: dict[str, Position] = {}
        self._connection: Connection | None = None
        self._heard = asyncio.Event()

    async def connect(self, worker: Worker) -> None:
        """Raises TryAgainLater, as the middleware would close with 1013."""
        session = SecureSession(role="client")
        frames: asyncio.Queue[Any] = asyncio.Queue()

        async def send(event: Any) -> None:
            if self._connection is connection and event.get("bytes") is not None:
                self._receive(session, event["bytes"], frames)

        connection = Connection(
            SecureSession(role="server"), frames.get, send, hub=worker.hub, key=KEY
        )
        self._connection, self.worker = connection, worker
        channel_layers.set("default", worker.layer)
        await worker.hub.add(connection)
        try:
            assert await connection.handshake(timeout=PATIENCE) is not None
            await connection.join(ROOM)
            await connection.send({"type": "websocket.accept"})
        except TryAgainLater:
            await self.cut()
            raise

    async def cut(self) -> None:
        """Whatever is on its way is lost."""
        connection, self._connection = self._connection, None
        if connection is not None and self.worker is not None:
            await self.worker.hub.discard(connection)
            connection.end(1012)
            await connection.finish()
        self.worker = None

    async def heard(self, number: int) -> None:
        while not self.record.ends_with(number):
            self._heard.clear()
            await asyncio.wait_for(self._heard.wait(), PATIENCE)

    def _receive(self, session: SecureSession, frame: bytes, frames: asyncio.Queue[Any]) -> None:
        match session.receive(frame):
            case HelloReceived():
                reply = session.reply(KEY.psk, (), BINDING, [*self._positions.values()])
                frames.put_nowait({"type": "websocket.receive", "bytes": reply})
            case Joined(_, position, recovered):
                offered = self._positions.get(position.group)
                assert not recovered or offered == position
                self._positions[position.group] = position
                if not recovered:
                    self.record.heard.append(None)
            case GroupText(data, position):
                self._positions[position.group] = position
                self.record.heard.append(int(data))
            case Gap():
                self.record.heard.append(None)
            case Left(_, group):
                del self._positions[group]
            case Accepted() | None:
                pass
        self._heard.set()


class Store:
    """A Redis behind a proxy, with another one that may take its place."""

    def __init__(self, directory: Path) -> None:
        self.servers = [
            Redis(*AT_ONCE, "--dir", str(directory), "--dbfilename", f"{number}.rdb")
            for number in range(2)
        ]
        for server in self.servers:
            server.start()
        self.wire = Wire(self.servers[0].port)
        self.wire.__enter__()
        self.url = f"redis://127.0.0.1:{self.wire.port}/0"

    def close(self) -> None:
        self.wire.__exit__()
        for server in self.servers:
            server.stop()

    def tell(self, *words: str, server: int = 0) -> Any:
        with RedisClient(port=self.servers[server].port) as client:
            return client.execute_command(*words)

    def wipe(self) -> None:
        self.tell("FLUSHALL")

    def trim(self) -> None:
        for key in self.tell("KEYS", "*:messages"):
            self.tell("LTRIM", key, "-2", "-1")

    def save(self) -> None:
        self.tell("SAVE")

    def crash(self) -> None:
        """Come back with what was saved last."""
        self.servers[0].kill()
        self.servers[0].start()

    def replicate(self) -> None:
        """Make the other one a replica, and stop its replication: from now on it lags."""
        self.tell("REPLICAOF", "127.0.0.1", str(self.servers[0].port), server=1)
        while b"master_link_status:up" not in self._replication():
            pass
        self.tell("REPLICAOF", "NO", "ONE", server=1)

    def fail_over(self) -> None:
        self.servers.reverse()
        self.wire.target_port = self.servers[0].port
        self.wire.cut()

    def _replication(self) -> bytes:
        with RedisClient(port=self.servers[1].port) as client:
            return (
                b"%b" % str(client.info("replication")).replace("'", "").replace(": ", ":").encode()
            )


class Run:
    """One random history."""

    def __init__(self, seed: int, make_layer: Callable[[], Any], store: Store) -> None:
        self.draw = random.Random(seed)
        self.make_layer = make_layer
        self.store = store
        self.workers = [Worker(make_layer, self.draw) for _ in range(3)]
        self.clients = self.make_clients()
        self.published: list[int] = []
        self.uncertain: set[int] = set()

    def make_clients(self) -> list[Client]:
        return [Client() for _ in range(4)]

    async def send(self, number: int) -> None:
        """Raises TryAgainLater, and then nobody knows whether it was counted."""
        await broadcast(ROOM, number)

    async def publish(self) -> None:
        number = len(self.published)
        self.published.append(number)
        try:
            await self.send(number)
        except TryAgainLater:
            self.uncertain.add(number)

    async def play(self, messages: int) -> None:
        async with AsyncExitStack() as stack:
            for client in self.clients:
                stack.push_async_callback(client.cut)
                await self.connect(client)
            for _ in range(messages):
                await self.publish()
                if self.draw.random() < 0.1:
                    await self.befall()
            await self.settle()
        for client in self.clients:
            client.record.check(self.published, self.uncertain)

    async def connect(self, client: Client) -> None:
        while True:
            try:
                await client.connect(self.draw.choice(self.workers))
            except TryAgainLater:
                continue
            return

    async def befall(self) -> None:
        faults: list[tuple[Callable[[], Awaitable[None]], int]] = [
            (self.cut_client, 10),
            (self.restart_worker, 2),
            (lambda: asyncio.to_thread(self.store.trim), 2),
            (lambda: asyncio.to_thread(self.store.save), 3),
            (lambda: asyncio.to_thread(self.store.crash), 1),
            (lambda: asyncio.to_thread(self.store.wipe), 1),
            (self.fail_over, 1),
        ]
        names, weights = zip(*faults, strict=True)
        await self.draw.choices(names, weights)[0]()

    async def cut_client(self) -> None:
        """Other things may befall while it is away."""
        client = self.draw.choice(self.clients)
        if client.worker is None:
            return
        await client.cut()
        for _ in range(self.draw.randrange(8)):
            await self.publish()
            if self.draw.random() < 0.1:
                await self.befall()
        await self.connect(client)

    async def restart_worker(self) -> None:
        index = self.draw.randrange(len(self.workers))
        old = self.workers[index]
        self.workers[index] = Worker(self.make_layer, self.draw)
        for client in self.clients:
            if client.worker is old:
                await client.cut()
                await self.connect(client)

    async def fail_over(self) -> None:
        await asyncio.to_thread(self.store.replicate)
        for _ in range(self.draw.randrange(8)):
            await self.publish()
        await asyncio.to_thread(self.store.fail_over)

    async def settle(self) -> None:
        """Lose nothing any more, and wait until everybody has the last message."""
        for worker in self.workers:
            worker.losses.likelihood = 0.0
        while True:
            await self.publish()
            if self.published[-1] not in self.uncertain:
                break
        await asyncio.gather(*(client.heard(self.published[-1]) for client in self.clients))
