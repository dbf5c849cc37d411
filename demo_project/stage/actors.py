"""Who else is on the stage: bob, who reads, and the thief. Real clients on real sockets.

One browser cannot hold two logins of one site, so bob is this process's own client.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.request import Request, urlopen

from django.conf import settings
from websockets.asyncio.client import connect as connect_plain
from websockets.exceptions import WebSocketException

from demo_project.stage.sandbox import PATIENCE, Sandbox, Side
from gcrypt_channels.client import connect as connect_sealed
from gcrypt_channels.client.key import parse_key
from gcrypt_channels.crypto.psk import SessionKey
from gcrypt_channels.exceptions import GcryptError

logger = logging.getLogger(__name__)

PAUSE = 0.5  # seconds before bob comes back


async def bob_reads(sandbox: Sandbox, side: Side, present: asyncio.Event) -> None:
    """Read in the room until the sandbox ends; `present` is set while bob is there."""
    while True:
        try:
            async with socket_of(sandbox, side, "bob", sandbox.bob_session) as socket:
                present.set()
                async for message in socket:
                    sandbox.note("bob", side, **json.loads(message))
        except (OSError, WebSocketException, GcryptError):
            logger.debug("bob's socket ended.", exc_info=True)
        present.clear()
        await asyncio.sleep(PAUSE)


@asynccontextmanager
async def socket_of(
    sandbox: Sandbox, side: Side, actor: str, session_key: str
) -> AsyncIterator[Any]:
    """A socket in the sandbox's room, opened with nothing but a session's cookie.

    Raises:
        OSError, WebSocketException, GcryptError: it was not opened.
    """
    headers = {"Cookie": f"{settings.SESSION_COOKIE_NAME}={session_key}", "X-Actor": actor}
    url = "ws://{}:{}".format(*sandbox.server) + sandbox.path(side)
    options: dict[str, Any] = {
        "additional_headers": headers,
        "origin": f"http://{sandbox.server[0]}:{sandbox.server[1]}",
        "proxy": None,
        "open_timeout": PATIENCE,
    }
    if side == "plain":
        async with connect_plain(url, **options) as plain:
            yield plain
    else:
        key = await fetch_key(sandbox, session_key)
        async with connect_sealed(url, kid=key.kid, psk=key.psk, **options) as sealed:
            yield sealed


async def fetch_key(sandbox: Sandbox, session_key: str) -> SessionKey:
    """What the key endpoint gives to whoever has the session's cookie.

    Raises:
        OSError: it gives none.
    """
    return await asyncio.to_thread(_fetch_key, sandbox, session_key)


def _fetch_key(sandbox: Sandbox, session_key: str) -> SessionKey:
    site = "http://{}:{}".format(*sandbox.server)
    cookies = f"{settings.SESSION_COOKIE_NAME}={session_key}"
    login = Request(f"{site}/accounts/login/", headers={"Cookie": cookies})  # noqa: S310
    with urlopen(login, timeout=PATIENCE) as page:  # noqa: S310
        token = next(
            each.partition(";")[0].partition("=")[2]
            for each in page.headers.get_all("Set-Cookie")
            if each.startswith("csrftoken=")
        )
    headers = {"Cookie": f"{cookies}; csrftoken={token}", "X-CSRFToken": token, "Origin": site}
    request = Request(f"{site}/gcrypt/key/", headers=headers, method="POST")  # noqa: S310
    with urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310
        members = json.loads(answer.read())["session"]
    return parse_key(members["kid"], members["psk"])
