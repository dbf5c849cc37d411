"""The transport: messages to sealed frames and back, under the handshake's keys.

See ``docs/protocol.md``, *Frames*. Which message may come when is not decided here.
"""

from __future__ import annotations

from typing import Final

from ..crypto.noise import CipherState
from ..exceptions import InvalidFrame
from .frames import (
    FRAGMENT_SIZE,
    KIND_MASK,
    MAX_TRANSPORT_FRAME,
    MORE,
    PADDED,
    TYPE_BYTES,
    FrameKind,
    Reassembler,
    fragments,
    unpad,
)

__all__ = ["REKEY_INTERVAL", "Transport"]

REKEY_INTERVAL: Final = 65_536
"""Each direction gets a new key after this many frames."""

_KINDS: Final = {int(kind): kind for kind in FrameKind if kind >= FrameKind.TEXT}


class Transport:
    """Both directions of one connection after the handshake.

    A frame is ``type ‖ AEAD(ad = type)``. The counter is implicit, so a frame that was replayed,
    reordered, dropped, reflected or altered does not open.
    """

    __slots__ = ("_padding", "_reassembler", "_receiving", "_rekey_interval", "_sending")

    def __init__(
        self,
        sending: CipherState,
        receiving: CipherState,
        *,
        max_message: int,
        padding: bool,
        rekey_interval: int,
    ) -> None:
        self._sending = sending
        self._receiving = receiving
        self._padding = padding
        self._rekey_interval = rekey_interval
        self._reassembler = Reassembler(max_message)

    def seal(self, kind: FrameKind, message: bytes) -> list[bytes]:
        """Return the frames that carry a message, to be sent in this order."""
        if len(message) <= FRAGMENT_SIZE and not self._padding:
            return [self._seal_frame(kind, message)]
        return [
            self._seal_frame(first, plaintext)
            for first, plaintext in fragments(kind, message, padding=self._padding)
        ]

    def open(self, frame: bytes) -> tuple[FrameKind, bytes | None]:
        """Return the kind of a frame and the message it completes, ``None`` when more follows.

        Raises ``InvalidFrame`` or ``MessageTooBig``.
        """
        if not 0 < len(frame) <= MAX_TRANSPORT_FRAME:
            raise InvalidFrame
        first = frame[0]
        kind = _KINDS.get(first & KIND_MASK)
        if kind is None:
            raise InvalidFrame
        receiving = self._receiving
        plaintext = receiving.decrypt_with_ad(TYPE_BYTES[first], frame[1:])
        if receiving.counter % self._rekey_interval == 0:
            receiving.rekey()
        if first & PADDED:
            plaintext = unpad(plaintext)
        return kind, self._reassembler.add(kind, plaintext, more=first & MORE != 0)

    def _seal_frame(self, first: int, plaintext: bytes) -> bytes:
        type_byte = TYPE_BYTES[first]
        sending = self._sending
        frame = type_byte + sending.encrypt_with_ad(type_byte, plaintext)
        if sending.counter % self._rekey_interval == 0:
            sending.rekey()
        return frame
