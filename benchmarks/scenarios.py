"""What the suite measures, and what it is measured against.

A scenario has contestants, which take turns, and a function that runs one of them once. A goal
compares a figure of two contestants; it is looked at in the pairs of one round, so that a machine
whose speed drifts slows both alike.
"""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from websockets.asyncio.client import connect as plain_connect

from gcrypt_channels.client import connect as sealed_connect

from .measuring import Bench, Contestant, Load, Sample, cpu_time, resident

ROUND_TRIPS: Final = 3000
IDLE_CONNECTIONS: Final = 1000
IDLE_BEFORE: Final = 100
"""Sockets that are open before the idle ones are counted: the first need memory of their own."""


@dataclass(frozen=True)
class Scenario:
    """One row of the suite.

    ``amount`` is what ``measure`` needs: seconds, broadcasts or nothing. ``watched`` has the server
    watch its event loop. ``quick`` says whether the scenario belongs to the short run.
    """

    name: str
    title: str
    contestants: tuple[Contestant, ...]
    measure: Callable[[Bench, Scenario, str, Contestant], Sample]
    connections: int = 50
    amount: float = 1.2
    message: str = ""
    servers: tuple[str, ...] = ("daphne", "uvicorn")
    layer: str = "memory"
    options: tuple[str, ...] = ()
    watched: bool = False
    quick: bool = False
    rounds: int = 5


# Messages


def text(size: int) -> str:
    """``size`` bytes of JSON that hold one string."""
    return '{"text":"' + "x" * (size - len('{"text":""}')) + '"}'


def rows(size: int) -> str:
    """About ``size`` bytes of JSON with many small members, as an application sends them."""
    made: list[dict[str, object]] = []
    while len(packed := json.dumps({"rows": made}, separators=(",", ":"))) < size:
        number = len(made)
        made.append({"id": number, "name": f"item-{number:04}", "open": True, "price": 9.5})
    return packed


# Measuring


def through_load(mode: str) -> Callable[[Bench, Scenario, str, Contestant], Sample]:
    """Measure what the server does for the load generator: ``cpu`` in µs, ``rate`` in 1/s."""

    def measure(bench: Bench, scenario: Scenario, server: str, contestant: Contestant) -> Sample:
        name = "node" if contestant.path == "/node/" else server
        running = bench.server(name, scenario.layer, *scenario.options)
        load = bench.load(
            mode,
            contestant,
            running,
            scenario.connections,
            scenario.amount,
            scenario.message,
            watched=scenario.watched,
        )
        load.ready()
        before, printed = cpu_time(running.pid), len(running.log)
        result = load.work()
        used = cpu_time(running.pid) - before
        load.end()
        if scenario.watched:  # watching takes all the CPU there is, so nothing else is a figure
            held = re.findall(r"held ([\d.]+)", running.log[printed:])
            return {"held": statistics.median(map(float, held))}
        count = max(result["count"], 1)
        return {
            "cpu": used / count * 1e6,
            "rate": result["count"] / result["seconds"],
            "client": result["own_cpu"] / count * 1e6,
            "p50": result["p50"] * 1e6,
            "p99": result["p99"] * 1e6,
        }

    return measure


def idle(bench: Bench, scenario: Scenario, server: str, contestant: Contestant) -> Sample:
    """Measure the memory of open sockets on which nothing happens: ``memory`` in KiB for each."""
    with bench.web_server(server, scenario.layer) as running:

        def opened(connections: int) -> Load:
            load = bench.load("echo", contestant, running, connections, 0, text(100))
            load.ready()
            return load

        first = opened(IDLE_BEFORE)
        before = resident(running.pid)
        others = opened(scenario.connections)
        used = resident(running.pid) - before
        others.end()
        first.end()
    return {"memory": used / scenario.connections / 1024}


def python_client(bench: Bench, scenario: Scenario, server: str, contestant: Contestant) -> Sample:
    """Measure the CPU of a client in Python: ``client`` in µs for each round trip."""
    running = bench.server(server, scenario.layer)
    url = f"ws://127.0.0.1:{running.port}{contestant.path}"

    async def run() -> float:
        if contestant.profile == "plain":
            async with plain_connect(url, compression=None) as plain:
                start = time.process_time()
                for _ in range(ROUND_TRIPS):
                    await plain.send(scenario.message)
                    await plain.recv()
                return time.process_time() - start
        kid, psk = bytes.fromhex(bench.login["KID"]), bytes.fromhex(bench.login["PSK"])
        async with sealed_connect(url, kid=kid, psk=psk) as sealed:
            start = time.process_time()
            for _ in range(ROUND_TRIPS):
                await sealed.send(scenario.message)
                await sealed.receive()
            return time.process_time() - start

    return {"client": asyncio.run(run()) / ROUND_TRIPS * 1e6}


def importing(bench: Bench, scenario: Scenario, server: str, contestant: Contestant) -> Sample:
    """Measure the import of the package behind Django's and Channels': ``import`` in ms of CPU."""
    return {"import": float(bench.python("benchmarks.importing"))}


# Contestants

PLAIN = Contestant("plain", "plain", "/plain/")
WITHOUT_HOP = Contestant("plain without the hop", "plain", "/plain-without-hop/")
V1 = Contestant("gcrypt.v1", "v1", "/sealed/")
V2 = Contestant("gcrypt.v2", "v2", "/sealed/")
NODE = Contestant("g-crypt in Node", "v1", "/node/")
FAST = Contestant("plain, msgspec", "plain", "/plain-fast/")
V2_FAST = Contestant("gcrypt.v2, msgspec", "v2", "/sealed-fast/")
SYNC = Contestant("plain", "plain", "/plain-sync/")
V2_SYNC = Contestant("gcrypt.v2", "v2", "/sealed-sync/")
MEMBER = Contestant("plain", "plain", "/plain-member/")
MEMBER_WITHOUT_HOP = Contestant("plain without the hop", "plain", "/plain-member-without-hop/")
V2_MEMBER = Contestant("gcrypt.v2", "v2", "/sealed-member/")
LOGIN = Contestant("plain", "plain", "/plain-login/")
V2_LOGIN = Contestant("gcrypt.v2", "v2", "/sealed-login/")
V2_CHANNEL = Contestant("gcrypt.v2, own channel", "v2", "/sealed-channel/")

ECHO: Final = (PLAIN, WITHOUT_HOP, V1, V2, NODE)
MEMBERS: Final = (MEMBER, MEMBER_WITHOUT_HOP, V2_MEMBER)
SCALE: Final = (PLAIN, WITHOUT_HOP, V2)

echo, connect, broadcast = map(through_load, ("echo", "connect", "broadcast"))
ANSWER: Final = text(1024)
"""What a broadcast sends, see ``site.CONTENT``."""

SIZES: Final = {"64 B": 64, "1 KiB": 1024, "16 KiB": 1 << 14, "256 KiB": 1 << 18, "1 MiB": 1 << 20}

SCENARIOS: Final = (
    Scenario("echo", "echo of 100 B, 50 connections", ECHO, echo, message=text(100), quick=True),
    Scenario("echo-rows", "echo of 4 KiB, 50 connections", ECHO, echo, message=rows(4096)),
    Scenario(
        "echo-fast",
        "echo of 4 KiB with msgspec, 50 connections",
        (PLAIN, FAST, V2_FAST),
        echo,
        message=rows(4096),
    ),
    Scenario(
        "echo-one",
        "echo of 100 B, one connection",
        (PLAIN, WITHOUT_HOP, V2),
        echo,
        connections=1,
        message=text(100),
    ),
    Scenario(
        "echo-sync",
        "echo of 100 B by a synchronous consumer",
        (SYNC, V2_SYNC),
        echo,
        message=text(100),
    ),
    Scenario(
        "broadcast",
        "1 KiB to 1,000 members",
        MEMBERS,
        broadcast,
        connections=1000,
        amount=5,
        message=ANSWER,
        quick=True,
    ),
    Scenario(
        "broadcast-held",
        "event loop held by 1 KiB to 1,000 members",
        (MEMBER, V2_MEMBER),
        broadcast,
        connections=1000,
        amount=4,
        message=ANSWER,
        watched=True,
        rounds=3,
    ),
    Scenario(
        "connect",
        "connect, echo and close behind AuthMiddlewareStack",
        (LOGIN, V2_LOGIN),
        connect,
        connections=8,
        message=text(100),
        quick=True,
    ),
    Scenario(
        "idle",
        "memory of an idle connection, layer in memory",
        (PLAIN, V2, V2_CHANNEL),
        idle,
        connections=IDLE_CONNECTIONS,
        rounds=1,
    ),
    Scenario(
        "idle-redis",
        "memory of an idle connection, layer on Redis",
        (PLAIN, V2, V2_CHANNEL),
        idle,
        connections=400,
        layer="redis",
        rounds=1,
    ),
    Scenario(
        "client",
        "client in Python, echo of 100 B",
        (PLAIN, V2),
        python_client,
        message=text(100),
        servers=("uvicorn",),
        quick=True,
    ),
    Scenario("import", "import", (V2,), importing, servers=("none",), quick=True),
    *(
        Scenario(
            f"connections-{count}",
            f"echo of 100 B, {count:,} connections",
            SCALE,
            echo,
            connections=count,
            message=text(100),
            rounds=2,
        )
        for count in (10, 500, 2000)
    ),
    *(
        Scenario(
            f"size-{size}",
            f"echo of {label}, 10 connections",
            (*SCALE, V1),
            echo,
            connections=10,
            message=text(size),
            rounds=2,
        )
        for label, size in SIZES.items()
        if size < 1 << 20
    ),
    *(
        Scenario(
            f"size-{mib}MiB",
            f"echo of {mib} MiB, 2 connections",
            (*SCALE, V1),
            echo,
            connections=2,
            message=text(mib << 20),
            servers=("uvicorn",),
            rounds=2,
        )
        for mib in (1, 5)
    ),
    *(
        Scenario(
            f"members-{count}",
            f"1 KiB to {count:,} members",
            MEMBERS,
            broadcast,
            connections=count,
            amount=max(2, 1000 // count),
            message=ANSWER,
            rounds=2,
        )
        for count in (1, 10, 100, 2000)
    ),
    Scenario(
        "workers-2",
        "echo of 100 B, 50 connections, two workers",
        SCALE,
        echo,
        message=text(100),
        servers=("uvicorn",),
        options=("--workers", "2"),
        rounds=2,
    ),
)


# Goals

Server = str


@dataclass(frozen=True)
class Goal:
    """A bound for ``figure``: plain's divided by ours (``at least``), or the reverse.

    Without ``against`` the figure itself is bounded.
    """

    title: str
    scenario: str
    figure: str
    contestant: Contestant
    against: Contestant | None
    bounds: dict[Server, float]
    kind: Literal["at least", "at most"]

    def values(self, ours: list[float], theirs: list[float]) -> list[float]:
        """The compared value of each round."""
        if self.against is None:
            return ours
        pairs = list(zip(ours, theirs, strict=True))
        if (self.kind == "at least") == (self.figure != "rate"):
            return [their / our for our, their in pairs]
        return [our / their for our, their in pairs]

    def is_met(self, value: float, server: Server) -> bool:
        """Whether ``value`` keeps the bound, as precisely as it is printed."""
        bound = self.bounds[server]
        return round(value, 2) >= bound if self.kind == "at least" else round(value, 2) <= bound


def _least(
    title: str,
    scenario: str,
    ours: Contestant,
    bounds: tuple[float, float],
    *,
    figure: str = "cpu",
    against: Contestant = PLAIN,
) -> Goal:
    servers = dict(zip(("daphne", "uvicorn"), bounds, strict=True))
    return Goal(title, scenario, figure, ours, against, servers, "at least")


def _most(
    title: str,
    scenario: str,
    ours: Contestant,
    bounds: dict[Server, float],
    *,
    figure: str = "cpu",
    against: Contestant | None = PLAIN,
) -> Goal:
    return Goal(title, scenario, figure, ours, against, bounds, "at most")


def _both(daphne: float, uvicorn: float) -> dict[Server, float]:
    return {"daphne": daphne, "uvicorn": uvicorn}


GOALS: Final = (
    _least("v2 echo 100 B x 50, CPU", "echo", V2, (1.8, 2.3)),
    _least("the same beside plain without the hop", "echo", V2, (0.0, 0.0), against=WITHOUT_HOP),
    _least("v2 echo 4 KiB x 50, CPU", "echo-rows", V2, (1.4, 1.35)),
    _least("the same with msgspec", "echo-fast", V2_FAST, (2.1, 2.5)),
    _least("v2 echo 100 B x 1, msgs/s", "echo-one", V2, (1.75, 2.6), figure="rate"),
    _least(
        "v2 against g-crypt in Node, 100 B, msgs/s",
        "echo",
        V2,
        (3.5, 3.5),
        figure="rate",
        against=NODE,
    ),
    _least(
        "v2 against g-crypt in Node, 4 KiB, msgs/s",
        "echo-rows",
        V2,
        (9, 9),
        figure="rate",
        against=NODE,
    ),
    _least("v1 echo 100 B x 50, CPU", "echo", V1, (1.25, 1.1)),
    _least("v1 echo 4 KiB x 50, CPU", "echo-rows", V1, (0.85, 0.85)),
    _most("synchronous consumer, CPU", "echo-sync", V2_SYNC, _both(1.05, 1.05), against=SYNC),
    _most(
        "broadcast 1 KiB x 1,000, CPU", "broadcast", V2_MEMBER, _both(0.21, 0.08), against=MEMBER
    ),
    _most(
        "event loop held, ms",
        "broadcast-held",
        V2_MEMBER,
        _both(12, 12),
        figure="held",
        against=None,
    ),
    _most("connect + echo + close, CPU", "connect", V2_LOGIN, _both(1.2, 1.25), against=LOGIN),
    _least("connects/s", "connect", V2_LOGIN, (0.72, 0.72), figure="rate", against=LOGIN),
    _most("idle memory, in memory", "idle", V2, _both(1.0, 1.0), figure="memory"),
    _most("the same, own channel used", "idle", V2_CHANNEL, _both(1.1, 1.1), figure="memory"),
    _most("idle memory, Redis", "idle-redis", V2, _both(0.9, 0.9), figure="memory"),
    _most("client in Python, CPU", "client", V2, {"uvicorn": 1.9}, figure="client"),
    _most("import, ms", "import", V2, {"none": 25}, figure="import", against=None),
)
