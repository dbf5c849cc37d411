"""Tickets: connections for clients that have a token and no session cookie.

The ticket endpoint stands behind the project's own authentication, and answers with a ticket and
the key of its connections. ``TicketMiddleware`` lets a client in who offers the ticket. See
``docs/tickets.md``, and ``docs/protocol.md``, *Tickets*.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

from channels.db import database_sync_to_async
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_POST

from . import keys
from .conf import conf, load_token_resolver
from .crypto.psk import SessionKey
from .crypto.ticket import open_ticket, seal_ticket
from .exceptions import DecryptionFailed, NoSessionKey
from .middleware import TICKET_ENTRY, TICKET_PREFIX, Admission
from .sessions.login import auth_digest, login_of_ticket
from .sessions.store import Account
from .views import error_response, key_member, no_store

__all__ = ["TicketMiddleware", "ticket_response", "ticket_view"]

logger = logging.getLogger(__name__)

LIFETIME: Final = 60
"""Seconds in which a ticket opens connections."""

CLOCK_SKEW: Final = 5
"""Seconds by which the clocks of two servers may differ."""

MAX_TOKEN: Final = 1024
"""Characters of the subprotocol that carries a ticket: servers refuse header lines above 8 KiB."""


@sensitive_variables()
def ticket_response(user: Any, identity: str = "") -> JsonResponse:
    """Return the ticket endpoint's answer to a request of ``user``. Blocks.

    Call it behind an authentication that needs no cookie, or a cookie and Django's CSRF protection:
    the answer lets whoever reads it connect as the user for :data:`LIFETIME` seconds.

    Args:
        user: who is authenticated.
        identity: names the token with which the request was made, and must not be the token.
            Connections end when ``GCRYPT["TOKEN_RESOLVER"]`` says that it no longer holds. Without
            it they end with the user's password and activity alone.

    Raises:
        ImproperlyConfigured: there is an identity, and no ``GCRYPT["TOKEN_RESOLVER"]``.
        ValueError: ``user`` is nobody, or identity and primary key are too long for a ticket.
    """
    if not user.is_authenticated:
        raise ValueError("ticket_response: the user is not authenticated")
    if identity:
        load_token_resolver()  # else nobody could connect with the ticket
    claims = {
        "expires": int(time.time()) + LIFETIME,
        "user": str(user.pk),
        "backend": getattr(user, "backend", None) or "",
        "auth": auth_digest(user).hex(),
        "token": identity,
    }
    ticket, key = _seal(claims)
    if len(TICKET_PREFIX) + len(ticket) > MAX_TOKEN:
        raise ValueError("ticket_response: identity and primary key are too long for a ticket")
    answer = {"session": key_member(key), "ticket": ticket, "expires_in": LIFETIME}
    return no_store(JsonResponse(answer))


def _seal(claims: Mapping[str, Any]) -> tuple[str, SessionKey]:
    secret = keys.purpose_secret("ticket", conf.passphrases[0])
    return seal_ticket(secret, json.dumps(claims, separators=(",", ":")).encode())


def _open(ticket: str) -> tuple[dict[str, Any], SessionKey] | None:
    """Return the claims and the key; ``None`` for a ticket that is garbled, or of another site."""
    secrets = [keys.purpose_secret("ticket", passphrase) for passphrase in conf.passphrases]
    try:
        claims, key = open_ticket(secrets, ticket)
    except DecryptionFailed:
        return None
    return json.loads(claims), key


def ticket_view(
    authenticate: Callable[[HttpRequest], tuple[Any, str] | None],
) -> Callable[..., HttpResponseBase]:
    """Return a view that answers with tickets: the ticket endpoint.

    Args:
        authenticate: returns the user of a request and the identity of its token, as
            :func:`ticket_response` takes them, or ``None`` for a request that has no valid token,
            which is answered with 401. It must not go by the session cookie unless Django's CSRF
            protection covers the view.
    """

    @login_not_required  # it asks for a login itself
    @require_POST
    @sensitive_variables()
    def view(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        found = authenticate(request)
        if found is not None:
            return ticket_response(*found)
        return error_response(401, "login", "The request has no valid token.")

    return view


class TicketMiddleware:
    """Lets clients connect with a ticket; requests without one pass through untouched.

    It goes directly around ``GcryptMiddleware``: inside ``AuthMiddlewareStack``, where one route
    serves cookies and tickets, or without that. With a ticket ``scope["user"]`` is the ticket's
    user for the application, ``scope["session"]`` is ``None``, and a session cookie in the same
    request counts for nothing.

    Args:
        inner: the ASGI application, a ``GcryptMiddleware``.
    """

    def __init__(self, inner: Callable[[Any, Any, Any], Awaitable[None]]) -> None:
        self.inner = inner

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Pass the request on; a ticket is looked at when ``GcryptMiddleware`` asks for it."""
        offered = scope.get("subprotocols") or ()
        tickets = [
            each.removeprefix(TICKET_PREFIX) for each in offered if each.startswith(TICKET_PREFIX)
        ]
        if tickets:
            admit = database_sync_to_async(partial(_admit, tickets, scope.get("path", "")))
            replaced = {"user": AnonymousUser(), "session": None, TICKET_ENTRY: admit}
            scope = {**scope, **replaced}
        await self.inner(scope, receive, send)


@sensitive_variables()
def _admit(tickets: list[str], path: str) -> Admission:
    """Return what the ticket stands for. Blocks.

    Raises:
        NoSessionKey: it stands for nothing; the log alone tells why.
        ImproperlyConfigured: ``GCRYPT["TOKEN_RESOLVER"]`` cannot be used.
        Exception: the database, or what the resolver asks, cannot be asked.
    """
    opened = None
    cause = "the ticket is garbled, or of another site"
    if len(tickets) > 1:
        cause = "two tickets were offered"
    elif len(TICKET_PREFIX) + len(tickets[0]) <= MAX_TOKEN:
        opened = _open(tickets[0])
    if opened is not None:
        claims, key = opened
        if time.time() > claims["expires"] + CLOCK_SKEW:
            cause = "the ticket has expired"
        else:
            account = Account(claims["backend"], claims["user"])
            found = login_of_ticket(account, bytes.fromhex(claims["auth"]), claims["token"])
            if found is not None:
                login, user = found
                keyring = keys.Keyring(passphrases=(), session_keys=(key,))
                return Admission(keyring, login, {"user": user})
            cause = "the user or the token of the ticket no longer holds"
    logger.warning("%r: %s.", path, cause)
    raise NoSessionKey
