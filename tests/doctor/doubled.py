"""A routing with one ``GcryptMiddleware`` inside another."""

from __future__ import annotations

from typing import Any

from channels.auth import AuthMiddlewareStack
from channels.routing import URLRouter
from django.urls import path

from gcrypt_channels import GcryptMiddleware
from tests.consumers import AsyncEchoMixinFirst

consumer: Any = AsyncEchoMixinFirst.as_asgi()
inner: Any = GcryptMiddleware(URLRouter([path("ws/", consumer)]))
outer: Any = AuthMiddlewareStack(URLRouter([path("app/", inner)]))
application = GcryptMiddleware(outer)
