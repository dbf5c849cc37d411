#!/usr/bin/env python
"""Firefox, with one command of WebDriver BiDi more than Firefox ESR 153 has.

Playwright drives Firefox by WebDriver BiDi, and tells each new browser profile the colour scheme
that its pages prefer. ESR 153 does not know that command, so Playwright would give up. It starts
this program in Firefox's place, which relays everything else as it is.
"""

from __future__ import annotations

import asyncio
import re
import sys
from asyncio.subprocess import PIPE

from websockets.asyncio.client import connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection, serve

UNKNOWN = '"emulation.setMediaFeaturesOverride"'
HARMLESS = '"session.status"'
ANNOUNCEMENT = re.compile(rb"WebDriver BiDi listening on (ws://\S+)")


async def copy(source: Connection, target: Connection) -> None:
    async for message in source:
        assert isinstance(message, str)  # BiDi is JSON
        await target.send(message.replace(UNKNOWN, HARMLESS, 1))
    await target.close()


async def main() -> int:
    firefox = await asyncio.create_subprocess_exec("firefox-esr", *sys.argv[1:], stderr=PIPE)
    assert firefox.stderr is not None
    address = ""

    async def relay(playwright: ServerConnection) -> None:
        assert playwright.request is not None
        async with connect(address + playwright.request.path, max_size=None, proxy=None) as bidi:
            await asyncio.gather(copy(playwright, bidi), copy(bidi, playwright))

    async with serve(relay, "127.0.0.1", 0, max_size=None) as server:
        port = server.sockets[0].getsockname()[1]
        async for line in firefox.stderr:
            if found := ANNOUNCEMENT.search(line):
                address = found[1].decode()
                print(f"WebDriver BiDi listening on ws://127.0.0.1:{port}", file=sys.stderr)
    return await firefox.wait()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
