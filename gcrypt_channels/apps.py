"""The Django application."""

from django.apps import AppConfig


class GcryptChannelsConfig(AppConfig):
    """Registers the system checks."""

    name = "gcrypt_channels"
    verbose_name = "Encrypted WebSockets"

    def ready(self) -> None:
        from . import checks

        checks.register()
