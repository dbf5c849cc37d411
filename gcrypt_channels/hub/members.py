"""Who is connected to this process: by session, by user and by group."""

from __future__ import annotations

from ..connection.connection import Connection


class Members(dict[Connection, int]):
    """A group's local members, each with the time (ns) at which it joined.

    ``since`` is when this process joined.
    """

    def __init__(self, since: int) -> None:
        super().__init__()
        self.since = since


class Registry:
    """The live connections of one event loop. None of its sets and mappings stays when empty.

    Attributes:
        connections: all of them.
        by_session: by ``session_id``.
        by_user: by ``user_id``.
        by_group: by group.
    """

    def __init__(self) -> None:
        self.connections: set[Connection] = set()
        self.by_session: dict[str, set[Connection]] = {}
        self.by_user: dict[str, set[Connection]] = {}
        self.by_group: dict[str, Members] = {}

    def register(self, connection: Connection) -> None:
        """Add a connection."""
        self.connections.add(connection)
        if connection.session_id:
            self.by_session.setdefault(connection.session_id, set()).add(connection)
        if connection.user_id:
            self.by_user.setdefault(connection.user_id, set()).add(connection)

    def unregister(self, connection: Connection) -> None:
        """Remove a connection, which has left all groups."""
        self.connections.discard(connection)
        _remove(self.by_session, connection.session_id, connection)
        _remove(self.by_user, connection.user_id, connection)

    def enter(self, connection: Connection, group: str, now: int) -> bool:
        """Make a connection a member; tell whether it is the first of its group."""
        is_first = group not in self.by_group
        if is_first:
            self.by_group[group] = Members(now)
        self.by_group[group].setdefault(connection, now)
        connection.groups.add(group)
        return is_first

    def exit(self, connection: Connection, group: str) -> bool:
        """End a membership; tell whether it was the last of its group."""
        connection.groups.discard(group)
        members = self.by_group.get(group)
        if members is None or members.pop(connection, None) is None or members:
            return False
        del self.by_group[group]
        return True


def _remove(index: dict[str, set[Connection]], key: str, connection: Connection) -> None:
    found = index.get(key)
    if found is not None:
        found.discard(connection)
        if not found:
            del index[key]
