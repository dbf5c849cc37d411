"""Many messages, and large ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from playwright.sync_api import Page

from tests.servers import Daphne, Site

from .helpers import LogIn, in_both_browsers

pytestmark = in_both_browsers

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def server(site: Site) -> Iterator[Daphne]:
    roomy = replace(site, settings="tests.browser.big_messages")
    with Daphne("demo_project.asgi:application", roomy) as daphne:
        yield daphne


@pytest.fixture
def page(server: Daphne, log_in: LogIn) -> Page:
    return log_in(server.url, "alice")


@pytest.mark.parametrize("path", ["/ws/echo/", "/ws/echo-sync/"])
def test_ten_thousand_messages_each_way_arrive_in_order(page: Page, path: str) -> None:
    count = 10_000
    page.set_default_timeout(180_000)
    heard = page.evaluate(
        """async ([path, count]) => {
            const { EncryptedWebSocket } = await import("gcrypt_channels");
            const socket = new EncryptedWebSocket(path);
            socket.binaryType = "arraybuffer";
            let next = 0;
            let wrong = null;
            socket.onopen = () => {
                for (let n = 0; n < count; n++) {
                    socket.send(n % 3 ? `message ${n}` : Uint32Array.of(n));
                }
            };
            socket.onmessage = ({ data }) => {
                const n = next++;
                const right = n % 3 ? data === `message ${n}` : new Uint32Array(data)[0] === n;
                if (!right) wrong ??= n;
                if (next === count) socket.close(1000);
            };
            const { code } = await new Promise((resolve) => (socket.onclose = resolve));
            return { received: next, wrong, code };
        }""",
        [path, count],
    )
    assert heard == {"received": count, "wrong": None, "code": 1000}


@pytest.mark.parametrize("size", [MIB, 5 * MIB], ids=["1 MiB", "5 MiB"])
def test_a_large_message_comes_back_whole(page: Page, size: int) -> None:
    answers = page.evaluate(
        """async (size) => {
            const { EncryptedWebSocket } = await import("gcrypt_channels");
            const socket = new EncryptedWebSocket("/ws/echo/", [], { maxMessage: 8 << 20 });
            socket.binaryType = "arraybuffer";
            await new Promise((resolve) => (socket.onopen = resolve));
            const answer = () => new Promise((resolve) => {
                socket.onmessage = ({ data }) => resolve(data);
                socket.onclose = ({ code, reason }) => resolve(`closed ${code} ${reason}`);
            });
            const bytes = new Uint8Array(size);
            for (let at = 0; at < size; at += 65536) {
                crypto.getRandomValues(bytes.subarray(at, Math.min(size, at + 65536)));
            }
            socket.send(bytes);
            const back = new Uint8Array(await answer());
            const sameBytes = back.length === size && bytes.every((byte, at) => byte === back[at]);
            const text = "0123456789abcdef".repeat(size / 16);
            socket.send(text);
            const sameText = (await answer()) === text;
            socket.close();
            return [sameBytes, sameText];
        }""",
        size,
    )
    assert answers == [True, True]


def test_a_message_over_the_servers_limit_is_refused_before_it_is_sent(page: Page) -> None:
    heard = page.evaluate(
        """async () => {
            const { EncryptedWebSocket } = await import("gcrypt_channels");
            const socket = new EncryptedWebSocket("/ws/echo/");
            await new Promise((resolve) => (socket.onopen = resolve));
            let code = null;
            try {
                socket.send(new Uint8Array((8 << 20) + 1));
            } catch (error) {
                code = error.code;
            }
            socket.send("still open");
            const { data } = await new Promise((resolve) => (socket.onmessage = resolve));
            return [code, data];
        }"""
    )
    assert heard == ["message-too-big", "still open"]
