"""What a page and its browser keep of the key: nothing that can be read."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.servers import Daphne

from .helpers import PATHS, LogIn, in_both_browsers

pytestmark = in_both_browsers


def keys_of(page: Page) -> list[str]:
    """The keys of the page's own session, as the key endpoint gives them."""
    answer = page.evaluate(
        """async () => {
            const token = document.querySelector("[name=csrfmiddlewaretoken]").value;
            const headers = { "X-CSRFToken": token };
            return (await fetch("/gcrypt/key/", { method: "POST", headers })).json();
        }"""
    )
    return [answer["session"]["psk"], answer["gcrypt.v1"]["passphrase"]]


def test_every_page_works_under_its_strict_policy(server: Daphne, log_in: LogIn) -> None:
    page = log_in(server.url, "alice")
    page.add_init_script(
        """window.violations = [];
        addEventListener("securitypolicyviolation", (event) =>
            violations.push(`${event.violatedDirective} ${event.blockedURI}`));"""
    )
    errors: list[str] = []
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    for path in PATHS:
        response = page.goto(server.url + path)
        assert response is not None
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        for status in page.locator(".status").all():
            expect(status).to_have_attribute("data-state", "open")
        assert page.evaluate("violations") == []
    assert errors == []


def test_an_injected_script_does_not_run(server: Daphne, log_in: LogIn) -> None:
    page = log_in(server.url, "alice")
    page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.injected = true";
            document.body.append(script);
            document.body.insertAdjacentHTML("beforeend", "<img src=x onerror='injected = true'>");
        }"""
    )
    assert page.evaluate("window.injected") is None


def test_no_key_is_left_in_page_storage_addresses_console_or_server_log(
    server: Daphne, log_in: LogIn
) -> None:
    page = log_in(server.url, "alice")
    seen: list[str] = []
    page.on("console", lambda line: seen.append(line.text))
    page.on("request", lambda request: seen.append(f"{request.url} {request.post_data}"))
    page.on("websocket", lambda socket: seen.append(socket.url))
    for path in PATHS:
        page.goto(server.url + path)
        for status in page.locator(".status").all():
            expect(status).to_have_attribute("data-state", "open")
        seen.append(page.content())
        seen.append(
            page.evaluate(
                """async () => JSON.stringify([
                    { ...localStorage }, { ...sessionStorage }, document.cookie,
                    (await indexedDB.databases()).length, (await caches.keys()).length,
                    history.state, window.name,
                ])"""
            )
        )
    seen.append(server.log)
    keys = keys_of(page)
    assert all(len(key) > 40 for key in keys)
    for key in keys:
        assert not [text for text in seen if key in text]
