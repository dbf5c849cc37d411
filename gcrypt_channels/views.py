"""The key endpoint, from which a page of a logged-in user fetches the keys of its session."""

from __future__ import annotations

import base64
import logging
from typing import Any

from asgiref.sync import async_to_sync
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.middleware.csrf import CsrfViewMiddleware
from django.utils.decorators import decorator_from_middleware
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.debug import sensitive_variables

from . import keys
from .conf import conf
from .protocol.profiles import V1
from .sessions.identity import prepare_session
from .sessions.store import check_store

logger = logging.getLogger(__name__)


_ORIGIN_HINT = (
    "Behind a proxy that ends TLS, set SECURE_PROXY_SSL_HEADER; name other origins of the site in "
    "CSRF_TRUSTED_ORIGINS."
)
_TOKEN_HINT = "Send the CSRF cookie, and its token in the header that CSRF_HEADER_NAME names."  # noqa: S105


class _JsonCsrf(CsrfViewMiddleware):
    """Django's CSRF protection, answering in JSON like the endpoint itself."""

    def _reject(self, request: HttpRequest, reason: str) -> JsonResponse:
        hint = _ORIGIN_HINT if "checking failed" in reason else _TOKEN_HINT
        detail = f"CSRF verification failed: {reason} {hint}"
        logger.warning("%r: refused with 403: %s", request.path, detail)
        return error_response(403, "csrf", detail)


@sensitive_variables()
def _key(request: HttpRequest) -> HttpResponseBase:
    """Answer with the keys of the enabled profiles; see ``docs/protocol.md``, *Keys*."""
    if request.method != "POST":
        response = error_response(405, "method", "The key endpoint takes POST.")
        response["Allow"] = "POST"
        return response
    if not (request.user.is_authenticated or conf.anonymous):
        return _refusal(request, "Log in first: keys belong to a session.")
    prepare_session(request.session)
    keyring = async_to_sync(keys.resolve)({"session": request.session, "user": request.user})
    return key_response(request, keyring)


@sensitive_variables()
def key_response(request: HttpRequest, keyring: keys.Keyring | None) -> JsonResponse:
    """Return the key endpoint's answer with the keys of ``keyring``; for a project's own view.

    The view has to authenticate the request and to be covered by Django's CSRF protection. The
    answer must not be logged.

    Args:
        request: the request, with its session.
        keyring: what the resolver of the connections returns for the same login: ``None`` is
            answered with 401, or with 503 where the session store does not answer.
    """
    if keyring is None:
        return _refusal(request, "This session may have no key.")
    return no_store(JsonResponse(_members(keyring)))


def _members(keyring: keys.Keyring) -> dict[str, Any]:
    members: dict[str, Any] = {}
    if V1 in conf.profiles:
        members[V1] = {"passphrase": keyring.passphrases[0]}
    if set(conf.profiles) - {V1} and keyring.session_keys:
        members["session"] = key_member(keyring.session_keys[0])
    return members


def key_member(key: keys.SessionKey) -> dict[str, str]:
    """Return a session key as it is answered to a client."""
    psk = base64.urlsafe_b64encode(key.psk).rstrip(b"=").decode()
    return {"kid": key.kid.hex(), "psk": psk}


def _refusal(request: HttpRequest, detail: str) -> JsonResponse:
    """Say that there is no login; or, where the session store does not answer, to try again."""
    try:
        check_store(getattr(request, "session", None), request.COOKIES)
    except Exception:
        logger.exception("The session store does not answer the key endpoint.")
        if hasattr(request, "session"):
            del request.session  # it looks empty, and Django would delete its cookie
        return error_response(503, "store", "The session store does not answer. Try again later.")
    return error_response(401, "login", detail)


def error_response(status: int, code: str, detail: str) -> JsonResponse:
    """Return an error as both endpoints answer it."""
    return no_store(JsonResponse({"error": code, "detail": detail}, status=status))


def no_store(response: JsonResponse) -> JsonResponse:
    """Forbid every cache to keep ``response``."""
    response["Cache-Control"] = "no-store"
    return response


# Exempt from the site's CSRF and login middlewares, which answer with a page or a redirect: it
# answers in JSON itself, and is protected in projects without those middlewares as well.
key = login_not_required(csrf_exempt(decorator_from_middleware(_JsonCsrf)(_key)))
