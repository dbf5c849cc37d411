"""Examines the settings, by the system checks, and the key endpoint."""

from __future__ import annotations

from collections.abc import Iterator

from django.conf import settings
from django.core.checks import CheckMessage, Error, Info
from django.urls import NoReverseMatch, reverse

from .. import checks
from ..conf import conf
from ..protocol.profiles import Profile, is_available

__all__ = ["examine_configuration"]


def examine_configuration() -> Iterator[CheckMessage]:
    """Examine settings, passphrase and URLconf."""
    errors = list(checks.check_settings(None))
    yield from errors
    if not errors:
        count = len(conf.passphrases)
        passphrases = "1 passphrase" if count == 1 else f"{count} passphrases"
        profiles = ", ".join(map(_describe, conf.profiles))
        yield Info(f"valid; {profiles}; {passphrases}", obj="settings")
    for check in (
        checks.check_security,
        checks.check_sessions,
        checks.check_channel_layer,
        checks.check_sealing,
    ):
        yield from check(None)
    yield _key_endpoint()


def _describe(profile: Profile) -> str:
    return profile if is_available(profile) else f"{profile} (skipped: no ML-KEM-768)"


def _key_endpoint() -> CheckMessage:
    try:
        return Info(reverse("gcrypt_channels:key"), obj="key endpoint")
    except NoReverseMatch:
        return Error(
            f"{settings.ROOT_URLCONF} has none: no page can fetch its key.",
            hint='Add path("gcrypt/", include("gcrypt_channels.urls")) to urlpatterns.',
            obj="key endpoint",
        )
