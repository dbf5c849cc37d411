"""The JSON inside ``gcrypt.v2`` and ``gcrypt.v3``: handshake payloads and control messages.

Members that are not known are ignored; a known one of the wrong type is ``InvalidFrame`` when it
was received and ``LocalError`` when it was to be sent. See ``docs/protocol.md``, *Frames*.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final, TypeGuard

from ..crypto import jsontext
from ..exceptions import InvalidFrame, LocalError
from .events import Accepted, Binding, Closed, Gap, HandshakeDone, Joined, Left, Position
from .frames import DEFAULT_MAX_MESSAGE

__all__ = [
    "MAX_REASON",
    "MAX_RESUME",
    "Control",
    "check_close",
    "decode_text",
    "encode_text",
    "is_close_code",
    "parse_control",
    "parse_hello_payload",
    "parse_reply_payload",
    "serialize_accept",
    "serialize_close",
    "serialize_gap",
    "serialize_hello_payload",
    "serialize_joined",
    "serialize_left",
    "serialize_reply_payload",
]

Control = Accepted | Closed | Gap | Joined | Left

MAX_REASON: Final = 123
"""Bytes of UTF-8 that fit beside the code in a WebSocket close frame (RFC 6455, section 5.5)."""

MAX_RESUME: Final = 64
"""Groups for which a client may offer a position."""

MAX_POSITION: Final = 2**53 - 1
"""The last message of an epoch: the largest integer up to which JavaScript counts exactly."""

MAX_ID: Final = 2**32 - 1

_EPOCH: Final = re.compile(r"[0-9a-f]{16}", re.ASCII)


def decode_text(data: bytes) -> str:
    """Return the text of UTF-8 bytes, or raise ``InvalidFrame``."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        pass
    # Raised out here: the decoding error, as a context, would carry the plaintext along.
    raise InvalidFrame


def encode_text(text: str) -> bytes:
    """Return a text as UTF-8, or raise ``LocalError`` when it holds a lone surrogate."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        pass
    raise LocalError("a lone surrogate has no UTF-8 form")


@lru_cache(maxsize=8)
def serialize_hello_payload(max_message: int) -> bytes:
    """Return the server's payload: the largest message, in bytes, that it accepts."""
    return _serialize({"max_message": max_message}, parse_hello_payload)


def parse_hello_payload(payload: bytes) -> int:
    """Return the server's ``max_message`` in bytes."""
    return _max_message(_parse_object(payload))


def serialize_reply_payload(
    subprotocols: Sequence[str],
    max_message: int,
    binding: Binding,
    resume: Sequence[Position] | None = None,
) -> bytes:
    """Return the client's payload: what its application speaks, what it accepts, what it requested.

    ``resume`` are the positions that it offers, ``None`` if it knows nothing of positions.
    Raises ``LocalError`` also for a ``target`` that no request line can have.
    """
    target = binding.target
    if not (target.startswith("/") and target.isascii()) or "#" in target:
        raise LocalError("the target is not an ASCII path and query")
    members: dict[str, Any] = {
        "subprotocols": list(subprotocols),
        "max_message": max_message,
        "offered": list(binding.offered),
        "host": binding.host,
        "target": target,
    }
    if resume is not None:
        members["resume"] = [position._asdict() for position in resume]
    return _serialize(members, parse_reply_payload)


def parse_reply_payload(payload: bytes) -> tuple[HandshakeDone, int]:
    """Return what the client told, and its ``max_message`` in bytes."""
    members = _parse_object(payload)
    subprotocols = members.get("subprotocols", [])
    offered = members.get("offered")
    host, target = members.get("host"), members.get("target")
    if not (
        _is_list(subprotocols, _is_name)
        and _is_list(offered, _is_text)
        and _is_text(host)
        and _is_text(target)
    ):
        raise InvalidFrame
    binding = Binding(tuple(offered), host, target)
    done = HandshakeDone(tuple(subprotocols), binding, _resume(members))
    return done, _max_message(members)


def _resume(members: dict[str, Any]) -> tuple[Position, ...] | None:
    """Return the positions that the client offers, ``None`` where it knows nothing of them."""
    if "resume" not in members:
        return None
    entries = members["resume"]
    if not isinstance(entries, list) or len(entries) > MAX_RESUME:
        raise InvalidFrame
    if not all(isinstance(each, dict) for each in entries):
        raise InvalidFrame
    positions = tuple(map(_position, entries))
    if len({position.group for position in positions}) < len(positions):
        raise InvalidFrame
    return positions


def _position(members: dict[str, Any]) -> Position:
    group, epoch, n = members.get("group"), members.get("epoch"), members.get("n")
    if not (_is_name(group) and _is_text(epoch) and _EPOCH.fullmatch(epoch)):
        raise InvalidFrame
    if not _is_int(n) or not 0 <= n <= MAX_POSITION:
        raise InvalidFrame
    return Position(group, epoch, n)


@lru_cache(maxsize=32)
def serialize_accept(subprotocol: str | None) -> bytes:
    """Return the control message of the application's accept."""
    return _serialize({"type": "accept", "subprotocol": subprotocol}, parse_control)


def is_close_code(code: object) -> TypeGuard[int]:
    """Tell whether a close may name this code; see ``docs/protocol.md``, *Close codes*.

    1004 has no meaning, and 1005, 1006 and 1015 say that there was no close (RFC 6455, 7.4.1).
    """
    return _is_int(code) and (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999)


def check_close(code: int, reason: str) -> None:
    """Raise ``LocalError`` unless a close may name this code and this reason."""
    if not is_close_code(code):
        raise LocalError("a close code is one of 1000-1003, 1007-1014 and 3000-4999")
    if not _is_reason(reason):
        raise LocalError(f"a close reason is text of at most {MAX_REASON} bytes in UTF-8")


def serialize_close(code: int, reason: str) -> bytes:
    """Return the control message of a close, or raise as ``check_close`` does."""
    check_close(code, reason)
    return jsontext.serialize({"type": "close", "code": code, "reason": reason}).encode()


def serialize_gap(group: str, missed: int) -> bytes:
    """Return the control message of a gap; ``missed`` is at least 1."""
    return _serialize({"type": "gap", "group": group, "missed": missed}, parse_control)


def serialize_joined(joined: Joined) -> bytes:
    """Return the control message of a membership of a group with history."""
    members = {
        "type": "joined",
        "id": joined.id,
        **joined.position._asdict(),
        "recovered": joined.recovered,
    }
    return _serialize(members, parse_control)


def serialize_left(joined: int) -> bytes:
    """Return the control message of the end of the membership with the id ``joined``."""
    return _serialize({"type": "left", "id": joined}, parse_control)


def parse_control(plaintext: bytes) -> Control | None:
    """Return the event of a control message, ``None`` for a type that is not known."""
    members = _parse_object(plaintext)
    match members.get("type"):
        case "accept":
            subprotocol = members.get("subprotocol")
            if subprotocol is None or _is_name(subprotocol):
                return Accepted(subprotocol)
        case "close":
            code, reason = members.get("code"), members.get("reason", "")
            if is_close_code(code) and _is_reason(reason):
                return Closed(code, reason)
        case "gap":
            group, missed = members.get("group"), members.get("missed")
            if _is_name(group) and _is_int(missed) and missed > 0:
                return Gap(group, missed)
        case "joined":
            joined, recovered = members.get("id"), members.get("recovered")
            if _is_id(joined) and isinstance(recovered, bool):
                return Joined(joined, _position(members), recovered)
        case "left":
            left = members.get("id")
            if _is_id(left):
                return Left(left)
        case str():
            return None
    raise InvalidFrame


def _serialize(members: dict[str, Any], parse: Callable[[bytes], object]) -> bytes:
    """Return the JSON of a message; ``LocalError`` when a peer that parses it would refuse it."""
    data = jsontext.serialize(members).encode()
    try:
        parse(data)
    except InvalidFrame:
        raise LocalError(f"not a valid message: wrong {' or '.join(members)}") from None
    return data


def _parse_object(data: bytes) -> dict[str, Any]:
    text = decode_text(data)
    try:
        members = jsontext.parse_unique(text)
    except ValueError:
        raise InvalidFrame from None
    if not isinstance(members, dict):
        raise InvalidFrame
    return members


def _max_message(members: dict[str, Any]) -> int:
    value = members.get("max_message", DEFAULT_MAX_MESSAGE)
    if not _is_int(value) or value < 1:
        raise InvalidFrame
    return value


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_id(value: object) -> TypeGuard[int]:
    return _is_int(value) and 1 <= value <= MAX_ID


def _is_text(value: object) -> TypeGuard[str]:
    """Tell whether a value is a string that UTF-8 can carry, as every WebSocket string must be."""
    return isinstance(value, str) and jsontext.SURROGATE.search(value) is None


def _is_name(value: object) -> TypeGuard[str]:
    return _is_text(value) and value != ""


def _is_reason(value: object) -> TypeGuard[str]:
    return _is_text(value) and len(value.encode()) <= MAX_REASON


def _is_list(value: object, is_item: Callable[[object], TypeGuard[str]]) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(map(is_item, value))
