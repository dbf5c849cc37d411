"""System checks: mistakes in a project's settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from channels.exceptions import InvalidChannelLayerError
from channels.layers import InMemoryChannelLayer, get_channel_layer
from django.apps import AppConfig, apps
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from .conf import BOUND_MEMBERS, conf, find_weakness, problems
from .hub.hub import hubs
from .layers.sealed import SealedChannelLayer, inner_config, layer_problem, unwrap
from .protocol.profiles import V1, is_available

TAG = "gcrypt"
"""``manage.py check --tag gcrypt`` runs these checks alone."""

LOCAL_CACHES = (
    "django.core.cache.backends.locmem.LocMemCache",
    "django.core.cache.backends.dummy.DummyCache",
)
IN_MEMORY_LAYER = "channels.layers.InMemoryChannelLayer"


def register() -> None:
    """Register every check with Django."""
    for check in (
        check_settings,
        check_security,
        check_sessions,
        check_channel_layer,
        check_sealing,
    ):
        checks.register(check, checks.Tags.security, TAG)


def check_settings(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> Iterable[CheckMessage]:
    """E001-E010 and E012-E014: what keeps the package from working at all."""
    found: list[CheckMessage] = [
        checks.Error(each.message, hint=each.hint, id=each.id) for each in problems()
    ]
    if not found and _counts_apart():
        found.append(
            checks.Error(
                "GCRYPT['HISTORY'] has no URL, and the channel layer reaches other processes: each "
                "would count for itself.",
                hint="Give it the 'URL' of a Redis, which may be that of the channel layer.",
                id="gcrypt_channels.E014",
            )
        )
    return found


def _counts_apart() -> bool:
    """Whether each process keeps its own history of groups that it shares with others."""
    config = getattr(settings, "CHANNEL_LAYERS", {}).get(conf.channel_layer)
    if conf.history is None or conf.history.url or config is None:
        return False
    if layer_problem(config, conf.channel_layer) is not None:
        return False  # E011
    return inner_config(config).get("BACKEND") != IN_MEMORY_LAYER


def check_security(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> Iterable[CheckMessage]:
    """W001, W002, W011 and W012: settings that work, but weaken the protection."""
    if problems():
        return []
    found: list[CheckMessage] = []
    weak = find_weakness(conf.passphrases)
    if weak is not None:
        found.append(checks.Warning(weak.message, hint=weak.hint, id=weak.id))
    if V1 in conf.profiles and not settings.DEBUG:
        found.append(
            checks.Warning(
                "gcrypt.v1 is enabled with DEBUG=False: it has no integrity, no replay protection "
                "and no forward secrecy.",
                hint="Remove 'gcrypt.v1' from GCRYPT['PROFILES'] once no g-crypt page needs it.",
                id="gcrypt_channels.W002",
            )
        )
    if "PROFILES" in getattr(settings, "GCRYPT", {}) and not all(map(is_available, conf.profiles)):
        found.append(
            checks.Warning(
                "GCRYPT['PROFILES'] lists gcrypt.v3, which is skipped: the installed cryptography "
                "has no ML-KEM-768.",
                hint="Install cryptography 48 or newer.",
                id="gcrypt_channels.W011",
            )
        )
    unbound = [each for each in BOUND_MEMBERS if each not in conf.bind_request]
    if unbound:
        found.append(
            checks.Warning(
                f"GCRYPT['BIND_REQUEST'] leaves out {' and '.join(map(repr, unbound))}: who is on "
                "the wire can lead a connection to another consumer, query or tenant.",
                hint="Pass on what the client sent (nginx: proxy_set_header Host $host;), or set "
                "USE_X_FORWARDED_HOST or FORCE_SCRIPT_NAME, and remove BIND_REQUEST.",
                id="gcrypt_channels.W012",
            )
        )
    return found


def check_sessions(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> Iterable[CheckMessage]:
    """W003-W005: session engines that do not fulfil what keys of a session need."""
    try:
        if conf.resolver != "session":
            return []
    except ImproperlyConfigured:
        return []
    engine = settings.SESSION_ENGINE
    if not apps.is_installed("django.contrib.auth"):
        return [
            checks.Warning(
                "The 'session' passphrase resolver needs django.contrib.auth, which is not "
                "installed: nobody will get a key.",
                hint="Install it, or set GCRYPT['PASSPHRASE_RESOLVER'].",
                id="gcrypt_channels.W003",
            )
        ]
    if engine.endswith(".signed_cookies"):
        return [
            checks.Warning(
                "SESSION_ENGINE is signed_cookies: a stolen session cookie cannot be revoked on "
                "the server, and session['gcrypt_passphrase'] is refused because the browser "
                "could read it.",
                hint="Use the db, cached_db or cache engine.",
                id="gcrypt_channels.W004",
            )
        ]
    if engine.endswith((".cache", ".cached_db")):
        return _cache_warnings(engine)
    return []


def _cache_warnings(engine: str) -> list[CheckMessage]:
    cache = settings.CACHES.get(settings.SESSION_CACHE_ALIAS, {})
    backend = cache.get("BACKEND", "")
    if settings.DEBUG or backend not in LOCAL_CACHES:
        return []
    return [
        checks.Warning(
            f"Sessions live in the cache {settings.SESSION_CACHE_ALIAS!r}, whose backend "
            f"{backend!r} is not shared between processes: a key fetched from one worker is "
            "unknown to the next.",
            hint="Use a shared cache (Redis, Memcached), or the db session engine.",
            id="gcrypt_channels.W005",
        )
    ]


def check_channel_layer(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> Iterable[CheckMessage]:
    """W006-W008, W010: a layer that does not reach all, or that drops quiet connections."""
    try:
        alias = conf.channel_layer
    except ImproperlyConfigured:
        return []
    layers = getattr(settings, "CHANNEL_LAYERS", {})
    if alias not in layers:
        return [
            checks.Warning(
                f"There is no channel layer {alias!r}: group messages and the closing of sockets "
                "at logout reach only the process they start in.",
                hint="Configure CHANNEL_LAYERS, with channels_redis when several workers serve.",
                id="gcrypt_channels.W006",
            )
        ]
    if layer_problem(layers[alias], alias) is not None:
        return []  # E011
    if inner_config(layers[alias]).get("BACKEND") == IN_MEMORY_LAYER and not settings.DEBUG:
        return [
            checks.Warning(
                f"The channel layer {alias!r} is in-memory: with several workers, group messages "
                "and the closing of sockets at logout stay in one of them.",
                hint="Use channels_redis.",
                id="gcrypt_channels.W007",
            )
        ]
    if _is_shared_by_event_loops(alias):
        return [
            checks.Warning(
                f"Several event loops of this process use the channel layer {alias!r}: the core "
                "layer of channels_redis lets one of them receive, and the others get no group "
                "messages and no revocations.",
                hint="Serve from one event loop a process, or use channels_redis.pubsub.",
                id="gcrypt_channels.W010",
            )
        ]
    options = _scarce_options(alias)
    if options:
        return [
            checks.Warning(
                f"The Redis client of the channel layer {alias!r} has too little of "
                f"{' and '.join(options)}: connections are closed as in an outage.",
                hint="Give each host of CHANNEL_LAYERS more: "
                + ", ".join(f"'{name}': {value}" for name, value in options.items())
                + ".",
                id="gcrypt_channels.W008",
            )
        ]
    return []


def _is_shared_by_event_loops(alias: str) -> bool:
    """Whether more than one hub of this process has connections on the core layer."""
    try:
        layer: Any = unwrap(get_channel_layer(alias))
    except InvalidChannelLayerError:
        return False  # its user gets this error
    is_core = hasattr(type(layer), "brpop_timeout")
    return is_core and sum(bool(hub.members.connections) for hub in hubs()) > 1


def _scarce_options(alias: str) -> dict[str, int]:
    """The options of the Redis client that are too small on the core layer, with better values.

    A read must not time out before the blocking read of channels_redis (5 s) returns: by default it
    does with redis-py 8 and channels_redis 4.3. That redis-py also has 100 connections at most, and
    every consumer that joins, leaves or sends at the same moment takes one.
    """
    try:
        layer: Any = unwrap(get_channel_layer(alias))
    except InvalidChannelLayerError:
        return {}  # its user gets this error
    blocks_for = getattr(type(layer), "brpop_timeout", None)
    if blocks_for is None:
        return {}
    scarce: dict[str, int] = {}
    for index in range(layer.ring_size):
        pool = layer.create_pool(index)
        timeout = pool.make_connection().socket_timeout
        if timeout is not None and timeout <= blocks_for:
            scarce["socket_timeout"] = 3 * blocks_for
        if pool.max_connections <= 100:
            scarce["max_connections"] = 10_000
    return scarce


def check_sealing(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Iterable[CheckMessage]:
    """E011: a sealed layer that is put together wrongly. W009: one that should be sealed."""
    found: list[CheckMessage] = []
    for alias, config in getattr(settings, "CHANNEL_LAYERS", {}).items():
        where = f"CHANNEL_LAYERS[{alias!r}]"
        problem = layer_problem(config, where)
        if problem is not None:
            hint = (
                f"{where} = {{'BACKEND': 'gcrypt_channels.layers.SealedChannelLayer', 'CONFIG': "
                "{'layer': {'BACKEND': …, 'CONFIG': …}}}."
            )
            found.append(checks.Error(problem, hint=hint, id="gcrypt_channels.E011"))
        elif _leaves_in_plaintext(config):
            found.append(
                checks.Warning(
                    f"{where} sends in plaintext what consumers and views give to "
                    "channel_layer.send and group_send, with the names of the groups.",
                    hint=f"Set {where} to {{'BACKEND': 'gcrypt_channels.layers.SealedChannelLayer',"
                    " 'CONFIG': {'layer': <what it is now>}}.",
                    id="gcrypt_channels.W009",
                )
            )
    return found


def _leaves_in_plaintext(config: Mapping[str, Any]) -> bool:
    try:
        backend = import_string(config["BACKEND"])
        stays_or_sealed = issubclass(backend, (InMemoryChannelLayer, SealedChannelLayer))
    except (KeyError, TypeError, AttributeError, ImportError):
        return False  # its user gets this error
    return not stays_or_sealed and not config.get("CONFIG", {}).get("symmetric_encryption_keys")
