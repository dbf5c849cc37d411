"""What an application sees of its connection: ``scope["gcrypt"]`` and ``consumer.gcrypt``.

The connection itself, which holds keys, the login and the hub, is found in a table of this module.
"""

from __future__ import annotations

from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from ..protocol.profiles import Profile
from .connection import Connection
from .inbox import Inbox
from .replay import Joined


class EncryptedSocket:
    """The application's side of one encrypted WebSocket."""

    __slots__ = ("__weakref__",)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.profile}>"

    @property
    def profile(self) -> Profile:
        """The profile of the connection, such as ``"gcrypt.v3"``."""
        return _endpoints[self].connection.profile

    @property
    def authentic(self) -> bool:
        """Whether the end of the connection was told under encryption, by either side.

        False while it is open, where the socket just ended, and always with ``gcrypt.v1``.
        """
        return _endpoints[self].connection.authentic

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection behind what was sent so far; does nothing the second time.

        Args:
            code: 1000 to 1003, 1007 to 1014, or 3000 to 4999.
            reason: told to the client, under encryption but with ``gcrypt.v1``; at most 123 bytes
                of UTF-8.

        Raises:
            LocalError: the code or the reason cannot be sent; nothing has happened.
        """
        await _endpoints[self].connection.close(code, reason)

    async def join(self, group: str, after: int | None = None) -> Joined:
        """Receive what :func:`~gcrypt_channels.broadcast` and ``group_send`` send to ``group``.

        If the group has a history, what the client has missed of it is sent first, whoever sent it
        when: the application decides by joining.

        Args:
            group: its name.
            after: nothing up to this position is sent, for example because the user was no member
                then. A client that has only an earlier one is not recovered.

        Raises:
            TryAgainLater: the channel layer is down, or the history of the group is.
            LocalError: the name is no group's: empty, one of the package's own, or not UTF-8.
        """
        endpoint = _endpoints[self]
        return await endpoint.connection.join(group, endpoint.inbox, after)

    async def leave(self, group: str) -> None:
        """Undo :meth:`join`; leaving a group that was not joined does nothing."""
        endpoint = _endpoints[self]
        await endpoint.connection.leave(group, endpoint.inbox)


class Endpoint(NamedTuple):
    """A connection, and where the application that holds the facade receives its events."""

    connection: Connection
    inbox: Inbox


_endpoints: WeakKeyDictionary[EncryptedSocket, Endpoint] = WeakKeyDictionary()


def facade_of(connection: Connection, inbox: Inbox | None = None) -> EncryptedSocket:
    """A new facade of ``connection``, whose group events go to ``inbox``."""
    facade = EncryptedSocket()
    _endpoints[facade] = Endpoint(connection, connection.inbox if inbox is None else inbox)
    return facade


def connection_of(facade: Any) -> Connection | None:
    """The connection behind ``scope["gcrypt"]``; ``None`` if that is something else."""
    if not isinstance(facade, EncryptedSocket):
        return None
    return _endpoints[facade].connection
