"""Reaches through a server's ``send`` to the TCP connection under it."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any, Final

from channels.sessions import InstanceSessionWrapper

from ..outbox import Send

HYPERCORN_LAYERS: Final = 4
"""Objects of hypercorn, each with the ``send`` of the one below, down to that of the socket."""


def unwrap_send(send: Send) -> Any:
    """The server's own ``send`` behind those of Channels' session middleware."""
    found: Any = send
    while isinstance(wrapper := getattr(found, "__self__", None), InstanceSessionWrapper):
        found = wrapper.real_send  # AuthMiddlewareStack is around every deployed application
    return found


def drop_transport(send: Send) -> bool:
    """Abort the TCP connection; false where the server does not let one reach it.

    It is reached on daphne, uvicorn and hypercorn. Granian keeps the socket to itself.
    """
    found = unwrap_send(send)
    if isinstance(found, partial):  # daphne binds its protocol
        protocol: Any = found.args[0] if found.args else None
        if not hasattr(protocol, "dropConnection"):
            return False
        protocol.dropConnection(abort=True)
        return True
    owner: Any = getattr(found, "__self__", None)
    for _ in range(HYPERCORN_LAYERS):
        transport = getattr(owner, "transport", None) or _writer_transport(owner)
        if transport is not None:
            with suppress(OSError):
                transport.abort()
            return True
        owner = getattr(getattr(owner, "send", None), "__self__", None)
    return False


def _writer_transport(owner: Any) -> Any:
    return getattr(getattr(owner, "writer", None), "transport", None)
