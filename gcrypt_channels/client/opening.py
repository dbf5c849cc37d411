"""``connect``: from a URL and a key to an accepted connection."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from itertools import chain
from typing import Any, Final, cast
from urllib.error import HTTPError
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection as Socket
from websockets.asyncio.client import connect as websockets_connect
from websockets.asyncio.client import (  # type: ignore[attr-defined] # 17 imports it there
    process_exception as websockets_process_exception,
)
from websockets.client import ClientProtocol, backoff
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHeader, InvalidStatus, InvalidURI, NegotiationError
from websockets.http11 import Response
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI, parse_uri

from ..crypto.psk import SessionKey
from ..exceptions import (
    ConnectionClosed,
    HandshakeTimeout,
    InvalidFrame,
    MessageTooBig,
    NoProfile,
    NoSessionKey,
    ProtocolError,
)
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
from .key import Credential, KeyRefusedError, KeySource, ask, parse_key

__all__ = ["connect", "process_exception"]

logger = logging.getLogger(__name__)

_VISIBLE = re.compile(r"[!-~]+")
"""What a request line and a Host header may be made of."""

_HEADER = re.compile(r"[\t -~\x80-\xff]*")
"""What a header may be made of: RFC 9110, section 5.5."""

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""What a subprotocol may be: a token of RFC 9110, section 5.6.2."""


FATAL_CODES: Final = frozenset(
    error.code for error in (InvalidFrame, MessageTooBig, NoProfile, NoSessionKey)
)
"""Close codes after which connecting again would end in the same way."""


def process_exception(exc: Exception) -> Exception | None:
    """Tell whether ``async for`` over :class:`connect` goes on after ``exc``.

    Of the end of a connection, and of a failure to make one, it returns ``None`` to connect again,
    and the exception to raise it. Close codes 1009, 4400, 4401 and 4406 are raised, and so is a
    site's refusal to give a key; what else is raised is decided by websockets' function of the same
    name, which connects again after ``OSError``, time-outs and HTTP 500, 502, 503 and 504.
    """
    if isinstance(exc, ConnectionClosed | ProtocolError):
        return exc if exc.code in FATAL_CODES else None
    if isinstance(exc, KeyRefusedError) or (isinstance(exc, HTTPError) and exc.code < 500):
        return exc
    return websockets_process_exception(exc)


class connect:  # noqa: N801 - named like that of websockets, and used like it
    """Connect; the connection is there once the application has accepted it.

    ``async with connect(…) as socket`` makes one connection. ``async for socket in connect(…)``
    makes another one after each, with the key that it has, until one fails in a way that no further
    attempt can mend: see ``docs/python-client.md``, *Reconnecting*.

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
            ticket, ``ticket`` and ``expires_in``. It is called for the key where ``kid`` and
            ``psk`` are not given, and once for a fresh one when the server names another ``kid``,
            but for a ticket's. A reconnecting client calls it again when fewer than 15 of the
            ticket's ``expires_in`` seconds are left, and once after a ticket's close code 4401.
        on_gap: called with a group and the number of its messages that were lost.
        resume: the ``positions`` of an earlier connection, or ``()``: groups with history then have
            positions, and what came after these is sent again. The last 64 are offered; not with
            ``gcrypt.v1``. A reconnecting client carries them from one connection to the next. By
            default this client has no positions.
        on_joined: called with the name of a group with history that the application has joined, and
            whether everything follows that came after the position that was offered.
        max_message: the largest message accepted, in bytes.
        padding: hide the sizes of what is sent; not with ``gcrypt.v1``.
        open_timeout: seconds for ``key_source``, again to reach the server, and again to be
            accepted by its application.
        additional_headers: of the request, as ``websockets.connect`` takes them. A ``Host`` among
            them replaces that of the URL.
        process_exception: as ``websockets.connect`` takes it: what ends the reconnecting; by
            default :func:`process_exception`. It gets the ``ConnectionClosed`` of connections that
            were open as well.
        reconnect_delays: as ``websockets.connect`` takes it since version 17: makes a generator of
            the seconds before each attempt, by default websockets' exponential backoff, whose
            first delay is random.
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

    def __init__(
        self,
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
        process_exception: Callable[[Exception], Exception | None] = process_exception,
        reconnect_delays: Callable[[], Iterator[float]] = backoff,
        **options: Any,
    ) -> None:
        try:
            self._profiles = _profiles_to_offer(profile)
            if not all(map(_is_token, subprotocols)):
                raise ValueError(
                    "a subprotocol is made of ASCII letters, digits and !#$%&'*+-.^_`|~"
                )
            self._credential: Credential | None = None
            if self._profiles and not (kid is psk is None and key_source is not None):
                self._credential = Credential(parse_key(kid, psk), ticket)
            self._passphrase = passphrase
        finally:
            del psk, passphrase  # an error report prints local variables
        self._url = url
        self._headers = _parse_headers(additional_headers, options.get("origin"))
        self._address = _requested_address(url, self._headers)
        self._subprotocols = subprotocols
        self._key_source = key_source
        self._on_gap = on_gap
        self._resume = resume
        self._on_joined = on_joined
        self._max_message = max_message
        self._padding = padding
        self._open_timeout = open_timeout
        self._process_exception = process_exception
        self._reconnect_delays = reconnect_delays
        self._options = options
        self._opened: AbstractAsyncContextManager[ClientConnection] | None = None

    async def __aenter__(self) -> ClientConnection:
        if self._opened is not None:
            raise RuntimeError("connect() is entered already: call it once for each connection")
        self._opened = self._connected()
        try:
            return await self._opened.__aenter__()
        except BaseException:
            self._opened = None
            raise

    async def __aexit__(self, *error: object) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.__aexit__(*cast(Any, error))

    async def __aiter__(self) -> AsyncIterator[ClientConnection]:
        """Yield one connection after another: see ``docs/python-client.md``, *Reconnecting*."""
        delays = self._reconnect_delays()
        delay = 0.0
        may_ask_again = True
        while True:
            opened_at: float | None = None
            end: Exception | None = None
            try:
                async with self._connected() as connection:
                    opened_at = time.monotonic()
                    try:
                        yield connection
                    finally:
                        end = connection.end  # before this side closes
            except Exception as error:  # noqa: BLE001 - process_exception decides
                end = error
            # A server that accepts and closes at once is not asked more often for that.
            if opened_at is not None and time.monotonic() - opened_at >= delay:
                delays = self._reconnect_delays()
                may_ask_again = True
            if may_ask_again and self._is_end_of_ticket(end):
                may_ask_again = False
                self._credential = None
            elif end is not None and (fatal := self._process_exception(end)) is not None:
                raise fatal from (None if fatal is end else end)
            delay = next(delays)
            logger.info("Connecting again in %.1f seconds: %s.", delay, end or "the block ended")
            await asyncio.sleep(delay)

    def _is_end_of_ticket(self, end: Exception | None) -> bool:
        """Whether a new ticket may help: see ``docs/protocol.md``, *Tickets*."""
        return (
            isinstance(end, ConnectionClosed)
            and end.code == NoSessionKey.code
            and self._key_source is not None
            and self._credential is not None
            and self._credential.ticket is not None
        )

    # One connection

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[ClientConnection]:
        if not self._has_key():
            try:
                await asyncio.wait_for(self._obtain_key(), self._open_timeout)
            except asyncio.TimeoutError:
                raise HandshakeTimeout("key_source gave no key in time") from None
        if self._credential is not None:
            offered = [*self._profiles, _key_token(self._credential)]
            max_frame = MAX_TRANSPORT_FRAME
        else:
            offered = [V1, *self._subprotocols]
            max_frame = max_frame_size(self._max_message)
        async with await self._open_socket(offered, max_frame) as socket:
            connection = ClientConnection(
                socket,
                self._session(socket.subprotocol),
                on_gap=self._on_gap,
                on_joined=self._on_joined,
                resume=self._resume,
            )
            await self._handshake(connection, offered)
            try:
                yield connection
            finally:
                if self._resume is not None:
                    self._resume = connection.positions
                await connection.close()

    def _has_key(self) -> bool:
        if not self._profiles:
            return self._passphrase is not None
        if self._credential is None:
            return False
        return self._key_source is None or self._credential.is_fresh

    async def _obtain_key(self) -> SessionKey | None:
        """Have ``key_source`` give a key; returns it, but for ``gcrypt.v1``."""
        if not self._profiles or self._key_source is None:
            raise ValueError("gcrypt.v1 needs passphrase=")
        self._credential = await ask(self._key_source)
        return self._credential.key

    def _request_headers(self) -> Headers:
        return self._headers

    async def _open_socket(self, offered: Sequence[str], max_frame: int) -> Socket:
        address = self._address

        def create_socket(protocol: ClientProtocol, **settings: Any) -> Socket:
            protocol.uri = address
            return Socket(protocol, **settings)

        try:
            return await _Opening(
                self._url,
                subprotocols=[Subprotocol(each) for each in offered],
                compression=None,  # of ciphertext, it would only cost time
                max_size=max_frame,
                open_timeout=self._open_timeout,
                additional_headers=self._request_headers(),
                create_connection=create_socket,  # type: ignore[arg-type]  # called, like the class
                **self._options,
            )
        except NegotiationError as error:
            raise NoProfile(
                "the server selected a subprotocol that was not offered: is GcryptMiddleware there?"
            ) from error
        except InvalidStatus as error:
            raise _Refused(error.response, address) from None

    def _session(self, selected: str | None) -> SecureSession | ClassicSession:
        if not self._profiles:
            return ClassicSession([self._passphrase or ""], max_message=self._max_message)
        return SecureSession(
            # The handshake refuses what was not offered.
            next((each for each in self._profiles if each == selected), self._profiles[0]),
            role="client",
            max_message=self._max_message,
            padding=self._padding,
        )

    async def _handshake(self, connection: ClientConnection, offered: Sequence[str]) -> None:
        held = self._credential
        has_ticket = held is not None and held.ticket is not None
        accepted = connection.handshake(
            None if held is None else held.key,
            # The key of another ticket would not help.
            None if has_ticket or self._key_source is None else self._obtain_key,
            self._subprotocols,
            _binding(offered, self._address),
        )
        try:
            await asyncio.wait_for(accepted, self._open_timeout)
        except asyncio.TimeoutError:
            await connection.fail(HandshakeTimeout())
            raise HandshakeTimeout from None
        except ProtocolError as error:
            await connection.fail(error)
            raise error.with_traceback(None) from None  # its frames have held the psk


def _key_token(credential: Credential) -> str:
    """Return the subprotocol that says which key the client has."""
    if credential.ticket is None:
        return f"gcrypt.kid.{credential.key.kid.hex()}"
    if not _is_token(credential.ticket):
        raise ValueError("a ticket is what the ticket endpoint gives: base64url")
    return f"gcrypt.ticket.{credential.ticket}"


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
