"""Random histories of groups between processes: publishers, workers and clients over real sockets.

Two publishers without a socket broadcast to three workers; clients are connected to them through
proxies that cut mid-frame, and come back with their positions. What befalls them is drawn from a
seed, but for the moments: processes do not keep time.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import websockets

from gcrypt_channels.client import connect
from gcrypt_channels.exceptions import ConnectionClosed
from gcrypt_channels.keys import Keyring
from gcrypt_channels.protocol.events import Position
from tests.faults.histories import Record, Store
from tests.faults.messages import SHORT, is_intact
from tests.faults.wire import Wire
from tests.servers import ROOT, Redis, Site, Uvicorn, WebServer, side_by_side

if TYPE_CHECKING:
    from typing_extensions import Self

LIMIT: Final = 60.0
"""Seconds for what is waited for; only a failure waits as long."""

PAUSE: Final = 0.05
"""Seconds from a connection that was refused to the next attempt."""

DELAY: Final = 0.003
"""Seconds to the store and back from it, each: a cut finds answers on their way."""

BLOCK: Final = 1_000_000
"""Numbers that each publisher has for itself."""

KEY: Final = Keyring.derive("the members").session_keys[0]
IDLE: Final = "nowhere"


class Publisher:
    """One process that broadcasts; its messages are those since it moved to its present group.

    Attributes:
        begun: the numbers of its messages, in order.
        uncertain: those of them that were not taken: they may have been counted all the same.
    """

    def __init__(self, index: int, on_news: Callable[[], None]) -> None:
        self.begun: list[int] = []
        self.uncertain: set[int] = set()
        self._first = index * BLOCK
        self._on_news = on_news
        self._moved = asyncio.Event()

    def published(self, number: int) -> bool:
        return self._first < number <= self._first + BLOCK

    async def start(self, site: Site) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.faults.publisher", str(self._first)),
            cwd=ROOT,
            env=site.environment(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        self._reading = asyncio.create_task(self._read())

    async def stop(self) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        await asyncio.wait_for(self._process.wait(), LIMIT)
        await self._reading

    async def move(self, group: str) -> None:
        """Publish to another group; what was said of the messages before has been read then."""
        self._moved.clear()
        self._tell(group)
        await asyncio.wait_for(self._moved.wait(), LIMIT)

    def burst(self, count: int) -> None:
        self._tell(f"{count} {SHORT}")

    def forget(self) -> None:
        self.begun, self.uncertain = [], set()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            what, number, _ = line.split()
            if what == b"moved":
                self._moved.set()
            elif what == b"begin":
                self.begun.append(int(number))
                self.uncertain.add(int(number))
            elif what == b"taken":
                self.uncertain.discard(int(number))
            self._on_news()


class Listener:
    """A client that connects again whenever it was cut.

    Attributes:
        record: what it was told.
        joins: how often it joined, by whether it was told that it gets what it has missed.
    """

    def __init__(self, group: str, wire: Wire, on_news: Callable[[], None]) -> None:
        self.record = Record()
        self.joins: Counter[bool] = Counter()
        self.ends: Counter[str] = Counter()
        self.wire = wire
        self._group = group
        self._positions: tuple[Position, ...] = ()
        self._on_news = on_news

    async def run(self, before: Callable[[Listener], Awaitable[None]]) -> None:
        """Stay connected; `before` each connection it is decided where and for how long."""
        while True:
            await before(self)
            try:
                await self._listen()
            except ConnectionClosed as error:
                self._end(f"{error.code}{'' if error.authentic else '?'}")
            except websockets.InvalidStatus as error:
                self._end(f"HTTP {error.response.status_code}")
            except (OSError, asyncio.TimeoutError, websockets.WebSocketException) as error:
                self._end(type(error).__name__)
            await asyncio.sleep(PAUSE)

    async def _listen(self) -> None:
        url = f"ws://127.0.0.1:{self.wire.port}/{self._group}"
        async with connect(
            url,
            kid=KEY.kid,
            psk=KEY.psk,
            resume=self._positions,
            on_joined=self._on_joined,
            on_gap=lambda group, missed: self.record.heard.append(None),
        ) as socket:
            try:
                while True:
                    content = await socket.receive_json()
                    assert is_intact(content), content
                    self.record.heard.append(content[0])
                    self._on_news()
            finally:
                self._positions = socket.positions

    def _on_joined(self, group: str, recovered: bool) -> None:
        self.joins[recovered] += 1
        if not recovered:
            self.record.heard.append(None)

    def _end(self, how: str) -> None:
        self.ends[how] += 1


class Processes:
    """A site of three workers and two publishers, for any number of histories."""

    def __init__(self, directory: Path, layer: str) -> None:
        self.store = Store(directory)
        self.redis = Redis()
        self.wire = Wire(self.redis.port)
        self.news = asyncio.Event()
        self._layer = layer
        self._directory = directory
        self._running = AsyncExitStack()

    async def __aenter__(self) -> Self:
        stack = self._running
        stack.callback(self.store.close)
        self.store.wire.delay = DELAY
        stack.enter_context(self.wire)
        env = {
            "LAYER": self._layer,
            "REDIS_URL": f"redis://127.0.0.1:{self.wire.port}/0",
            "HISTORY_URL": self.store.url,
        }
        site = Site(self._directory, settings="tests.faults.history_settings", env=env)
        application = "tests.faults.history_site:application"
        self.workers: list[WebServer] = [Uvicorn(application, site) for _ in range(3)]
        stack.enter_context(side_by_side(self.redis, *self.workers))
        self.publishers = [Publisher(index, self.news.set) for index in range(2)]
        for publisher in self.publishers:
            await publisher.start(site)
            stack.push_async_callback(publisher.stop)
            await publisher.move(IDLE)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._running.aclose()


class History:
    """One history of a group of its own.

    Attributes:
        faults: how often each befell it.
    """

    def __init__(
        self, processes: Processes, seed: int, *, clients: int = 4, cuts: bool = True
    ) -> None:
        """`cuts`: whether the clients' connections are cut at random."""
        self.draw = random.Random(seed)
        self.faults: Counter[str] = Counter()
        self._processes = processes
        self._publishers = processes.publishers
        self._store = processes.store
        self._group = f"chat.{seed}"
        self._number_of_clients = clients
        self._cuts = cuts
        self._next_worker = self.draw.randrange(3)
        self._tasks: list[asyncio.Task[None]] = []
        self.listeners: list[Listener] = []

    def __str__(self) -> str:
        """What there was to find fault with, as a line of the table."""
        heard = sum(1 for each in self.listeners for n in each.record.heard if n is not None)
        joins = sum((each.joins for each in self.listeners), Counter[bool]())
        told = sum(each.record.heard.count(None) for each in self.listeners)
        faults = " ".join(f"{name}:{count}" for name, count in sorted(self.faults.items()))
        return (
            f"published {self.published}, heard {heard}, told {told}, "
            f"recovered {joins[True]} of {joins.total()} joins, [{faults}]"
        )

    async def __aenter__(self) -> Self:
        self._wires = AsyncExitStack()
        for publisher in self._publishers:
            publisher.forget()
            await publisher.move(self._group)
        for _ in range(self._number_of_clients):
            wire = self._wires.enter_context(Wire(self._processes.workers[0].port))
            listener = Listener(self._group, wire, self._processes.news.set)
            self.listeners.append(listener)
            self._tasks.append(asyncio.create_task(listener.run(self._prepare)))
        return self

    async def __aexit__(self, *_: object) -> None:
        for publisher in self._publishers:
            await publisher.move(IDLE)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._wires.aclose()

    # What happens

    @property
    def published(self) -> int:
        return sum(len(each.begun) for each in self._publishers)

    async def play(self, messages: int) -> None:
        """Let so many messages be published, under faults."""
        befall: dict[Callable[[], Awaitable[None]], int] = {
            self.cut_client: 16,
            self.publish_fast: 8,
            self.cut_layer: 4,
            self.cut_store: 6,
            self.restart_worker: 1,
            self.trim: 2,
            self.save: 3,
            self.wipe: 1,
            self.crash: 2,
            self.fail_over: 2,
        }
        while self.published < messages:
            (fault,) = self.draw.choices([*befall], [*befall.values()])
            await fault()
            self.faults[fault.__name__] += 1
            await self.more(self.draw.randrange(1, 20))

    async def more(self, count: int) -> None:
        """Wait for further messages."""
        last = self.published + count
        await self.until(lambda: self.published >= last, f"{count} messages")

    async def settle(self) -> None:
        """Cut nobody any more, and wait until everybody hears what is published from now on."""
        if self._cuts:
            self._cuts = False
            self._processes.news.set()
            for listener in self.listeners:
                listener.wire.cut()
        last = [max(publisher.begun, default=0) for publisher in self._publishers]

        def is_back(listener: Listener) -> bool:
            heard = [each for each in listener.record.heard[-200:] if each is not None]
            return all(
                any(publisher.published(each) and each > number for each in heard)
                for publisher, number in zip(self._publishers, last, strict=True)
            )

        await self.until(lambda: all(map(is_back, self.listeners)), "everybody is back")

    def check(self) -> None:
        """Compare each client's record with what was published."""
        for listener in self.listeners:
            for publisher in self._publishers:
                own = Record()
                own.heard = [
                    each
                    for each in listener.record.heard
                    if each is None or publisher.published(each)
                ]
                own.check(publisher.begun, publisher.uncertain)
        first, *others = [
            [n for n in each.record.heard if n is not None] for each in self.listeners
        ]
        for other in others:
            both = {*first} & {*other}
            assert [n for n in first if n in both] == [n for n in other if n in both]

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        news = self._processes.news

        async def wait() -> None:
            while not condition():
                for task in self._tasks:
                    if task.done():
                        task.result()  # it raises what has ended a client
                news.clear()
                await news.wait()

        try:
            await asyncio.wait_for(wait(), LIMIT)
        except asyncio.TimeoutError:
            ends = sum((each.ends for each in self.listeners), Counter[str]())
            raise AssertionError(f"in {LIMIT} s not: {what}; ends {dict(ends)}") from None

    async def _prepare(self, listener: Listener) -> None:
        """Choose a worker, and the byte behind which the connection is cut."""
        listener.wire.target_port = self.draw.choice(self._processes.workers).port
        listener.wire.limit = None
        if not self._cuts:
            return
        if self.draw.random() < 0.6:
            listener.wire.limit = int(10 ** self.draw.uniform(2, 4.5))
        if listener.joins and self.draw.random() < 0.5:
            await self._stay_away(self.draw.randrange(60))

    async def _stay_away(self, count: int) -> None:
        last = self.published + count
        await self.until(lambda: not self._cuts or self.published >= last, "a client returns")

    # Faults

    async def cut_client(self) -> None:
        self.draw.choice(self.listeners).wire.cut()

    async def publish_fast(self) -> None:
        self.draw.choice(self._publishers).burst(self.draw.randrange(10, 60))

    async def cut_layer(self) -> None:
        self._processes.wire.cut()

    async def cut_store(self) -> None:
        """An answer that is on its way is lost, and whoever asked does not know what was done."""
        self._store.wire.cut()

    async def restart_worker(self) -> None:
        worker = self._processes.workers[self._next_worker % 3]
        self._next_worker += 1
        if self.draw.random() < 0.5:
            await self.restart(worker)
        else:
            await asyncio.to_thread(worker.kill)
            await asyncio.to_thread(worker.start)

    async def restart(self, worker: WebServer) -> None:
        """End a worker as an operator does, so that it drains, and start it again."""
        await asyncio.to_thread(worker.restart)

    async def trim(self) -> None:
        await asyncio.to_thread(self._store.trim)

    async def save(self) -> None:
        await asyncio.to_thread(self._store.save)

    async def wipe(self) -> None:
        await asyncio.to_thread(self._store.wipe)

    async def crash(self) -> None:
        """Kill the store; it comes back with what was saved last, if anything."""
        await asyncio.to_thread(self._store.crash)

    async def fail_over(self) -> None:
        await asyncio.to_thread(self._store.replicate)
        await self.more(self.draw.randrange(1, 30))
        await asyncio.to_thread(self._store.fail_over)
