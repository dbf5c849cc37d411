from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from contextlib import suppress
from typing import Any

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


class Looks:
    """Stands in for the sweep and says why each was made."""

    def __init__(self) -> None:
        self.periodic: list[bool] = []
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        self.made = asyncio.Condition()

    async def run(self, *, is_periodic: bool) -> None:
        self.begun.set()
        await self.go_on.wait()
        self.periodic.append(is_periodic)
        async with self.made:
            self.made.notify_all()

    async def until(self, enough: Callable[[list[bool]], bool]) -> None:
        async with self.made:
            await asyncio.wait_for(self.made.wait_for(lambda: enough(self.periodic)), 10)


async def test_many_causes_make_one_sweep() -> None:
    tasks, looks = Tasks(Members()), Looks()
    tasks.sweep = looks  # type: ignore[assignment]
    for _ in range(3):
        tasks.sweep_soon()
    await looks.begun.wait()
    for _ in range(3):
        tasks.sweep_soon()
    looks.go_on.set()
    await looks.until(lambda periodic: len(periodic) == 2)
    await tasks.end()
    assert looks.periodic == [False, False]


async def test_sweeps_with_a_cause_put_off_no_periodic_one(settings: Any) -> None:
    """Only the periodic ones count failures: a store that is down must be found out."""
    settings.GCRYPT = {**settings.GCRYPT, "REVALIDATE_INTERVAL": 0.05}
    tasks, looks = Tasks(Members()), Looks()
    tasks.sweep = looks  # type: ignore[assignment]
    looks.go_on.set()

    async def causes() -> None:
        while True:
            tasks.sweep_soon()
            await asyncio.sleep(0)

    asking = asyncio.create_task(causes())
    await looks.until(any)
    asking.cancel()
    await tasks.end()
