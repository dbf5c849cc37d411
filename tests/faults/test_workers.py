"""Faults of the workers and of the wire to Redis, clients that never read, and a long churn."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from gcrypt_channels.client import connect
from tests.faults.cases import SERVERS, SLOW_OUTAGE, recorded
from tests.faults.clients import Browser, OurClient, Peer, never_reading
from tests.faults.garage import Garage
from tests.faults.rig import STAY, Rig, Run, counts
from tests.faults.wire import Wire
from tests.servers import Site, WebServer

pytestmark = pytest.mark.cluster

AWAY = frozenset(
    {
        "1006?",
        "1012",
        "1012?",
        "URLError",
        "ConnectionRefusedError",
        "ConnectionResetError",
        "RemoteDisconnected",
        "InvalidMessage",
        "InvalidStatus",  # 503 of a worker that drains
    }
)
"""How connections and attempts end while a worker is not there."""


async def kill_worker(run: Run) -> None:
    worker = run.rig.workers[0]
    others = [each for each in run.clients if each.url != worker.url]
    before = [len(each.ears) for each in others if each.is_steady]
    await asyncio.to_thread(worker.kill)
    await run.published(20)
    await asyncio.to_thread(run.rig.start_again, worker)
    await run.recover()
    assert before == [len(each.ears) for each in others if each.is_steady], "others were disturbed"


async def terminate_worker(run: Run) -> None:
    await restart(run, run.rig.workers[0])


async def restart_all_workers(run: Run) -> None:
    for worker in run.rig.workers:
        await restart(run, worker)


async def restart(run: Run, worker: WebServer) -> None:
    """End a worker as an operator does, and start it again."""
    worker.terminate()
    await asyncio.to_thread(worker.wait)
    worker.stop()  # nothing is left to do but to forget the process
    await asyncio.to_thread(run.rig.start_again, worker)
    await run.recover()


FAULTS = [
    pytest.param("worker killed", kill_worker, id="killed"),
    pytest.param("worker terminated", terminate_worker, id="terminated"),
    pytest.param("rolling restart", restart_all_workers, id="rolling", marks=pytest.mark.campaign),
]


def everywhere(quick: set[tuple[str, str]]) -> list[Any]:
    """Each layer and server; those that are not `quick` are for the campaign."""
    pairs = [(layer, server) for layer in ("core", "pubsub") for server in SERVERS]
    return [
        pytest.param(*pair, marks=[] if pair in quick else [pytest.mark.campaign]) for pair in pairs
    ]


@pytest.mark.parametrize(("name", "fault"), FAULTS)
@pytest.mark.parametrize(("layer", "server"), everywhere({("pubsub", "daphne")}))
async def test_a_worker_that_goes_takes_nobody_else_along(
    layer: str,
    server: str,
    name: str,
    fault: Callable[[Run], Awaitable[None]],
    garage: Garage,
    demo: Site,
    table: list[str],
) -> None:
    rig = garage.get((layer, server), lambda: Rig(demo, layer=layer, server=SERVERS[server]))
    run = Run(rig, expected_ends=AWAY)
    with recorded(table, run, f"{layer:<7} {server:<8} {name:<19}"):
        async with run:
            await fault(run)
        run.check()


@pytest.mark.parametrize(("layer", "server"), everywhere({("pubsub", "uvicorn")}))
async def test_a_wire_to_redis_that_delays_and_cuts_loses_nothing_without_a_word(
    layer: str, server: str, demo: Site, garage: Garage, table: list[str]
) -> None:
    garage.close()
    wires: list[Wire] = []

    def stretch(port: int) -> int:
        wires.append(Wire(port).__enter__())
        return wires[0].port

    try:
        with Rig(demo, layer=layer, server=SERVERS[server], layer_port=stretch) as rig:
            run = Run(rig, expected_ends=SLOW_OUTAGE)
            with recorded(table, run, f"{layer:<7} {server:<8} slow and cut       "):
                async with run:
                    (wire,) = wires
                    wire.delay = 0.3
                    await run.published(50)
                    for _ in range(3):
                        wire.cut()
                        await run.published(30)
                    wire.delay = 0.0
                    await run.recover()
                run.check()
    finally:
        for wire in wires:
            wire.__exit__()


@pytest.mark.parametrize(("layer", "server"), everywhere({("core", "daphne")}))
async def test_clients_that_never_read_hold_up_nobody_and_end_with_their_login(
    layer: str, server: str, garage: Garage, demo: Site, table: list[str]
) -> None:
    rig = garage.get((layer, server), lambda: Rig(demo, layer=layer, server=SERVERS[server]))
    run = Run(rig)
    with recorded(table, run, f"{layer:<7} {server:<8} three never read   "):
        async with run:
            worker = rig.workers[0]
            browser = Browser(worker.url)
            await browser.enter("bob")
            async with AsyncExitStack() as sockets:
                for _ in range(3):
                    await sockets.enter_async_context(never_reading(browser))
                for _ in range(4):
                    await run.burst(50, 100_000)  # more than socket buffers and the backlog hold
                    await run.recover()
                held = await asyncio.to_thread(counts, worker)
                assert held["files"]["clients"] >= 3 + 1
                await browser.leave()
                await run.until_counts(worker, lambda held: held["users"] == 1)
        run.check()


async def close_600(rig: Rig) -> None:
    """Open and close connections that have a channel of their own, 50 at a time."""
    browser = Browser(rig.workers[0].url)
    await browser.enter("bob")
    key = await browser.fetch_key()

    async def come_and_go() -> None:
        async with connect(
            browser.url.replace("http", "ws") + "/ws/channels/",
            kid=key.kid,
            psk=key.psk,
            origin=browser.url,
            additional_headers={"Cookie": browser.cookie},
        ):
            pass

    for _ in range(12):
        await asyncio.gather(*(come_and_go() for _ in range(50)))


@pytest.mark.campaign
@pytest.mark.parametrize(("layer", "server"), everywhere({}))  # type: ignore[arg-type]
async def test_1800_closes_leave_nothing(
    layer: str, server: str, garage: Garage, demo: Site, table: list[str]
) -> None:
    """redis-py may swallow the cancellation by which Channels ends a receiver."""
    rig = garage.get((layer, server), lambda: Rig(demo, layer=layer, server=SERVERS[server]))
    run = Run(rig, doubts=int(layer == "core"))  # a channel that overflows may lose a probe
    with recorded(table, run, f"{layer:<7} {server:<8} 1,800 closes       "):
        async with run:
            for _ in range(3):
                await asyncio.gather(close_600(rig), run.burst(3000, 64))
            await run.recover()
        run.check()


@pytest.mark.campaign
@pytest.mark.parametrize(("layer", "server"), everywhere({}))  # type: ignore[arg-type]
async def test_ten_minutes_of_churn(
    layer: str, server: str, garage: Garage, demo: Site, table: list[str]
) -> None:
    """Logins, logouts and new keys all the time; the steady clients pass a rekey."""
    rig = garage.get(
        (layer, server, 3), lambda: Rig(demo, layer=layer, server=SERVERS[server], workers=3)
    )
    run = Run(rig, expected_ends=frozenset({"4401", "HTTPError 401"}))
    draw = random.Random(1)
    with recorded(table, run, f"{layer:<7} {server:<8} churn              "):
        async with run:
            end = time.monotonic() + 600
            while time.monotonic() < end:
                browser = Browser(draw.choice(rig.workers).url)
                await browser.enter("bob")
                guests = [
                    run.admit(kind, browser, path=path, stay=draw.choice([None, STAY]))
                    for kind in (OurClient, Peer)
                    for path in ("/ws/", "/ws/channels/")
                ]
                await run.until(lambda: all(each.ears for each in guests), "the guests are in")  # noqa: B023
                await browser.leave()
                await run.until(
                    lambda: all(each.is_logged_out for each in guests),  # noqa: B023
                    "the guests are out",
                )
                await run.burst(200, 64)
            await run.recover()
        run.check()
