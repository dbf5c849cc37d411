"""Metrics for Prometheus; needs the extra ``gcrypt_channels[prometheus]``.

In ``asgi.py``, once per process::

    from gcrypt_channels.contrib import prometheus

    prometheus.register()

How they are then served is the project's choice: ``prometheus_client.start_http_server(9100)``, or
``make_asgi_app()`` behind the project's own access control.
"""

from __future__ import annotations

from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge

from ..exceptions import HandshakeTimeout, InvalidFrame, NoProfile, NoSessionKey
from ..signals import connection_closed, connection_opened, connection_refused

_OWN_CODES = {each.code for each in (InvalidFrame, NoSessionKey, NoProfile, HandshakeTimeout)}


def register(registry: CollectorRegistry = REGISTRY) -> None:
    """Export the metrics of this process to ``registry``.

    =====================================  =======  ===============================================
    ``gcrypt_connections``                 gauge    connections that are open, by ``profile``
    ``gcrypt_connections_opened_total``    counter  by ``profile``
    ``gcrypt_connections_closed_total``    counter  by ``profile`` and ``code``
    ``gcrypt_connections_refused_total``   counter  by ``profile`` and ``code``; 4400 and 4408 are
                                                    failed handshakes
    =====================================  =======  ===============================================

    The label ``code`` is the WebSocket close code where it is a standard one (up to 1015) or this
    package's, and otherwise its thousands: ``"3xxx"``, ``"4xxx"``.

    Raises:
        ValueError: the registry has them already.
    """
    metrics = _Metrics(registry)
    # Strong references: nobody else holds the metrics.
    connection_opened.connect(metrics.opened, weak=False)
    connection_closed.connect(metrics.closed, weak=False)
    connection_refused.connect(metrics.refused, weak=False)


class _Metrics:
    """The metrics, and the receivers that keep them; ``async``, so that none costs a thread."""

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

    async def opened(self, *, profile: str, **arguments: Any) -> None:
        self._open.labels(profile).inc()
        self._opened.labels(profile).inc()

    async def closed(self, *, profile: str, code: int, **arguments: Any) -> None:
        self._open.labels(profile).dec()
        self._closed.labels(profile, _label(code)).inc()

    async def refused(self, *, profile: str, code: int, **arguments: Any) -> None:
        self._refused.labels(profile, _label(code)).inc()


def _label(code: int) -> str:
    """A close code as one of few labels: the client chooses it, and each label costs memory."""
    return str(code) if code <= 1015 or code in _OWN_CODES else f"{code // 1000}xxx"
