"""Logs a user in, in the database of the suite's site; prints what a client of it needs, as JSON.

    DATABASE=… python -m benchmarks.login

``COOKIE``, ``LOGIN_KID`` and ``LOGIN_PSK`` belong to the login session; ``KID``, ``PSK`` and
``PASSPHRASE`` to the paths whose keys are fixed.
"""

from __future__ import annotations

import asyncio
import json
from importlib import import_module

from django.conf import settings
from django.contrib.auth import (
    BACKEND_SESSION_KEY,
    HASH_SESSION_KEY,
    SESSION_KEY,
    get_user_model,
)
from django.core.management import call_command

from benchmarks.site import KEYRING
from gcrypt_channels.keys import resolve_session


def main() -> None:
    call_command("migrate", verbosity=0)
    user = get_user_model().objects.create_user("alice")
    session = import_module(settings.SESSION_ENGINE).SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.create()
    keyring = asyncio.run(resolve_session({"session": session, "user": user}))
    if keyring is None:
        raise RuntimeError("the session got no key")
    key, fixed = keyring.session_key(None), KEYRING.session_key(None)
    print(
        json.dumps(
            {
                "COOKIE": f"{settings.SESSION_COOKIE_NAME}={session.session_key}",
                "LOGIN_KID": key.kid.hex(),
                "LOGIN_PSK": key.psk.hex(),
                "KID": fixed.kid.hex(),
                "PSK": fixed.psk.hex(),
                "PASSPHRASE": KEYRING.passphrases[0],
            }
        )
    )


if __name__ == "__main__":
    main()
