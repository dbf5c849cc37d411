"""``noise.json``: handshakes, transport messages and rekeying, by noiseprotocol."""

from __future__ import annotations

from typing import Any

from .noise_peer import NoisePeer
from .seeds import seeded

REKEY_INTERVAL = 4
PAYLOADS = ((b"", b""), (b"hello", b"reply"), (bytes(range(256)), b"\0" * 1000))


def build() -> dict[str, Any]:
    return {
        "handshakes": [
            _handshake(f"noise {number} {size}", prologue_size=size, payloads=payloads)
            for number, payloads in enumerate(PAYLOADS)
            for size in (0, 17)
        ]
    }


def _handshake(label: str, *, prologue_size: int, payloads: tuple[bytes, bytes]) -> dict[str, Any]:
    psk, prologue = seeded(label + " psk", 32), seeded(label + " prologue", prologue_size)
    ephemerals = [seeded(f"{label} {role}", 32) for role in ("initiator", "responder")]
    initiator, responder = (
        NoisePeer(
            initiator=role == 0,
            psk=psk,
            prologue=prologue,
            ephemeral=ephemerals[role],
            rekey_interval=REKEY_INTERVAL,
        )
        for role in (0, 1)
    )
    first = initiator.write_handshake(payloads[0])
    assert responder.read_handshake(first) == payloads[0]
    second = responder.write_handshake(payloads[1])
    assert initiator.read_handshake(second) == payloads[1]
    assert initiator.handshake_hash == responder.handshake_hash
    return {
        "psk": psk.hex(),
        "prologue": prologue.hex(),
        "initiator_ephemeral": ephemerals[0].hex(),
        "responder_ephemeral": ephemerals[1].hex(),
        "payloads": [payload.hex() for payload in payloads],
        "messages": [first.hex(), second.hex()],
        "handshake_hash": initiator.handshake_hash.hex(),
        "rekey_interval": REKEY_INTERVAL,
        "transport": [
            _transport(sender, receiver, name, seeded(f"{label} {name} {number}", number * 7))
            for number in range(2 * REKEY_INTERVAL + 1)
            for sender, receiver, name in (
                (initiator, responder, "initiator"),
                (responder, initiator, "responder"),
            )
        ],
    }


def _transport(
    sender: NoisePeer, receiver: NoisePeer, name: str, plaintext: bytes
) -> dict[str, str]:
    ad = 0x10 + len(plaintext) % 3
    frame = sender.seal(ad, plaintext)
    assert receiver.open(frame) == (ad, plaintext)
    return {
        "from": name,
        "associated_data": bytes([ad]).hex(),
        "plaintext": plaintext.hex(),
        "ciphertext": frame[1:].hex(),
    }
