"""What users of a site may put into its pages does not lead the client astray."""

from __future__ import annotations

from playwright.sync_api import Page

from tests.servers import Daphne

from .helpers import LogIn, in_both_browsers

# What a sanitiser lets through: ids and names, in front of the site's own elements.
USER_CONTENT = """
<div id="gcrypt-config">{"keyUrl": "https://evil.example/", "profiles": ["gcrypt.v1"]}</div>
<img name="querySelector"><img name="getElementById"><img name="cookie"><img name="baseURI">
"""


@in_both_browsers
def test_elements_with_the_names_that_the_client_uses_are_not_believed(
    server: Daphne, log_in: LogIn, profile: str
) -> None:
    page: Page = log_in(server.url, "alice")
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    answer = page.evaluate(
        """async (content) => {
            document.body.insertAdjacentHTML("afterbegin", content);
            const { EncryptedWebSocket, forgetKeys } = await import("gcrypt_channels");
            forgetKeys();  // the page has them
            const socket = new EncryptedWebSocket("/ws/echo/");
            socket.onopen = () => socket.send("hello");
            return new Promise((resolve) => {
                socket.onmessage = ({ data }) => resolve([data, socket.profile]);
                socket.onerror = ({ error }) => resolve(error.code);
            });
        }""",
        USER_CONTENT,
    )
    assert answer == ["hello", profile]
    assert f"{server.url}/gcrypt/key/" in requested
    assert not [url for url in requested if "evil" in url]
