"""Bob tries alice's frame: a real login of another user, on a real socket of this server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.sessions.backends.db import SessionStore
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from gcrypt_channels import keys
from gcrypt_channels.protocol.events import Binding, HelloReceived
from gcrypt_channels.protocol.profiles import Profile, SecureProfile
from gcrypt_channels.protocol.secure import SecureSession

PATIENCE = 10  # seconds for the server to refuse the frame, or to answer it


class Outcome(NamedTuple):
    """What the trespasser saw: his frame's answer, or the close that it met."""

    user: str
    delivered: bool
    code: int
    reason: str


async def try_frame(
    server: tuple[str, int], frame: bytes | str, profile: Profile, *, not_as: str
) -> Outcome:
    """Send a frame captured under `profile` on a fresh connection of a user other than `not_as`.

    `server` is this server's own address.
    """
    host = "{}:{}".format(*server)
    target = "/ws/echo/"
    user = await get_user_model().objects.exclude(username=not_as).order_by("username").afirst()
    if user is None:
        raise LookupError("there is no other user: run manage.py demo_users")
    async with (
        _login(user) as session,
        connect(
            f"ws://{host}{target}",
            subprotocols=[Subprotocol(profile)],
            additional_headers={"Cookie": f"{settings.SESSION_COOKIE_NAME}={session.session_key}"},
            origin=f"http://{host}",  # type: ignore[arg-type]  # a NewType of str
            proxy=None,
        ) as socket,
    ):
        if profile != "gcrypt.v1":
            binding = Binding((profile,), server[0], target)
            await _handshake(socket, profile, binding, {"session": session, "user": user})
        await socket.send(frame)
        try:
            await asyncio.wait_for(socket.recv(), PATIENCE)
        except ConnectionClosed as closed:
            end = closed.rcvd
            code, reason = (end.code, end.reason) if end else (1006, "")
            return Outcome(user.get_username(), False, code, reason)
        return Outcome(user.get_username(), True, 0, "")


async def _handshake(
    socket: ClientConnection, profile: SecureProfile, binding: Binding, scope: dict[str, Any]
) -> None:
    """Be an honest client up to the point where the stolen frame is sent."""
    session = SecureSession(profile, role="client")
    hello = session.receive(await socket.recv())
    keyring = await keys.resolve(scope)
    if keyring is None or not isinstance(hello, HelloReceived):
        raise RuntimeError("the server did not begin a handshake")
    await socket.send(session.reply(keyring.session_key(hello.kid).psk, (), binding))
    session.receive(await socket.recv())  # the application's accept


@asynccontextmanager
async def _login(user: AbstractBaseUser) -> AsyncIterator[SessionStore]:
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    await session.acreate()
    try:
        yield session
    finally:
        await session.adelete()
