"""Examines session store, cache and channel layer: writes to each and reads it back."""

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
from django.core.checks import CheckMessage, Error, Info
from django.core.exceptions import ImproperlyConfigured

from ..conf import conf
from ..layers.sealed import inner_config
from .reports import describe

__all__ = ["examine_services"]

TIMEOUT = 5
"""Seconds for the channel layer to deliver one message."""


class _BrokenError(Exception):
    """A service did not return what had been written to it."""


def examine_services() -> Iterator[CheckMessage]:
    """Examine each service that this project uses."""
    yield _examine("sessions", settings.SESSION_ENGINE, _try_sessions, _SESSION_HINT)
    if settings.SESSION_ENGINE.endswith((".cache", ".cached_db")):
        alias = settings.SESSION_CACHE_ALIAS
        yield _examine("cache", alias, lambda: _try_cache(alias), _CACHE_HINT)
    try:
        alias = conf.channel_layer
    except ImproperlyConfigured:
        return  # the checks of the settings say so
    layers = getattr(settings, "CHANNEL_LAYERS", {})
    if alias in layers:  # W006 otherwise
        name = str(inner_config(layers[alias]).get("BACKEND"))
        yield _examine("channel layer", name, lambda: _try_layer(alias), _LAYER_HINT)


_SESSION_HINT = "See that the session store is reachable; for the db engine, run migrate."
_CACHE_HINT = "See that the cache of SESSION_CACHE_ALIAS is reachable and keeps what it is given."
_LAYER_HINT = "See that the server behind CHANNEL_LAYERS runs and can be reached from here."


def _examine(subject: str, name: str, attempt: Callable[[], None], hint: str) -> CheckMessage:
    try:
        attempt()
    except Exception as error:  # noqa: BLE001 - backends raise what they like
        return Error(f"{name} does not work: {describe(error)}", hint=hint, obj=subject)
    return Info(f"{name} works", obj=subject)


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
async def _try_layer(alias: str) -> None:
    layer: Any = get_channel_layer(alias)
    channel = await layer.new_channel("gcrypt_doctor")
    group, data = f"gcrypt_doctor.{secrets.token_hex(8)}", secrets.token_hex(8)
    try:
        await layer.group_add(group, channel)
        await layer.group_send(group, {"type": "gcrypt.doctor", "data": data})
        event = await asyncio.wait_for(layer.receive(channel), TIMEOUT)
        await layer.group_discard(group, channel)
    finally:
        # The end of this event loop closes its connections. close_pools() would also close those of
        # other event loops, and another thread may be sending a notice at this moment.
        if hasattr(layer, "wait_received"):
            await layer.wait_received()
    if event.get("data") != data:
        raise _BrokenError("an event arrived changed")
