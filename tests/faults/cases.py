"""What the tests of this folder share: servers, expected ends, and the lines of the table."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from redis import Redis as RedisClient

from tests.faults.rig import Run
from tests.servers import Daphne, Redis, Uvicorn, WebServer

SERVERS: dict[str, type[WebServer]] = {"daphne": Daphne, "uvicorn": Uvicorn}

OUTAGE = frozenset({"1013"})
SLOW_OUTAGE = OUTAGE | {"TimeoutError", "HandshakeTimeout 4408", "1006?"}
"""A client may give up before a layer that hangs has been found out."""


def command(redis: Redis, *words: str) -> None:
    """Tell a Redis to do something."""
    with RedisClient(port=redis.port) as client:
        client.execute_command(*words)


@contextmanager
def recorded(table: list[str], run: Run, what: str) -> Iterator[None]:
    """Add a line to the table, whatever comes of the run."""
    started = time.monotonic()
    try:
        yield
    except BaseException:
        table.append(f"{what}  {time.monotonic() - started:>5.1f} s  FAILED  {run.figures}")
        raise
    table.append(f"{what}  {time.monotonic() - started:>5.1f} s  passed  {run.figures}")
