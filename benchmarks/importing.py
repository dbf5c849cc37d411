"""Prints the milliseconds of CPU that importing the package takes behind Django and Channels."""

from __future__ import annotations

import time

import django
from django.conf import settings

settings.configure(
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "channels"],
    GCRYPT_PASSPHRASE="a passphrase for measuring only, no secret",  # noqa: S106
)
django.setup()

start = time.process_time()

from gcrypt_channels import EncryptedJsonConsumer, GcryptMiddleware  # noqa: E402, F401

print(1e3 * (time.process_time() - start))
