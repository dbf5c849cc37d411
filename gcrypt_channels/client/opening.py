"""``connect``: from a URL and a key to an accepted connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import connect as open_socket
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from ..exceptions import HandshakeTimeout, ProtocolError
from ..protocol.classic import ClassicSession
from ..protocol.events import Binding
from ..protocol.frames import DEFAULT_MAX_MESSAGE, MAX_TRANSPORT_FRAME
from ..protocol.profiles import PROFILES, V1, V2, Profile
from ..protocol.secure import SecureSession
from .connection import ClientConnection, GapHandler
from .key import KeySource, parse_key

__all__ = ["connect"]


@asynccontextmanager
async def connect(
    url: str,
    *,
    kid: bytes | str | None = None,
    psk: bytes | str | None = None,
    passphrase: str | None = None,
    profile: Profile = V2,
    subprotocols: Sequence[str] = (),
    key_source: KeySource | None = None,
    on_gap: GapHandler | None = None,
    max_message: int = DEFAULT_MAX_MESSAGE,
    padding: bool = False,
    open_timeout: float | None = 10,
    **options: Any,
) -> AsyncIterator[ClientConnection]:
    """Connect, and yield the connection once the application has accepted it.

    ``kid``, ``psk`` and ``passphrase`` are what the key endpoint answers, and may be given as it
    writes them: ``connect(url, **answer["gcrypt.v2"])``. With ``gcrypt.v1`` nothing tells whether
    the application accepted: its refusal is the end of an open connection.

    Args:
        url: ``ws://`` or ``wss://``.
        kid: ``gcrypt.v2``: the name of the session key, 8 bytes or 16 hex digits.
        psk: ``gcrypt.v2``: the session key, 32 bytes or their base64url form.
        passphrase: ``gcrypt.v1``: the passphrase.
        profile: ``"gcrypt.v2"`` or ``"gcrypt.v1"``; it never falls back to the other one.
        subprotocols: those of the application.
        key_source: asked for a fresh key, once, when the server names another ``kid``.
        on_gap: called with a group and the number of its messages that were lost.
        max_message: the largest message accepted, in bytes.
        padding: hide the sizes of what is sent (``gcrypt.v2``).
        open_timeout: seconds to reach the server, and again to be accepted by its application.
        options: passed to ``websockets.connect``, such as ``additional_headers`` and ``origin``.

    Raises:
        ConnectionClosed: the server closed instead of accepting; ``code`` is the application's.
        NoProfile: the server does not speak this profile.
        NoSessionKey: the server uses a key that neither ``kid`` nor ``key_source`` names.
        InvalidFrame: the server does not hold the key.
        HandshakeTimeout: the application did not accept in time.
        OSError, websockets.InvalidHandshake: the server was not reached, or refused over HTTP.
    """
    session: SecureSession | ClassicSession
    if profile not in PROFILES:
        raise ValueError(f"the profiles are {' and '.join(PROFILES)}")
    if profile == V2:
        key = parse_key(kid, psk)
        session = SecureSession(role="client", max_message=max_message, padding=padding)
        offered = [V2, f"gcrypt.kid.{key.kid.hex()}"]
        max_frame = MAX_TRANSPORT_FRAME
    elif passphrase is not None:
        key = None
        session = ClassicSession([passphrase], max_message=max_message)
        offered = [V1, *subprotocols]
        max_frame = 2 * max_message + 1024  # roomy: what base64 adds is the session's to judge
    else:
        raise ValueError("gcrypt.v1 needs a passphrase")
    async with open_socket(
        url,
        subprotocols=[Subprotocol(each) for each in offered],
        compression=None,  # of ciphertext, it would only cost time
        max_size=max_frame,
        open_timeout=open_timeout,
        **options,
    ) as socket:
        connection = ClientConnection(socket, session, on_gap=on_gap)
        try:
            binding = _binding(url, offered)
            opening = connection.open(key, key_source, subprotocols, binding)
            await asyncio.wait_for(opening, open_timeout)
        except asyncio.TimeoutError:
            error = HandshakeTimeout()
            await connection.fail(error)
            raise error from None
        except ProtocolError as error:
            await connection.fail(error)
            raise
        try:
            yield connection
        finally:
            await connection.close()


def _binding(url: str, offered: Sequence[str]) -> Binding:
    """The request that ``url`` asks for, as the library writes it."""
    uri = parse_uri(url)
    host = f"[{uri.host}]" if ":" in uri.host else uri.host
    return Binding(tuple(offered), host, uri.resource_name)
