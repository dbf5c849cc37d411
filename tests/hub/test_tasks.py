from __future__ import annotations

import asyncio
import gc
from contextlib import suppress

import pytest

from gcrypt_channels.hub.members import Members
from gcrypt_channels.hub.tasks import Tasks


async def test_work_ends_with_the_tasks_also_before_it_has_begun() -> None:
    tasks = Tasks(Members())
    done: list[str] = []
    began = asyncio.Event()

    async def work(name: str) -> None:
        done.append(f"{name} began")
        began.set()
        await asyncio.Event().wait()
        done.append(f"{name} ended")

    tasks.start(work("first"))
    await began.wait()
    tasks.start(work("second"))
    await tasks.end()
    gc.collect()  # would tell of a coroutine that was never awaited
    assert done == ["first began"]


async def test_work_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks(Members())
    failed = asyncio.Event()

    async def work() -> None:
        failed.set()
        raise RuntimeError("this work fails")

    tasks.start(work())
    await failed.wait()
    await tasks.end()
    assert "this work fails" in caplog.text


async def test_a_task_that_swallows_its_cancellation_ends_all_the_same() -> None:
    """As `wait_for` does before Python 3.12, when the result comes together with it."""
    tasks = Tasks(Members())
    began = asyncio.Event()

    async def stubborn() -> None:
        began.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    tasks.start(stubborn())
    await began.wait()
    await asyncio.wait_for(tasks.end(), 10)
