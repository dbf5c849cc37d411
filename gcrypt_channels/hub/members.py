"""Who is connected to this process: by session, by user and by group."""

from __future__ import annotations

import logging
from typing import Final

from ..connection.connection import Connection
from ..exceptions import NoSessionKey

logger = logging.getLogger(__name__)

MAX_HANDSHAKES: Final = 100
"""Connections of one session that may shake hands at a time; each costs tens of kB."""


class GroupMembers(dict[Connection, int]):
    """A group's local members, each with the time (ns) at which it joined.

    Attributes:
        since: when this process joined the group, in ns.
    """

    def __init__(self, since: int) -> None:
        super().__init__()
        self.since = since


class Members:
    """The live connections of one event loop. No set or mapping in it stays when it is empty.

    Attributes:
        connections: all of them.
        by_session: by ``session_id``.
        by_user: by ``user_id``.
        by_group: by group.
        revoked: how many connections were closed because their login had ended.
        shaking_hands: those of a session that have not proved to hold its key, by ``session_id``.
    """

    def __init__(self) -> None:
        self.connections: set[Connection] = set()
        self.by_session: dict[str, set[Connection]] = {}
        self.by_user: dict[str, set[Connection]] = {}
        self.by_group: dict[str, GroupMembers] = {}
        self.revoked = 0
        self.shaking_hands: dict[str, set[Connection]] = {}

    def add(self, connection: Connection) -> bool:
        """Register a connection; false if too many of its session are shaking hands."""
        if connection.session_id:
            shaking_hands = self.shaking_hands.setdefault(connection.session_id, set())
            if len(shaking_hands) >= MAX_HANDSHAKES:
                return False
            shaking_hands.add(connection)
            self.by_session.setdefault(connection.session_id, set()).add(connection)
        self.connections.add(connection)
        if connection.user_id:
            self.by_user.setdefault(connection.user_id, set()).add(connection)
        return True

    def end_handshake(self, connection: Connection) -> None:
        """Count a connection no longer among those that shake hands."""
        _remove(self.shaking_hands, connection.session_id, connection)

    def remove(self, connection: Connection) -> list[str]:
        """Forget a connection; return the groups of which it was the last member."""
        emptied = [group for group in list(connection.groups) if self.leave(connection, group)]
        self.connections.discard(connection)
        self.end_handshake(connection)
        _remove(self.by_session, connection.session_id, connection)
        _remove(self.by_user, connection.user_id, connection)
        return emptied

    def revoke(self, connection: Connection, reason: str) -> None:
        """Close a connection whose login has ended."""
        if not connection.closed:
            self.revoked += 1
            logger.info("%r: closed with 4401, the login ended: %r.", connection.path, reason)
            connection.abort(NoSessionKey.code, reason)

    def join(self, connection: Connection, group: str, now: int) -> bool:
        """Make a connection a member at the time ``now`` (ns); tell whether it is the first."""
        is_first = group not in self.by_group
        if is_first:
            self.by_group[group] = GroupMembers(now)
        self.by_group[group].setdefault(connection, now)
        connection.groups.setdefault(group, ())
        return is_first

    def leave(self, connection: Connection, group: str) -> bool:
        """End a membership; tell whether it was the last of its group."""
        connection.groups.pop(group, None)
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
