"""Hypercorn on a port, inside a program that ends at SIGTERM.

`asyncio.run` cancels what still runs, so each application is cancelled. (Hypercorn's own command
waits for open WebSockets without end from Python 3.12 on.)
"""

from __future__ import annotations

import asyncio
import signal
import sys

from hypercorn.asyncio import serve
from hypercorn.config import Config

from tests.interop.wire_site import application


async def main() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    config = Config()
    config.bind = [f"127.0.0.1:{sys.argv[1]}"]
    never = asyncio.Event()
    serving = asyncio.create_task(serve(application, config, shutdown_trigger=never.wait))
    await stop.wait()
    assert not serving.done()


if __name__ == "__main__":
    asyncio.run(main())
