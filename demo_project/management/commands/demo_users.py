"""Creates the demo's two users."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand

DEMO_USERS = {"alice": "alice-demo", "bob": "bob-demo"}


class Command(BaseCommand):
    help = "Creates the users alice (password alice-demo) and bob (bob-demo) where they are missing"

    def handle(self, *args: Any, **options: Any) -> None:
        users = get_user_model().objects
        for name, password in DEMO_USERS.items():
            if users.filter(username=name).exists():
                continue  # keeps its password: resetting it would end the user's sessions
            users.create_user(name, password=password)
            self.stdout.write(f"Created {name} with password {password}.")
