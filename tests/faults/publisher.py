"""A process without a socket that broadcasts numbered messages:

    python -m tests.faults.publisher [NUMBER]

It sends one message each `PACE` seconds until its standard input ends, the first with the number
behind NUMBER (0). A line `N SIZE` there makes it send N messages of SIZE characters as fast as they
are taken, and a line with a name makes it send to that group from now on. It prints `begin NUMBER
TIME` before and `taken NUMBER TIME` or `refused NUMBER TIME` after each message, and `moved NUMBER
TIME` for a new group, with the number of the last message before; the times are the system's
monotonic ones, in seconds.
"""

from __future__ import annotations

import asyncio
import sys
import time

import django

django.setup()

from gcrypt_channels import broadcast  # noqa: E402
from gcrypt_channels.exceptions import TryAgainLater  # noqa: E402
from tests.faults.messages import SHORT, text_of  # noqa: E402

GROUP = "room"
PACE = 0.02


class Publisher:
    def __init__(self) -> None:
        self.number = int(next(iter(sys.argv[1:]), 0))
        self.group = GROUP
        self.bursts: asyncio.Queue[tuple[int, int] | str | None] = asyncio.Queue()

    async def read_commands(self) -> None:
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        async for line in reader:
            match line.decode().split():
                case [name]:
                    self.bursts.put_nowait(name)
                case [count, size]:
                    self.bursts.put_nowait((int(count), int(size)))
        self.bursts.put_nowait(None)

    async def publish(self, size: int) -> None:
        self.number += 1
        print("begin", self.number, time.monotonic(), flush=True)
        try:
            await broadcast(self.group, [self.number, text_of(self.number, size)])
            outcome = "taken"
        except TryAgainLater:
            outcome = "refused"
        print(outcome, self.number, time.monotonic(), flush=True)

    async def run(self) -> None:
        reading = asyncio.create_task(self.read_commands())
        while True:
            try:
                burst = await asyncio.wait_for(self.bursts.get(), PACE)
            except asyncio.TimeoutError:
                burst = (1, SHORT)
            if burst is None:
                break
            if isinstance(burst, str):
                self.group = burst
                print("moved", self.number, time.monotonic(), flush=True)
                continue
            for _ in range(burst[0]):
                await self.publish(burst[1])
        await reading


asyncio.run(Publisher().run())
