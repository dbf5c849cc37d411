"""The Django application."""

from __future__ import annotations

from django.apps import AppConfig


class GcryptChannelsConfig(AppConfig):
    """Registers the system checks, and listens for the end of sessions."""

    name = "gcrypt_channels"
    verbose_name = "Encrypted WebSockets"

    def ready(self) -> None:
        """Register what has to be in place before the first request."""
        from . import checks
        from .revocation import receivers

        checks.register()
        receivers.register()
