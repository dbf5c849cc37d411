"""Tickets for djangorestframework-simplejwt; as ``contrib.drf``, and ``docs/tickets.md``.

The server keeps no list of these tokens: connections end when the access token expires, or by
``disconnect_token(identity_of(request.auth))``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from typing import Any

from django.views.decorators.debug import sensitive_variables
from rest_framework_simplejwt.authentication import JWTAuthentication
from rest_framework_simplejwt.tokens import Token as JsonWebToken

from ..crypto import primitives
from ..sessions.token import Token
from . import drf

__all__ = ["TicketView", "held_tokens", "identity_of"]


@sensitive_variables()
def identity_of(token: JsonWebToken) -> str:
    """Return what names a token in tickets and for ``disconnect_token``.

    It has the time of expiry (Unix seconds) and the SHA-256 of the payload.
    """
    payload = json.dumps(token.payload, sort_keys=True).encode()
    return f"jwt:{int(token['exp'])}:{primitives.sha256(payload).hex()}"


def held_tokens(tokens: Collection[Token]) -> list[Token]:
    """Return those of ``tokens`` that have not expired; for ``GCRYPT["TOKEN_RESOLVER"]``."""
    now = time.time()
    parts = ((each, each.identity.split(":")) for each in tokens)
    return [each for each, (kind, *rest) in parts if kind == "jwt" and int(rest[0]) > now]


class TicketView(drf.TicketView):
    """The ticket endpoint for requests with an access token."""

    authentication_classes = (JWTAuthentication,)

    def identity_of(self, auth: Any) -> str:
        """Return the identity of the token that the request was made with."""
        return identity_of(auth)
