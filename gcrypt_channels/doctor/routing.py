"""The routing of ``ASGI_APPLICATION``: what stands around each WebSocket consumer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from channels.auth import AuthMiddleware
from channels.routing import ProtocolTypeRouter, URLRouter, get_default_application
from channels.security.websocket import OriginValidator
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from ..conf import conf
from ..consumers import EncryptedJsonConsumer
from ..middleware import GcryptMiddleware
from .findings import Finding, Level

__all__ = ["examine_routing"]


class Endpoint(NamedTuple):
    """A consumer, or another application that ends a route, and the middleware around it."""

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


def examine_routing() -> Iterator[Finding]:
    """Walk from ``ASGI_APPLICATION`` to every WebSocket consumer."""
    if not getattr(settings, "ASGI_APPLICATION", None):
        yield Finding(
            Level.WARNING,
            "routing",
            "ASGI_APPLICATION is not set: the routing could not be looked at.",
            'Set it to the application of asgi.py, such as "mysite.asgi.application".',
        )
        return
    try:
        application = get_default_application()
    except Exception as error:  # noqa: BLE001 - it runs the project's own code
        yield Finding(
            Level.FAILURE,
            "routing",
            f"ASGI_APPLICATION cannot be loaded: {type(error).__name__}: {error}",
            "Mend asgi.py.",
        )
        return
    endpoints = list(_walk(application, "", ()))
    if not endpoints:
        yield Finding(
            Level.WARNING,
            "routing",
            "ASGI_APPLICATION routes no WebSocket.",
            'Give ProtocolTypeRouter a "websocket" entry.',
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


def _examine(endpoint: Endpoint) -> Iterator[Finding]:
    name = getattr(endpoint.application, "__name__", type(endpoint.application).__name__)
    subject = f"/{endpoint.route.lstrip('^/')}"
    found = list(_encryption(endpoint, name)) + list(_surroundings(endpoint))
    for level, message, advice in found:
        yield Finding(level, subject, message, advice)
    if not found:
        yield Finding(Level.OK, subject, f"{name} is encrypted")


Fault = tuple[Level, str, str]


def _encryption(endpoint: Endpoint, name: str) -> Iterator[Fault]:
    consumer = endpoint.application
    has_mixin = isinstance(consumer, type) and issubclass(consumer, EncryptedJsonConsumer)
    if endpoint.encryption is None:
        level = Level.FAILURE if has_mixin else Level.WARNING
        yield (
            level,
            f"{name} is not encrypted: no GcryptMiddleware is around it.",
            "Put GcryptMiddleware around the URLRouter.",
        )
    elif isinstance(consumer, type) and not (has_mixin or endpoint.encryption.seal_outbound):
        yield (
            Level.FAILURE,
            f"{name} sends plaintext, which GcryptMiddleware refuses with 1011.",
            "Inherit EncryptedJsonConsumer, or use GcryptMiddleware(…, seal_outbound=True).",
        )


def _surroundings(endpoint: Endpoint) -> Iterator[Fault]:
    if endpoint.encryption is None:
        return
    if _uses_session(endpoint.encryption) and endpoint.outside(AuthMiddleware) is None:
        yield (
            Level.FAILURE,
            "No AuthMiddlewareStack is around GcryptMiddleware: nobody gets a key.",
            "Use AuthMiddlewareStack(GcryptMiddleware(…)), in this order.",
        )
    validator = endpoint.outside(OriginValidator)
    if validator is None or "*" in _allowed(validator):
        yield (
            Level.WARNING,
            "The Origin of connections is not validated.",
            "Put AllowedHostsOriginValidator around it all, and name the hosts in ALLOWED_HOSTS.",
        )


def _uses_session(encryption: GcryptMiddleware) -> bool:
    try:
        return (encryption.resolver or conf.resolver) == "session"
    except ImproperlyConfigured:
        return False  # among the settings' own findings


def _allowed(validator: OriginValidator) -> Iterable[Any]:
    return validator.allowed_origins
