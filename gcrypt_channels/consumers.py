"""``EncryptedJsonConsumer``: the mixin through which a consumer's messages leave sealed."""

from __future__ import annotations

import logging
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from asgiref.sync import async_to_sync
from channels.consumer import AsyncConsumer, SyncConsumer, get_handler_name
from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncJsonWebsocketConsumer, JsonWebsocketConsumer
from channels.layers import InMemoryChannelLayer, get_channel_layer
from django.core.exceptions import ImproperlyConfigured

from . import databases
from .connection.connection import Connection
from .connection.facade import EncryptedSocket, connection_of, facade_of
from .connection.inbox import Inbox, Receive, is_reserved
from .crypto import jsontext
from .exceptions import InvalidFrame
from .layers.sealed import unwrap
from .outbox import Event, Send

if TYPE_CHECKING:
    from channels.consumer import _ASGIApplicationProtocol

logger = logging.getLogger(__name__)

_JSON_RECEIVERS = (JsonWebsocketConsumer.receive, AsyncJsonWebsocketConsumer.receive)


class _NotJsonError(Exception):
    """The client's message is not what ``decode_json`` takes."""


class _Concealed(dict[str, Any]):
    """An event whose ``repr`` has no content: asyncio's debug log prints the results of tasks."""

    def __repr__(self) -> str:
        return f"<{self['type']}>"


class EncryptedJsonConsumer(AsyncConsumer):
    """Mix into any Channels consumer below ``GcryptMiddleware``, in either order of bases.

    Everything that the consumer sends, by whichever method, is sealed. A message that is not JSON
    ends the connection with 4400 instead of a traceback; the consumer's ``disconnect`` runs. Events
    of the types ``websocket.*`` and ``gcrypt.*`` come from the consumer's own connection alone:
    those on its channel of the channel layer are dropped.

    Attributes:
        gcrypt: the consumer's side of the connection: ``profile``, ``authentic``,
            ``await close(code, reason)``, ``await join(group)``, ``await leave(group)``.
    """

    gcrypt: EncryptedSocket

    _gcrypt_inbox: Inbox
    _gcrypt_own_event: Event | None = None
    _gcrypt_channel: str | None = None
    _gcrypt_channel_receive: Receive
    _gcrypt_is_fed = False

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Run the consumer.

        Raises:
            ImproperlyConfigured: there is no ``GcryptMiddleware`` around the consumer.
        """
        connection = connection_of(scope.get("gcrypt"))
        if connection is None:
            raise ImproperlyConfigured(
                f"{type(self).__name__} inherits EncryptedJsonConsumer, but no GcryptMiddleware is "
                "around it: add it to the ASGI routing."
            )
        connection.seals = True
        if receive == connection.receive:
            self._gcrypt_inbox = connection.inbox
            self.gcrypt = scope["gcrypt"]
        else:  # another application is in between, which may hold several consumers
            self._gcrypt_inbox = Inbox(receive)
            self.gcrypt = facade_of(connection, self._gcrypt_inbox)
            receive = self._gcrypt_inbox.get
        self._gcrypt_inbox.has_gap_handler = True
        for group in getattr(self, "groups", None) or ():
            await self.gcrypt.join(group)
        self._use_strict_json()
        text_only = getattr(type(self), "receive", None) in _JSON_RECEIVERS
        try:
            if getattr(super().__call__, "__func__", None) is AsyncConsumer.__call__:
                await self._run(scope, receive, send, connection, text_only=text_only)
            else:
                self._gcrypt_is_fed = True  # by that loop
                receive = self._checked(receive, connection, text_only=text_only)
                self._drop_reserved_events()
                await super().__call__(scope, cast(Any, receive), send)
        except _NotJsonError:
            cause = f"{type(self).__name__} takes JSON, and a message is not JSON"
            connection.fail(InvalidFrame(cause=cause))
            with suppress(StopConsumer):
                await self.dispatch(await receive())
        finally:
            self._gcrypt_inbox.close()

    @classmethod
    def as_asgi(cls, **initkwargs: Any) -> _ASGIApplicationProtocol:
        """Return the ASGI application, as Channels does.

        Raises:
            ImproperlyConfigured: the class inherits no Channels consumer that could accept.
        """
        if not hasattr(cls, "websocket_connect"):
            raise ImproperlyConfigured(
                f"{cls.__name__} inherits EncryptedJsonConsumer alone, which is a mixin: inherit a "
                "consumer of channels.generic.websocket as well, such as "
                "AsyncJsonWebsocketConsumer."
            )
        return super().as_asgi(**initkwargs)

    async def dispatch(self, message: Any) -> None:
        """Call the handler as Channels does, without its visit to the database thread for nothing.

        A synchronous consumer, and one whose class has a ``dispatch`` of its own, keep theirs.
        """
        inherited = super().dispatch
        if getattr(inherited, "__func__", None) is not AsyncConsumer.dispatch:
            await inherited(message)
            return
        handler = getattr(self, get_handler_name(message), None)
        if not handler:
            raise ValueError(f"No handler for message type {message['type']}")
        await databases.close_old_connections()
        await handler(message)

    def gcrypt_gap(self, event: Mapping[str, Any]) -> Any:
        """Handle the gap event of the connection by calling :meth:`group_gap`."""
        return self.group_gap(event["group"], event["missed"])

    def group_gap(self, group: str, missed: int) -> Any:
        """Called when at least ``missed`` messages of ``group`` did not arrive; override it.

        Write it as the consumer's other handlers: ``async def``, or ``def`` in a sync consumer.
        """
        return None if isinstance(self, SyncConsumer) else _nothing()

    # The loop

    async def _run(
        self, scope: Any, receive: Receive, send: Send, connection: Connection, *, text_only: bool
    ) -> None:
        """``AsyncConsumer.__call__`` without a task for each event."""
        self.scope = scope
        layer: Any = get_channel_layer(self.channel_layer_alias)
        self.channel_layer = layer
        is_sync = isinstance(self, SyncConsumer)
        self.base_send = cast(Any, async_to_sync(cast(Any, send)) if is_sync else send)
        if layer is not None:
            self.channel_name = await layer.new_channel()
            if not _names_are_free(layer):
                self._receive_on_channel()
        dispatch = self.dispatch
        connection.ends_itself = True
        try:
            while True:
                event = await receive()
                if text_only and event["type"] == "websocket.receive" and not event.get("text"):
                    connection.fail(self._no_json_text())
                else:
                    await dispatch(event)
        except StopConsumer:
            pass
        finally:
            await self._gcrypt_inbox.end_feed()

    def _no_json_text(self) -> InvalidFrame:
        return InvalidFrame(
            cause=f"{type(self).__name__} takes JSON text, and a message has none: the client has "
            "to send text, for instance by sendJSON()"
        )

    def _checked(self, receive: Receive, connection: Connection, *, text_only: bool) -> Receive:
        """``receive`` for a class that has a loop of its own."""

        async def receive_checked() -> Event:
            event = await receive()
            if text_only and event["type"] == "websocket.receive" and not event.get("text"):
                connection.fail(self._no_json_text())
                event = await receive()
            self._gcrypt_own_event = _Concealed(event)
            return self._gcrypt_own_event

        return receive_checked

    # The consumer's channel of the channel layer

    @property
    def channel_name(self) -> str:
        """The name of the consumer's own channel, on which it receives from now on.

        Nobody can send to a channel whose name nobody has read.
        """
        if self._gcrypt_channel is None:
            raise AttributeError("channel_name: there is no channel layer")
        self._receive_on_channel()
        return self._gcrypt_channel

    @channel_name.setter
    def channel_name(self, name: str) -> None:
        self._gcrypt_channel = name

    @property
    def channel_receive(self) -> Any:
        """What a loop of the class's own receives on the consumer's channel."""
        return self._receive_concealed

    @channel_receive.setter
    def channel_receive(self, receive: Receive) -> None:
        self._gcrypt_channel_receive = receive

    def _receive_on_channel(self) -> None:
        if self._gcrypt_is_fed:
            return
        self._gcrypt_is_fed = True
        layer: Any = self.channel_layer
        self.channel_receive = partial(layer.receive, self._gcrypt_channel)
        self._gcrypt_inbox.feed(self._receive_channel_event)

    async def _receive_channel_event(self) -> Event:
        while True:
            event = await self._gcrypt_channel_receive()
            if not self._is_foreign(event):
                return event

    async def _receive_concealed(self) -> Event:
        return _Concealed(await self._gcrypt_channel_receive())

    def _is_foreign(self, event: Event) -> bool:
        """Whether an event has a type that comes from the own connection alone, and does not."""
        kind = event.get("type")
        if not isinstance(kind, str) or not is_reserved(kind):
            return False
        logger.warning("An event of type %r came from the channel layer and was dropped.", kind)
        return True

    def _drop_reserved_events(self) -> None:
        """Have ``dispatch`` drop them, where the consumer's class has a loop of its own."""
        dispatch = self.dispatch

        async def dispatch_checked(message: Any) -> None:
            if message is self._gcrypt_own_event or not self._is_foreign(message):
                await dispatch(message)

        vars(self)["dispatch"] = dispatch_checked

    # JSON

    def _use_strict_json(self) -> None:
        """Have ``decode_json`` and ``encode_json`` refuse what is no JSON, such as ``NaN``.

        They are set on the instance, because the class may stand before or behind Channels' own.
        """
        if isinstance(self, JsonWebsocketConsumer):
            vars(self)["decode_json"] = _guarded(
                _parse
                if _is_inherited(type(self), "decode_json", JsonWebsocketConsumer)
                else self.decode_json
            )
            if _is_inherited(type(self), "encode_json", JsonWebsocketConsumer):
                vars(self)["encode_json"] = jsontext.serialize
        elif isinstance(self, AsyncJsonWebsocketConsumer):
            vars(self)["decode_json"] = (
                _parse_async
                if _is_inherited(type(self), "decode_json", AsyncJsonWebsocketConsumer)
                else _guarded_async(self.decode_json)
            )
            if _is_inherited(type(self), "encode_json", AsyncJsonWebsocketConsumer):
                vars(self)["encode_json"] = _serialize_async


async def _nothing() -> None:
    return None


def _names_are_free(layer: Any) -> bool:
    """Whether a new channel of ``layer`` is a name and nothing else until somebody sends to it.

    It is not with channels_redis' pubsub layer, which subscribes, and unsubscribes only when a
    ``receive`` is cancelled.
    """
    core = sys.modules.get("channels_redis.core")
    inner = unwrap(layer)
    return isinstance(inner, InMemoryChannelLayer) or (
        core is not None and isinstance(inner, core.RedisChannelLayer)
    )


def _is_inherited(consumer: type, name: str, base: type) -> bool:
    """Whether ``consumer`` has the method of ``base``, and not one of its own."""
    method = getattr(consumer, name)
    return getattr(method, "__func__", None) is getattr(base, name).__func__


def _guarded(decode: Callable[[str], Any]) -> Callable[[str], Any]:
    """``decode_json`` with its own failures, and no one else's, told apart."""

    def decode_guarded(text: str) -> Any:
        try:
            return decode(text)
        except (ValueError, RecursionError) as error:
            raise _NotJsonError from error

    return decode_guarded


def _guarded_async(decode: Callable[[str], Awaitable[Any]]) -> Callable[[str], Awaitable[Any]]:
    async def decode_guarded(text: str) -> Any:
        try:
            return await decode(text)
        except (ValueError, RecursionError) as error:
            raise _NotJsonError from error

    return decode_guarded


def _parse(text: str) -> Any:
    """The value of a message, which ``gcrypt.v1`` has parsed already."""
    return text.value if type(text) is jsontext.JsonText else jsontext.parse(text)


async def _parse_async(text: str) -> Any:
    try:
        return _parse(text)
    except ValueError as error:
        raise _NotJsonError from error


async def _serialize_async(value: Any) -> str:
    return jsontext.serialize(value)
