"""The WebSocket paths."""

from __future__ import annotations

from django.urls import path, re_path

from demo_project import consumers

websocket_urlpatterns = [
    path("ws/counter/", consumers.CounterConsumer.as_asgi()),
    path("ws/echo/", consumers.EchoConsumer.as_asgi()),
    path("ws/echo-sync/", consumers.SyncEchoConsumer.as_asgi()),
    re_path(r"^ws/chat/(?P<room>[a-z0-9-]{1,40})/$", consumers.ChatConsumer.as_asgi()),
]
