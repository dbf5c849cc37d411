"""What sockets depend on while they live: session store, cache and channel layer, each tried."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.conf import settings
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured

from ..conf import conf
from .findings import Finding, Level

__all__ = ["examine_services"]

TIMEOUT = 5
"""Seconds for the channel layer to deliver one message."""

EVERY_BYTE = bytes(range(256))


class _BrokenError(Exception):
    """A service answered, but not with what it was given."""


def examine_services() -> Iterator[Finding]:
    """Write to each service, and read it back."""
    yield _tried("sessions", settings.SESSION_ENGINE, _try_sessions, _SESSION_ADVICE)
    if settings.SESSION_ENGINE.endswith((".cache", ".cached_db")):
        alias = settings.SESSION_CACHE_ALIAS
        yield _tried("cache", alias, lambda: _try_cache(alias), _CACHE_ADVICE)
    try:
        alias = conf.channel_layer
    except ImproperlyConfigured:
        return  # among the settings' own findings
    layers = getattr(settings, "CHANNEL_LAYERS", {})
    if alias in layers:  # W006 otherwise
        yield from _examine_layer(alias, str(layers[alias].get("BACKEND")))


def _examine_layer(alias: str, name: str) -> Iterator[Finding]:
    finding = _tried("channel layer", name, lambda: _try_layer(alias, "text"), _LAYER_ADVICE)
    yield finding
    if finding.level is not Level.OK:
        return
    binary = _tried("binary events", name, lambda: _try_layer(alias, EVERY_BYTE), "")
    if binary.level is not Level.OK:
        # Sealed group messages travel as text, so that this is no failure of ours.
        binary = Finding(
            Level.WARNING,
            "binary events",
            f"{name} does not carry bytes. Sealed groups do without; events of your own may not.",
            'Take the serializer "msgpack", or send text.',
        )
    yield binary


_SESSION_ADVICE = "See that the session store is reachable; for the db engine, run migrate."
_CACHE_ADVICE = "See that the cache of SESSION_CACHE_ALIAS is reachable and keeps what it is given."
_LAYER_ADVICE = "See that the server behind CHANNEL_LAYERS runs and can be reached from here."


def _tried(subject: str, name: str, attempt: Callable[[], None], advice: str) -> Finding:
    try:
        attempt()
    except Exception as error:  # noqa: BLE001 - backends raise what they like
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return Finding(Level.FAILURE, subject, f"{name} does not work: {reason}", advice)
    return Finding(Level.OK, subject, f"{name} keeps what it is given")


def _try_sessions() -> None:
    store = import_module(settings.SESSION_ENGINE).SessionStore
    session = store()
    marker = secrets.token_hex(8)
    session["gcrypt_doctor"] = marker
    session.save()
    try:
        if store(session.session_key).get("gcrypt_doctor") != marker:
            raise _BrokenError("a session that was saved is not found again")
    finally:
        session.delete()


def _try_cache(alias: str) -> None:
    key, marker = f"gcrypt_doctor.{secrets.token_hex(8)}", secrets.token_hex(8)
    caches[alias].set(key, marker, 60)
    try:
        if caches[alias].get(key) != marker:
            raise _BrokenError("a value that was set is not found again")
    finally:
        caches[alias].delete(key)


@async_to_sync
async def _try_layer(alias: str, data: str | bytes) -> None:
    layer: Any = get_channel_layer(alias)
    channel = await layer.new_channel("gcrypt_doctor")
    group = f"gcrypt_doctor.{secrets.token_hex(8)}"
    try:
        await layer.group_add(group, channel)
        await layer.group_send(group, {"type": "gcrypt.doctor", "data": data})
        event = await asyncio.wait_for(layer.receive(channel), TIMEOUT)
        await layer.group_discard(group, channel)
    finally:
        # The end of this event loop closes its connections. Not close_pools(), which would close
        # those of all event loops, and another may be telling of a session that has just ended.
        if hasattr(layer, "wait_received"):
            await layer.wait_received()
    if event.get("data") != data:
        raise _BrokenError("an event arrived changed")
