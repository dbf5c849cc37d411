"""The connections of ``v2.json`` that end with a frame that is refused."""

from __future__ import annotations

import json
from typing import Any

from .secure_connection import BINARY, CONTROL, MORE, PADDED, TEXT, Connection, compact

_WRONG_MEMBERS = {
    "subprotocols": ('"json"', "[1]", '[""]', "[null]", '["\\ud800"]', "{}", "null"),
    "offered": (
        '"gcrypt.v2"',
        "[1]",
        "[null]",
        '["gcrypt.v2", ["x"]]',
        '["\\ud800"]',
        "{}",
        "null",
    ),
    "host": ("1", "null", '["a"]', "true", '"\\ud800"'),
    "target": ("1", "null", '["/"]', "false", '"/\\ud800"'),
}


def build() -> list[dict[str, Any]]:
    return [*_handshakes(), *_frames(), *_messages()]


def _handshakes() -> list[dict[str, Any]]:
    refused = []
    wrong_limits = ("0", "-1", "true", '"1"', "1.5", "null", "[]")
    for limit in wrong_limits:
        connection = Connection(f"HELLO with max_message {limit}")
        hello = connection.greet(b'{"max_message": %s}' % limit.encode())
        refused.append(connection.refused("server", hello))
        connection = Connection(f"REPLY with max_message {limit}").hello()
        reply = connection.answer(max_message=json.loads(limit))
        refused.append(connection.refused("client", reply))
    for payload in (b"", b"[]", b"null", b"{", b'{"max_message":1', b'"\xff"', b"{} {}"):
        connection = Connection(f"HELLO with payload {payload!r}")
        refused.append(connection.refused("server", connection.greet(payload)))
        connection = Connection(f"REPLY with payload {payload!r}").hello()
        refused.append(connection.refused("client", connection.answer(payload)))
    for member, values in _WRONG_MEMBERS.items():
        for value in values:
            connection = Connection(f"REPLY with {member} {value}").hello()
            members = compact({**connection.binding, member: "?"}).decode().replace('"?"', value)
            reply = connection.answer(members.encode())
            refused.append(connection.refused("client", reply))
    for member in ("offered", "host", "target"):
        connection = Connection(f"REPLY without {member}").hello()
        others = {key: value for key, value in connection.binding.items() if key != member}
        refused.append(connection.refused("client", connection.answer(compact(others))))

    def altered(name: str, change: Any) -> None:
        connection = Connection(f"HELLO {name}")
        refused.append(connection.refused("server", change(connection.greet())))
        connection = Connection(f"REPLY {name}").hello()
        refused.append(connection.refused("client", change(connection.answer())))

    altered("empty", lambda frame: b"")
    altered("cut to its first byte", lambda frame: frame[:1])
    altered("cut inside the ephemeral key", lambda frame: frame[:20])
    altered("cut inside the payload", lambda frame: frame[:-1])
    altered("with a byte too many", lambda frame: frame + b"\0")
    altered("with a flag", lambda frame: bytes([frame[0] | PADDED]) + frame[1:])
    altered("of another kind", lambda frame: b"\x10" + frame[1:])
    altered("with a bit of the tag flipped", lambda frame: frame[:-1] + bytes([frame[-1] ^ 1]))

    connection = Connection("HELLO with a bit of the kid flipped")
    hello = connection.greet()
    refused.append(connection.refused("server", hello[:1] + bytes([hello[1] ^ 1]) + hello[2:]))
    connection = Connection("REPLY with an ephemeral key of small order").hello()
    refused.append(connection.refused("client", b"\x02" + bytes(32) + connection.answer()[33:]))
    connection = Connection("HELLO in the place of REPLY").hello()
    refused.append(connection.refused("client", b"\x01" + connection.answer()[1:]))
    return refused


def _frames() -> list[dict[str, Any]]:
    """What a wire can do to frames."""
    refused = []

    def altered(name: str, change: Any) -> None:
        for sender in ("server", "client"):
            connection = Connection(f"frame {name}, from the {sender}").open()
            frame = connection.seal(sender, TEXT, b"hello")
            refused.append(connection.refused(sender, change(frame)))

    altered("empty", lambda frame: b"")
    altered("cut to its first byte", lambda frame: frame[:1])
    altered("cut", lambda frame: frame[:-1])
    altered("extended", lambda frame: frame + b"\0")
    altered("with its kind changed", lambda frame: b"\x11" + frame[1:])
    altered("with a flag set", lambda frame: bytes([frame[0] | MORE]) + frame[1:])
    altered("with a bit of the text flipped", lambda f: f[:3] + bytes([f[3] ^ 0x80]) + f[4:])
    altered("with a bit of the tag flipped", lambda f: f[:-1] + bytes([f[-1] ^ 1]))

    for sender, other in (("server", "client"), ("client", "server")):
        replayed = Connection(f"frame replayed, from the {sender}").open().text(sender, "once")
        refused.append(replayed.refused(sender, bytes.fromhex(replayed.steps[-1]["frames"][0])))
        skipped = Connection(f"frame dropped before this one, from the {sender}").open()
        skipped.seal(sender, TEXT, b"dropped")
        refused.append(skipped.refused(sender, skipped.seal(sender, TEXT, b"next")))
        reflected = Connection(f"frame reflected, to the {other}").open().text(other, "mine")
        refused.append(reflected.refused(sender, bytes.fromhex(reflected.steps[-1]["frames"][0])))
    return refused


def _messages() -> list[dict[str, Any]]:
    """What only a holder of the keys can send."""
    refused = []

    def both(name: str, *frames: tuple[int, bytes], code: int = 4400) -> None:
        for sender in ("server", "client"):
            connection = Connection(
                f"{name}, from the {sender}", server_max_message=20, client_max_message=20
            ).open()
            sealed = [connection.peers[sender].seal(first, content) for first, content in frames]
            refused.append(connection.refused(sender, *sealed, code=code))

    for first in (0x00, 0x01, 0x02, 0x0F, 0x13, 0x3F):
        both(f"kind 0x{first:02x}", (first, b"x"))
    both("text that is not UTF-8", (TEXT, b"\xff"))
    both("text that ends inside a character", (TEXT | MORE, b"\xe2"), (TEXT, b"\x82"))
    both("padding of zeros alone", (TEXT | PADDED, b"\0\0"))
    both("padding that is missing", (TEXT | PADDED, b"x"))
    both("padding of nothing", (TEXT | PADDED, b""))
    both("fragments of two kinds", (TEXT | MORE, b"a"), (BINARY, b"b"))
    both("a control message between fragments", (TEXT | MORE, b"a"), (CONTROL, b'{"type":"x"}'))
    both("a control message in fragments", (CONTROL | MORE, b'{"type":'))
    both("a message over the limit", (TEXT, b"x" * 21), code=1009)
    both("fragments over the limit", (BINARY | MORE, b"x" * 20), (BINARY, b"x"), code=1009)
    for control in (
        b"",
        b"{}",
        b"[]",
        b'{"type": 1}',
        b'{"type": null}',
        b'{"type": "close"}',
        b'{"type": "close", "code": "1000", "reason": ""}',
        b'{"type": "close", "code": true, "reason": ""}',
        b'{"type": "close", "code": 999, "reason": ""}',
        *(
            b'{"type": "close", "code": %d, "reason": ""}' % code
            for code in (1004, 1005, 1006, 1015, 1016, 2999, 5000)
        ),
        b'{"type": "close", "code": 1000, "reason": "%s"}' % (b"x" * 124),
        b'{"type": "close", "code": 1000, "reason": "%s"}' % ("ü".encode() * 62),
        b'{"type": "close", "code": 1000, "reason": 1}',
        b'{"type": "close", "code": 1000, "reason": null}',
        b'{"type": "close", "code": 1000, "reason": "\\ud800"}',
        b'{"type": "accept", "subprotocol": null}',
        b'{"type": "\xff"}',
    ):
        both(f"control message {control!r}", (CONTROL, control))

    def one(name: str, sender: str, frames: list[tuple[int, bytes]], *, accepted: bool) -> None:
        connection = Connection(name).hello().reply()
        if accepted:
            connection.accept()
        sealed = [connection.peers[sender].seal(first, content) for first, content in frames]
        refused.append(connection.refused(sender, *sealed))

    gap = compact({"type": "gap", "group": "room", "missed": 1})
    close = compact({"type": "close", "code": 1000, "reason": ""})
    for sender in ("server", "client"):
        one(f"data before the accept, from the {sender}", sender, [(TEXT, b"x")], accepted=False)
        early = [(TEXT | MORE, b"x")]
        one(f"a fragment before the accept, from the {sender}", sender, early, accepted=False)
        after = [(CONTROL, close), (TEXT, b"x")]
        one(f"data after a close, from the {sender}", sender, after, accepted=True)
        twice = [(CONTROL, close), (CONTROL, close)]
        one(f"a second close from the {sender}", sender, twice, accepted=True)
    one("a gap before the accept", "server", [(CONTROL, gap)], accepted=False)
    one("a gap from the client", "client", [(CONTROL, gap)], accepted=True)
    for group, missed in (
        ("room", 0),
        ("room", -1),
        ("room", True),
        ("room", "1"),
        ("", 1),
        (1, 1),
    ):
        wrong = compact({"type": "gap", "group": group, "missed": missed})
        one(f"a gap of {missed!r} in {group!r}", "server", [(CONTROL, wrong)], accepted=True)
    names: list[object] = [1, "", [], True, "not-offered"]
    for name in names:
        wrong = compact({"type": "accept", "subprotocol": name})
        one(f"an accept of {name!r}", "server", [(CONTROL, wrong)], accepted=False)
    return refused
