"""A whole connection of a secure profile, framed here and sealed by noiseprotocol."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from .hybrid_peer import HybridPeer
from .noise_peer import NoisePeer
from .seeds import seeded

TEXT, BINARY, CONTROL = 0x10, 0x11, 0x12
MORE, PADDED = 0x80, 0x40
FRAGMENT_SIZE = 114_688


_OFFERS = {"gcrypt.v2": ["gcrypt.v2"], "gcrypt.v3": ["gcrypt.v3", "gcrypt.v2"]}


def padme(length: int) -> int:
    """Round up to a Padmé length, from the definition in the PURB paper."""
    if length < 2:
        return length
    e = length.bit_length() - 1  # floor(log2 L)
    s = e.bit_length()  # floor(log2 e) + 1
    unit: int = 2 ** (e - s)
    return -(-length // unit) * unit


def pad(plaintext: bytes) -> bytes:
    size = padme(len(plaintext) + 1)
    return plaintext + b"\x80" + bytes(size - len(plaintext) - 1)


def compact(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


class Connection:
    """Both ends of one connection, and a record of what passed between them."""

    def __init__(
        self,
        name: str,
        *,
        profile: str = "gcrypt.v2",
        padding: bool = False,
        rekey_interval: int = 65_536,
        server_max_message: int = 1_048_576,
        client_max_message: int = 1_048_576,
        host: str = "chat.example.com",
        target: str = "/ws/room/?x=1",
    ) -> None:
        self.kid, self.psk = seeded(name + " kid", 8), seeded(name + " psk", 32)
        self.binding = {
            "offered": [*_OFFERS[profile], f"gcrypt.kid.{self.kid.hex()}"],
            "host": host,
            "target": target,
        }
        self.padding = padding
        self.limits = {"server": server_max_message, "client": client_max_message}
        ephemerals = {role: seeded(f"{name} {role}", 32) for role in ("server", "client")}
        kem = {}
        if profile == "gcrypt.v3":
            kem = {"kem_seed": seeded(name + " seed", 64), "kem_coins": seeded(name + " coins", 32)}
        make = HybridPeer if kem else NoisePeer
        self.peers = {
            role: make(
                initiator=role == "server",
                psk=self.psk,
                prologue=profile.encode() + self.kid,
                ephemeral=ephemeral,
                rekey_interval=rekey_interval,
                **kem,
            )
            for role, ephemeral in ephemerals.items()
        }
        self.steps: list[dict[str, Any]] = []
        self.record: dict[str, Any] = {
            "name": name,
            "kid": self.kid.hex(),
            "psk": self.psk.hex(),
            "server_ephemeral": ephemerals["server"].hex(),
            "client_ephemeral": ephemerals["client"].hex(),
            **{name: value.hex() for name, value in kem.items()},
            "server_max_message": server_max_message,
            "client_max_message": client_max_message,
            "padding": padding,
            "rekey_interval": rekey_interval,
            **self.binding,
            "steps": self.steps,
        }

    def step(self, sender: str, event: str, frames: list[bytes], **details: Any) -> None:
        self.steps.append(
            {"from": sender, "event": event, **details, "frames": [f.hex() for f in frames]}
        )

    # The handshake

    def greet(self, payload: bytes | None = None) -> bytes:
        """Return HELLO."""
        payload = compact({"max_message": self.limits["server"]}) if payload is None else payload
        return b"\x01" + self.kid + self.peers["server"].write_handshake(payload)

    def hello(self) -> Connection:
        frame = self.greet()
        self.step("server", "hello", [frame], max_message=self.limits["server"])
        self.peers["client"].read_handshake(frame[9:])
        return self

    def answer(self, payload: bytes | None = None, **members: Any) -> bytes:
        """Return REPLY, with other ``members`` or another ``payload`` than the usual one."""
        usual = {"subprotocols": [], "max_message": self.limits["client"], **self.binding}
        payload = compact({**usual, **members}) if payload is None else payload
        return b"\x02" + self.peers["client"].write_handshake(payload)

    def reply(self, *subprotocols: str) -> Connection:
        frame = self.answer(subprotocols=list(subprotocols))
        self.step("client", "reply", [frame], subprotocols=list(subprotocols))
        self.peers["server"].read_handshake(frame[1:])
        self.record["handshake_hash"] = self.peers["server"].handshake_hash.hex()
        return self

    def open(self, *subprotocols: str, accepted: str | None = None) -> Connection:
        return self.hello().reply(*subprotocols).accept(accepted)

    # The transport

    def seal(self, sender: str, first: int, content: bytes) -> bytes:
        return self.peers[sender].seal(first, pad(content) if first & PADDED else content)

    def message(self, sender: str, kind: int, content: bytes) -> list[bytes]:
        """Return the frames that a sender makes that fills fragments of FRAGMENT_SIZE."""
        flags, size = (PADDED, FRAGMENT_SIZE - 1) if self.padding else (0, FRAGMENT_SIZE)
        parts = [content[start : start + size] for start in range(0, len(content), size)] or [b""]
        return self.fragmented(sender, kind, *parts, flags=flags)

    def fragmented(self, sender: str, kind: int, *parts: bytes, flags: int = 0) -> list[bytes]:
        last = len(parts) - 1
        return [
            self.seal(sender, kind | flags | (MORE if index < last else 0), part)
            for index, part in enumerate(parts)
        ]

    def text(self, sender: str, text: str) -> Connection:
        self.step(sender, "text", self.message(sender, TEXT, text.encode()), text=text)
        return self

    def binary(self, sender: str, data: bytes) -> Connection:
        self.step(sender, "binary", self.message(sender, BINARY, data), data=data.hex())
        return self

    def long_binary(self, sender: str, byte: int, size: int) -> Connection:
        """Record a message too long to be printed: its frames are given by their digests."""
        frames = self.message(sender, BINARY, bytes([byte]) * size)
        digests = [hashlib.sha256(frame).hexdigest() for frame in frames]
        self.steps.append(
            {"from": sender, "event": "long", "byte": byte, "size": size, "sha256": digests}
        )
        return self

    def control(self, sender: str, message: dict[str, Any]) -> Connection:
        details = {key: value for key, value in message.items() if key != "type"}
        frames = self.message(sender, CONTROL, compact(message))
        self.step(sender, message["type"], frames, **details)
        return self

    def accept(self, subprotocol: str | None = None) -> Connection:
        return self.control("server", {"type": "accept", "subprotocol": subprotocol})

    def close(self, sender: str, code: int, reason: str) -> Connection:
        return self.control(sender, {"type": "close", "code": code, "reason": reason})

    # The end

    def done(self) -> dict[str, Any]:
        return self.record

    def received_from(self, sender: str) -> dict[str, Any]:
        """Let a test be the receiver of what ``sender`` made."""
        return {**self.record, "sender": sender}

    def refused(self, sender: str, *frames: bytes, code: int = 4400) -> dict[str, Any]:
        """Let ``sender`` send frames of which the other side refuses the last."""
        self.step(sender, "refused", list(frames), code=code)
        return self.record
