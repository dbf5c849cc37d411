"""Real servers at SIGTERM: all clients are told, and the process ends as it does without any."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from websockets.exceptions import InvalidMessage

from tests.hub.drain_client import deaf, echo, end_of, status_of, visit
from tests.servers import Daphne, Granian, Hypercorn, Site, Uvicorn, WebServer

pytestmark = pytest.mark.interop

RESTART = (1012, "service restart", True)


class Gunicorn(WebServer):
    LISTENING = re.compile(r"Application startup complete")

    def command(self) -> list[str]:
        worker = ["-k", "uvicorn_worker.UvicornWorker", "-b", f"127.0.0.1:{self.port}"]
        return [sys.executable, "-m", "gunicorn", *worker, *self.options, self.application]


@dataclass(frozen=True)
class Case:
    """A way to serve, and the exit status of the server that SIGTERM ends."""

    server: type[WebServer]
    options: tuple[str, ...] = ()
    status: int = 0
    workers: int = 1
    refuses: bool = True
    """Whether a new connection gets 503; else there is nobody who listens."""

    def __str__(self) -> str:
        return " ".join((self.server.__name__.lower(), *self.options))

    def at(self, directory: Path, *, grace: float) -> WebServer:
        site = Site(directory, settings="tests.hub.drain_settings", env={"DRAIN": str(grace)})
        return self.server("tests.hub.drain_site:application", site, *self.options)


def with_workers(case: Case, number: int = 2) -> Case:
    options = ("--workers", str(number), *case.options)
    status = 0  # that of the parent process
    return replace(case, options=options, workers=number, status=status)


UVICORN = Case(Uvicorn, status=-signal.SIGTERM)
HYPERCORN = Case(Hypercorn)
# Its workers stop to listen at once.
HYPERCORNS = replace(with_workers(HYPERCORN), refuses=False)
GRANIAN = Case(Granian, ("--loop", "asyncio"))

ONE_WORKER = [
    Case(Daphne),
    UVICORN,
    HYPERCORN,
    replace(with_workers(HYPERCORN, 1), refuses=False),
    GRANIAN,
]
ONE_WORKER_TOO = [
    *(
        replace(UVICORN, options=("--ws", protocol, "--loop", loop))
        for protocol in ("websockets", "websockets-sansio", "wsproto")
        for loop in ("asyncio", "uvloop")
    ),
    replace(HYPERCORN, options=("--worker-class", "uvloop"), refuses=False),
    Case(Granian, ("--loop", "uvloop")),
    Case(Granian, ("--loop", "asyncio", "--task-impl", "rust")),
]
TWO_WORKERS = [
    with_workers(UVICORN),
    HYPERCORNS,
    with_workers(GRANIAN),
]
TWO_WORKERS_TOO = [
    Case(Gunicorn, ("--workers", "2"), workers=2),
    with_workers(Case(Granian, ("--loop", "uvloop"))),
]


def needs(case: Case) -> list[pytest.MarkDecorator]:
    libraries = [name for name in ("uvloop", "gunicorn") if name in str(case)]
    missing = [name for name in libraries if find_spec(name) is None]
    return [pytest.mark.skipif(bool(missing), reason=f"{' and '.join(missing)} is not installed")]


def each(cases: list[Case], more: list[Case]) -> pytest.MarkDecorator:
    quick = [pytest.param(case, id=str(case)) for case in cases]
    long = [
        pytest.param(case, id=str(case), marks=[pytest.mark.campaign, *needs(case)])
        for case in more
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
    server = case.at(tmp_path, grace=1)
    started = {
        Hypercorn: "Running on http",
        Granian: r"Started worker-\d",
    }.get(case.server, "Application startup complete")
    with server:
        server.wait_for_log(f"(?s)({started}.*){{{case.workers}}}")
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
