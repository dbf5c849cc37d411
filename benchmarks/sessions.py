"""Seal and open one message, without any server: what encryption itself costs.

    python -m benchmarks.sessions

Every figure is the median over several rounds, in which the contestants take turns, so that a
machine whose speed drifts slows all of them alike. The ratio is to AES-GCM alone, which nothing
that authenticates can undercut.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from gcrypt_channels.crypto.primitives import AesGcm
from gcrypt_channels.protocol.classic import ClassicSession
from gcrypt_channels.protocol.events import Binding
from gcrypt_channels.protocol.secure import SecureSession

SIZES = {"100 B": 100, "1 KiB": 1024, "64 KiB": 65_536, "1 MiB": 1_048_576}
ROUNDS = 7
ROUND_SECONDS = 0.2

Work = Callable[[], object]


def secure_pair(*, padding: bool = False) -> tuple[SecureSession, SecureSession]:
    """A server and a client session of ``gcrypt.v2``, open for messages."""
    size = 2 * max(SIZES.values())
    server = SecureSession(role="server", max_message=size, padding=padding)
    client = SecureSession(role="client", max_message=size, padding=padding)
    psk = bytes(32)
    client.receive(server.hello(bytes(8), psk))
    server.receive(client.reply(psk, (), Binding(("gcrypt.v2",), "testserver", "/ws/")))
    for frame in server.seal_accept(None):
        client.receive(frame)
    return server, client


def secure(text: str, *, padding: bool = False) -> Work:
    server, client = secure_pair(padding=padding)

    def work() -> None:
        for frame in server.seal(text):
            client.receive(frame)

    return work


def classic(text: str) -> Work:
    server, client = (ClassicSession(["p" * 43], max_message=2 * len(text) + 64) for _ in range(2))

    def work() -> None:
        for frame in server.seal(text):
            client.receive(frame)

    return work


def aes_gcm(text: str) -> Work:
    aead = AesGcm(bytes(32))
    data, nonce = text.encode(), bytes(12)

    def work() -> None:
        aead.open(nonce, aead.seal(nonce, data, b"\x10"), b"\x10")

    return work


def microseconds(work: Work) -> float:
    """The time of one call, in µs, over enough calls to be worth measuring."""
    calls, elapsed = 1, 0.0
    while elapsed < ROUND_SECONDS:
        start = time.perf_counter()
        for _ in range(calls):
            work()
        elapsed = time.perf_counter() - start
        if elapsed < ROUND_SECONDS:
            calls *= 2
    return elapsed / calls * 1e6


def main() -> None:
    print("| message | contestant | µs, median (min - max) | times AES-GCM |")
    print("|---|---|---|---|")
    for label, size in SIZES.items():
        text = '"' + "x" * (size - 2) + '"'
        contestants = {
            "AES-GCM alone": aes_gcm(text),
            "gcrypt.v2": secure(text),
            "gcrypt.v2, padded": secure(text, padding=True),
            "gcrypt.v1": classic(text),
        }
        figures: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(ROUNDS):
            for name, work in contestants.items():
                figures[name].append(microseconds(work))
        base = statistics.median(figures["AES-GCM alone"])
        for name, times in figures.items():
            median = statistics.median(times)
            spread = f"{median:.1f} ({min(times):.1f} - {max(times):.1f})"
            print(f"| {label} | {name} | {spread} | {median / base:.2f} |")


if __name__ == "__main__":
    main()
