"""Clients of the harness: our own, and one whose cryptography is the noiseprotocol package's.

Each connects again whenever its connection has ended, and keeps one `Ear` per connection.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager, closing, suppress
from http.cookiejar import CookieJar
from itertools import count
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPCookieProcessor, Request, build_opener

import websockets
from websockets.typing import Subprotocol

from gcrypt_channels.client import ClientConnection, connect
from gcrypt_channels.crypto.psk import SessionKey
from gcrypt_channels.exceptions import ConnectionClosed, GcryptError
from tests.faults.ledger import Ear
from tests.reference.noise_peer import NoisePeer

if TYPE_CHECKING:
    from typing_extensions import Self

HTTP_TIMEOUT = 10.0
PAUSE = 0.2
"""Seconds from the end of a connection to the next attempt."""

TEXT, CONTROL, MORE = 0x10, 0x12, 0x80
GROUP = "room"


class Browser:
    """The cookies of one login on one worker."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._cookies = CookieJar()
        self._opener = build_opener(HTTPCookieProcessor(self._cookies))

    @property
    def cookie(self) -> str:
        return "; ".join(f"{each.name}={each.value}" for each in self._cookies)

    async def enter(self, user: str) -> None:
        await asyncio.to_thread(self._post, "/enter/", user=user)

    async def leave(self) -> None:
        await asyncio.to_thread(self._post, "/leave/")

    async def fetch_key(self) -> SessionKey:
        answer = json.loads(await asyncio.to_thread(self._post, "/gcrypt/key/"))["session"]
        psk = base64.urlsafe_b64decode(answer["psk"] + "=")
        return SessionKey(kid=bytes.fromhex(answer["kid"]), psk=psk)

    def _post(self, path: str, **fields: str) -> bytes:
        tokens = {each.name: each.value or "" for each in self._cookies}
        headers = {"X-CSRFToken": tokens.get("csrftoken", "")}
        request = Request(self.url + path, urlencode(fields).encode(), headers)
        with closing(self._opener.open(request, timeout=HTTP_TIMEOUT)) as answer:
            body: bytes = answer.read()
        return body


Filter = Callable[[Ear, object], None]
"""Notes a message that came; a planted fault notes something else."""


def note(ear: Ear, content: object) -> None:
    ear.hear(content)


class Client:
    """Stays connected to one worker.

    Attributes:
        ears: its connections.
        ends: how its connections and attempts ended, by close code or by error, where a close code
            without authentication has a question mark.
        heard: the numbers heard, each with the time.
        is_open: whether it has a connection that was accepted.
        is_logged_out: whether it was told that its login has ended, after which it stays away.
    """

    def __init__(
        self,
        browser: Browser,
        *,
        on_news: Callable[[], None],
        path: str = "/ws/",
        stay: tuple[int, float] | None = None,
        note: Filter = note,
    ) -> None:
        """`stay`: after so many messages, or seconds, it closes and connects again."""
        self.url = browser.url
        self.path = path
        self.browser = browser
        self.ears: list[Ear] = []
        self.ends: Counter[str] = Counter()
        self.heard: list[tuple[int, float]] = []
        self.is_open = False
        self.is_logged_out = False
        self._on_news = on_news
        self._stay = stay
        self._note = note

    @property
    def is_steady(self) -> bool:
        """Whether it connects again only when it has lost its connection."""
        return self._stay is None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url}{self.path}, stay={self._stay})"

    async def run(self) -> None:
        """Connect again and again, until cancelled or logged out. Raises what nobody expects."""
        while not self.is_logged_out:
            began = time.monotonic()
            try:
                await self._converse(began)
                self.ends["left"] += 1
                continue
            except ConnectionClosed as error:
                self.ends[f"{error.code}{'' if error.authentic else '?'}"] += 1
            except (GcryptError, OSError, asyncio.TimeoutError) as error:
                self.ends[_name(error)] += 1
            except websockets.WebSocketException as error:
                self.ends[type(error).__name__] += 1
            finally:
                self.is_open = False
                self.is_logged_out = bool(self.ends["4401"] or self.ends["HTTPError 401"])
                self._on_news()
            await asyncio.sleep(PAUSE)

    async def _converse(self, began: float) -> None:
        raise NotImplementedError

    def _opened(self, began: float) -> Ear:
        ear = Ear(began, time.monotonic())
        self.ears.append(ear)
        self.is_open = True
        self._on_news()
        return ear

    def _hear(self, ear: Ear, content: Any) -> None:
        self._note(ear, content)
        if isinstance(content, list) and content:
            self.heard.append((content[0], time.monotonic()))
        self._on_news()

    def _tell(self, ear: Ear, group: str, missed: int) -> None:
        if group == GROUP:  # and not that of the user, to which nothing is published
            ear.tell(missed)

    def _messages(self) -> Iterable[int]:
        """Count the messages for which it stays."""
        return count() if self._stay is None else range(self._stay[0])

    async def _stayed(self, listening: Coroutine[Any, Any, None]) -> None:
        """Listen for as long as the client stays."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(listening, None if self._stay is None else self._stay[1])


class OurClient(Client):
    async def _converse(self, began: float) -> None:
        key = await self.browser.fetch_key()
        gaps: list[tuple[str, int]] = []
        async with connect(
            self.url.replace("http", "ws") + self.path,
            kid=key.kid,
            psk=key.psk,
            key_source=self.browser.fetch_key,
            origin=self.url,
            additional_headers={"Cookie": self.browser.cookie},
            on_gap=lambda *gap: gaps.append(gap),
        ) as socket:
            await self._stayed(self._listen(socket, self._opened(began), gaps))

    async def _listen(
        self, socket: ClientConnection, ear: Ear, gaps: list[tuple[str, int]]
    ) -> None:
        for _ in self._messages():
            content = await socket.receive_json()
            while gaps:
                self._tell(ear, *gaps.pop(0))
            self._hear(ear, content)


class Socket:
    """A WebSocket of `gcrypt.v2`, written from ``docs/protocol.md`` alone."""

    def __init__(self, socket: Any, noise: NoisePeer) -> None:
        self._socket = socket
        self._noise = noise

    async def abort(self) -> None:
        """Reset the connection."""
        self._socket.transport.abort()
        await self._socket.wait_closed()

    @classmethod
    @asynccontextmanager
    async def open(cls, browser: Browser, path: str, **options: Any) -> AsyncIterator[Self]:
        """Connect and handshake. Raises what :meth:`receive` raises."""
        key = await browser.fetch_key()
        offered = ["gcrypt.v2", f"gcrypt.kid.{key.kid.hex()}"]
        async with websockets.connect(
            browser.url.replace("http", "ws") + path,
            subprotocols=[Subprotocol(each) for each in offered],
            origin=websockets.Origin(browser.url),
            additional_headers={"Cookie": browser.cookie},
            **options,
        ) as socket:
            try:
                hello = await asyncio.wait_for(socket.recv(), HTTP_TIMEOUT)
                assert isinstance(hello, bytes)
                assert hello[:9] == b"\x01" + key.kid
                noise = NoisePeer(initiator=False, psk=key.psk, prologue=b"gcrypt.v2" + key.kid)
                noise.read_handshake(hello[9:])
                bound = {
                    "offered": offered,
                    "host": urlsplit(browser.url).hostname,
                    "target": path,
                }
                reply = json.dumps({"subprotocols": [], "max_message": 1_048_576, **bound})
                await socket.send(b"\x02" + noise.write_handshake(reply.encode()))
                yield cls(socket, noise)
            except websockets.ConnectionClosed as error:
                raise ConnectionClosed(error.rcvd.code if error.rcvd else 1006) from None

    async def receive(self) -> tuple[int, Any]:
        """The next text or control message: its kind and its value.

        Raises:
            ConnectionClosed: the connection has ended; it is authentic after a sealed close.
        """
        first, plaintext = self._noise.open(await self._socket.recv())
        parts = [plaintext]
        while first & MORE:
            first, plaintext = self._noise.open(await self._socket.recv())
            parts.append(plaintext)
        value = json.loads(b"".join(parts))
        if first == CONTROL and value["type"] == "close":
            with suppress(websockets.ConnectionClosed):  # the server need not wait for it
                await self._socket.send(self._noise.seal(CONTROL, plaintext))
            raise ConnectionClosed(value["code"], value["reason"], authentic=True)
        return first, value


class Peer(Client):
    async def _converse(self, began: float) -> None:
        # With a bound, what is unread when it leaves would keep the close from being read.
        unbound = {"max_size": None, "max_queue": None}
        async with Socket.open(self.browser, self.path, **unbound) as socket:
            accept = await asyncio.wait_for(socket.receive(), HTTP_TIMEOUT)
            assert accept == (CONTROL, {"type": "accept", "subprotocol": None})
            await self._stayed(self._listen(socket, self._opened(began)))

    async def _listen(self, socket: Socket, ear: Ear) -> None:
        for _ in self._messages():
            kind, value = await socket.receive()
            while kind != TEXT:
                assert set(value) == {"type", "group", "missed"}
                assert value["type"] == "gap"
                self._tell(ear, value["group"], value["missed"])
                kind, value = await socket.receive()
            self._hear(ear, value)


@asynccontextmanager
async def never_reading(browser: Browser) -> AsyncIterator[None]:
    """A member that is accepted and reads nothing from then on; it ends with a reset."""
    async with Socket.open(browser, "/ws/", max_queue=1) as socket:
        await socket.receive()
        try:
            yield
        finally:
            await socket.abort()


def _name(error: Exception) -> str:
    code = getattr(error, "code", None)
    return f"{type(error).__name__}{f' {code}' if code else ''}"
