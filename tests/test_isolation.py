"""What one connection's frames are worth on any other: nothing.

Every ordered pair of users, frames of the handshake and of the transport.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest
from channels.routing import URLRouter
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore

from gcrypt_channels import Crypt, GcryptMiddleware, keys
from gcrypt_channels.keys import Keyring
from tests.visitors import Echo, Socket, Visitor, routes, site

CALLERS = int(os.environ.get("CALLERS", "12"))
"""`make campaign` sets the environment variable to 50."""

PATHS = ("/ws/", "/other/")

# Who is calling is in the scope already, as Channels' own middleware would have put it there.
application = GcryptMiddleware(URLRouter(routes))


class Caller(NamedTuple):
    """A logged-in user, and every frame of one honest connection."""

    session: SessionStore
    user: User
    keyring: Keyring
    reply: bytes
    sent: bytes
    hello: bytes
    accept: bytes
    echoed: bytes

    def socket(self, where: str = "/ws/") -> Socket:
        return call(self.session, self.user, self.keyring, where)


def call(session: SessionStore, user: User, keyring: Keyring, where: str) -> Socket:
    socket = Socket(b"", where, keyring.session_keys[0])
    scope: Any = socket.scope
    scope.update({"session": session, "user": user})
    socket.application = application
    return socket


async def caller(number: int) -> Caller:
    user = await User.objects.acreate_user(f"user{number}", password="password")
    visitor = await Visitor.logged_in(user.username)
    session = SessionStore(visitor.session_key)
    keyring = await keys.resolve({"session": session, "user": user})
    assert keyring is not None
    socket = call(session, user, keyring, "/ws/")
    assert await socket.open() is None
    assert await socket.ask(f"the secret of {number}") == f"the secret of {number}"
    await socket.leave()
    return Caller(session, user, keyring, *socket.sent[:2], *socket.got[:3])


@pytest.fixture
async def callers(transactional_db: None, tmp_path: Any) -> AsyncIterator[list[Caller]]:
    with site("db", tmp_path):
        yield [await caller(number) for number in range(CALLERS)]
        Echo.received.clear()


async def refused_in_handshake(whose: Caller, frame: bytes, where: str) -> bool:
    socket = whose.socket(where)
    assert await socket.greeting() is not None
    await socket.send_frame(frame)
    return await socket.closed() == (4400, "")


async def refused_in_transport(whose: Caller, frame: bytes, where: str) -> bool:
    socket = whose.socket(where)
    assert await socket.open() is None
    await socket.send_frame(frame)
    return await socket.closed() == (4400, "")


async def test_no_frame_is_worth_anything_on_another_connection(callers: list[Caller]) -> None:
    Echo.received.clear()
    for i, captured in enumerate(callers):
        for j, other in enumerate(callers):  # with i == j: the same user's next connection
            where = PATHS[(i + j) % 2]
            assert await refused_in_handshake(other, captured.reply, where)
            assert await refused_in_transport(other, captured.sent, where)
    assert Echo.received == []


async def test_no_frame_of_any_kind_is_worth_anything_to_its_own_user_again(
    callers: list[Caller],
) -> None:
    Echo.received.clear()
    for caller in callers[:5]:
        for where in PATHS:
            for frame in caller[3:]:
                assert isinstance(frame, bytes)
                assert await refused_in_handshake(caller, frame, where)
                assert await refused_in_transport(caller, frame, where)
    assert Echo.received == []


async def test_no_two_logins_share_a_key(callers: list[Caller]) -> None:
    again = [await caller(CALLERS + 1), await caller(CALLERS + 2)]
    for each in callers[:10]:  # the same users once more, in another browser
        visitor = await Visitor.logged_in(each.user.username)
        session = SessionStore(visitor.session_key)
        keyring = await keys.resolve({"session": session, "user": each.user})
        assert keyring is not None
        again.append(each._replace(keyring=keyring))
    everyone = [each.keyring for each in (*callers, *again)]
    assert len({each.session_keys[0].kid for each in everyone}) == len(everyone)
    assert len({each.session_keys[0].psk for each in everyone}) == len(everyone)
    assert len({each.passphrases[0] for each in everyone}) == len(everyone)


async def test_classic_frames_of_one_user_are_refused_on_every_other_users_socket(
    callers: list[Caller],
) -> None:
    Echo.received.clear()
    for captured in callers:
        frame = Crypt(captured.keyring.passphrases[0]).encrypt({"secret": captured.user.pk})
        for other in callers:
            if other is captured:
                continue  # this profile has no protection against replay, and says so
            socket = other.socket()
            socket.scope["subprotocols"] = ["gcrypt.v1"]
            await socket.send_input({"type": "websocket.connect"})
            assert (await socket.receive_output())["type"] == "websocket.accept"
            await socket.send_input({"type": "websocket.receive", "text": frame})
            assert await socket.closed() == (4400, "invalid frame")
    assert Echo.received == []
