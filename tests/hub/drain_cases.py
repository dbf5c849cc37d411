"""The ways to serve that the tests and the benchmark of the drain stop."""

from __future__ import annotations

import re
import signal
import sys
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from tests.servers import Daphne, Granian, Hypercorn, Site, Uvicorn, WebServer


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

    @property
    def all_started(self) -> str:
        """The pattern in the log that tells that all workers have started."""
        started = {Hypercorn: "Running on http", Granian: r"Started worker-\d"}
        line = started.get(self.server, "(Application startup complete|Listening on TCP)")
        return f"(?s)({line}.*){{{self.workers}}}"

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


def missing_for(case: Case) -> list[str]:
    """The libraries that it needs and that are not installed."""
    named = [name for name in ("uvloop", "gunicorn") if name in str(case)]
    return [name for name in named if find_spec(name) is None]
