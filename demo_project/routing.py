"""The WebSocket paths."""

from __future__ import annotations

from typing import Any

from django.urls import path, re_path

from demo_project import consumers

# Channels' own way to write routes; Django's stubs know views only.
websocket_urlpatterns: list[Any] = [
    path("ws/counter/", consumers.CounterConsumer.as_asgi()),  # type: ignore[arg-type]
    path("ws/echo/", consumers.EchoConsumer.as_asgi()),  # type: ignore[arg-type]
    path("ws/echo-sync/", consumers.SyncEchoConsumer.as_asgi()),  # type: ignore[arg-type]
    re_path(r"^ws/chat/(?P<room>[a-z0-9-]{1,40})/$", consumers.ChatConsumer.as_asgi()),  # type: ignore[arg-type]
]
