"""Tickets for the tokens of django-rest-knox; as ``contrib.drf``, and ``docs/tickets.md``."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.db.models import Q
from django.db.models.signals import post_delete
from django.utils import timezone
from knox.auth import TokenAuthentication
from knox.models import get_token_model

from ..revocation.receivers import token_deleted
from ..sessions.token import Token
from . import drf

__all__ = ["TicketView", "held_tokens", "identity_of"]


def identity_of(token: Any) -> str:
    """Return what names a token in tickets and for ``disconnect_token``: knox's digest of it."""
    return f"knox:{token.digest}"


def held_tokens(tokens: Collection[Token]) -> list[Token]:
    """Return those of ``tokens`` that exist and have not expired; for ``TOKEN_RESOLVER``."""
    digests = {
        each.identity.removeprefix("knox:") for each in tokens if each.identity.startswith("knox:")
    }
    unexpired = Q(expiry=None) | Q(expiry__gt=timezone.now())
    rows = get_token_model().objects.filter(unexpired, pk__in=digests) if digests else ()
    return [Token(str(row.user_id), identity_of(row)) for row in rows]


class TicketView(drf.TicketView):
    """The ticket endpoint for requests with a token of knox."""

    authentication_classes = (TokenAuthentication,)

    def identity_of(self, auth: Any) -> str:
        """Return the identity of the token that the request was made with."""
        return identity_of(auth)


def _on_delete(instance: Any, using: str, **kwargs: Any) -> None:
    token_deleted(identity_of(instance), using)


post_delete.connect(_on_delete, sender=get_token_model())
