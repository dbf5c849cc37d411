"""What the cryptography itself costs, without any server: messages, handshakes, `Crypt`.

    python -m benchmarks.sessions

Every figure is CPU time, the median over several rounds in which the contestants take turns, so
that a machine whose speed drifts slows all of them alike. Each ratio is to the first of its group:
a message's to AES-GCM alone, which nothing that authenticates can undercut; a handshake's to its
two X25519 operations; g-crypt's in Node to that of `Crypt`.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gcrypt_channels import Crypt
from gcrypt_channels.protocol.classic import ClassicSession
from gcrypt_channels.protocol.events import Binding
from gcrypt_channels.protocol.profiles import V2, V3, SecureProfile, is_available
from gcrypt_channels.protocol.secure import SecureSession

SIZES = {"100 B": 100, "1 KiB": 1024, "64 KiB": 65_536, "1 MiB": 1_048_576}
CRYPT_SIZES = {"100 B": 100, "1 KiB": 1024}
ROUNDS = 7
ROUND_SECONDS = 0.2

KID, PSK = bytes(8), bytes(32)
BINDING = Binding(("gcrypt.v2",), "testserver", "/ws/")
HERE = Path(__file__).resolve().parent

Work = Callable[[], object]
Clock = Callable[[], float]
"""Returns the µs that one operation took."""


# Messages


def secure_pair(*, padding: bool = False) -> tuple[SecureSession, SecureSession]:
    """A server and a client session of ``gcrypt.v2``, open for messages."""
    size = 2 * max(SIZES.values())
    server = SecureSession(role="server", max_message=size, padding=padding)
    client = SecureSession(role="client", max_message=size, padding=padding)
    client.receive(server.hello(KID, PSK))
    server.receive(client.reply(PSK, (), BINDING))
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
    aead = AESGCM(bytes(32))
    data, nonce = text.encode(), bytes(12)

    def work() -> None:
        aead.decrypt(nonce, aead.encrypt(nonce, data, b"\x10"), b"\x10")

    return work


def clock(work: Work) -> Clock:
    """Time ``work`` over enough calls to be worth measuring."""

    def microseconds() -> float:
        calls, elapsed = 1, 0.0
        while elapsed < ROUND_SECONDS:
            start = time.process_time()
            for _ in range(calls):
                work()
            elapsed = time.process_time() - start
            if elapsed < ROUND_SECONDS:
                calls *= 2
        return elapsed / calls * 1e6

    return microseconds


# Handshakes


def server_handshake(profile: SecureProfile) -> float:
    """The server's share of a handshake, in µs: HELLO, and REPLY opened."""
    total, rounds = 0.0, 500
    for _ in range(rounds):
        server = SecureSession(profile, role="server")
        client = SecureSession(profile, role="client")
        start = time.process_time()
        hello = server.hello(KID, PSK)
        total += time.process_time() - start
        client.receive(hello)
        reply = client.reply(PSK, (), BINDING)
        start = time.process_time()
        server.receive(reply)
        total += time.process_time() - start
    return total / rounds * 1e6


def two_x25519() -> Work:
    peer = X25519PrivateKey.generate().public_key().public_bytes_raw()

    def work() -> None:
        key = X25519PrivateKey.generate()
        key.public_key().public_bytes_raw()
        key.exchange(X25519PublicKey.from_public_bytes(peer))

    return work


# Crypt


def crypt(size: int) -> Work:
    ours, value = Crypt("p" * 43), "x" * (size - 2)
    return lambda: ours.decrypt(ours.encrypt(value))


def g_crypt(size: int) -> float:
    command = ["node", str(HERE / "gcrypt.cjs"), str(size)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    (figure,) = json.loads(output)
    return float(figure)


# The tables


def table(title: str, contestants: Mapping[str, Clock]) -> None:
    """Print the medians of all contestants, and their ratio to the first one."""
    figures: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(ROUNDS):
        for name, microseconds in contestants.items():
            figures[name].append(microseconds())
    base = statistics.median(next(iter(figures.values())))
    for name, times in figures.items():
        median = statistics.median(times)
        spread = f"{median:.1f} ({min(times):.1f} - {max(times):.1f})"
        print(f"| {title} | {name} | {spread} | {median / base:.2f} |")


def main() -> None:
    print("| what | contestant | µs of CPU, median (min - max) | times the first |")
    print("|---|---|---|---|")
    for label, size in SIZES.items():
        text = '"' + "x" * (size - 2) + '"'
        works = {
            "AES-GCM alone": aes_gcm(text),
            "gcrypt.v2": secure(text),
            "gcrypt.v2, padded": secure(text, padding=True),
            "gcrypt.v1": classic(text),
        }
        table(f"message of {label}", {name: clock(work) for name, work in works.items()})
    handshakes = {each: partial(server_handshake, each) for each in (V2, V3) if is_available(each)}
    table("handshake, server", {"two X25519 operations": clock(two_x25519()), **handshakes})
    for label, size in CRYPT_SIZES.items():
        table(
            f"value of {label}",
            {"`Crypt`": clock(crypt(size)), "g-crypt, Node": partial(g_crypt, size)},
        )


if __name__ == "__main__":
    main()
