"""Metrics for Prometheus; needs the extra ``gcrypt_channels[prometheus]``.

In ``asgi.py``, once per process::

    from gcrypt_channels.contrib import prometheus

    prometheus.register()

Serve them with ``prometheus_client.start_http_server(9100)``, or with ``make_asgi_app()`` behind
the project's own access control.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from channels.layers import channel_layers
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ..exceptions import HandshakeTimeout, InvalidFrame, NoProfile, NoSessionKey
from ..hub.hub import hubs
from ..layers import SealedChannelLayer
from ..protocol.profiles import V1
from ..signals import connection_closed, connection_opened, connection_refused

_HANDSHAKE_FAILURES = {InvalidFrame.code, HandshakeTimeout.code, 1006}
_PLAIN = Gauge(
    "gcrypt_plain_connections",
    "WebSocket connections of applications that are not encrypted yet",
    registry=None,
    multiprocess_mode="livesum",
)
_PLAIN_OPENED = Counter(
    "gcrypt_plain_connections_opened",
    "WebSocket requests to applications that are not encrypted yet",
    registry=None,
)
_OWN_CODES = {each.code for each in (InvalidFrame, NoSessionKey, NoProfile, HandshakeTimeout)}


def register(registry: CollectorRegistry = REGISTRY) -> None:
    """Export the metrics of this process to ``registry``; ``docs/settings.md`` lists them.

    Raises:
        ValueError: the registry has them already.
    """
    metrics = _Metrics(registry)
    # Strong references: there is no other reference to the metrics.
    connection_opened.connect(metrics.opened, weak=False)
    connection_closed.connect(metrics.closed, weak=False)
    connection_refused.connect(metrics.refused, weak=False)
    for collector in (_HubMetrics(), _PLAIN, _PLAIN_OPENED):
        registry.register(collector)


class PlainConnections:
    """Count the WebSockets of an application that is not encrypted yet.

    It changes nothing for the application, and shows when the last page is converted
    (``docs/migrating.md``).

    Args:
        inner: the ASGI application on the route of the pages that are not converted.
    """

    def __init__(self, inner: Callable[[Any, Any, Any], Awaitable[None]]) -> None:
        self.inner = inner

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Run the application, and count it for as long as it runs."""
        _PLAIN_OPENED.inc()
        with _PLAIN.track_inprogress():
            await self.inner(scope, receive, send)


class _Metrics:
    """The metrics and the receivers that count; ``async``, because others run in a thread."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._open = Gauge(
            "gcrypt_connections",
            "Encrypted WebSocket connections that are open",
            ["profile"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._opened = Counter(
            "gcrypt_connections_opened",
            "Encrypted WebSocket connections whose application was started",
            ["profile"],
            registry=registry,
        )
        self._closed = Counter(
            "gcrypt_connections_closed",
            "Encrypted WebSocket connections that ended after they had been opened",
            ["profile", "code"],
            registry=registry,
        )
        self._refused = Counter(
            "gcrypt_connections_refused",
            "WebSocket connections that ended before they reached the application",
            ["profile", "code"],
            registry=registry,
        )
        self._handshake = Histogram(
            "gcrypt_handshake_seconds",
            "Seconds that clients took to prove that they hold their key",
            ["profile"],
            registry=registry,
        )
        self._forged = Counter(
            "gcrypt_handshakes_forged",
            "Handshakes whose reply was not made with the session's key, or was changed on its way",
            ["profile"],
            registry=registry,
        )
        self._failed = Counter(
            "gcrypt_handshakes_failed",
            "Handshakes that failed otherwise: garbled, for another request, too late, or left",
            ["profile"],
            registry=registry,
        )

    async def opened(self, *, profile: str, handshake: float, **arguments: Any) -> None:
        self._open.labels(profile).inc()
        self._opened.labels(profile).inc()
        if profile != V1:
            self._handshake.labels(profile).observe(handshake)

    async def closed(self, *, profile: str, code: int, **arguments: Any) -> None:
        self._open.labels(profile).dec()
        self._closed.labels(profile, _label(code)).inc()

    async def refused(self, *, profile: str, code: int, forged: bool, **arguments: Any) -> None:
        self._refused.labels(profile, _label(code)).inc()
        if forged:
            self._forged.labels(profile).inc()
        elif code in _HANDSHAKE_FAILURES:
            self._failed.labels(profile).inc()


def _label(code: int) -> str:
    """Return the label of a close code; there are few, because the client chooses the code."""
    return str(code) if code <= 1015 or code in _OWN_CODES else f"{code // 1000}xxx"


class _HubMetrics(Collector):
    """What the hubs and the sealed channel layers of this process count themselves."""

    def collect(self) -> Iterator[Metric]:
        found = hubs()
        layers = [
            layer
            for layer in list(channel_layers.backends.values())
            if isinstance(layer, SealedChannelLayer)
        ]
        subscribed = [up for hub in found if (up := hub.status().layer_up) is not None]
        yield GaugeMetricFamily(
            "gcrypt_layer_up",
            "Whether this process receives from the channel layer; absent without connections",
            min(subscribed) if subscribed else None,
        )
        yield CounterMetricFamily(
            "gcrypt_revocations",
            "Connections that were closed because their login had ended",
            sum(hub.members.revoked for hub in found),
        )
        yield CounterMetricFamily(
            "gcrypt_backlog_drops",
            "Group messages that were not sent to clients that read too slowly",
            sum(hub.backlog_drops for hub in found),
        )
        yield GaugeMetricFamily(
            "gcrypt_group_members",
            "Memberships of connections in groups",
            sum(len(members) for hub in found for members in list(hub.members.by_group.values())),
        )
        yield CounterMetricFamily(
            "gcrypt_group_messages_lost",
            "Group messages that are known not to have arrived in this process",
            sum(hub.lost for hub in found),
        )
        yield CounterMetricFamily(
            "gcrypt_layer_messages_dropped",
            "Messages of the channel layer that were forged, replayed, stale or foreign",
            sum(hub.dropped for hub in found) + sum(layer.dropped for layer in layers),
        )
