"""Examines the routing of ``ASGI_APPLICATION``: the middleware around each WebSocket consumer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from asgiref.sync import iscoroutinefunction
from channels.auth import AuthMiddleware
from channels.consumer import SyncConsumer
from channels.routing import ProtocolTypeRouter, URLRouter, get_default_application
from channels.security.websocket import OriginValidator
from django.conf import settings
from django.core.checks import CheckMessage, Error, Info, Warning  # noqa: A004
from django.core.exceptions import ImproperlyConfigured

from ..conf import conf
from ..consumers import EncryptedJsonConsumer
from ..middleware import GcryptMiddleware, inner_applications
from .reports import describe

__all__ = ["examine_routing"]


class Endpoint(NamedTuple):
    """A consumer, or another ASGI application at the end of a route, and what is around it."""

    route: str
    application: Any
    around: tuple[Any, ...]
    """Outermost first."""
    is_callable: bool
    """Whether a connection can be given to it: not where the consumer's class itself is routed."""

    @property
    def encryption(self) -> GcryptMiddleware | None:
        """The ``GcryptMiddleware`` around it."""
        return next((each for each in self.around if isinstance(each, GcryptMiddleware)), None)

    def outside(self, kind: type) -> Any:
        """The middleware of ``kind`` that a connection passes before the encryption."""
        for each in self.around:
            if isinstance(each, kind):
                return each
            if isinstance(each, GcryptMiddleware):
                break
        return None


def examine_routing() -> Iterator[CheckMessage]:
    """Examine every WebSocket consumer that is reached from ``ASGI_APPLICATION``."""
    if not getattr(settings, "ASGI_APPLICATION", None):
        yield Warning(
            "ASGI_APPLICATION is not set: the routing could not be examined.",
            hint='Set it to the application of asgi.py, such as "mysite.asgi.application".',
            obj="routing",
        )
        return
    try:
        application = get_default_application()
    except Exception as error:  # noqa: BLE001 - it runs the project's own code
        yield Error(
            f"ASGI_APPLICATION cannot be loaded: {describe(error)}",
            hint="Correct what it names, in asgi.py or in the routing that it imports.",
            obj="routing",
        )
        return
    endpoints = list(_walk(application, "", ()))
    if not endpoints:
        yield Warning(
            "ASGI_APPLICATION routes no WebSocket.",
            hint='Give ProtocolTypeRouter a "websocket" entry.',
            obj="routing",
        )
    for endpoint in endpoints:
        yield from _examine(endpoint)


def _walk(application: Any, route: str, around: tuple[Any, ...]) -> Iterator[Endpoint]:
    """Find the endpoints of an application."""
    if hasattr(application, "consumer_class"):
        yield Endpoint(route, application.consumer_class, around, is_callable=True)
        return
    if not isinstance(application, (ProtocolTypeRouter, URLRouter)):
        if not inner_applications(application):
            is_class = isinstance(application, type)
            yield Endpoint(route, application, around, is_callable=not is_class)
            return
        around = (*around, application)
    for part, inner in inner_applications(application):
        yield from _walk(inner, route + _plain(part), around)


def _plain(pattern: str) -> str:
    """A part of a route without the anchors and escapes of a regular expression."""
    named = re.sub(r"\(\?P<(\w+)>(?:[^()\\]|\\.)*\)", r"<\1>", pattern)
    return re.sub(r"^\^|\$$|\\Z$", "", named).replace("\\", "")


def _examine(endpoint: Endpoint) -> Iterator[CheckMessage]:
    name = getattr(endpoint.application, "__name__", type(endpoint.application).__name__)
    path = f"/{endpoint.route.lstrip('/')}"
    faults = [
        *_consumer(endpoint, name, path),
        *_encryption(endpoint, name, path),
        *_surroundings(endpoint, path),
    ]
    yield from faults or [Info(f"{name} is encrypted", obj=path)]


HANDLERS: Final = (
    *("websocket_connect", "websocket_receive", "websocket_disconnect"),
    *("connect", "disconnect", "receive", "receive_json"),
)
"""The methods of a consumer that Channels calls, and awaits in an asynchronous one."""


def _consumer(endpoint: Endpoint, name: str, path: str) -> Iterator[CheckMessage]:
    """What keeps a consumer from working at all."""
    consumer = endpoint.application
    if not isinstance(consumer, type):
        return
    if not endpoint.is_callable:
        yield Error(
            f"{name} is routed as a class, which no connection can call.",
            hint=f"Route {name}.as_asgi().",
            obj=path,
        )
    if not hasattr(consumer, "websocket_connect"):
        yield Error(
            f"{name} has no handler websocket_connect, so it accepts nobody.",
            hint="Inherit a consumer of channels.generic.websocket.",
            obj=path,
        )
    is_sync = issubclass(consumer, SyncConsumer)
    for handler in HANDLERS:
        method = getattr(consumer, handler, None)
        if method is not None and iscoroutinefunction(method) == is_sync:
            kind = Error if is_sync else Warning  # a wrapper may return what can be awaited
            yield kind(
                f"{name}.{handler} is {'async def' if is_sync else 'def'}, but the consumer is "
                f"{'synchronous' if is_sync else 'asynchronous'}.",
                hint=f"Write {'def' if is_sync else 'async def'} {handler}(…).",
                obj=path,
            )


def _encryption(endpoint: Endpoint, name: str, path: str) -> Iterator[CheckMessage]:
    consumer = endpoint.application
    has_mixin = isinstance(consumer, type) and issubclass(consumer, EncryptedJsonConsumer)
    if endpoint.encryption is None:
        kind = Error if has_mixin else Warning
        yield kind(
            f"{name} is not encrypted: no GcryptMiddleware is around it.",
            hint="Put GcryptMiddleware around the URLRouter.",
            obj=path,
        )
    elif isinstance(consumer, type) and not (has_mixin or endpoint.encryption.seal_outbound):
        yield Error(
            f"{name} sends plaintext, which GcryptMiddleware refuses with 1011.",
            hint="Inherit EncryptedJsonConsumer, or use GcryptMiddleware(…, seal_outbound=True).",
            obj=path,
        )


def _surroundings(endpoint: Endpoint, path: str) -> Iterator[CheckMessage]:
    if endpoint.encryption is None:
        return
    if _uses_session(endpoint.encryption) and endpoint.outside(AuthMiddleware) is None:
        yield Error(
            "No AuthMiddlewareStack is around GcryptMiddleware: nobody gets a key.",
            hint="Use AuthMiddlewareStack(GcryptMiddleware(…)), in this order.",
            obj=path,
        )
    validator = endpoint.outside(OriginValidator)
    if validator is None or "*" in validator.allowed_origins:
        yield Warning(
            "The Origin of connections is not validated.",
            hint="Put AllowedHostsOriginValidator around it all, and name the hosts in "
            "ALLOWED_HOSTS.",
            obj=path,
        )


def _uses_session(encryption: GcryptMiddleware) -> bool:
    try:
        return (encryption.resolver or conf.resolver) == "session"
    except ImproperlyConfigured:
        return False  # the checks of the settings say so
