from __future__ import annotations

from io import StringIO
from typing import Any

from django.core.management import call_command

from gcrypt_channels.checks import check_security
from gcrypt_channels.conf import problems


def keygen() -> str:
    printed = StringIO()
    call_command("gcrypt_keygen", stdout=printed)
    return printed.getvalue()


def test_it_prints_one_passphrase_and_nothing_else() -> None:
    printed = keygen()
    assert printed == printed.strip() + "\n"
    assert printed != keygen()


def test_what_it_prints_satisfies_every_check(settings: Any) -> None:
    settings.DEBUG = True
    settings.GCRYPT_PASSPHRASE = keygen().strip()
    assert problems() == []
    assert list(check_security(None)) == []


def test_it_works_before_the_settings_are_complete(settings: Any) -> None:
    del settings.GCRYPT_PASSPHRASE
    assert len(keygen().strip()) == 43
