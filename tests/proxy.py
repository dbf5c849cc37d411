"""A hostile wire: a TCP proxy that reads, changes, drops, repeats and makes up what passes it.

    with Proxy(server.port) as proxy:
        proxy.change_request = replaced(b"/public/", b"/secret/")
        proxy.change = lambda frame: [flip_bit(frame.payload, 7)]
        ... connect to proxy.websocket_url
        proxy.forge_close("inbound", 1000, b"invented")

The heads of a WebSocket's request and response are handed to `change_request` and
`change_response`. After the upgrade every data frame (RFC 6455, section 5.2) is recorded in
`frames` and handed to `change`, unmasked. Control frames (close, ping, pong) are recorded in
`controls` and pass untouched, as other HTTP does.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from typing_extensions import Self

Direction = Literal["inbound", "outbound"]  # seen from the server

CONTROL = 0x08  # opcodes from here on are control frames
LONGEST_HEAD = 65536


@dataclass(frozen=True)
class Frame:
    """One WebSocket frame as it came past: its payload is what the wire shows."""

    direction: Direction
    connection: int  # 0 for the first WebSocket through this proxy, and so on
    index: int  # 0 for the first data frame of this direction, or the first control frame
    opcode: int
    payload: bytes


def flip_bit(payload: bytes, bit: int) -> bytes:
    """`payload` with one bit turned over; `bit` counts from the first byte, or from the end."""
    changed = bytearray(payload)
    bit %= len(changed) * 8
    changed[bit // 8] ^= 0x80 >> bit % 8
    return bytes(changed)


def unchanged(frame: Frame) -> list[bytes]:
    return [frame.payload]


def unchanged_head(head: bytes) -> bytes:
    return head


def replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    """A change of a head in which `old` occurs: it does so exactly once."""

    def change(head: bytes) -> bytes:
        assert head.count(old) == 1, (old, head)
        return head.replace(old, new)

    return change


def with_header(line: bytes) -> Callable[[bytes], bytes]:
    """A change that adds a header line."""
    return replaced(b"\r\n\r\n", b"\r\n" + line + b"\r\n\r\n")


class Proxy:
    """Listens on a free port of 127.0.0.1 and relays to `target_port` on the same address.

    `change` is called with each data frame and returns the payloads to send in its place: none
    drops it, two are a replay or an insertion. All changes run on the proxy's own thread.
    """

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = 0
        self.change: Callable[[Frame], list[bytes]] = unchanged
        self.change_request: Callable[[bytes], bytes] = unchanged_head
        self.change_response: Callable[[bytes], bytes] = unchanged_head
        self.heads: list[bytes] = []  # of WebSocket requests and their responses, as they came
        self.frames: list[Frame] = []
        self.controls: list[Frame] = []
        self._connections = 0
        self._ends: dict[Direction, asyncio.StreamWriter] = {}  # of the latest WebSocket
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def websocket_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def abort(self) -> None:
        """From within `change`: cut every connection without a close, as a lost network does."""
        for writer in self._writers:
            writer.transport.abort()

    def forge_close(self, direction: Direction, code: int | None, reason: bytes = b"") -> None:
        """Send a close frame that nobody sent, on the latest WebSocket; it may have no code."""
        payload = b"" if code is None else code.to_bytes(2, "big") + reason
        frame = _frame(0x88, payload, masked=direction == "inbound")
        self._loop.call_soon_threadsafe(self._ends[direction].write, frame)

    def shows(self, *secrets: bytes) -> list[bytes]:
        """Those of `secrets` that the wire showed in clear."""
        seen = b"".join([*self.heads, *(each.payload for each in (*self.frames, *self.controls))])
        return [secret for secret in secrets if secret in seen]

    def _call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _end(self) -> None:
        self._server.close()  # on its own thread: it counts its connections without a lock
        self.abort()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        except OSError:
            writer.transport.abort()  # the server is down: so is its address here
            self._writers.discard(writer)
            return
        self._writers.add(far_writer)
        try:
            if await self._pass_handshake(reader, writer, far_reader, far_writer):
                connection, self._connections = self._connections, self._connections + 1
                self._ends = {"inbound": far_writer, "outbound": writer}
                await asyncio.gather(
                    self._pass_frames(reader, far_writer, "inbound", connection),
                    self._pass_frames(far_reader, writer, "outbound", connection),
                )
            elif not far_writer.is_closing():
                await asyncio.gather(
                    self._pass_bytes(reader, far_writer), self._pass_bytes(far_reader, writer)
                )
        except (OSError, asyncio.IncompleteReadError):
            pass  # one side went away
        finally:
            for end in (writer, far_writer):
                end.close()
                self._writers.discard(end)

    async def _pass_handshake(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        far_writer: asyncio.StreamWriter,
    ) -> bool:
        """Relay the first request's head; True when a WebSocket begins behind it."""
        request = await reader.readuntil(b"\r\n\r\n")
        if b"\r\nupgrade: websocket\r\n" not in request.lower():
            far_writer.write(request)
            return False
        far_writer.write(self.change_request(request))
        response = await far_reader.readuntil(b"\r\n\r\n")
        self.heads += [request, response]
        changed = self.change_response(response)
        writer.write(changed)
        is_upgrade = [b" 101 " in each.split(b"\r\n", 1)[0] for each in (response, changed)]
        if is_upgrade == [True, False]:  # the client is told of no WebSocket, so this one ends
            writer.write_eof()
            far_writer.close()
        return all(is_upgrade)

    async def _pass_bytes(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(LONGEST_HEAD):
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    async def _pass_frames(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        direction: Direction,
        connection: int,
    ) -> None:
        index = controls = 0
        while True:
            first, payload = await _read_frame(reader)
            opcode = first & 0x0F
            payloads = [payload]
            if opcode < CONTROL:
                frame = Frame(direction, connection, index, opcode, payload)
                self.frames.append(frame)
                payloads = self.change(frame)
                index += 1
            else:
                self.controls.append(Frame(direction, connection, controls, opcode, payload))
                controls += 1
            for each in payloads:
                writer.write(_frame(first, each, masked=direction == "inbound"))
            await writer.drain()


async def _read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The first byte (flags and opcode) and the unmasked payload of the next frame."""
    first, second = await reader.readexactly(2)
    length = second & 0x7F
    if length == 126:
        length = int.from_bytes(await reader.readexactly(2), "big")
    elif length == 127:
        length = int.from_bytes(await reader.readexactly(8), "big")
    mask = await reader.readexactly(4) if second & 0x80 else bytes(4)
    return first, _mask(await reader.readexactly(length), mask)


def _frame(first: int, payload: bytes, *, masked: bool) -> bytes:
    flag = 0x80 if masked else 0
    mask = bytes(4)  # a client's frame must carry a mask; an all-zero one is a mask
    length = len(payload)
    if length < 126:
        head = bytes([first, flag | length])
    elif length < 1 << 16:
        head = bytes([first, flag | 126]) + length.to_bytes(2, "big")
    else:
        head = bytes([first, flag | 127]) + length.to_bytes(8, "big")
    return head + (mask if masked else b"") + payload


def _mask(payload: bytes, mask: bytes) -> bytes:
    repeated = mask * (len(payload) // 4 + 1)
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(repeated[: len(payload)], "big")
    return masked.to_bytes(len(payload), "big")
