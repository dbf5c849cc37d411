"""Real servers at SIGTERM: all clients are told, and the process ends as it does without any."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

import pytest
from websockets.exceptions import InvalidMessage

from tests.hub.drain_cases import (
    ONE_WORKER,
    ONE_WORKER_TOO,
    TWO_WORKERS,
    TWO_WORKERS_TOO,
    UVICORN,
    Case,
    missing_for,
)
from tests.hub.drain_client import deaf, echo, end_of, status_of, visit
from tests.servers import Daphne

pytestmark = pytest.mark.interop

RESTART = (1012, "service restart", True)


def needs(case: Case) -> pytest.MarkDecorator:
    missing = missing_for(case)
    return pytest.mark.skipif(bool(missing), reason=f"{' and '.join(missing)} not installed")


def each(cases: list[Case], more: list[Case]) -> pytest.MarkDecorator:
    quick = [pytest.param(case, id=str(case)) for case in cases]
    long = [
        pytest.param(case, id=str(case), marks=[pytest.mark.campaign, needs(case)]) for case in more
    ]
    return pytest.mark.parametrize("case", [*quick, *long])


@each(ONE_WORKER, ONE_WORKER_TOO)
async def test_all_are_told_and_those_who_do_not_read_keep_nobody(
    case: Case, tmp_path: Path
) -> None:
    with case.at(tmp_path, grace=1) as server:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(deaf(server.websocket_url))
            clients = [
                await stack.enter_async_context(visit(server.websocket_url)) for _ in range(5)
            ]
            for client in clients:
                await echo(client)
            server.terminate()
            await asyncio.to_thread(server.wait_for_log, "Draining: 6 connections")
            server.terminate()  # which does not shorten it
            if case.refuses:
                assert await status_of(server.websocket_url) == 503
            else:
                with pytest.raises((OSError, InvalidMessage)):  # it was on its way into nowhere
                    await status_of(server.websocket_url)
            ends = await asyncio.gather(*map(end_of, clients))
            assert ends == [RESTART] * len(clients)
            assert await asyncio.to_thread(server.wait) == case.status
        assert "did not read: 1; cancelled applications: " in server.log
        assert "Traceback" not in server.log


@each(TWO_WORKERS, TWO_WORKERS_TOO)
@pytest.mark.parametrize(
    "everybody",
    [pytest.param(False, id="parent", marks=pytest.mark.campaign), pytest.param(True, id="group")],
)
async def test_an_idle_worker_that_ends_at_once_takes_no_other_along(
    case: Case, everybody: bool, tmp_path: Path
) -> None:
    with case.at(tmp_path, grace=1) as server:
        server.wait_for_log(case.all_started)
        async with visit(server.websocket_url) as client:
            await echo(client)
            server.terminate(everybody=everybody)
            assert await end_of(client) == RESTART
            assert await asyncio.to_thread(server.wait) == case.status


@pytest.mark.parametrize("case", [UVICORN], ids=str)
async def test_without_a_drain_the_server_ends_as_it_always_did(case: Case, tmp_path: Path) -> None:
    with case.at(tmp_path, grace=0) as server:
        async with visit(server.websocket_url) as client:
            await echo(client)
            server.terminate()
            code, _, authentic = await end_of(client)
            assert (code, authentic) == (1006, False)
            assert await asyncio.to_thread(server.wait) == case.status
        assert "Draining" not in server.log


async def test_a_request_that_waits_for_the_event_loop_does_not_keep_daphne(tmp_path: Path) -> None:
    """Each WebSocket that has just opened makes daphne itself leave such a request behind."""
    case = Case(Daphne)
    with case.at(tmp_path, grace=0.1) as server:
        async with visit(server.websocket_url) as client:
            await echo(client)
            asking = asyncio.create_task(asyncio.to_thread(urlopen, f"{server.url}/stuck/"))
            await asyncio.to_thread(server.wait_for_log, "stuck")
            async with visit(server.websocket_url) as late:
                server.terminate()
                assert await end_of(client) == await end_of(late) == RESTART
            assert await asyncio.to_thread(server.wait) == case.status
        with pytest.raises((OSError, HTTPException)):
            await asking
