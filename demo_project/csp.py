"""A strict Content-Security-Policy for every page, with a fresh nonce for each request.

Django 6 brings a middleware of its own; this small one serves Django 5.2 as well.
"""

from __future__ import annotations

import secrets
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import sync_and_async_middleware

POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self' 'nonce-{nonce}'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)


@sync_and_async_middleware
def content_security_policy(get_response: Any) -> Any:
    """Django's way to write a middleware that keeps an asynchronous view on the event loop."""

    def prepare(request: HttpRequest) -> str:
        nonce = secrets.token_urlsafe(16)
        request.csp_nonce = nonce  # type: ignore[attr-defined]  # {% gcrypt_script %} reads it
        return POLICY.format(nonce=nonce)

    if iscoroutinefunction(get_response):

        async def middleware_async(request: HttpRequest) -> HttpResponse:
            policy = prepare(request)
            response: HttpResponse = await get_response(request)
            response.headers["Content-Security-Policy"] = policy
            return response

        return middleware_async

    def middleware(request: HttpRequest) -> HttpResponse:
        policy = prepare(request)
        response: HttpResponse = get_response(request)
        response.headers["Content-Security-Policy"] = policy
        return response

    return middleware
