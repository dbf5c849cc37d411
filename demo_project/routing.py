"""The WebSocket paths."""

from __future__ import annotations

from typing import Any

from django.urls import path, re_path

from demo_project import consumers
from demo_project.stage.consumers import EncryptedChat, PlainChat

ROOM = r"(?P<room>[a-z0-9-]{1,40})"

# Channels' own way to write routes; Django's stubs know views only.
websocket_urlpatterns: list[Any] = [
    path("ws/counter/", consumers.CounterConsumer.as_asgi()),  # type: ignore[arg-type]
    path("ws/echo/", consumers.EchoConsumer.as_asgi()),  # type: ignore[arg-type]
    path("ws/echo-sync/", consumers.SyncEchoConsumer.as_asgi()),  # type: ignore[arg-type]
    re_path(rf"^ws/chat/{ROOM}/$", consumers.ChatConsumer.as_asgi()),  # type: ignore[arg-type]
    re_path(rf"^ws/stage/{ROOM}/$", EncryptedChat.as_asgi()),  # type: ignore[arg-type]
]

plain_urlpatterns: list[Any] = [
    re_path(rf"^ws/plain/{ROOM}/$", PlainChat.as_asgi()),  # type: ignore[arg-type]
]
"""What the stage of the front page compares with: no encryption."""
