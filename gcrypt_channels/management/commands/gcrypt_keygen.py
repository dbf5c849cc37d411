"""``manage.py gcrypt_keygen``: print a new passphrase."""

from __future__ import annotations

import secrets
from typing import Any

from django.core.management.base import BaseCommand

PASSPHRASE_BYTES = 32


class Command(BaseCommand):
    """Prints the passphrase and nothing else, so that a script can use its output."""

    help = "Print a new random passphrase (256 bits) for GCRYPT_PASSPHRASE."
    # It has to run before the settings are complete.
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(secrets.token_urlsafe(PASSPHRASE_BYTES))
