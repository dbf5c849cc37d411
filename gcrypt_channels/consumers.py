"""``EncryptedJsonConsumer``: the mixin through which a consumer's messages leave sealed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from channels.consumer import AsyncConsumer, SyncConsumer
from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncJsonWebsocketConsumer, JsonWebsocketConsumer
from django.core.exceptions import ImproperlyConfigured

from .connection.connection import Connection, Send
from .exceptions import InvalidFrame

_JSON_RECEIVERS = (JsonWebsocketConsumer.receive, AsyncJsonWebsocketConsumer.receive)


class _NotJsonError(Exception):
    """The client's message is not what ``decode_json`` takes."""


class EncryptedJsonConsumer(AsyncConsumer):
    """Mix into any Channels consumer below ``GcryptMiddleware``, in either order of bases.

    Everything that the consumer sends, by whichever method, is sealed. A message that is not JSON
    ends the connection with 4400 instead of a traceback; the consumer's ``disconnect`` runs.

    Attributes:
        gcrypt: the :class:`~gcrypt_channels.connection.connection.Connection`: ``profile``,
            ``await close(code, reason)``, ``await join(group)``, ``await leave(group)``.
    """

    gcrypt: Connection

    async def __call__(self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Send) -> None:
        """Run the consumer with a ``send`` that seals.

        Raises:
            ImproperlyConfigured: there is no ``GcryptMiddleware`` around the consumer.
        """
        connection = scope.get("gcrypt")
        if not isinstance(connection, Connection):
            raise ImproperlyConfigured(
                f"{type(self).__name__} inherits EncryptedJsonConsumer, but no GcryptMiddleware is "
                "around it: add it to the ASGI routing."
            )
        self.gcrypt = connection
        connection.hears_gaps = True
        for group in getattr(self, "groups", None) or ():
            await connection.join(group)
        text_only = getattr(type(self), "receive", None) in _JSON_RECEIVERS
        if isinstance(self, (JsonWebsocketConsumer, AsyncJsonWebsocketConsumer)):
            # On the instance, since the class may stand before or behind Channels' own.
            is_sync = isinstance(self, SyncConsumer)
            vars(self)["decode_json"] = _guarded(self.decode_json, is_sync=is_sync)

        async def receive_checked() -> Any:
            event = await receive()
            if text_only and event["type"] == "websocket.receive" and not event.get("text"):
                connection.fail(InvalidFrame())
                event = await receive()
            return event

        try:
            await super().__call__(scope, receive_checked, connection.send)
        except _NotJsonError:
            connection.fail(InvalidFrame())
            with suppress(StopConsumer):
                await self.dispatch(await receive())

    def gcrypt_gap(self, event: Mapping[str, Any]) -> Any:
        """Handle the gap event of the connection by calling :meth:`group_gap`."""
        return self.group_gap(event["group"], event["missed"])

    def group_gap(self, group: str, missed: int) -> Any:
        """Called when at least ``missed`` messages of ``group`` did not arrive; override it.

        Write it as the consumer's other handlers: ``async def``, or ``def`` in a sync consumer.
        """
        return None if isinstance(self, SyncConsumer) else _nothing()


async def _nothing() -> None:
    return None


def _guarded(decode: Callable[[str], Any], *, is_sync: bool) -> Callable[[str], Any]:
    """``decode_json`` with its own failures, and no one else's, told apart."""

    def decode_sync(text: str) -> Any:
        try:
            return decode(text)
        except (ValueError, RecursionError) as error:
            raise _NotJsonError from error

    async def decode_async(text: str) -> Any:
        try:
            return await decode(text)
        except (ValueError, RecursionError) as error:
            raise _NotJsonError from error

    return decode_sync if is_sync else decode_async
