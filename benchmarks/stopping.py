"""How long servers take to stop, and what their clients are told: `python -m benchmarks.stopping`.

Each is stopped twice, while 100 clients are connected to it: all read, or three read nothing of
what the server has to send. Words as arguments choose the servers whose names hold one of them.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
django.setup()

from tests.hub.drain_cases import (  # noqa: E402
    ONE_WORKER,
    ONE_WORKER_TOO,
    TWO_WORKERS,
    TWO_WORKERS_TOO,
    Case,
    missing_for,
)
from tests.hub.drain_client import deaf, echo, end_of, visit  # noqa: E402

CLIENTS = 100
DEAF = 3
GRACE = 3.0
RESTART = (1012, "service restart", True)


async def stop(case: Case, directory: Path, *, deaf_clients: int) -> tuple[float, int, int]:
    """Seconds from SIGTERM to the exit, the clients that were told, and the exit status."""
    with case.at(directory, grace=GRACE) as server:
        await asyncio.to_thread(server.wait_for_log, case.all_started)
        async with AsyncExitStack() as stack:
            for _ in range(deaf_clients):
                await stack.enter_async_context(deaf(server.websocket_url))
            clients = []
            for _ in range(CLIENTS):
                clients.append(await stack.enter_async_context(visit(server.websocket_url)))
                await echo(clients[-1])
            ends = [asyncio.create_task(end_of(client)) for client in clients]
            start = time.monotonic()
            server.terminate()
            status = await asyncio.to_thread(server.wait)
            seconds = time.monotonic() - start
            told = Counter(await asyncio.gather(*ends))[RESTART]
    return seconds, told, status


async def main(words: list[str]) -> None:
    print("| server | all read, s | told | three do not, s | told | exit status |")
    print("|---|--:|--:|--:|--:|--:|")
    for case in (*ONE_WORKER, *ONE_WORKER_TOO, *TWO_WORKERS, *TWO_WORKERS_TOO):
        if missing_for(case) or (words and not any(word in str(case) for word in words)):
            continue
        cells: list[str] = []
        statuses = set()
        for deaf_clients in (0, DEAF):
            with tempfile.TemporaryDirectory() as directory:
                seconds, told, status = await stop(case, Path(directory), deaf_clients=deaf_clients)
            cells += [f"{seconds:.1f}", f"{told} of {CLIENTS}"]
            statuses.add(str(status))
        print(f"| {case} | {' | '.join(cells)} | {', '.join(statuses)} |", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
