"""``{% gcrypt_script %}`` and ``{% gcrypt_config %}``: the browser client in a template."""

from __future__ import annotations

import json
from typing import Any

from django import template
from django.conf import settings
from django.http import HttpRequest
from django.middleware.csrf import get_token
from django.template.context import Context
from django.templatetags.static import static
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html, json_script
from django.utils.safestring import SafeString, mark_safe

from ..conf import conf

register = template.Library()

CONFIG_ID = "gcrypt-config"


@register.simple_tag(takes_context=True)
def gcrypt_script(context: Context) -> SafeString:
    """Write an import map, for ``import … from "gcrypt_channels"``, and the configuration.

    It has to stand before the first module script of the page. It has the CSP nonce of the request:
    Django's ``csp_nonce`` in the context, or ``request.csp_nonce``.
    """
    imports = {"imports": {"gcrypt_channels": static("gcrypt_channels/gcrypt.js")}}
    nonce = _nonce(context)
    attribute = format_html(' nonce="{}"', nonce) if nonce else ""
    script = format_html('<script type="importmap"{}>{}</script>', attribute, _script_safe(imports))
    return script + gcrypt_config(context)


@register.simple_tag(takes_context=True)
def gcrypt_config(context: Context) -> SafeString:
    """Write the configuration alone, for pages that bundle the client. It has no secret."""
    config = {
        "keyUrl": _key_url(),
        "profiles": conf.profiles,
        "csrfCookie": settings.CSRF_COOKIE_NAME,
        "csrfHeader": settings.CSRF_HEADER_NAME.removeprefix("HTTP_").replace("_", "-"),
    }
    request = context.get("request")
    if isinstance(request, HttpRequest):
        token = get_token(request)  # also makes Django send the cookie, on a page without a form
        if settings.CSRF_USE_SESSIONS or settings.CSRF_COOKIE_HTTPONLY:
            config["csrfToken"] = token
    return json_script(config, CONFIG_ID)


def _key_url() -> str:
    try:
        return reverse("gcrypt_channels:key")
    except NoReverseMatch as error:
        raise NoReverseMatch(
            'gcrypt_channels: add path("gcrypt/", include("gcrypt_channels.urls")) to the URLconf.'
        ) from error


def _nonce(context: Context) -> str:
    nonce = context.get("csp_nonce") or getattr(context.get("request"), "csp_nonce", "")
    return str(nonce or "")


def _script_safe(value: Any) -> SafeString:
    """Return JSON that cannot end its script element."""
    escapes = {ord("<"): "\\u003C", ord(">"): "\\u003E", ord("&"): "\\u0026"}
    return mark_safe(json.dumps(value).translate(escapes))  # noqa: S308  # nosec B308, B703
