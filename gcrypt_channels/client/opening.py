"""``connect``: from a URL and a key to an accepted connection."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import chain
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection as Socket
from websockets.asyncio.client import connect as websockets_connect
from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHeader, InvalidStatus, InvalidURI, NegotiationError
from websockets.http11 import Response
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI, parse_uri

from ..crypto.psk import SessionKey
from ..exceptions import HandshakeTimeout, NoProfile, ProtocolError
from ..protocol.classic import ClassicSession, max_frame_size
from ..protocol.events import Binding, Position
from ..protocol.frames import DEFAULT_MAX_MESSAGE, MAX_TRANSPORT_FRAME
from ..protocol.profiles import (
    PROFILES,
    V1,
    Profile,
    SecureProfile,
    is_available,
    secure_profiles,
)
from ..protocol.secure import SecureSession
from .connection import ClientConnection, GapHandler, JoinedHandler
from .key import KeySource, ask, parse_key

__all__ = ["connect"]

_VISIBLE = re.compile(r"[!-~]+")
"""What a request line and a Host header may be made of."""

_HEADER = re.compile(r"[\t -~\x80-\xff]*")
"""What a header may be made of: RFC 9110, section 5.5."""

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""What a subprotocol may be: a token of RFC 9110, section 5.6.2."""


@asynccontextmanager
async def connect(
    url: str,
    *,
    kid: bytes | str | None = None,
    psk: bytes | str | None = None,
    ticket: str | None = None,
    passphrase: str | None = None,
    profile: Profile | None = None,
    subprotocols: Sequence[str] = (),
    key_source: KeySource | None = None,
    on_gap: GapHandler | None = None,
    resume: Sequence[Position] | None = None,
    on_joined: JoinedHandler | None = None,
    max_message: int = DEFAULT_MAX_MESSAGE,
    padding: bool = False,
    open_timeout: float | None = 10,
    additional_headers: Any = None,
    **options: Any,
) -> AsyncIterator[ClientConnection]:
    """Connect, and yield the connection once the application has accepted it.

    ``kid``, ``psk`` and ``passphrase`` are what the key endpoint answers, and may be given as it
    writes them: ``connect(url, **answer["session"])``; with what the ticket endpoint answers,
    ``connect(url, **answer["session"], ticket=answer["ticket"])``. With ``gcrypt.v1`` it is not
    known whether the application accepted: a refusal is the end of an open connection. No redirect
    is followed.

    Args:
        url: ``ws://`` or ``wss://``.
        kid: not of ``gcrypt.v1``: the name of the session key, 8 bytes or 16 hex digits.
        psk: not of ``gcrypt.v1``: the session key, 32 bytes or their base64url form.
        ticket: what logs in without a cookie; ``kid`` and ``psk`` came with it.
        passphrase: ``gcrypt.v1``: the passphrase.
        profile: ``"gcrypt.v3"``, ``"gcrypt.v2"`` or ``"gcrypt.v1"``, and no other. By default the
            server chooses between the first two, or has only ``gcrypt.v2`` to choose where the
            installed libraries lack ML-KEM-768.
        subprotocols: those of the application.
        key_source: returns a :class:`SessionKey`, or a mapping with ``kid``, ``psk`` and, for a
            ticket, ``ticket``. It is called for the key where ``kid`` and ``psk`` are not given,
            and once for a fresh one when the server names another ``kid``, but for a ticket's.
        on_gap: called with a group and the number of its messages that were lost.
        resume: the ``positions`` of an earlier connection, or ``()``: groups with history then have
            positions, and what came after these is sent again. The last 64 are offered; not with
            ``gcrypt.v1``. By default this client has no positions.
        on_joined: called with the name of a group with history that the application has joined, and
            whether everything follows that came after the position that was offered.
        max_message: the largest message accepted, in bytes.
        padding: hide the sizes of what is sent; not with ``gcrypt.v1``.
        open_timeout: seconds for ``key_source``, again to reach the server, and again to be
            accepted by its application.
        additional_headers: of the request, as ``websockets.connect`` takes them. A ``Host`` among
            them replaces that of the URL.
        options: passed to ``websockets.connect``, such as ``origin``, ``ssl`` and ``proxy``.

    Raises:
        ConnectionClosed: the server closed instead of accepting; ``code`` is the application's.
        NoProfile: the server or the installed libraries lack this profile, or the server selected
            what was not offered.
        NoSessionKey: the server uses a key that neither ``kid`` nor ``key_source`` names.
        InvalidFrame: the server does not hold the key.
        HandshakeTimeout: ``key_source`` gave no key, or the application did not accept, in time.
        ValueError: URL, key, ticket, profile, subprotocol or header is not valid; nothing was sent.
        OSError, websockets.InvalidHandshake: the server was not reached, or refused over HTTP;
            ``websockets.InvalidStatus`` has the ``response``, and its text the URL.
    """
    classic: ClassicSession | None = None
    try:
        profiles = _profiles_to_offer(profile)
        if not all(map(_is_token, subprotocols)):
            raise ValueError("a subprotocol is made of ASCII letters, digits and !#$%&'*+-.^_`|~")
        headers = _parse_headers(additional_headers, options.get("origin"))
        address = _requested_address(url, headers)
        if profiles:
            if kid is None and psk is None and key_source is not None:
                key, ticket = await _ask_in_time(key_source, open_timeout)
            else:
                key = parse_key(kid, psk)
            if ticket is not None:
                key_source = None  # its key would be that of another ticket
            offered = [*profiles, _key_token(key, ticket)]
            max_frame = MAX_TRANSPORT_FRAME
        elif passphrase is not None:
            key = None
            classic = ClassicSession([passphrase], max_message=max_message)
            offered = [V1, *subprotocols]
            max_frame = max_frame_size(max_message)
        else:
            raise ValueError("gcrypt.v1 needs passphrase=")
    finally:
        del psk, passphrase  # an error report prints local variables

    def create_socket(protocol: ClientProtocol, **settings: Any) -> Socket:
        protocol.uri = address
        return Socket(protocol, **settings)

    opening = _Opening(
        url,
        subprotocols=[Subprotocol(each) for each in offered],
        compression=None,  # of ciphertext, it would only cost time
        max_size=max_frame,
        open_timeout=open_timeout,
        additional_headers=headers,
        create_connection=create_socket,  # type: ignore[arg-type]  # called, like the class
        **options,
    )
    try:
        socket = await opening
    except NegotiationError as error:
        raise NoProfile(
            "the server selected a subprotocol that was not offered: is GcryptMiddleware there?"
        ) from error
    except InvalidStatus as error:
        raise _Refused(error.response, address) from None
    async with socket:
        session = classic or SecureSession(
            # The handshake refuses what was not offered.
            next((each for each in profiles if each == socket.subprotocol), profiles[0]),
            role="client",
            max_message=max_message,
            padding=padding,
        )
        connection = ClientConnection(
            socket, session, on_gap=on_gap, on_joined=on_joined, resume=resume
        )
        try:
            accepted = connection.handshake(
                key, key_source, subprotocols, _binding(offered, address)
            )
            await asyncio.wait_for(accepted, open_timeout)
        except asyncio.TimeoutError:
            await connection.fail(HandshakeTimeout())
            raise HandshakeTimeout from None
        except ProtocolError as error:
            await connection.fail(error)
            raise error.with_traceback(None) from None  # its frames have held the psk
        try:
            yield connection
        finally:
            await connection.close()


async def _ask_in_time(source: KeySource, timeout: float | None) -> tuple[SessionKey, str | None]:
    try:
        return await asyncio.wait_for(ask(source), timeout)
    except asyncio.TimeoutError:
        raise HandshakeTimeout("key_source gave no key in time") from None


def _key_token(key: SessionKey, ticket: str | None) -> str:
    """Return the subprotocol that says which key the client has."""
    if ticket is None:
        return f"gcrypt.kid.{key.kid.hex()}"
    if not _is_token(ticket):
        raise ValueError("a ticket is what the ticket endpoint gives: base64url")
    return f"gcrypt.ticket.{ticket}"


def _profiles_to_offer(profile: Profile | None) -> tuple[SecureProfile, ...]:
    """Return what to offer where the caller names ``profile``; nothing for ``gcrypt.v1``."""
    if profile is None:
        return secure_profiles()
    if profile not in PROFILES:
        raise ValueError(f"the profiles are {' and '.join(PROFILES)}")
    if not is_available(profile):
        raise NoProfile(
            f"the installed libraries lack what {profile} needs: install cryptography 48 or newer"
        )
    return () if profile == V1 else (profile,)


def _parse_headers(additional_headers: Any, origin: str | None) -> Headers:
    """Return the headers, or raise ``ValueError``; not every websockets checks what they hold."""
    try:
        headers = Headers({} if additional_headers is None else additional_headers)
        parts = (*chain(*headers.raw_items()), origin or "")
        if all(_HEADER.fullmatch(str(part)) for part in parts):
            return headers
    except InvalidHeader:
        pass
    raise ValueError("a header takes ISO-8859-1 without control characters")


def _is_token(value: object) -> bool:
    return isinstance(value, str) and _TOKEN.fullmatch(value) is not None


class _Refused(InvalidStatus):
    """Names the address, without its query, which may hold a token."""

    def __init__(self, response: Response, address: WebSocketURI) -> None:
        super().__init__(response)
        self._url = f"{'wss' if address.secure else 'ws'}://{_host_of(address)}:{address.port}"
        self._url += address.path

    def __str__(self) -> str:
        return (
            f"{self._url} answered HTTP {self.response.status_code}: check the path, the site's "
            "WebSocket routes and the origins that it allows"
        )


class _Opening(websockets_connect):
    """Follows no redirect: anybody on the wire can make one, and it takes the cookie along."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


def _requested_address(url: str, headers: Headers) -> WebSocketURI:
    """Return what the request names: ``url``, with the host of a ``Host`` that ``headers`` had.

    The header is removed, since websockets would send it beside its own. Raises ``ValueError``.
    """
    try:
        address = parse_uri(url)
        if hosts := headers.get_all("Host"):
            del headers["Host"]
            [host] = hosts
            named = urlsplit(f"//{host}")
            if not named.hostname or named.netloc != host or "@" in host:
                raise ValueError
            port = named.port or (443 if address.secure else 80)
            address = replace(address, host=named.hostname, port=port)
        if not _VISIBLE.fullmatch(address.host + address.resource_name):
            raise ValueError
    except (InvalidURI, ValueError):
        pass
    else:
        return address
    # Raised out here, and without the URL: it may hold a password.
    raise ValueError("connect needs a WebSocket URL, and at most one Host in its headers")


def _binding(offered: Sequence[str], address: WebSocketURI) -> Binding:
    """Return what REPLY says about the request; see ``docs/protocol.md``, *Binding*."""
    return Binding(tuple(offered), _host_of(address), address.resource_name)


def _host_of(address: WebSocketURI) -> str:
    return f"[{address.host}]" if ":" in address.host else address.host
