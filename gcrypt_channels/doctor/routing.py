"""Examines the routing of ``ASGI_APPLICATION``: the middleware around each WebSocket consumer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from channels.auth import AuthMiddleware
from channels.routing import ProtocolTypeRouter, URLRouter, get_default_application
from channels.security.websocket import OriginValidator
from django.conf import settings
from django.core.checks import CheckMessage, Error, Info, Warning  # noqa: A004
from django.core.exceptions import ImproperlyConfigured

from ..conf import conf
from ..consumers import EncryptedJsonConsumer
from ..middleware import GcryptMiddleware

__all__ = ["examine_routing"]


class Endpoint(NamedTuple):
    """A consumer, or another ASGI application at the end of a route, and what is around it."""

    route: str
    application: Any
    around: tuple[Any, ...]
    """Outermost first."""

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
            f"ASGI_APPLICATION cannot be loaded: {type(error).__name__}: {error}",
            hint="Correct asgi.py.",
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
    """Find the endpoints by the attributes that Channels and its middleware keep them in."""
    if isinstance(application, ProtocolTypeRouter):
        if "websocket" in application.application_mapping:
            yield from _walk(application.application_mapping["websocket"], route, around)
    elif isinstance(application, URLRouter):
        routes: Iterable[Any] = application.routes
        for each in routes:
            yield from _walk(each.callback, route + str(each.pattern), around)
    elif hasattr(application, "consumer_class"):
        yield Endpoint(route, application.consumer_class, around)
    else:
        inner = getattr(application, "inner", None) or getattr(application, "application", None)
        if inner is None:
            yield Endpoint(route, application, around)
        else:
            yield from _walk(inner, route, (*around, application))


def _examine(endpoint: Endpoint) -> Iterator[CheckMessage]:
    name = getattr(endpoint.application, "__name__", type(endpoint.application).__name__)
    path = f"/{endpoint.route.lstrip('^/')}"
    faults = [*_encryption(endpoint, name, path), *_surroundings(endpoint, path)]
    yield from faults or [Info(f"{name} is encrypted", obj=path)]


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
