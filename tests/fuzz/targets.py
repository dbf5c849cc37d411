"""The parsers of what comes from outside, each as a function of bytes that raises nothing.

A parser refuses what it does not take with the errors that its docstring names. Any other
exception is a defect and leaves the target.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from gcrypt_channels.client.key import ask, parse_key
from gcrypt_channels.crypto.classic import Crypt
from gcrypt_channels.crypto.jsontext import parse, parse_unique
from gcrypt_channels.crypto.noise import CipherState
from gcrypt_channels.crypto.ticket import open_ticket, seal_ticket
from gcrypt_channels.exceptions import DecryptionFailed, InvalidFrame, ProtocolError
from gcrypt_channels.layers.envelope import Body, Envelope, MessageKind
from gcrypt_channels.protocol.classic import ClassicSession
from gcrypt_channels.protocol.events import Binding
from gcrypt_channels.protocol.frames import parse_group, parse_hello, parse_reply
from gcrypt_channels.protocol.messages import (
    decode_text,
    parse_control,
    parse_hello_payload,
    parse_reply_payload,
    serialize_close,
    serialize_gap,
    serialize_hello_payload,
)
from gcrypt_channels.protocol.secure import SecureSession
from gcrypt_channels.protocol.transport import Transport

Target = Callable[[bytes], None]

PASSPHRASE: Final = "a passphrase of the fuzzing targets"
SECRET: Final = bytes(32)
KID, PSK = bytes(8), bytes(range(32))
MAX_MESSAGE: Final = 10_000

_crypt = Crypt(PASSPHRASE)


def classic_frame(data: bytes) -> None:
    """A frame of `gcrypt.v1`, and one that holds any text."""
    text = data.decode(errors="surrogateescape")
    with suppress(DecryptionFailed):
        _crypt.decrypt(text)
    with suppress(DecryptionFailed):
        _crypt.decrypt(_crypt.seal(data.decode(errors="replace")))


def classic_session(data: bytes) -> None:
    """A session of `gcrypt.v1` that gets text or bytes."""
    session = ClassicSession(PASSPHRASE, max_message=MAX_MESSAGE)
    frame = data[1:] if data[:1] == b"b" else data.decode(errors="replace")
    with suppress(ProtocolError):
        session.receive(frame)


def json_text(data: bytes) -> None:
    text = data.decode(errors="replace")
    for parser in (parse, parse_unique):
        with suppress(ValueError):
            parser(text)


def handshake_frame(data: bytes) -> None:
    """A client that gets any HELLO, and a server that gets any REPLY."""
    for parser in (parse_hello, parse_reply):
        with suppress(InvalidFrame):
            parser(data)
    client = SecureSession("gcrypt.v2", role="client", max_message=MAX_MESSAGE)
    with suppress(ProtocolError):
        client.receive(data)
        client.reply(PSK, (), Binding(("gcrypt.v2",), "localhost", "/"))
    server = SecureSession("gcrypt.v2", role="server", max_message=MAX_MESSAGE)
    server.hello(KID, PSK)
    with suppress(ProtocolError):
        server.receive(data)


def handshake_payload(data: bytes) -> None:
    for parser in (parse_hello_payload, parse_reply_payload):
        with suppress(InvalidFrame):
            parser(data)


def control(data: bytes) -> None:
    with suppress(InvalidFrame):
        parse_control(data)


def sealed_frames(data: bytes) -> None:
    """Frames that are authentic and hold anything: first byte, length, plaintext, and so on."""
    peer = CipherState(SECRET)
    transport = Transport(
        CipherState(PSK),
        CipherState(SECRET),
        max_message=MAX_MESSAGE,
        padding=False,
        rekey_interval=65_536,
    )
    with suppress(ProtocolError):
        while len(data) >= 2:
            first, size = data[:1], data[1]
            plaintext, data = data[2 : 2 + size], data[2 + size :]
            frame = first + peer.encrypt_with_ad(first, plaintext)
            _, message = transport.open(frame)
            if message is not None:
                decode_text(message)
                parse_group(message)


def layer_message(data: bytes) -> None:
    """What a channel layer delivers, a body that is authentic, and an entry of a history."""
    message: Any = data
    with suppress(ValueError):
        message = json.loads(data)
    with suppress(DecryptionFailed):
        Envelope.parse(message).open("room")
    with suppress(DecryptionFailed):
        Envelope.from_bytes(data).open("room", purpose="history")
    with suppress(DecryptionFailed):
        Body.parse(data)


def ticket(data: bytes) -> None:
    with suppress(DecryptionFailed):
        open_ticket([SECRET], data.decode(errors="surrogateescape"))


def key_answer(data: bytes) -> None:
    """What a key source gives: JSON of any kind."""
    with suppress(ValueError):
        answer = json.loads(data)
        if isinstance(answer, dict) and all(isinstance(v, str) for v in answer.values()):
            with suppress(ValueError):
                parse_key(answer.get("kid"), answer.get("psk"))

        async def source() -> Any:
            return answer

        asyncio.run(ask(source))


TARGETS: Final[dict[str, tuple[Target, list[bytes]]]] = {
    "classic-frame": (classic_frame, [_crypt.encrypt({"a": [1, "b"]}).encode(), b'{"a": 1}']),
    "classic-session": (classic_session, [_crypt.encrypt("text").encode(), b"b\0"]),
    "json-text": (json_text, [b'{"a": [1.5, null, "\\ud83d\\ude00"]}', b"[" * 70]),
    "handshake-frame": (
        handshake_frame,
        [SecureSession("gcrypt.v2", role="server", max_message=MAX_MESSAGE).hello(KID, PSK)],
    ),
    "handshake-payload": (handshake_payload, [serialize_hello_payload(MAX_MESSAGE)]),
    "control-message": (
        control,
        [serialize_close(4000, "a reason"), serialize_gap("room", 3), b'{"type":"left","id":1}'],
    ),
    "sealed-frames": (sealed_frames, [b"\x10\x05hello", b"\x90\x03hel\x10\x02lo"]),
    "layer-message": (
        layer_message,
        [
            json.dumps(
                Envelope.seal("room", bytes(16), 1, 1, bytes(9) + b"text").serialize()
            ).encode(),
            Body(next(iter(MessageKind)), 1, b"text").serialize(),
        ],
    ),
    "ticket": (ticket, [seal_ticket(SECRET, b"{}", salt=bytes(16))[0].encode()]),
    "key-answer": (
        key_answer,
        [json.dumps({"kid": KID.hex(), "psk": "A" * 43, "ticket": "t"}).encode()],
    ),
}
"""Each target with inputs to begin with, of which at least one is taken."""
