"""A page of the original g-crypt 1.1.0 on CryptoJS, at the demo's `/classic/`."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import Page, expect

from tests.proxy import Proxy
from tests.servers import Daphne

from .helpers import LogIn, in_both_browsers

TEXT = 0x01  # the opcode of a text message

pytestmark = [pytest.mark.usefixtures("gcrypt_js"), in_both_browsers]


@pytest.fixture
def page(server: Daphne, log_in: LogIn) -> Page:
    return log_in(server.url, "alice")


def test_real_g_crypt_counts_over_an_encrypted_socket(page: Page, wire: Proxy) -> None:
    page.goto(f"{wire.url}/classic/")
    expect(page.locator("#log .inbound .plain")).to_have_text('{"id":1}')
    for number in (2, 3):
        page.get_by_role("button", name="Count on").click()
        expect(page.locator("#log .inbound .plain").last).to_have_text(f'{{"id":{number}}}')

    assert len(wire.frames) == 6
    for frame in wire.frames:
        assert frame.opcode == TEXT
        members = json.loads(frame.payload)
        assert list(members) == ["ct", "iv", "s"]
        assert re.fullmatch("[0-9a-f]{16}", members["s"])


def test_the_browser_client_takes_the_pages_own_g_crypt_object(page: Page, server: Daphne) -> None:
    page.goto(f"{server.url}/classic/")
    expect(page.locator("#status")).to_have_text("open, gcrypt.v1")
    answers = page.evaluate(
        """async () => {
            const { EncryptedWebSocket } = await import("/static/gcrypt_channels/gcrypt.js");
            const config = JSON.parse(document.getElementById("gcrypt-config").textContent);
            const token = document.querySelector("[name=csrfmiddlewaretoken]").value;
            const headers = { [config.csrfHeader]: token };
            const response = await fetch(config.keyUrl, { method: "POST", headers });
            const { passphrase } = (await response.json())["gcrypt.v1"];
            const options = { profile: "gcrypt.v1", crypt: Crypt(passphrase) };
            const socket = new EncryptedWebSocket("/ws/counter/", [], options);
            await new Promise((resolve) => (socket.onopen = resolve));
            const answer = new Promise((resolve) => (socket.onmessage = resolve));
            socket.sendJSON({ id: 41 });
            return [window.CryptoJS.AES !== undefined, JSON.parse((await answer).data)];
        }"""
    )
    assert answers == [True, {"id": 42}]
