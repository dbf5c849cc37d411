"""The frames of ``gcrypt.v2`` and ``gcrypt.v3``: kinds and flags, padding, fragments.

See ``docs/protocol.md``, *Frames*. Sizes are in bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import Final

from ..exceptions import InvalidFrame, MessageTooBig

__all__ = [
    "DEFAULT_MAX_MESSAGE",
    "FRAGMENT_SIZE",
    "GROUP_HEADER_SIZE",
    "KID_SIZE",
    "KIND_MASK",
    "MAX_TRANSPORT_FRAME",
    "MAX_TRANSPORT_PLAINTEXT",
    "MORE",
    "PADDED",
    "TYPE_BYTES",
    "FrameKind",
    "Reassembler",
    "fragments",
    "pad",
    "padme",
    "parse_group",
    "parse_hello",
    "parse_reply",
    "serialize_group",
    "serialize_hello",
    "serialize_reply",
    "unpad",
]


class FrameKind(IntEnum):
    """The low six bits of a frame's first byte."""

    HELLO = 0x01
    REPLY = 0x02
    TEXT = 0x10
    BINARY = 0x11
    CONTROL = 0x12
    GROUP = 0x13


MORE: Final = 0x80
"""Flag: another fragment of the same message follows."""
PADDED: Final = 0x40
"""Flag: the plaintext is padded."""
KIND_MASK: Final = 0x3F

TYPE_BYTES: Final = tuple(bytes([first]) for first in range(256))
"""Each first byte as ``bytes``, made once: it is a header and the associated data of its frame."""

KID_SIZE: Final = 8
MAX_TRANSPORT_PLAINTEXT: Final = 262_144
"""The plaintext that one transport frame may have, padding included."""
FRAGMENT_SIZE: Final = 114_688
"""The plaintext that this side puts into one frame, padding included.

Larger buffers are mapped and unmapped by malloc for each message (above 128 KiB with glibc), and
then the page faults cost more than the encryption.
"""
MAX_TRANSPORT_FRAME: Final = 1 + MAX_TRANSPORT_PLAINTEXT + 16
DEFAULT_MAX_MESSAGE: Final = 1_048_576

GROUP_HEADER_SIZE: Final = 12
"""The bytes of a group message in front of its text: ``id(4) ‖ n(8)``."""

_SHORT_PART: Final = 4096
"""Fragments are joined to this size at once: many short ones must not cost an object each."""


def serialize_hello(kid: bytes, noise_message: bytes) -> bytes:
    """Return the HELLO frame: type, kid(8), Noise message 1."""
    return TYPE_BYTES[FrameKind.HELLO] + kid + noise_message


def parse_hello(frame: bytes) -> tuple[bytes, bytes]:
    """Return ``(kid(8), Noise message 1)``, or raise ``InvalidFrame``."""
    if frame[:1] != TYPE_BYTES[FrameKind.HELLO] or len(frame) <= 1 + KID_SIZE:
        raise InvalidFrame
    return frame[1 : 1 + KID_SIZE], frame[1 + KID_SIZE :]


def serialize_reply(noise_message: bytes) -> bytes:
    """Return the REPLY frame: type, Noise message 2."""
    return TYPE_BYTES[FrameKind.REPLY] + noise_message


def parse_reply(frame: bytes) -> bytes:
    """Return Noise message 2, or raise ``InvalidFrame``."""
    if frame[:1] != TYPE_BYTES[FrameKind.REPLY]:
        raise InvalidFrame
    return frame[1:]


def serialize_group(joined: int, n: int, text: bytes) -> bytes:
    """Return the plaintext of a group message: the id of its ``joined``, its position, its text."""
    return b"".join((joined.to_bytes(4, "big"), n.to_bytes(8, "big"), text))


def parse_group(message: bytes) -> tuple[int, int, bytes]:
    """Undo :func:`serialize_group`; the reassembler has seen to the length."""
    text = message[GROUP_HEADER_SIZE:]
    return int.from_bytes(message[:4], "big"), int.from_bytes(message[4:12], "big"), text


def padme(length: int) -> int:
    """Round a length up to the next Padmé length, which tells O(log log length) bits about it.

    Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs"
    (PETS 2019), section 4: of a length's binary digits, as many may differ from zero as its
    exponent has digits. The overhead is at most 12 %, and less for longer messages.
    """
    if length < 2:
        return length
    exponent = length.bit_length() - 1
    mask = (1 << (exponent - exponent.bit_length())) - 1
    return (length + mask) & ~mask


def pad(plaintext: bytes) -> bytes:
    """Append 0x80 and then zeros, up to a Padmé length."""
    size = len(plaintext) + 1
    return b"".join((plaintext, b"\x80", bytes(padme(size) - size)))


def unpad(padded: bytes) -> bytes:
    """Undo ``pad``; ``InvalidFrame`` when there is no 0x80 to be found behind the zeros."""
    end = padded.rfind(b"\x80")
    if end < 0 or padded.count(b"\0", end + 1) != len(padded) - end - 1:
        raise InvalidFrame
    return padded[:end]


def fragments(kind: FrameKind, message: bytes, *, padding: bool) -> Iterator[tuple[int, bytes]]:
    """Yield ``(first byte, plaintext)`` of each frame that carries the message, in order."""
    flags = PADDED if padding else 0
    # FRAGMENT_SIZE is a Padmé length itself, so padding its content takes one byte.
    size = FRAGMENT_SIZE - 1 if padding else FRAGMENT_SIZE
    last = max(len(message) - 1, 0) // size * size
    for start in range(0, last + 1, size):
        more = MORE if start < last else 0
        part = message[start : start + size]
        yield kind | flags | more, pad(part) if padding else part


class Reassembler:
    """Joins the fragments of one message at a time, up to ``max_message`` bytes.

    The header of a group message does not count, and is whole in its first fragment.
    """

    __slots__ = ("_kind", "_max_message", "_parts", "_size")

    def __init__(self, max_message: int) -> None:
        self._max_message = max_message
        self._kind: FrameKind | None = None
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, kind: FrameKind, plaintext: bytes, *, more: bool) -> bytes | None:
        """Return the message when this frame completes it, ``None`` when more follows.

        Raises ``InvalidFrame`` for a frame of another kind than the message that has begun, for a
        fragmented control message and for a group message without its header, ``MessageTooBig`` for
        a message over the limit.
        """
        begun, limit = self._kind, self._max_message
        if kind is FrameKind.GROUP:
            limit += GROUP_HEADER_SIZE
            if begun is None and len(plaintext) < GROUP_HEADER_SIZE:
                raise InvalidFrame
        if begun is None and not more:
            if len(plaintext) > limit and kind is not FrameKind.CONTROL:
                raise MessageTooBig
            return plaintext
        if (begun is not None and kind is not begun) or kind is FrameKind.CONTROL:
            raise InvalidFrame
        if self._size + len(plaintext) > limit:
            raise MessageTooBig
        parts = self._parts
        if parts and len(parts[-1]) < _SHORT_PART:
            parts[-1] += plaintext
        else:
            parts.append(plaintext)
        self._size += len(plaintext)
        if more:
            self._kind = kind
            return None
        message = b"".join(parts)
        self._kind = None
        self._parts = []
        self._size = 0
        return message
