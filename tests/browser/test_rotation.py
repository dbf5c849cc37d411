"""The root passphrase is replaced while a page is open: the page goes on."""

from __future__ import annotations

import secrets

import pytest
from playwright.sync_api import expect

from tests.servers import Daphne, Site

from .helpers import LogIn, expect_count


@pytest.mark.parametrize("profile", ["gcrypt.v3", "gcrypt.v2", "gcrypt.v1"])
def test_an_open_page_survives_a_new_primary_and_the_end_of_the_old_one(
    site: Site, log_in: LogIn, profile: str
) -> None:
    old, new = secrets.token_hex(), secrets.token_hex()
    server = Daphne("demo_project.asgi:application", site)
    server.env["GCRYPT_PASSPHRASE"] = old

    def redeploy(**env: str) -> None:
        server.stop()
        expect(status).to_have_attribute("data-state", "closed")
        server.env.update(env)
        server.start()
        expect(status).to_have_text(f"open, {profile}", timeout=20_000)

    with server:
        page = log_in(server.url, "alice")
        fetched: list[str] = []
        page.on(
            "request",
            lambda request: fetched.append(request.url) if "/gcrypt/key/" in request.url else None,
        )
        page.goto(f"{server.url}/counter/")
        status = page.locator("#status")
        page.get_by_label(profile).check()
        expect(status).to_have_text(f"open, {profile}")
        expect_count(page, 1)
        assert len(fetched) == 1

        # The new primary is out, and the old one is still honoured.
        redeploy(GCRYPT_PASSPHRASE=new, GCRYPT_PASSPHRASE_PREVIOUS=old)
        expect_count(page, 2)
        assert len(fetched) == 1  # the key it had was good enough

        # The old one is gone: a page of gcrypt.v1 does not notice by itself, and is loaded anew.
        if profile != "gcrypt.v1":
            redeploy(GCRYPT_PASSPHRASE=new, GCRYPT_PASSPHRASE_PREVIOUS="")
            expect_count(page, 3)
        else:
            page.reload()
            page.get_by_label(profile).check()
            redeploy(GCRYPT_PASSPHRASE=new, GCRYPT_PASSPHRASE_PREVIOUS="")
            expect_count(page, 1)
        assert len(fetched) == 2
