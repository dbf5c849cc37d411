"""The settings, as the system checks see them, and the key endpoint."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from django.conf import settings
from django.core.checks import CheckMessage
from django.urls import NoReverseMatch, reverse

from .. import checks
from ..conf import conf
from .findings import Finding, Level

__all__ = ["examine_configuration"]


def examine_configuration() -> Iterator[Finding]:
    """Look at settings, passphrase and URLconf."""
    errors = list(checks.check_settings(None))
    yield from _findings(errors, Level.FAILURE)
    if not errors:
        count = len(conf.passphrases)
        rotating = f", {count - 1} of them on the way out" if count > 1 else ""
        passphrases = "1 passphrase" if count == 1 else f"{count} passphrases"
        profiles = ", ".join(conf.profiles)
        yield Finding(Level.OK, "settings", f"valid; {profiles}; {passphrases}{rotating}")
    for check in (checks.check_security, checks.check_sessions, checks.check_channel_layer):
        yield from _findings(check(None), Level.WARNING)
    yield _key_endpoint()


def _findings(messages: Iterable[CheckMessage], level: Level) -> Iterator[Finding]:
    for message in messages:
        yield Finding(level, str(message.id).rpartition(".")[2], message.msg, message.hint or "")


def _key_endpoint() -> Finding:
    try:
        url = reverse("gcrypt_channels:key")
    except NoReverseMatch:
        return Finding(
            Level.FAILURE,
            "key endpoint",
            f"{settings.ROOT_URLCONF} has none: no page can fetch its key.",
            'Add path("gcrypt/", include("gcrypt_channels.urls")) to urlpatterns.',
        )
    return Finding(Level.OK, "key endpoint", url)
