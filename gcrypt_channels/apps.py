"""The Django application."""

from __future__ import annotations

from contextlib import suppress

from django.apps import AppConfig
from django.core.exceptions import ImproperlyConfigured


class GcryptChannelsConfig(AppConfig):
    """Registers the system checks, and listens for the end of sessions."""

    name = "gcrypt_channels"
    verbose_name = "Encrypted WebSockets"

    def ready(self) -> None:
        """Register what has to be in place before the first request."""
        from . import checks
        from .conf import load_token_resolver
        from .revocation import receivers

        checks.register()
        receivers.register()
        with suppress(ImproperlyConfigured):  # there is none, or the checks say what is wrong
            load_token_resolver()  # its module listens for the end of tokens
