"""Reaches through a server's ``send`` to the TCP connection under it, for which ASGI has no event.

A client that does not read keeps servers from ending its connection: they wait until everything is
sent.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from channels.sessions import InstanceSessionWrapper

from ..outbox import Send


def unwrap_send(send: Send) -> Any:
    """The server's own ``send`` behind those of Channels' session middleware."""
    found: Any = send
    while isinstance(wrapper := getattr(found, "__self__", None), InstanceSessionWrapper):
        found = wrapper.real_send  # AuthMiddlewareStack is around every deployed application
    return found


def daphne_protocol(send: Send) -> Any:
    """The protocol that daphne bound to its ``send``; ``None`` where it cannot be reached."""
    daphne = sys.modules.get("daphne.ws_protocol")
    found = unwrap_send(send)
    if daphne is None or not isinstance(found, partial) or not found.args:
        return None
    protocol = found.args[0]
    return protocol if isinstance(protocol, daphne.WebSocketProtocol) else None


def hypercorn_stream(send: Send) -> Any:
    """The stream whose method hypercorn's ``send`` is; ``None`` where it cannot be reached."""
    hypercorn = sys.modules.get("hypercorn.protocol.ws_stream")
    stream = getattr(unwrap_send(send), "__self__", None)
    return stream if hypercorn is not None and isinstance(stream, hypercorn.WSStream) else None


def is_open(send: Send) -> bool:
    """Whether the TCP connection is known to be open, or to have bytes that were not sent yet."""
    protocol = daphne_protocol(send)
    if protocol is not None:
        return bool(protocol.state != protocol.STATE_CLOSED)
    transport = _asyncio_transport(send)
    if transport is None:
        return False
    return not transport.is_closing() or transport.get_write_buffer_size() > 0


def drop_transport(send: Send) -> bool:
    """Abort the TCP connection; false where the server does not let one reach it.

    It is reached on daphne, uvicorn and hypercorn. Granian keeps the socket to itself.
    """
    protocol = daphne_protocol(send)
    if protocol is not None:
        protocol.dropConnection(abort=True)
        return True
    transport = _asyncio_transport(send)
    if transport is not None:
        transport.abort()
    return transport is not None


def _asyncio_transport(send: Send) -> Any:
    """The transport of uvicorn's connections, and of hypercorn's with HTTP/1.1."""
    stream = hypercorn_stream(send)
    if stream is None:
        return getattr(getattr(unwrap_send(send), "__self__", None), "transport", None)
    http = getattr(stream.send, "__self__", None)
    if not isinstance(http, sys.modules["hypercorn.protocol.h11"].H11Protocol):
        return None  # a connection of HTTP/2 carries other requests as well
    return http.send.__self__.writer.transport
