"""A Python client, on the ``websockets`` library: ``pip install 'gcrypt_channels[client]'``.

With keys at hand::

    async with connect("wss://example.org/ws/counter/", kid=kid, psk=psk) as socket:
        await socket.send_json({"id": 1})
        answer = await socket.receive_json()

Again and again, as long as that makes sense::

    async for socket in connect("wss://example.org/ws/counter/", kid=kid, psk=psk):
        try:
            async for message in socket:
                ...
        except ConnectionClosed:
            continue

With a user's name and password::

    site = DjangoSession("https://example.org")
    await site.login("alice", password)
    async with site.connect("/ws/counter/") as socket:
        ...

See ``docs/python-client.md``.
"""

from __future__ import annotations

try:
    import websockets as _websockets  # noqa: F401 - for an error that says what is missing
except ImportError as error:
    raise ImportError(
        "gcrypt_channels.client needs the websockets library: pip install 'gcrypt_channels[client]'"
    ) from error

from .connection import ClientConnection
from .opening import connect, process_exception
from .site import DjangoSession

__all__ = ["ClientConnection", "DjangoSession", "connect", "process_exception"]
