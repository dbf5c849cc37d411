"""Channels' communicators with the limits of this suite.

Channels waits one second, which is too short on a loaded machine, and its ``wait`` cancels an
application that does not end and says nothing. Here every wait has ``PATIENCE``, and an
application that does not end fails the test.
"""

from __future__ import annotations

import asyncio
from typing import Any

from channels.testing import WebsocketCommunicator

from gcrypt_channels.testing import EncryptedWebsocketCommunicator

PATIENCE = 20.0
"""Seconds after which something that was to happen has failed to."""


class Communicator(WebsocketCommunicator):
    """A WebSocket to an application, with what the frames hold left to the test."""

    async def connect(self, timeout: float = PATIENCE) -> Any:
        return await super().connect(timeout)

    async def receive_output(self, timeout: float = PATIENCE) -> Any:
        return await super().receive_output(timeout)

    async def receive_from(self, timeout: float = PATIENCE) -> Any:
        return await super().receive_from(timeout)

    async def receive_json_from(self, timeout: float = PATIENCE) -> Any:
        return await super().receive_json_from(timeout)

    async def disconnect(self, code: int = 1000, timeout: float = PATIENCE) -> None:
        await super().disconnect(code, timeout)

    async def wait(self, timeout: float = PATIENCE) -> None:
        """Wait for the end of the application, and raise what it raised.

        Raises:
            TimeoutError: it has not ended after ``timeout`` seconds; it is cancelled now.
        """
        await asyncio.wait([self.future], timeout=timeout)
        ended = self.future.done()
        await super().wait(0)
        if not ended:
            raise TimeoutError(f"the application has not ended after {timeout} seconds")


class EncryptedCommunicator(Communicator, EncryptedWebsocketCommunicator):
    """A client that holds the session's key."""
