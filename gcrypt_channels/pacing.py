"""Makes daphne's ``send`` wait for a slow client, as uvicorn's does.

daphne hands a message to Twisted and returns; Twisted keeps in memory whatever the client does not
read, without bound. It tells a registered producer when its buffer is full, so one is registered,
and ``send`` waits until the buffer is empty again.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from typing import Any

from channels.sessions import InstanceSessionWrapper

from .outbox import Send


class _Producer:
    """Twisted's ``IPushProducer`` for one WebSocket: open while the transport takes more."""

    def __init__(self) -> None:
        self.writable = asyncio.Event()
        self.writable.set()

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's name
        self.writable.clear()

    def resumeProducing(self) -> None:  # noqa: N802 - Twisted's name
        self.writable.set()

    def stopProducing(self) -> None:  # noqa: N802 - Twisted's name
        self.writable.set()

    def connection_closed(self, result: Any) -> Any:
        """Callback for autobahn's ``is_closed``: nobody waits for a client that has gone."""
        self.writable.set()
        return result


def paced(send: Send) -> Send:
    """Return ``send`` for a connection, waiting where the server's own does not.

    A ``send`` that is not daphne's own, or that a middleware other than Channels' own has wrapped,
    is returned as it is.
    """
    protocol = _daphne_protocol(send)
    if protocol is None:
        return send
    producer = _Producer()

    async def paced_send(event: Any) -> None:
        await send(event)
        if event["type"] == "websocket.accept":
            # Until the upgrade, the transport's producer was the HTTP channel that it came from.
            protocol.unregisterProducer()
            protocol.registerProducer(producer, streaming=True)
            # Before it drops the connection, autobahn takes the producer away without a word.
            protocol.is_closed.addBoth(producer.connection_closed)
        await producer.writable.wait()

    return paced_send


def _daphne_protocol(send: Send) -> Any:
    daphne = sys.modules.get("daphne.ws_protocol")
    while isinstance(wrapper := getattr(send, "__self__", None), InstanceSessionWrapper):
        send = wrapper.real_send  # AuthMiddlewareStack is around every deployed application
    if daphne is None or not isinstance(send, partial) or not send.args:
        return None
    protocol = send.args[0]
    return protocol if isinstance(protocol, daphne.WebSocketProtocol) else None
