"""``manage.py gcrypt_doctor``: try a live configuration, and say what to do about it."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from gcrypt_channels.doctor import Finding, Level, examine


class Command(BaseCommand):
    help = (
        "Try the live configuration of gcrypt_channels: settings, sessions, cache, channel layer, "
        "routing and servers. Exits with 1 if something is broken."
    )
    requires_system_checks = ()  # their findings are among the doctor's own

    def handle(self, *args: Any, **options: Any) -> None:
        failures = 0
        for finding in examine():
            self._print(finding)
            failures += finding.level is Level.FAILURE
        if failures:
            raise CommandError(f"{failures} {'failure' if failures == 1 else 'failures'}.")

    def _print(self, finding: Finding) -> None:
        style = {
            Level.OK: self.style.SUCCESS,
            Level.ADVICE: self.style.NOTICE,
            Level.WARNING: self.style.WARNING,
            Level.FAILURE: self.style.ERROR,
        }[finding.level]
        level = style(f"{finding.level.value:<8}")
        self.stdout.write(f"{level}  {finding.subject:<16}  {finding.message}")
        if finding.advice:
            self.stdout.write(f"{'':8}  {'':16}  → {finding.advice}")
