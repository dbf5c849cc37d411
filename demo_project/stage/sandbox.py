"""One visitor's sandbox: two throw-away users in rooms of their own, and all that was observed.

It lives in one process. The middle of the page shows what others see: `tap` notes the wire and
`redis_watch` the channel layer, and neither holds a key.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal, NamedTuple

from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore

LIFETIME = 15 * 60  # seconds
MOST = 50  # sandboxes at once
PATIENCE = 5.0  # seconds for anything that should happen
KEPT = 400  # observations

Side = Literal["plain", "gcrypt"]
SIDES: tuple[Side, ...] = ("plain", "gcrypt")
PATHS: dict[Side, str] = {"plain": "/ws/plain/{}/", "gcrypt": "/ws/stage/{}/"}


class Note(NamedTuple):
    """One observation: where, on which server, and what."""

    at: str  # wire, request, close, redis, consumer, bob or page
    side: Side | None
    facts: dict[str, Any]

    def is_(self, at: str, side: Side, **facts: Any) -> bool:
        """Whether it was made there, and has these facts among others."""
        return (
            self.at == at
            and self.side == side
            and all(self.facts.get(name) == value for name, value in facts.items())
        )


Change = Callable[[dict[str, Any]], list[dict[str, Any]]]
"""What the man in the middle makes of an ASGI event or a scope."""


class Sandbox:
    """The users, the observations, and what the man in the middle is about to do."""

    def __init__(self, server: tuple[str, int], host: str) -> None:
        self.name = secrets.token_hex(8)
        self.server = server
        self.host = host
        self.alice: User
        self.bob: User
        self._guests: list[User] = []
        self.alice_session = ""
        self.bob_session = ""
        self.channels: set[str] = set()  # of the consumers of the plain room
        self.bobs_channel: dict[Side, str] = {}
        self.armed: dict[tuple[str, Side], Change] = {}
        self.in_use = asyncio.Lock()  # one attack at a time
        self.tasks: list[asyncio.Task[None]] = []
        self.page: asyncio.Queue[dict[str, Any]] | None = None
        self._notes: deque[Note] = deque(maxlen=KEPT)
        self._count = 0
        self._changed = asyncio.Event()

    @property
    def other_room(self) -> str:
        """A room that alice never opens."""
        return f"{self.name}-managers"

    def has_room(self, room: str) -> bool:
        return room in (self.name, self.other_room)

    def path(self, side: Side) -> str:
        return PATHS[side].format(self.name)

    # Observations

    def note(self, at: str, side: Side | None, **facts: Any) -> None:
        """Keep an observation, and show it on the page."""
        self._notes.append(Note(at, side, facts))
        self._count += 1
        self._changed.set()
        self.tell({"at": at, "side": side, **facts})

    def tell(self, message: dict[str, Any]) -> None:
        """Send the page a message; a page that does not read misses it."""
        if self.page is not None and not self.page.full():
            self.page.put_nowait(message)

    def mark(self) -> int:
        """A place in the observations, for `since`."""
        return self._count

    def since(self, mark: int) -> list[Note]:
        """The observations behind a mark, as far as they are kept."""
        new = min(self._count - mark, len(self._notes))
        return list(self._notes)[len(self._notes) - new :]

    async def until(self, mark: int, *happened: Callable[[list[Note]], bool]) -> list[Note]:
        """What was observed since a mark until everything has `happened`, or for PATIENCE."""

        async def wait() -> None:
            while not all(each(self.since(mark)) for each in happened):
                self._changed.clear()
                await self._changed.wait()

        with suppress(asyncio.TimeoutError):  # the verdict says what did not happen
            await asyncio.wait_for(wait(), PATIENCE)
        return self.since(mark)

    # Its life

    async def open(self, visitor: User | None) -> None:
        """Make the users, log bob in, and forget everything after LIFETIME.

        A `visitor` who is logged in is alice under whatever name he has, and stays when all ends.
        """
        users = User.objects
        self.bob = await users.acreate(username=f"bob-{self.name}")
        self.bob_session = await new_session(self.bob)
        self._guests = [self.bob]
        if visitor is None:
            visitor = await users.acreate(username=f"alice-{self.name}")
            self._guests.append(visitor)
        self.alice = visitor
        asyncio.get_running_loop().call_later(LIFETIME, self._expire)

    def _expire(self) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(self.close()))

    async def close(self) -> None:
        """Delete the throw-away users, which closes their encrypted sockets, and bob's session."""
        SANDBOXES.pop(self.name, None)
        for task in self.tasks:
            if task is not asyncio.current_task():
                task.cancel()
        self.tell({"at": "page", "over": True})
        await SessionStore(self.bob_session).adelete()
        for guest in self._guests:
            await guest.adelete()


SANDBOXES: dict[str, Sandbox] = {}


def sandbox_of(room: str) -> Sandbox | None:
    """The sandbox that a room belongs to."""
    return SANDBOXES.get(room.partition("-")[0])


async def new_session(user: User) -> str:
    """Log `user` in without a password; return the key of the session."""
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    await session.acreate()
    return session.session_key or ""
