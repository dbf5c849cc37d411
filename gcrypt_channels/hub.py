"""The process's switchboard: its live connections by session, user and group.

One hub per event loop. It is born with the first connection and gone with the last.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from weakref import WeakKeyDictionary

from .connection import Connection

_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()


class Hub:
    """The registry of one event loop's live connections."""

    def __init__(self) -> None:
        self.connections: set[Connection] = set()
        self.by_session: defaultdict[str, set[Connection]] = defaultdict(set)
        self.by_user: defaultdict[str, set[Connection]] = defaultdict(set)
        self.by_group: defaultdict[str, set[Connection]] = defaultdict(set)

    async def add(self, connection: Connection) -> None:
        """Register a connection before its first frame."""
        self.connections.add(connection)
        if connection.session_id:
            self.by_session[connection.session_id].add(connection)
        if connection.user_id:
            self.by_user[connection.user_id].add(connection)

    async def discard(self, connection: Connection) -> None:
        """Forget a connection and its memberships."""
        for group in list(connection.groups):
            await self.leave(connection, group)
        self.connections.discard(connection)
        self.by_session[connection.session_id].discard(connection)
        self.by_user[connection.user_id].discard(connection)

    async def join(self, connection: Connection, group: str) -> None:
        """Add a connection to a group."""
        connection.groups.add(group)
        self.by_group[group].add(connection)

    async def leave(self, connection: Connection, group: str) -> None:
        """Remove a connection from a group."""
        connection.groups.discard(group)
        self.by_group[group].discard(connection)


def current_hub() -> Hub:
    """The hub of the running event loop."""
    return _hubs.setdefault(asyncio.get_running_loop(), Hub())
