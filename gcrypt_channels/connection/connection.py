"""An encrypted WebSocket with an owner and groups: what the application and the hub hold."""

from __future__ import annotations

from collections import Counter, deque
from typing import Protocol

from ..conf import conf
from ..outbox import Event, Send
from ..protocol.classic import ClassicSession
from ..protocol.secure import SecureSession
from ..sessions.login import NOBODY, Login
from .inbox import Receive
from .sealedsocket import SealedSocket, at_home, sends

__all__ = ["GAP_EVENT", "Connection", "Event", "Receive", "Send"]

GAP_EVENT = "gcrypt.gap"
"""The event by which a consumer hears that group messages were lost."""

INBOX_CAPACITY = 100
"""Group events that may wait for one consumer; the default capacity of a Channels layer."""


class Switchboard(Protocol):
    """What a connection needs of the hub."""

    async def join(self, connection: Connection, group: str) -> None: ...

    async def leave(self, connection: Connection, group: str) -> None: ...


class Connection(SealedSocket):
    """One encrypted WebSocket; ``scope["gcrypt"]`` of the application.

    Attributes:
        login: whose connection it is.
        session_id: names the login session in the hub; ``""`` if there is none.
        user_id: the primary key of the logged-in user as a string; ``""`` if there is none.
        groups: the groups joined.
        hears_gaps: whether the application has a handler for :data:`GAP_EVENT`.
    """

    def __init__(
        self,
        session: SecureSession | ClassicSession,
        receive: Receive,
        send: Send,
        *,
        hub: Switchboard,
        path: str = "",
        subprotocol: str | None = None,
        login: Login = NOBODY,
    ) -> None:
        """``subprotocol`` is what the accept has to name, whatever the application chooses."""
        super().__init__(session, receive, send, path=path, subprotocol=subprotocol)
        self.login = login
        self.session_id = login.session_id
        self.user_id = login.user_id
        self.groups: set[str] = set()
        self.hears_gaps = False
        self._hub = hub
        self._held: deque[tuple[str, int]] = deque()
        self._held_size = 0
        self._unsent: Counter[str] = Counter()
        self._undelivered: Counter[str] = Counter()

    # What the application calls

    async def receive(self) -> Event:
        """The ``receive`` of the ASGI application: opened messages, group events, the end."""
        if self._undelivered and not self._inbox:
            self._tell(self._undelivered)
        return await super().receive()

    @at_home
    async def join(self, group: str) -> None:
        """Receive what :func:`~gcrypt_channels.broadcast` and ``group_send`` send to ``group``."""
        await self._hub.join(self, group)

    @at_home
    async def leave(self, group: str) -> None:
        """Undo :meth:`join`; leaving a group that was not joined does nothing."""
        await self._hub.leave(self, group)

    # What the hub calls

    def push(self, group: str, text: str, size: int) -> None:
        """Seal and send a group message of ``size`` bytes without ever waiting for this client.

        Past ``GCRYPT["BACKLOG_SIZE"]`` the message is dropped, and the client is told of a gap as
        soon as it reads again.
        """
        if self.closed:
            return
        if size > self._session.peer_max_message:
            self.tell_gap(group, 1)
        elif not self._accepted:
            self._hold(group, text, size)
        elif self._has_room(group, size):
            self._put(text, size)
        else:
            self._unsent[group] += 1

    def deliver(self, group: str, event: Event) -> None:
        """Give the application a group's event, in its turn among those from the socket."""
        if self.closed:
            return
        if len(self._inbox) < INBOX_CAPACITY:
            self._inbox.put(event)
        else:
            self._undelivered[group] += 1

    def tell_gap(self, group: str, missed: int) -> None:
        """Tell the client and the consumer that ``missed`` messages of ``group`` were lost."""
        if self.closed:
            return
        if not self._accepted:
            self._unsent[group] += missed
            return
        self._outbox.put(lambda: sends(self._session.seal_gap(group, missed)))
        if self.hears_gaps:
            self._inbox.put({"type": GAP_EVENT, "group": group, "missed": missed})

    def _put(self, text: str, size: int) -> None:
        self._outbox.put(lambda: sends(self._session.seal(text)), size)

    def _has_room(self, group: str, size: int) -> bool:
        """Whether a group message may wait; once one could not, none may until that was told."""
        backlog = self._outbox.backlog
        return not backlog or (group not in self._unsent and backlog + size <= conf.backlog_size)

    def _hold(self, group: str, text: str, size: int) -> None:
        """Keep a group message for a client that may not hear anything before the accept."""
        if self._held_size + size <= conf.backlog_size:
            self._held.append((text, size))
            self._held_size += size
        else:
            self._unsent[group] += 1

    def _may_send(self) -> None:
        while self._held:
            self._put(*self._held.popleft())

    def _idle(self) -> None:
        if self._unsent and self._accepted and not self._held:
            self._tell(self._unsent)

    def _tell(self, missed: Counter[str]) -> None:
        """Report and forget what could not be sent or delivered."""
        told = list(missed.items())
        missed.clear()
        for group, count in told:
            self.tell_gap(group, count)
