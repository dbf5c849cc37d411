"""Closes Django's old database connections, in their thread only when there is one to close.

``AsyncConsumer.dispatch`` runs ``close_old_connections`` in the thread of the synchronous code
before each handler. That function does nothing to a connection that is closed, or that is neither
broken, nor past its age, nor due for a health check; all of this can be read from any thread.
Connections of the event loop's own thread do not count: the visit is to another one.
"""

from __future__ import annotations

import time
from threading import get_ident
from typing import Any, NamedTuple
from weakref import ref

from asgiref.sync import sync_to_async
from channels.db import aclose_old_connections
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created


class _Known(NamedTuple):
    """A connection that was opened, and the thread that it belongs to."""

    connection: ref[BaseDatabaseWrapper]
    thread: int


_known: dict[int, _Known] = {}
_looked = False


def _remember(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    key = id(connection)
    if key not in _known:
        _known[key] = _Known(ref(connection, lambda _: _known.pop(key, None)), get_ident())


connection_created.connect(_remember, dispatch_uid="gcrypt_channels.databases")


def _remember_open_connections() -> None:
    """Find what was opened in this thread before this module was imported."""
    for connection in connections.all(initialized_only=True):
        _remember(connection)


def may_be_old(connection: BaseDatabaseWrapper | None) -> bool:
    """Whether ``close_if_unusable_or_obsolete`` could change anything in ``connection``."""
    if connection is None or connection.connection is None:
        return False
    return (
        connection.health_check_done  # type: ignore[attr-defined]  # missing in the stubs
        or connection.errors_occurred
        or connection.autocommit != connection.settings_dict["AUTOCOMMIT"]
        or (connection.close_at is not None and time.monotonic() >= connection.close_at)
    )


async def close_old_connections() -> None:
    """Do what Channels' ``aclose_old_connections`` does, but visit the thread only if need be."""
    global _looked  # noqa: PLW0603 - one look for the whole process
    if not _looked:
        _looked = True
        await sync_to_async(_remember_open_connections)()
        await aclose_old_connections()
    elif _known:
        here = get_ident()
        if any(
            each.thread != here and may_be_old(each.connection()) for each in list(_known.values())
        ):
            await aclose_old_connections()
