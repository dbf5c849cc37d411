"""The rig: Redis, workers, a publisher process and clients, which a test puts through a fault.

    with Rig(demo, layer="core", server=Daphne) as rig:
        async with Run(rig) as run:      # everybody hears the publisher
            rig.redis.kill()
            ...
            rig.redis.start()
            await run.recover()          # everybody hears what was published after this moment
        run.figures                      # after the end: the account, and nothing is left over

`Run.check` fails a test with all that is wrong at once.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

from tests.faults.clients import Browser, Client, Filter, OurClient, Peer, note
from tests.faults.ledger import Account, Post, settle
from tests.servers import ROOT, Redis, ServerProcess, Site, WebServer, side_by_side

if TYPE_CHECKING:
    from typing_extensions import Self

LIMIT = 60.0
"""Seconds for what a test waits for; only a failing test waits as long."""

STAY = (15, 1.0)
"""Messages or seconds after which a restless client connects again."""

MOST_RECORDS = 100
"""Warnings and errors that one worker may log in one run, beside one for each end."""

RECORD = re.compile(r"^\S+ \S+ (?:WARNING|ERROR|CRITICAL) ", re.MULTILINE)

LASTING_TASKS = Counter({"RedisSingleShardConnection._do_receiving": 1})
"""What channels_redis keeps for as long as the process lives, by number."""

LASTING_SOCKETS = 60
"""Connections to the stores that the libraries' pools may keep."""

COMPLAINTS = re.compile(r"was destroyed|never awaited|never retrieved(?!\n.*_clean_receive_backup)")
"""What asyncio says of work that went astray, but for a task that channels_redis leaves alone."""


class Rig:
    """The processes of a site; they stay up for several runs.

    Attributes:
        redis: the channel layer's.
        sessions: that of the sessions, if they are in a cache.
        workers: what the clients connect to.
    """

    def __init__(
        self,
        site: Site,
        *,
        layer: str,
        server: type[WebServer],
        workers: int = 2,
        sessions: Redis | None = None,
        layer_port: Callable[[int], int] | None = None,
        **env: str,
    ) -> None:
        """`layer_port`: where the workers find Redis, given its own port."""
        self.redis = Redis()
        self.sessions = sessions
        self.site = replace(
            site,
            settings="tests.faults.settings",
            env={**site.env, "LAYER": layer, "REDIS_URL": self.redis.url, **env},
        )
        if sessions is not None:
            self.site.env["SESSIONS"] = sessions.url
        behind = self.site
        if layer_port is not None:
            url = f"redis://127.0.0.1:{layer_port(self.redis.port)}/0"
            behind = replace(self.site, env={**self.site.env, "REDIS_URL": url})
        application = "tests.faults.site:application"
        self.workers = [server(application, behind) for _ in range(workers)]
        self.baseline: dict[str, Counter[str]] = {}
        self.is_abandoned = False
        self._running = ExitStack()

    def __enter__(self) -> Self:
        stores: list[ServerProcess] = [self.redis]
        if self.sessions is not None:
            stores.append(self.sessions)
        self._running.enter_context(side_by_side(*stores, *self.workers))
        for worker in self.workers:
            self.measure(worker)
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def measure(self, worker: WebServer) -> None:
        """Remember what a worker holds that has just started."""
        self.baseline[worker.url] = Counter(counts(worker)["tasks"]) + LASTING_TASKS
        self.baseline[f"{worker.url} files"] = Counter(counts(worker)["files"])

    def start_again(self, worker: WebServer) -> None:
        """Start a worker that has ended."""
        worker.start()
        self.measure(worker)

    def abandon(self) -> None:
        """Kill everything at once, after a failure."""
        self.is_abandoned = True
        for process in (self.redis, self.sessions, *self.workers):
            if process is not None:
                process.kill()


def counts(worker: WebServer) -> dict[str, Any]:
    """What a worker holds, as it says itself."""
    with urlopen(f"{worker.url}/counts/", timeout=LIMIT) as answer:
        held: dict[str, Any] = json.load(answer)
    return held


@dataclass
class Figures:
    """What a run showed, as one line of the table."""

    account: Account = field(default_factory=Account)
    back: float = 0.0  # seconds from the end of a fault until the last client was back, at worst
    ends: Counter[str] = field(default_factory=Counter)
    records: int = 0  # warnings and errors of the worker that logged most
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        ends = " ".join(f"{end}:{count}" for end, count in sorted(self.ends.items()))
        account = self.account
        return (
            f"heard {account.heard}, missing {account.missing}, told {account.told}, "
            f"back {self.back:.1f} s, ends [{ends}], log {self.records}"
        )


class Run:
    """One publisher and its audience, from the first message to the account.

    Args:
        rig: the processes.
        note: how a client notes what it hears.
        expected_ends: how connections and attempts may end.
        doubts: how many messages each connection may be told of that were not lost.
        settle_within: seconds that the workers have to forget everything when all have gone.
    """

    def __init__(
        self,
        rig: Rig,
        *,
        note: Filter = note,
        expected_ends: frozenset[str] = frozenset(),
        doubts: int = 0,
        settle_within: float = 20.0,
    ) -> None:
        self.rig = rig
        self.posts: dict[int, Post] = {}
        self.clients: list[Client] = []
        self.figures = Figures()
        self.ended_at = time.monotonic()
        self._note = note
        self._doubts = doubts
        self._settle_within = settle_within
        self._expected_ends = expected_ends | {"left"}
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._records = {each.url: len(RECORD.findall(each.log)) for each in rig.workers}

    # The beginning and the end

    async def __aenter__(self) -> Self:
        # Requests block a thread each, also when a worker hangs.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(64))
        await self._start_publisher()
        for worker in self.rig.workers:
            browser = Browser(worker.url)
            await browser.enter("alice")
            for kind in (OurClient, Peer):
                for path in ("/ws/", "/ws/channels/"):
                    self.admit(kind, browser, path=path)
                self.admit(kind, browser, stay=STAY)
        await self.recover()
        self.figures.back = 0.0
        return self

    def admit(self, kind: type[Client], browser: Browser, **options: Any) -> Client:
        """Let one more client connect."""
        client = kind(browser, on_news=self._news.set, **{"note": self._note, **options})
        self.clients.append(client)
        self._tasks.append(asyncio.create_task(client.run()))
        return client

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        await self._end_publisher()
        for task in self._tasks:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, Exception):
                self.figures.problems.append(f"a client failed: {result!r}")
        if error is not None:
            self.rig.abandon()
            return
        self.figures.account = settle(
            self.posts,
            [ear for each in self.clients for ear in each.ears],
            doubts=self._doubts,
        )
        for client in self.clients:
            self.figures.ends += client.ends
        await self._look_for_leftovers()
        self._look_at_logs()

    def check(self) -> None:
        """Fail with everything that is wrong."""
        problems = [*self.figures.problems]
        problems += [f"{count} {kind}" for kind, count in self.figures.account.defects().items()]
        problems += [
            f"{count} ends with {end}"
            for end, count in self.figures.ends.items()
            if end not in self._expected_ends
        ]
        if problems:
            self.rig.abandon()
        details = "\n".join(self.figures.account.details[:10])
        assert not problems, f"{'; '.join(problems)} ({self.figures})\n{details}"

    # The publisher

    async def _start_publisher(self) -> None:
        self._publisher = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.faults.publisher"),
            cwd=ROOT,
            env=self.rig.site.environment(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        self._reading = asyncio.create_task(self._read_posts())
        await self.until(lambda: len(self.posts) > 0, "the publisher begins")

    async def _read_posts(self) -> None:
        assert self._publisher.stdout is not None
        async for line in self._publisher.stdout:
            what, number, at = line.split()
            if what == b"begin":
                self.posts[int(number)] = Post(float(at))
            else:
                post = self.posts[int(number)]
                post.ended, post.taken = float(at), what == b"taken"
            self._news.set()

    async def _end_publisher(self) -> None:
        assert self._publisher.stdin is not None
        with suppress(OSError):
            self._publisher.stdin.close()
        await asyncio.wait_for(self._publisher.wait(), LIMIT)
        await self._reading

    async def burst(self, count: int, size: int) -> None:
        """Have `count` messages of `size` characters published at once, and wait until they are."""
        assert self._publisher.stdin is not None
        last = max(self.posts)
        self._publisher.stdin.write(f"{count} {size}\n".encode())
        await self.published(count, after=last)

    async def published(self, count: int, *, after: int | None = None) -> None:
        """Wait for `count` further messages, whether the layer takes them or not."""
        last = max(self.posts) if after is None else after
        await self.until(lambda: max(self.posts) > last + count, f"{count} messages")

    # What happens

    async def until(self, condition: Callable[[], bool], what: str, limit: float = LIMIT) -> None:
        """Wait for a message, an end or a line of the publisher that makes `condition` true."""

        async def wait() -> None:
            while not condition():
                for task in self._tasks:
                    if task.done() and not task.cancelled():
                        task.result()  # it raises what has ended a client
                self._news.clear()
                await self._news.wait()

        try:
            await asyncio.wait_for(wait(), limit)
        except asyncio.TimeoutError:
            raise AssertionError(f"in {limit} s not: {what} ({self._state()})") from None

    def _state(self) -> str:
        ends = sum((each.ends for each in self.clients), Counter())
        deaf = [f"{each!r}" for each in self.clients if not self._is_back(each)]
        return f"ends {dict(ends)}, not back {deaf}"

    async def recover(self, within: float = LIMIT) -> None:
        """The fault has ended now: wait until every client hears what is published from now on."""
        self.ended_at = time.monotonic()
        await self.until(
            lambda: all(map(self._is_back, self.clients)),
            "every client is back",
            within,
        )
        back = max(self._back_at(each) or 0 for each in self.clients) - self.ended_at
        self.figures.back = max(self.figures.back, back)

    async def until_counts(
        self, worker: WebServer, condition: Callable[[dict[str, Any]], bool]
    ) -> None:
        """Wait until a worker holds what `condition` asks for."""
        deadline = time.monotonic() + LIMIT
        held = await asyncio.to_thread(counts, worker)
        while not condition(held):
            assert time.monotonic() < deadline, f"after {LIMIT} s it holds {held}"
            await asyncio.sleep(0.1)
            held = await asyncio.to_thread(counts, worker)

    def _is_back(self, client: Client) -> bool:
        return client.is_logged_out or self._back_at(client) is not None

    def _back_at(self, client: Client) -> float | None:
        """When a client first heard a message that was begun after the end of the fault."""
        at = None
        for number, heard_at in reversed(client.heard):
            post = self.posts.get(number)
            if post is None:
                continue
            if post.began < self.ended_at:
                break
            at = heard_at
        return at

    async def lose_everyone(self) -> None:
        """Wait until no client has a connection."""
        await self.until(
            lambda: not any(each.is_open for each in self.clients), "all connections end"
        )

    # What is left

    async def _look_for_leftovers(self) -> None:
        for worker in self.rig.workers:
            left: list[str] = []
            deadline = time.monotonic() + self._settle_within
            while time.monotonic() < deadline:
                left = self._leftovers(worker, await asyncio.to_thread(counts, worker))
                if not left:
                    break
                await asyncio.sleep(0.1)
            self.figures.problems += left

    def _leftovers(self, worker: WebServer, held: dict[str, Any]) -> list[str]:
        files = Counter(held["files"])
        left = []
        if held["connections"]:
            left.append(f"{held['connections']} connections left")
        if tasks := Counter(held["tasks"]) - self.rig.baseline[worker.url]:
            left.append(f"tasks left: {dict(tasks)}")
        if (sockets := files["clients"] - 1) > 0:  # one asks for the counts
            left.append(f"{sockets} sockets left")
        if files["stores"] > LASTING_SOCKETS:
            left.append(f"{files['stores']} connections to the stores left")
        before = self.rig.baseline[f"{worker.url} files"]
        if files["others"] > before["others"]:
            left.append(f"{files['others'] - before['others']} files left")
        return left

    def _look_at_logs(self) -> None:
        for worker in self.rig.workers:
            log = worker.log
            records = len(RECORD.findall(log)) - self._records[worker.url]
            if records < 0:  # it was started again, and its log with it
                records = len(RECORD.findall(log))
            self.figures.records = max(self.figures.records, records)
            if records > MOST_RECORDS + sum(self.figures.ends.values()) - self.figures.ends["left"]:
                self.figures.problems.append(f"{records} records in a log")
            self.figures.problems += [
                f"{complaint!r} in a log" for complaint in set(COMPLAINTS.findall(log))
            ]
