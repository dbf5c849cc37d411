"""Tickets for Django REST framework; needs the extra ``gcrypt_channels[drf]``.

With the tokens of ``rest_framework.authtoken``::

    GCRYPT = {"TOKEN_RESOLVER": "gcrypt_channels.contrib.drf.held_tokens"}

    urlpatterns = [path("gcrypt/ticket/", TicketView.as_view())]

``contrib.knox`` and ``contrib.simplejwt`` have the same names for their tokens. See
``docs/tickets.md``.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.apps import apps
from django.db.models.signals import post_delete
from django.http import HttpResponseBase
from django.views.decorators.debug import sensitive_variables
from rest_framework.authentication import TokenAuthentication
from rest_framework.authtoken.models import Token as DrfToken
from rest_framework.exceptions import NotAuthenticated
from rest_framework.permissions import IsAuthenticated
from rest_framework.views import APIView

from ..crypto import primitives
from ..revocation.receivers import token_deleted
from ..sessions.token import Token
from ..tickets import ticket_response

__all__ = ["TicketView", "held_tokens", "identity_of"]


@sensitive_variables()
def identity_of(token: DrfToken) -> str:
    """Return what names a token in tickets and for ``disconnect_token``: the SHA-256 of its key."""
    return f"drf:{primitives.sha256(token.key.encode()).hex()}"


def held_tokens(tokens: Collection[Token]) -> list[Token]:
    """Return those of ``tokens`` that are in the database; for ``GCRYPT["TOKEN_RESOLVER"]``."""
    asked = {each for each in tokens if each.identity.startswith("drf:")}
    rows = DrfToken.objects.filter(user_id__in={each.user_id for each in asked}) if asked else ()
    return [
        each
        for each in (Token(str(row.user_id), identity_of(row)) for row in rows)
        if each in asked
    ]


class TicketView(APIView):  # type: ignore[misc]  # untyped
    """The ticket endpoint for requests with a token of ``rest_framework.authtoken``.

    A subclass may set ``authentication_classes``, and then says in :meth:`identity_of` what their
    ``request.auth`` is called.
    """

    authentication_classes = (TokenAuthentication,)
    permission_classes = (IsAuthenticated,)

    @sensitive_variables()
    def post(self, request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Answer with a ticket."""
        if request.auth is None:  # a session, which no ticket would end with
            raise NotAuthenticated("A ticket needs a token.")
        return ticket_response(request.user, self.identity_of(request.auth))

    def identity_of(self, auth: Any) -> str:
        """Return the identity of the token that the request was made with."""
        return identity_of(auth)


def _on_delete(instance: DrfToken, using: str, **kwargs: Any) -> None:
    token_deleted(identity_of(instance), using)


for _model in apps.get_models():
    if issubclass(_model, DrfToken):  # the proxy of the admin sends its own signals
        post_delete.connect(_on_delete, sender=_model)
