"""``v2.json``: connections of the secure profile, good and bad."""

from __future__ import annotations

import json
from typing import Any

from . import v2_refused
from .secure_connection import (
    BINARY,
    CONTROL,
    MORE,
    PADDED,
    TEXT,
    Connection,
    padme,
)
from .seeds import seeded

UNICODE = "grüße, мир, 日本語, 😀"


def build() -> dict[str, Any]:
    lengths = [*range(20), 99, 100, 255, 256, 257, 1000, 4097, 65_537, 114_687, 114_688, 262_144]
    return {
        "padme": [[length, padme(length)] for length in lengths],
        "connections": _connections(),
        "received": _received(),
        "refused": v2_refused.build(),
    }


def _connections() -> list[dict[str, Any]]:
    plain = (
        Connection("text, binary and control")
        .open("graphql-transport-ws", "json", accepted="json")
        .text("client", '{"id":1}')
        .text("server", '{"id":2}')
        .binary("client", bytes(range(256)))
        .binary("server", b"")
        .text("client", "")
        .text("server", UNICODE)
        .control("server", {"type": "gap", "group": "room", "missed": 3})
        .close("server", 4401, "logged out")
        .text("client", "in flight")
        .close("client", 1000, "")
    )
    padded = Connection("padded", padding=True).open()
    for size in (0, 1, 2, 7, 8, 9, 100, 300):
        padded.text("client", "x" * size).binary("server", seeded("padded", size))
    padded.binary("server", b"\0\x80\0\0").close("client", 1000, "bye")
    rekeyed = Connection("rekeyed every three frames", rekey_interval=3).open()
    for number in range(10):
        rekeyed.text("client", f"to the server {number}")
        rekeyed.binary("server", bytes([number]))
    refused = Connection("refused by the application").hello().reply("json")
    abandoned = Connection("closed by the client before the accept").hello().reply()
    limits = Connection("limits", server_max_message=3_000_000, client_max_message=20).open()
    long = limits.long_binary("client", 0x00, 114_688).long_binary("client", 0x01, 114_689)
    long.long_binary("client", 0x02, 3_000_000).text("server", "x" * 20)
    padded_long = Connection("long and padded", padding=True).open()
    padded_long.long_binary("client", 0x80, 114_687).long_binary("client", 0x80, 114_688)
    addressed = Connection(
        "to an IPv6 address, percent-encoded", host="[2001:db8::1]", target="/ws/caf%C3%A9/a%2Fb/"
    ).open()
    named = Connection(
        "to an international name", host="xn--bcher-kva.example", target="/?q=%C3%BC&r=%20+;/?"
    ).open()
    return [
        plain.done(),
        padded.done(),
        rekeyed.done(),
        refused.close("server", 4403, "not here").done(),
        abandoned.close("client", 1001, "going away").accept().done(),
        long.done(),
        padded_long.done(),
        addressed.close("server", 1012, "the server restarts").done(),
        named.close("client", 1000, "ü" * 61 + "x").done(),
    ]


def _received() -> list[dict[str, Any]]:
    """Frames that are right although no sender of this project makes them."""
    return [
        *(_other_fragments(sender) for sender in ("server", "client")),
        _other_hello(),
        _other_reply(),
    ]


def _other_fragments(sender: str) -> dict[str, Any]:
    connection = Connection(f"short fragments from the {sender}").open()
    euro = "€".encode()
    cut = connection.fragmented(sender, TEXT, b"a" + euro[:1], euro[1:2], euro[2:] + b"b")
    connection.step(sender, "text", cut, text="a€b")
    empty = connection.fragmented(sender, BINARY, b"", b"\x01", b"", b"")
    connection.step(sender, "binary", empty, data="01")
    padded = connection.fragmented(sender, TEXT, b"pad", b"", b"ded", flags=PADDED)
    connection.step(sender, "text", padded, text="padded")
    mixed = [
        connection.seal(sender, BINARY | MORE | PADDED, b"\x02"),
        connection.seal(sender, BINARY, b"\x03"),
    ]
    connection.step(sender, "binary", mixed, data="0203")
    return connection.received_from(sender)


def _other_hello() -> dict[str, Any]:
    connection = Connection("JSON of another server")
    hello = connection.greet(b"{}")
    connection.step("server", "hello", [hello], max_message=1_048_576)
    connection.peers["client"].read_handshake(hello[9:])
    connection.reply("json")
    later = connection.seal("server", CONTROL, b' {"type": "later", "n": 1} ')
    connection.step("server", "ignored", [later])
    members = b'{ "subprotocol" : "js\\u006fn", "later": [], "type": "accept" }\n'
    accept = connection.seal("server", CONTROL, members)
    connection.step("server", "accept", [accept], subprotocol="json")
    connection.step("server", "ignored", [connection.seal("server", CONTROL, b'{"type": ""}')])
    members = b'{"reason":"x","code":4000,"type":"close"}'
    close = connection.seal("server", CONTROL, members)
    connection.step("server", "close", [close], code=4000, reason="x")
    return connection.received_from("server")


def _other_reply() -> dict[str, Any]:
    connection = Connection("JSON of another client").hello()
    members = {"later": {"version": [1]}, "subprotocols": ["a", "b"], **connection.binding}
    reply = connection.answer(json.dumps(members, indent=1).encode())
    connection.step("client", "reply", [reply], subprotocols=["a", "b"])
    connection.peers["server"].read_handshake(reply[1:])
    connection.accept()
    for message in (b'{"type": "later"}', b'{"type": "x", "code": "y"}'):
        connection.step("client", "ignored", [connection.seal("client", CONTROL, message)])
    return connection.received_from("client")
