"""What daphne's ``send`` lacks: backpressure, and every close code with its reason.

daphne hands a message to Twisted and returns. Twisted keeps what the client does not read in
memory, without a bound, and tells a registered producer when its buffer is full. So a producer is
registered, and ``send`` waits until the buffer is empty again.

daphne closes by a method of autobahn that takes 1000 and 3000 to 4999 alone, raises for the rest,
which leaves the socket open for ever, and is not given the reason. The close frame is sent by the
method below that one, as daphne itself does when an application fails.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from typing import Any, Final

from django.conf import settings

from ..outbox import Event, Send
from .transport import daphne_protocol

REQUEST_TIMEOUT: Final = 0.3
"""Seconds that HTTP requests under way have before daphne cancels them and stops."""


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


def patch_daphne_send(send: Send) -> Send:
    """Return ``send`` for one connection, with what daphne's lacks.

    Daphne's own, or wrapped by Channels' session middleware, gets both; behind another wrapper,
    where its protocol is out of reach, codes that it refuses go out 3000 higher.
    """
    if "daphne.ws_protocol" not in sys.modules:
        return send
    protocol = daphne_protocol(send)
    if protocol is None:
        return _with_codes_shifted(send)
    producer = _Producer()

    async def daphne_send(event: Event) -> None:
        if event["type"] == "websocket.close" and protocol.state == protocol.STATE_OPEN:
            reason = event.get("reason") or ""
            protocol.sendCloseFrame(code=event.get("code", 1000), reasonUtf8=reason.encode())
            return
        await send(event)
        if event["type"] == "websocket.accept":
            # Until the upgrade, the transport's producer was the HTTP channel that it came from.
            protocol.unregisterProducer()
            protocol.registerProducer(producer, streaming=True)
            # Before it drops the connection, autobahn takes the producer away without a word.
            protocol.is_closed.addBoth(producer.connection_closed)
        await producer.writable.wait()

    return daphne_send


def _with_codes_shifted(send: Send) -> Send:
    async def shifting_send(event: Event) -> None:
        try:
            await send(event)
        except Exception:
            if event["type"] != "websocket.close" or not 1000 < event["code"] < 2000:
                raise
            await send({**event, "code": event["code"] + 3000})

    return shifting_send


def has_foreign_root_path(scope: Mapping[str, Any], send: Send) -> bool:
    """Whether a header of the request chose the ``root_path``, by which Channels routes.

    Daphne takes it from the header ``Daphne-Root-Path``. Where its protocol is out of reach, what
    the settings do not name is foreign.
    """
    reactor = sys.modules.get("twisted.internet.reactor")
    if "daphne.ws_protocol" not in sys.modules or not getattr(reactor, "running", False):
        return False  # another server, which takes it from its own settings
    protocol = daphne_protocol(send)
    root_path = scope.get("root_path") or ""
    if protocol is not None:
        return bool(root_path != (protocol.server.root_path or ""))
    return root_path not in ("", settings.FORCE_SCRIPT_NAME or "")


def deny(send: Send, status: int, reason: str) -> bool:
    """Answer a WebSocket's request with an HTTP status; false where daphne is out of reach."""
    protocol = daphne_protocol(send)
    handshake = getattr(protocol, "handshake_deferred", None)
    if handshake is None:
        return False
    connection_deny = sys.modules["daphne.ws_protocol"].ConnectionDeny
    handshake.errback(connection_deny(code=status, reason=reason))
    del protocol.handshake_deferred
    protocol.server.protocol_disconnected(protocol)
    return True


async def finish_requests(server: Any) -> None:
    """Let daphne's ``server`` take no further connection, and end the HTTP requests under way.

    Before it stops, daphne cancels and awaits what runs. It fails at a connection that has no
    application, as each WebSocket's HTTP side has for about a second, and then stops with requests
    under way. A synchronous view that awaits something by ``async_to_sync`` then waits for an event
    loop that has stopped, and its thread keeps the process for ever. So each connection gets an
    application that has ended.
    """
    for listener in server.listeners:
        listener.addCallback(lambda port: port.stopListening())
    found = [details.get("application_instance") for details in server.connections.values()]
    running = {each for each in found if each is not None and not each.done()}
    if running:
        await asyncio.wait(running, timeout=REQUEST_TIMEOUT)
    ended = asyncio.get_running_loop().create_future()
    ended.set_result(None)
    for details in server.connections.values():
        details.setdefault("application_instance", ended)
