"""The man in the middle: an ASGI middleware outside everything that checks or encrypts.

It sees and changes the very events that the server got from the socket. It holds no key, and
imports nothing of gcrypt_channels.
"""

from __future__ import annotations

import re
from collections import deque
from typing import Any

from demo_project.stage.sandbox import Sandbox, Side, sandbox_of

_PATH = re.compile(r"/ws/(plain|stage)/([a-z0-9-]{1,40})/")
TEXT_FRAME = 0x10  # the first byte of a sealed text message, which is in clear


class Tap:
    """Notes every frame of a sandbox, and changes those that an attack is armed for."""

    def __init__(self, application: Any) -> None:
        self.application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        found = _PATH.fullmatch(scope["path"]) if scope["type"] == "websocket" else None
        sandbox = None if found is None else sandbox_of(found[2])
        if found is None or sandbox is None:
            await self.application(scope, receive, send)
            return
        side: Side = "plain" if found[1] == "plain" else "gcrypt"
        actor = _actor(scope)
        wire = _Wire(sandbox, side, actor, receive, send)
        if actor == "alice":
            (scope,) = _changed(sandbox, "request", side, scope)
        await self.application(scope, wire.receive, wire.send)


class _Wire:
    """Both directions of one socket."""

    def __init__(self, sandbox: Sandbox, side: Side, actor: str, receive: Any, send: Any) -> None:
        self.sandbox, self.side, self.actor = sandbox, side, actor
        self._receive, self._send = receive, send
        self._waiting: deque[Any] = deque()

    async def receive(self) -> Any:
        if self._waiting:
            return self._waiting.popleft()
        event = await self._receive()
        if event["type"] != "websocket.receive":
            return event
        events = [event]
        if self.actor == "alice" and _is_text(event):
            events = _changed(self.sandbox, "frame", self.side, event)
        for each in events:
            self.sandbox.note(
                "wire", self.side, actor=self.actor, to="server", data=readable(each),
                is_text=_is_text(each),
            )  # fmt: skip
        self._waiting.extend(events[1:])
        return events[0]

    async def send(self, event: Any) -> None:
        if event["type"] == "websocket.send":
            self.sandbox.note(
                "wire", self.side, actor=self.actor, to="client", data=readable(event),
                is_text=_is_text(event),
            )  # fmt: skip
        elif event["type"] == "websocket.close":
            code = event.get("code") or 1000
            self.sandbox.note("close", self.side, actor=self.actor, code=code)
        await self._send(event)


def _changed(sandbox: Sandbox, what: str, side: Side, event: Any) -> list[Any]:
    change = sandbox.armed.pop((what, side), None)
    return [event] if change is None else change(event)


def _actor(scope: Any) -> str:
    """Whose socket it is: the demo's own clients say so; a real proxy would see an address."""
    for name, value in scope["headers"]:
        if name == b"x-actor":
            return str(value.decode("latin-1"))
    return "alice"


def _is_text(event: Any) -> bool:
    frame = event.get("bytes")
    return frame is None or frame[:1] == bytes([TEXT_FRAME])


def readable(event: Any) -> str:
    """A frame as the page shows it: text as it is, bytes in hex."""
    frame = event.get("bytes")
    return str(event["text"]) if frame is None else str(frame.hex())
