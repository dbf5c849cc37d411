"""WebKitGTK, driven by its own WebDriver on a display of Xvfb's."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers import Daphne

from .conftest import program
from .test_profiles import OUTCOME

if TYPE_CHECKING:  # only the campaign installs it
    from selenium.webdriver import WebKitGTK

pytestmark = [
    pytest.mark.campaign,
    # selenium's own driver uses it
    pytest.mark.filterwarnings("ignore:setting remote_server_addr:DeprecationWarning"),
]

WAIT = 30
"""Seconds that a page has for anything."""

HAS_ML_KEM = """() => crypto.subtle
    .generateKey({ name: "ML-KEM-768" }, false, ["encapsulateKey", "decapsulateKey"])
    .then(() => true, () => false)"""

LOG_IN = """
    const form = document.querySelector("#login");
    form.elements.username.value = "alice";
    form.elements.password.value = "alice-demo";
    form.querySelector("button").click();
"""

# Sends everything and returns what comes back, text as it is and bytes as their numbers.
ECHOES = """async ({ messages, ...options }) => {
    const { EncryptedWebSocket } = await import("gcrypt_channels");
    const socket = new EncryptedWebSocket("/ws/echo/", [], options);
    socket.binaryType = "arraybuffer";
    const heard = [];
    socket.onopen = () => {
        for (const each of messages) {
            socket.send(typeof each === "string" ? each : new Uint8Array(each));
        }
    };
    return new Promise((resolve) => {
        socket.onmessage = ({ data }) => {
            heard.push(typeof data === "string" ? data : [...new Uint8Array(data)]);
            if (heard.length === messages.length) socket.close();
        };
        socket.onclose = ({ code, authentic }) => resolve({ code, authentic, heard });
    });
}"""

MESSAGES = ["hello", "", "äöü€😀", "x" * 200_000, [0, 1, 254, 255], []]


@pytest.fixture(scope="module")
def display() -> Iterator[str]:
    """The name of an X display of these tests' own."""
    reading, writing = os.pipe()
    command = [program("Xvfb"), "-displayfd", str(writing), "-nolisten", "tcp"]
    server = subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.DEVNULL)
    os.close(writing)
    with os.fdopen(reading) as number:
        yield f":{number.readline().strip()}"
    server.terminate()
    server.wait()


@pytest.fixture(scope="module")
def webkit(display: str, server: Daphne) -> Iterator[WebKitGTK]:
    """A window in which alice is logged in."""
    from selenium.webdriver import WebKitGTK
    from selenium.webdriver.support.wait import WebDriverWait
    from selenium.webdriver.webkitgtk.options import Options
    from selenium.webdriver.webkitgtk.service import Service

    env = {**os.environ, "DISPLAY": display}
    service = Service(executable_path=program("WebKitWebDriver"), env=env)
    driver = WebKitGTK(options=Options(), service=service)
    try:
        driver.set_script_timeout(WAIT)
        driver.get(f"{server.url}/accounts/login/")
        driver.execute_script(LOG_IN)  # without a window manager no element has the focus
        WebDriverWait(driver, WAIT).until(lambda page: page.current_url == f"{server.url}/")
        yield driver
    finally:
        driver.quit()


def evaluate(page: WebKitGTK, function: str, argument: Any = None) -> Any:
    """What an asynchronous JavaScript function returns; an error as `{"error": text}`."""
    script = f"""
        const done = arguments[arguments.length - 1];
        ({function})(arguments[0]).then(done, (error) => done({{ error: String(error) }}));
    """
    return page.execute_async_script(script, argument)


def test_a_page_opens_v3_where_webkit_has_ml_kem_and_v2_elsewhere(webkit: WebKitGTK) -> None:
    best = "gcrypt.v3" if evaluate(webkit, HAS_ML_KEM) else "gcrypt.v2"
    assert evaluate(webkit, OUTCOME, {}) == {"profile": best, "data": "hello"}


@pytest.mark.parametrize("profile", ["the best", "gcrypt.v2", "gcrypt.v1"])
def test_whatever_is_sent_comes_back(webkit: WebKitGTK, profile: str) -> None:
    options = {} if profile == "the best" else {"profile": profile}
    messages = ['"hello"', '{"a":[1,"ä"]}'] if profile == "gcrypt.v1" else MESSAGES
    outcome = evaluate(webkit, ECHOES, {"messages": messages, **options})
    assert outcome == {"code": 1000, "authentic": profile != "gcrypt.v1", "heard": messages}


def test_the_counter_counts(webkit: WebKitGTK, server: Daphne) -> None:
    from selenium.webdriver.support.wait import WebDriverWait

    webkit.get(f"{server.url}/counter/")
    wait = WebDriverWait(webkit, WAIT)
    number = webkit.find_element("id", "number")
    wait.until(lambda page: page.find_element("css selector", '.status[data-state="open"]'))
    [button] = [
        each for each in webkit.find_elements("tag name", "button") if each.text == "Count on"
    ]
    button.click()
    wait.until(lambda _: number.text == "1")
