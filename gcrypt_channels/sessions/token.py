"""The project's tokens, with which tickets are issued: their names, and whether they still hold."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from ..conf import load_token_resolver
from ..crypto import primitives

__all__ = ["Token", "held_tokens", "token_id"]


class Token(NamedTuple):
    """What names a token of the project: it is neither the token nor leads to it.

    Attributes:
        user_id: the primary key of its user as a string.
        identity: names the token, such as ``"drf:"`` and the SHA-256 of its key.
    """

    user_id: str
    identity: str


def token_id(identity: str) -> str:
    """Return the name of a token's connections in the hub, which no session has."""
    return "token:" + primitives.sha256(identity.encode(errors="surrogatepass")).hex()


def held_tokens(tokens: Collection[Token]) -> set[Token]:
    """Return those of ``tokens`` that still hold, by ``GCRYPT["TOKEN_RESOLVER"]``. Blocks.

    Raises:
        ImproperlyConfigured: there is no such resolver.
        Exception: what the resolver raises.
    """
    return set(load_token_resolver()(tokens)) if tokens else set()
