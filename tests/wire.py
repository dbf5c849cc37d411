"""An ASGI server and its client with a handshake in one, for tests that look at single frames."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from gcrypt_channels.keys import Keyring
from gcrypt_channels.protocol.events import Accepted, Binding, Closed, HelloReceived, SessionEvent
from gcrypt_channels.protocol.profiles import V2, V3
from gcrypt_channels.protocol.secure import SecureSession

KEYRING = Keyring.derive("the tests")


async def resolver(scope: Any) -> Keyring:
    return KEYRING


async def no_pause() -> None:
    pass


class Wire:
    """Runs an application on a WebSocket, and collects what it gives the server to send.

    `before` and `after` are awaited around the taking of each event, as a server may suspend
    there; `broken` is raised instead of taking one.
    """

    def __init__(self, application: Any, *, subprotocols: Sequence[str] = (V2,)) -> None:
        self.scope: dict[str, Any] = {
            "type": "websocket",
            "path": "/",
            "query_string": b"",
            "headers": [(b"host", b"testserver")],
            "subprotocols": list(subprotocols),
        }
        self.sent: list[dict[str, Any]] = []
        self.client = SecureSession(V3 if V3 in subprotocols else V2, role="client")
        self.before: Callable[[], Awaitable[None]] = no_pause
        self.after: Callable[[], Awaitable[None]] = no_pause
        self.broken: BaseException | None = None
        self._inbound: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._taken = asyncio.Condition()
        self.put({"type": "websocket.connect"})
        self.task = asyncio.create_task(application(self.scope, self._inbound.get, self._send))

    async def _send(self, event: dict[str, Any]) -> None:
        await self.before()
        if self.broken is not None:
            raise self.broken
        self.sent.append(event)
        async with self._taken:
            self._taken.notify_all()
        await self.after()

    def put(self, event: dict[str, Any]) -> None:
        self._inbound.put_nowait(event)

    def put_frames(self, frames: Sequence[str | bytes]) -> None:
        for frame in frames:
            kind = "text" if isinstance(frame, str) else "bytes"
            self.put({"type": "websocket.receive", kind: frame})

    def send(self, message: str | bytes) -> None:
        self.put_frames(self.client.seal(message))

    def leave(self, code: int = 1001) -> None:
        self.put({"type": "websocket.disconnect", "code": code})

    async def until(self, count: int) -> None:
        """Wait until the server has taken `count` events."""
        async with self._taken:
            await asyncio.wait_for(self._taken.wait_for(lambda: len(self.sent) >= count), 10)

    async def handshake(self, subprotocols: Sequence[str] = ()) -> None:
        """Answer HELLO; `accept` and what follows are in `sent` from index 2 on."""
        await self.until(2)
        hello = self.client.receive(self.sent[1]["bytes"])
        assert isinstance(hello, HelloReceived)
        psk = KEYRING.session_key(hello.kid).psk
        binding = Binding(tuple(self.scope["subprotocols"]), "testserver", "/")
        self.put_frames([self.client.reply(psk, subprotocols, binding)])

    async def open(self) -> None:
        await self.handshake()
        await self.until(3)
        assert isinstance(self.opened(2)[0], Accepted)

    def opened(self, first: int) -> list[SessionEvent | None]:
        """What the client makes of the frames from index `first` on; it opens each once."""
        return [
            self.client.receive(event["bytes"])
            for event in self.sent[first:]
            if event["type"] == "websocket.send"
        ]

    async def end(self) -> None:
        """Wait for the application to return, and raise what it raised."""
        await asyncio.wait_for(self.task, 10)

    @property
    def close(self) -> dict[str, Any]:
        """The WebSocket close that the server was given."""
        assert self.sent[-1]["type"] == "websocket.close"
        return self.sent[-1]


def authentic(closed: SessionEvent | None, code: int) -> bool:
    return isinstance(closed, Closed) and closed.code == code
