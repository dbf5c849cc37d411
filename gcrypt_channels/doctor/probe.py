"""Asks a running process how it does, by the view of :mod:`gcrypt_channels.health`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import HTTPErrorProcessor, build_opener

from django.core.checks import CheckMessage, Error, Info

__all__ = ["examine_process"]

TIMEOUT: Final = 5.0
"""Seconds that the process has to answer."""

MAX_ANSWER: Final = 65_536
"""Bytes of the answer that are read."""

FIGURES: Final = {
    *("healthy", "layer_up", "probe_age", "sweep_failures", "connections", "draining"),
}
"""What the view answers."""

_SUBJECT: Final = "process"
_HINT: Final = "Give the URL of gcrypt_channels.health.health, as this machine reaches it."


class _AnyStatus(HTTPErrorProcessor):
    """Returns every answer: 503 has figures as well, and a redirect is not followed."""

    def http_response(self, request: Any, response: Any) -> Any:
        return response

    https_response = http_response


def examine_process(url: str) -> Iterator[CheckMessage]:
    """Read the health view at ``url``, and yield what it says."""
    try:
        figures = _fetch(url)
    except (OSError, ValueError) as error:
        yield Error(f"{url} was not understood: {error}", hint=_HINT, obj=_SUBJECT)
        return
    if figures["healthy"]:
        yield Info(f"healthy; {figures['connections']} connections", obj=_SUBJECT)
    else:
        yield from _faults(figures)


def _fetch(url: str) -> dict[str, Any]:
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError("the URL is neither http nor https")
    with build_opener(_AnyStatus).open(url, timeout=TIMEOUT) as response:
        status, body = response.status, response.read(MAX_ANSWER)
    try:
        figures = json.loads(body)
    except (ValueError, RecursionError):
        figures = None
    if not isinstance(figures, dict) or not figures.keys() >= FIGURES:
        raise ValueError(f"the answer ({status}) is not that of the health view")
    return figures


def _faults(figures: dict[str, Any]) -> Iterator[CheckMessage]:
    if figures["layer_up"] is False:
        age = figures["probe_age"]
        yield Error(
            f"It does not receive from the channel layer; the last probe came back {age} s ago.",
            hint="See that the server behind CHANNEL_LAYERS runs and can be reached from there.",
            obj=_SUBJECT,
        )
    if figures["sweep_failures"]:
        yield Error(
            f"{figures['sweep_failures']} sweeps in a row could not look up the logins.",
            hint="See that the session store and the database can be reached from there.",
            obj=_SUBJECT,
        )
    if figures["draining"]:
        yield Error("It drains: it is about to stop.", hint="Ask another process.", obj=_SUBJECT)
