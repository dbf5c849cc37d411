"""Compares the request that the client says it made with the one that arrived.

See ``docs/protocol.md``, *Binding*.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote

from django.conf import settings

from ..conf import conf
from ..protocol.events import Binding

logger = logging.getLogger(__name__)

Scope = Mapping[str, Any]

LOGGED_LENGTH: Final = 200
"""Characters of a value that are logged at most."""

_HINTS: Final = {
    "host": (
        "pass the Host header on (nginx: proxy_set_header Host $host;), or set USE_X_FORWARDED_HOST"
    ),
    "target": "set FORCE_SCRIPT_NAME for a proxy that strips a prefix",
}


def is_same_request(binding: Binding, scope: Scope) -> bool:
    """Whether ``binding`` names the request that ``scope`` describes.

    The tokens that the client offered are always compared; host and target where
    ``GCRYPT["BIND_REQUEST"]`` lists them. The log says what differs: both values of the host and of
    the path, but of a query only that it differs, because queries carry tokens.
    """
    path = scope.get("path", "")
    differences = list(_differences(binding, scope))
    for member, told in differences:
        hint = _HINTS.get(member)
        logger.warning(
            "%r: refused, the client asked for another %s%s.%s",
            path,
            member,
            told,
            f" Behind a proxy: {hint}; or drop {member!r} from GCRYPT['BIND_REQUEST']."
            if hint
            else "",
        )
    return not differences


def _differences(binding: Binding, scope: Scope) -> Iterator[tuple[str, str]]:
    """The members that differ, each with what the log may tell of it."""
    if list(binding.offered) != list(scope.get("subprotocols") or ()):
        yield "offered list of subprotocols", ""
    bound = conf.bind_request
    if "host" in bound:
        host = _host(scope)
        if host is None or _bare_host(binding.host) != _bare_host(host):
            yield "host", f" ({_shown(binding.host)}, here it is {_shown(host)})"
    if "target" in bound:
        path, _, query = binding.target.partition("?")
        asked = unquote(path, errors="replace")
        if not _is_path(asked, scope):
            yield "target", f" ({_shown(asked)}, here it is {_shown(scope.get('path'))})"
        elif query.encode() != bytes(scope.get("query_string") or b""):
            yield "target", " (its query)"


def _is_path(asked: str, scope: Scope) -> bool:
    path = scope.get("path", "")
    prefix = (settings.FORCE_SCRIPT_NAME or "").rstrip("/")
    return asked in (path, prefix + path)


def _host(scope: Scope) -> str | None:
    """The request's one host, as Django reads it; ``None`` if there is not exactly one."""
    named: dict[bytes, list[bytes]] = {b"host": [], b"x-forwarded-host": []}
    for name, value in scope.get("headers") or ():
        if name in named:
            named[name].append(value)
    forwarded = named[b"x-forwarded-host"] if settings.USE_X_FORWARDED_HOST else []
    values = forwarded or named[b"host"]
    return values[0].decode("latin-1") if len(values) == 1 else None


def _bare_host(host: str) -> str:
    """``host`` without port and final dot, in lower case."""
    name, colon, port = host.rpartition(":")
    if colon and (port.isdecimal() or not port) and not (":" in name and not name.endswith("]")):
        host = name
    return host.removesuffix(".").lower()


def _shown(value: object) -> str:
    return repr(value)[:LOGGED_LENGTH]
