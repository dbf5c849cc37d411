"""Sends requests through ``ASGI_APPLICATION``: for the browser client, and to the key endpoint."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from asgiref.sync import async_to_sync
from channels.routing import get_default_application
from django.conf import settings
from django.core.checks import CheckMessage, Error, Info, Warning  # noqa: A004
from django.core.exceptions import ImproperlyConfigured
from django.templatetags.static import static
from django.urls import NoReverseMatch, reverse

from .reports import describe

__all__ = ["examine_pages"]

TIMEOUT: Final = 10.0
"""Seconds for an answer."""


ANSWERS: Final = (200, 401, 403, 503)
"""Statuses of the key endpoint. It says 403 here where the CSRF token is kept in the session."""


MARK: Final = b"EncryptedWebSocket"
"""What the browser client holds, and an error page does not."""


class _Answer(NamedTuple):
    status: int
    body: bytes


def examine_pages() -> Iterator[CheckMessage]:
    """Fetch what a page needs as a browser would, over the proxy in front of the site."""
    if not getattr(settings, "ASGI_APPLICATION", None):
        return  # the probe of the routing says so
    try:
        application = get_default_application()
    except Exception:  # noqa: BLE001 - the probe of the routing says so
        return
    yield _examine_script(application)
    try:
        yield _examine_key_endpoint(application, reverse("gcrypt_channels:key"))
    except NoReverseMatch:
        return  # the probe of the key endpoint says so


def _examine_script(application: Any) -> CheckMessage:
    try:
        url = static("gcrypt_channels/gcrypt.js")
    except (ImproperlyConfigured, ValueError) as error:  # such as a manifest that lacks it
        return Error(
            f"gcrypt.js has no URL: {describe(error)}",
            hint="Set STATIC_URL, and run collectstatic where the storage needs it.",
            obj="script",
        )
    if urlsplit(url).netloc:
        return Info(f"{url} is on another host, which was not asked", obj="script")
    answer = _request(application, "GET", url)
    if (
        isinstance(answer, _Answer)
        and answer.status == 200
        and b"EncryptedWebSocket" in answer.body
    ):
        return Info(f"{url} is served", obj="script")
    return Warning(
        f"The ASGI application does not serve {url} ({_outcome(answer)}): behind daphne or uvicorn "
        "alone, pages are without their script.",
        hint="Have the proxy or WhiteNoise serve STATIC_ROOT, or in development use runserver or "
        "put ASGIStaticFilesHandler around get_asgi_application().",
        obj="script",
    )


def _examine_key_endpoint(application: Any, url: str) -> CheckMessage:
    """Ask for a key as a page of nobody would, with a CSRF token that fits: 401 is well."""
    scheme = "https" if _expects_tls() else "http"
    host = _host()
    token = secrets.token_hex(16)
    headers = {
        "origin": f"{scheme}://{host}",
        "cookie": f"{settings.CSRF_COOKIE_NAME}={token}",
        settings.CSRF_HEADER_NAME.removeprefix("HTTP_").replace("_", "-").lower(): token,
    }
    answer = _request(application, "POST", url, headers)
    if isinstance(answer, _Answer) and _is_bad_origin(answer):
        return Warning(
            f"Pages of {scheme}://{host} get no key: {_detail(answer)}",
            hint="Behind a proxy that ends TLS, set SECURE_PROXY_SSL_HEADER = "
            '("HTTP_X_FORWARDED_PROTO", "https"), and have it set that header; or name the origin '
            "in CSRF_TRUSTED_ORIGINS. A server that ends TLS itself needs neither.",
            obj="requests",
        )
    if isinstance(answer, _Answer) and answer.status in ANSWERS:
        return Info(f"{url} answers pages of {scheme}://{host}", obj="requests")
    return Error(
        f"{url} does not answer pages of {scheme}://{host} ({_outcome(answer)}).",
        hint='Give ProtocolTypeRouter an "http" entry; see ALLOWED_HOSTS, SECURE_SSL_REDIRECT and '
        "SECURE_PROXY_SSL_HEADER.",
        obj="requests",
    )


def _expects_tls() -> bool:
    named = ("SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE", "SECURE_SSL_REDIRECT")
    return bool(
        not settings.DEBUG
        or settings.SECURE_PROXY_SSL_HEADER
        or any(getattr(settings, name) for name in named)
    )


def _host() -> str:
    """A host name that the site answers to."""
    named = [each for each in settings.ALLOWED_HOSTS if each != "*"]
    return named[0].lstrip(".") if named else "localhost"


def _proxied(host: str) -> dict[str, str]:
    """The headers that a proxy in front of the site adds."""
    headers = {"host": host}
    if settings.USE_X_FORWARDED_HOST:
        headers["x-forwarded-host"] = host
    if _expects_tls():
        headers["x-forwarded-proto"] = "https"
        if settings.SECURE_PROXY_SSL_HEADER:
            name, value = settings.SECURE_PROXY_SSL_HEADER
            headers[name.removeprefix("HTTP_").replace("_", "-").lower()] = value
    return headers


def _request(
    application: Any, method: str, url: str, headers: Mapping[str, str] | None = None
) -> _Answer | Exception:
    """The answer of the application, or what it raised."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",  # the proxy speaks it to the ASGI server
        "path": url,
        "raw_path": url.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [
            (name.encode("latin-1"), value.encode("latin-1"))
            for name, value in {**_proxied(_host()), **(headers or {})}.items()
        ],
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 80),
    }
    disabled = logging.root.manager.disable
    logging.disable()  # a refusal is expected, and nobody's request
    try:
        return _run(application, scope)
    except Exception as error:  # noqa: BLE001 - it runs the project's own code
        return error
    finally:
        logging.disable(disabled)


@async_to_sync
async def _run(application: Any, scope: dict[str, Any]) -> _Answer:
    status, body, requested = 0, b"", False

    async def receive() -> dict[str, Any]:
        nonlocal requested
        if requested:
            await asyncio.Event().wait()  # until the application has answered
        requested = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(event: Any) -> None:
        nonlocal status, body
        status = event.get("status", status)
        body += event.get("body", b"")

    await asyncio.wait_for(application(scope, receive, send), TIMEOUT)
    return _Answer(status, body)


def _detail(answer: _Answer) -> str:
    """What the key endpoint says to a refusal."""
    try:
        return str(json.loads(answer.body)["detail"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def _is_bad_origin(answer: _Answer) -> bool:
    return answer.status == 403 and "Origin checking failed" in _detail(answer)


def _outcome(answer: _Answer | Exception) -> str:
    return f"status {answer.status}" if isinstance(answer, _Answer) else describe(answer)
