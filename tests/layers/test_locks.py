from __future__ import annotations

import asyncio

import pytest

from gcrypt_channels.layers.locks import KeyedLock


async def test_one_key_has_one_holder_and_callers_get_it_in_the_order_in_which_they_asked() -> None:
    lock = KeyedLock()
    entered: list[int] = []
    holders = 0

    async def enter(number: int) -> None:
        nonlocal holders
        async with lock("key"):
            holders += 1
            assert holders == 1
            entered.append(number)
            await asyncio.sleep(0)
            holders -= 1

    await asyncio.gather(*(enter(number) for number in range(10)))
    assert entered == list(range(10))


async def test_other_keys_do_not_wait() -> None:
    lock = KeyedLock()

    async def enter(key: str) -> None:
        async with lock(key):
            pass

    async with lock("one"):
        await asyncio.wait_for(enter("other"), 10)


async def test_no_lock_outlives_those_who_use_it() -> None:
    lock = KeyedLock()

    async def enter(key: str) -> None:
        async with lock(key):
            await asyncio.sleep(0)

    async def fail() -> None:
        async with lock("failing"):
            raise ZeroDivisionError

    waiting = asyncio.ensure_future(enter("cancelled"))
    async with lock("cancelled"):
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert list(lock._locks) == ["cancelled"]
    with pytest.raises(ZeroDivisionError):
        await fail()
    await asyncio.gather(*(enter(key) for key in "aabbc"))
    assert lock._locks == {}
