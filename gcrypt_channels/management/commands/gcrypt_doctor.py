"""``manage.py gcrypt_doctor``: examine the running configuration, and say how to correct it."""

from __future__ import annotations

from typing import Any

from django.core.checks import ERROR, INFO, WARNING, CheckMessage
from django.core.management.base import BaseCommand, CommandError, CommandParser

from gcrypt_channels.doctor import examine


class Command(BaseCommand):
    help = (
        "Examine the running configuration of gcrypt_channels: settings, sessions, cache, channel "
        "layer and routing. Exits with 1 if something does not work."
    )
    requires_system_checks = ()  # the doctor runs those of this package itself

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--probe",
            metavar="URL",
            help="also ask a running process, by the URL of gcrypt_channels.health.health",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        errors = 0
        for message in examine(probe=options["probe"]):
            if not message.is_silenced():
                self._print(message)
                errors += message.is_serious()
        if errors:
            raise CommandError(f"{errors} {'error' if errors == 1 else 'errors'}.")

    def _print(self, message: CheckMessage) -> None:
        style, level = {
            INFO: (self.style.SUCCESS, "ok"),
            WARNING: (self.style.WARNING, "warning"),
            ERROR: (self.style.ERROR, "error"),
        }[message.level]
        subject = message.obj or str(message.id).rpartition(".")[2]
        self.stdout.write(f"{style(f'{level:<7}')}  {subject:<13}  {message.msg}")
        if message.hint:
            self.stdout.write(f"{'':7}  {'':13}  → {message.hint}")
