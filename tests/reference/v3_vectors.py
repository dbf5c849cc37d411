"""``v3.json``: connections of the hybrid profile, good and bad.

The transport is that of ``gcrypt.v2``, so it is ``v2.json`` that goes into its corners; these are
about the handshake.
"""

from __future__ import annotations

from typing import Any

from . import ml_kem
from .hybrid_peer import HybridPeer
from .secure_connection import Connection, compact
from .seeds import seeded

E_END = 32
E1_END = E_END + ml_kem.PUBLIC_SIZE + 16
EKEM1_END = E_END + ml_kem.CIPHERTEXT_SIZE + 16

NOTES = {
    "Normal": "A connection without a fault.",
    "Rekey": "The rekey interval is shorter than the protocol's, to see both directions rekey.",
    "Padding": "Both sides pad what they send.",
    "Unicode": "Host, target and text have characters that need care.",
    "Length": "A part of the message is too short or too long. The tags catch it; no other error "
    "may come out.",
    "BitFlip": "One bit of one part is changed. Every part is hashed or authenticated.",
    "SmallOrder": "The X25519 key has small order: the shared secret would be zeros (RFC 7748).",
    "ModulusCheck": "A coefficient of the encapsulation key is not below 3329 (FIPS 203, 7.2). The "
    "client has to refuse it, although its tag is right.",
    "KeyLength": "The encapsulation key was sealed with another length than 1184 bytes.",
    "CiphertextLength": "The KEM ciphertext was sealed with another length than 1088 bytes.",
    "ImplicitRejection": "The KEM ciphertext is for another key, or changed under a right tag. "
    "Decapsulation then gives another secret and no error (FIPS 203, 6.3); the tag of the payload "
    "has to end the connection.",
    "Downgrade": "A message of the other profile, under the same psk and kid. The name of the "
    "protocol is hashed first, so the profiles share no key.",
    "Binding": "REPLY has to name the request.",
}


def build() -> dict[str, Any]:
    return {
        "notes": NOTES,
        "connections": _connections(),
        "refused": [*_refused_hellos(), *_refused_replies()],
    }


def _hybrid(name: str, **more: Any) -> Connection:
    return Connection(f"v3: {name}", profile="gcrypt.v3", **more)


def _hybrid_peer(connection: Connection, role: str) -> HybridPeer:
    peer = connection.peers[role]
    assert isinstance(peer, HybridPeer)
    return peer


def _flagged(record: dict[str, Any], *flags: str) -> dict[str, Any]:
    return {"flags": list(flags), **record}


def _connections() -> list[dict[str, Any]]:
    plain = _hybrid("text, binary and control").open("json", accepted="json")
    plain.text("client", '{"id":1}').text("server", '{"id":2}').binary("client", bytes(range(256)))
    plain.control("server", {"type": "gap", "group": "room", "missed": 3})
    plain.close("server", 4401, "logged out").text("client", "in flight").close("client", 1000, "")
    rekeyed = _hybrid("rekeyed every three frames", rekey_interval=3).open()
    for number in range(10):
        rekeyed.text("client", f"to the server {number}").binary("server", bytes([number]))
    padded = _hybrid("padded", padding=True).open()
    for size in (0, 1, 8, 100):
        padded.text("client", "x" * size).binary("server", seeded("padded", size))
    refused = _hybrid("refused by the application").hello().reply()
    named = _hybrid(
        "addressed with care", host="[2001:db8::1]", target="/ws/caf%C3%A9/?q=%20"
    ).open()
    return [
        _flagged(plain.done(), "Normal"),
        _flagged(rekeyed.done(), "Rekey"),
        _flagged(padded.done(), "Padding"),
        _flagged(refused.close("server", 4403, "not here").done(), "Normal"),
        _flagged(named.text("server", "grüße, 日本語, 😀").done(), "Unicode"),
    ]


def _flip(frame: bytes, index: int) -> bytes:
    return frame[:index] + bytes([frame[index] ^ 1]) + frame[index + 1 :]


def _refused_hellos() -> list[dict[str, Any]]:
    refused = []

    def hello(name: str, flag: str, change: Any) -> None:
        connection = _hybrid(f"HELLO {name}")
        refused.append(_flagged(connection.refused("server", change(connection.greet())), flag))

    first = 9  # type and kid
    hello("with a bit of the kid flipped", "BitFlip", lambda frame: _flip(frame, 1))
    hello("with a bit of e flipped", "BitFlip", lambda frame: _flip(frame, first))
    hello("with a bit of e1 flipped", "BitFlip", lambda frame: _flip(frame, first + E_END))
    hello(
        "with a bit of e1's tag flipped", "BitFlip", lambda frame: _flip(frame, first + E1_END - 1)
    )
    hello(
        "with a bit of the payload flipped", "BitFlip", lambda frame: _flip(frame, first + E1_END)
    )
    hello(
        "with a bit of the last tag flipped", "BitFlip", lambda frame: _flip(frame, len(frame) - 1)
    )
    hello("cut inside e", "Length", lambda frame: frame[: first + 20])
    hello("cut behind e", "Length", lambda frame: frame[: first + E_END])
    hello("cut inside e1", "Length", lambda frame: frame[: first + 600])
    hello("cut behind e1", "Length", lambda frame: frame[: first + E1_END])
    hello("cut inside the payload", "Length", lambda frame: frame[:-1])
    hello("with a byte too many", "Length", lambda frame: frame + b"\0")

    def sealed(name: str, flag: str, change: Any) -> None:
        """Seal what is not the encapsulation key that the seed has."""
        connection = _hybrid(f"HELLO whose encapsulation key {name}")
        _hybrid_peer(connection, "server").change_key = change
        refused.append(_flagged(connection.refused("server", connection.greet()), flag))

    sealed("has a coefficient of 3329", "ModulusCheck", lambda ek: b"\x01\x0d" + ek[2:])
    sealed("has a coefficient of 4095", "ModulusCheck", lambda ek: b"\xff\x0f" + ek[2:])
    sealed(
        "has a last coefficient of 4095",
        "ModulusCheck",
        lambda ek: ek[:1150] + b"\xf0\xff" + ek[1152:],
    )
    sealed("has 1183 bytes", "KeyLength", lambda ek: ek[:-1])
    sealed("has 1185 bytes", "KeyLength", lambda ek: ek + b"\0")
    sealed("is empty", "KeyLength", lambda ek: b"")

    other = Connection("v3: HELLO of gcrypt.v2")
    refused.append(
        _flagged(_hybrid("HELLO of gcrypt.v2").refused("server", other.greet()), "Downgrade")
    )
    return refused


def _refused_replies() -> list[dict[str, Any]]:
    refused = []

    def reply(name: str, flag: str, change: Any) -> None:
        connection = _hybrid(f"REPLY {name}").hello()
        refused.append(_flagged(connection.refused("client", change(connection.answer())), flag))

    first = 1  # type
    reply("with a bit of e flipped", "BitFlip", lambda frame: _flip(frame, first))
    reply(
        "with the highest bit of e flipped",
        "BitFlip",
        lambda f: f[:32] + bytes([f[32] ^ 128]) + f[33:],
    )
    reply("with a bit of ekem1 flipped", "BitFlip", lambda frame: _flip(frame, first + E_END))
    reply(
        "with a bit of ekem1's tag flipped",
        "BitFlip",
        lambda frame: _flip(frame, first + EKEM1_END - 1),
    )
    reply(
        "with a bit of the payload flipped",
        "BitFlip",
        lambda frame: _flip(frame, first + EKEM1_END),
    )
    reply(
        "with a bit of the last tag flipped", "BitFlip", lambda frame: _flip(frame, len(frame) - 1)
    )
    reply("cut inside e", "Length", lambda frame: frame[: first + 20])
    reply("cut behind e", "Length", lambda frame: frame[: first + E_END])
    reply("cut inside ekem1", "Length", lambda frame: frame[: first + 600])
    reply("cut behind ekem1", "Length", lambda frame: frame[: first + EKEM1_END])
    reply("cut inside the payload", "Length", lambda frame: frame[:-1])
    reply("with a byte too many", "Length", lambda frame: frame + b"\0")
    reply(
        "with an e of small order", "SmallOrder", lambda frame: frame[:1] + bytes(32) + frame[33:]
    )

    def sealed(name: str, flag: str, change: Any) -> None:
        """Seal another ciphertext than that of the secret."""
        connection = _hybrid(f"REPLY whose ciphertext {name}").hello()
        _hybrid_peer(connection, "client").change_ciphertext = change
        refused.append(_flagged(connection.refused("client", connection.answer()), flag))

    other, _ = ml_kem.encapsulate(ml_kem.public_key(seeded("other", 64)), seeded("coins", 32))
    sealed("is for another key", "ImplicitRejection", lambda ct: other)
    sealed("has its first bit flipped", "ImplicitRejection", lambda ct: _flip(ct, 0))
    sealed("has its last bit flipped", "ImplicitRejection", lambda ct: _flip(ct, len(ct) - 1))
    sealed("is zeros", "ImplicitRejection", lambda ct: bytes(len(ct)))
    sealed("has 1087 bytes", "CiphertextLength", lambda ct: ct[:-1])
    sealed("has 1089 bytes", "CiphertextLength", lambda ct: ct + b"\0")
    sealed("is empty", "CiphertextLength", lambda ct: b"")

    for member in ("offered", "host", "target"):
        connection = _hybrid(f"REPLY without {member}").hello()
        others = {key: value for key, value in connection.binding.items() if key != member}
        answer = connection.answer(compact(others))
        refused.append(_flagged(connection.refused("client", answer), "Binding"))

    connection = _hybrid("REPLY of gcrypt.v2").hello()
    other_profile = Connection("v3: REPLY of gcrypt.v2").hello()
    refused.append(_flagged(connection.refused("client", other_profile.answer()), "Downgrade"))
    return refused
