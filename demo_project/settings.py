"""Settings of the demo project.

Environment variables, all optional:

GCRYPT_PASSPHRASE           the root passphrase; else drawn once into `data/`
GCRYPT_PASSPHRASE_PREVIOUS  the one before it, still honoured during a rotation
REDIS_URL                   the channel layer's Redis; else the in-memory layer
DJANGO_SECRET_KEY           Django's own secret; else drawn once into `data/`
DJANGO_DEBUG                `0` turns debug pages and log-in buttons off; this is a demo, so `1`
DJANGO_ALLOWED_HOSTS        host names, separated by commas; else 127.0.0.1 and localhost
DEMO                        `1` shows the stage of the front page without debug pages as well
DEMO_DATA                   directory of the database and the drawn secrets; else `data/` here
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from demo_project.local_secrets import local_secret

BASE_DIR = Path(__file__).resolve().parent
DATA_DIR = Path(os.environ.get("DEMO_DATA", BASE_DIR / "data"))
DATA_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)

DEBUG = os.environ.get("DJANGO_DEBUG", "1") == "1"
SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY") or local_secret(DATA_DIR / "secret_key")
ALLOWED_HOSTS = os.environ.get("DJANGO_ALLOWED_HOSTS", "127.0.0.1,localhost").split(",")

# --- gcrypt_channels --------------------------------------------------------------------------

GCRYPT_PASSPHRASE = [os.environ.get("GCRYPT_PASSPHRASE") or local_secret(DATA_DIR / "passphrase")]
if previous := os.environ.get("GCRYPT_PASSPHRASE_PREVIOUS"):
    GCRYPT_PASSPHRASE.append(previous)

# gcrypt.v1 is for the classic page.
GCRYPT: dict[str, Any] = {"PROFILES": ["gcrypt.v3", "gcrypt.v2", "gcrypt.v1"]}

# --- Django and Channels ----------------------------------------------------------------------

INSTALLED_APPS = [
    "daphne",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "gcrypt_channels",
    "demo_project",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "demo_project.csp.content_security_policy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.debug",
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

ROOT_URLCONF = "demo_project.urls"
ASGI_APPLICATION = "demo_project.asgi.application"

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATA_DIR / "demo.sqlite3",
        "OPTIONS": {
            "init_command": "PRAGMA journal_mode=WAL;",  # several workers may share the file
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
        },
    },
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# The stage of the front page makes throw-away users, and lets visitors attack them. It lives in one
# process: `make cluster`, which has three, turns it off.
DEMO_STAGE = os.environ.get("DEMO", "1" if DEBUG else "0") == "1"

REDIS_URL = os.environ.get("REDIS_URL", "")
if REDIS_URL:
    plain_layer: dict[str, Any] = {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        # redis-py 8 gives up on an answer after 5 seconds unless told otherwise, which is how long
        # channels_redis waits for a message: every quiet connection would be cut. It also refuses
        # more than 100 connections, which a crowd that joins at once needs.
        "CONFIG": {
            "hosts": [{"address": REDIS_URL, "socket_timeout": 15, "max_connections": 10_000}]
        },
    }
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "gcrypt_channels.layers.SealedChannelLayer",
            "CONFIG": {"layer": plain_layer},
        },
    }
else:
    plain_layer = {"BACKEND": "channels.layers.InMemoryChannelLayer"}
    CHANNEL_LAYERS = {"default": plain_layer}
if DEMO_STAGE:
    # What the stage compares with: a layer as Channels has it.
    CHANNEL_LAYERS["plain"] = plain_layer

LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "home"

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = DATA_DIR / "static"

# The classic page loads the real g-crypt and CryptoJS; npm puts them here.
NODE_MODULES = BASE_DIR.parent / "node_modules"
STATICFILES_DIRS = [
    (prefix, directory)
    for prefix, directory in [
        ("g-crypt", NODE_MODULES / "g-crypt" / "dist"),
        ("crypto-js", NODE_MODULES / "g-crypt" / "node_modules" / "crypto-js"),
    ]
    if directory.is_dir()
]
