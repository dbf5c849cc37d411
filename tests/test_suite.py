"""What the rest of the suite relies on: limits that hold, and ports that nobody else gets."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.communicators import Communicator
from tests.servers import ROOT, Redis, reserve_port


@pytest.mark.parametrize(("limit", "outcome"), [(0, "1 passed, 1 error"), (60, "1 passed in")])
def test_a_test_that_takes_too_long_to_clean_up_fails(
    limit: float, outcome: str, tmp_path: Path
) -> None:
    lines = ["from tests import teardowns", f"teardowns.LIMIT = {limit}", "def test_it(): pass"]
    (tmp_path / "test_it.py").write_text("\n".join(lines))
    options = ["-p", "tests.teardowns", "-p", "no:django", "-p", "no:cacheprovider"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, tmp_path],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome in run.stdout, run.stdout + run.stderr
    assert ("the teardown of test_it.py::test_it took" in run.stdout) == (limit == 0)


async def test_an_application_that_does_not_end_fails_the_test_that_waits_for_it() -> None:
    async def hangs(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    communicator = Communicator(hangs, "/")
    await communicator.send_input({"type": "websocket.connect"})
    with pytest.raises(TimeoutError, match="has not ended"):
        await communicator.wait(0)
    assert communicator.future.cancelled()


@pytest.fixture
def server() -> Iterator[Redis]:
    server = Redis()
    yield server
    server.stop()


def refused(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port)):
            return False
    except ConnectionRefusedError:
        return True


def test_a_reserved_port_refuses_connections_and_goes_to_nobody() -> None:
    with closing(reserve_port()) as reserved:
        port = reserved.getsockname()[1]
        assert refused(port)
        with closing(socket.socket()) as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))


def test_a_server_has_its_port_before_it_starts_and_after_it_was_killed(server: Redis) -> None:
    assert refused(server.port)
    for _ in range(2):
        server.start()
        assert not refused(server.port)
        server.kill()
        assert refused(server.port)
        with closing(socket.socket()) as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", server.port))
