"""A TCP proxy that delays what passes it, and cuts connections at once or behind a byte."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self


class Wire:
    """Listens on a free port of 127.0.0.1 and relays to `target_port`, on a thread of its own.

    Attributes:
        delay: seconds by which each piece of data is late, in each direction.
        limit: bytes from the server behind which each new connection is cut; ``None`` for never.
    """

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.delay = 0.0
        self.limit: int | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._server.close)
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """Reset all connections; new ones are relayed."""
        self._loop.call_soon_threadsafe(self._abort)

    def _call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def _abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        self._abort()
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        far_writer: asyncio.StreamWriter | None = None
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
            self._writers.add(far_writer)
            await asyncio.gather(
                self._relay(reader, far_writer), self._relay(far_reader, writer, self.limit)
            )
        except (OSError, asyncio.CancelledError):
            pass  # one side went away, or the proxy ends
        finally:
            for end in (writer, far_writer):
                if end is not None:
                    end.close()
                    self._writers.discard(end)

    async def _relay(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        limit: int | None = None,
    ) -> None:
        """Relay until the end. What waits for its time does not hold up what comes behind it."""
        loop = asyncio.get_running_loop()
        while data := await reader.read(65536):
            if limit is not None and len(data) >= limit:
                self._write(writer, data[:limit])
                raise ConnectionResetError
            limit = None if limit is None else limit - len(data)
            if self.delay:
                loop.call_later(self.delay, self._write, writer, data)
            else:
                self._write(writer, data)
        writer.close()

    def _write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        if not writer.is_closing():
            writer.write(data)
