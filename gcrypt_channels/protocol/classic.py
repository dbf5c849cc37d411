"""``ClassicSession``: one connection under ``gcrypt.v1``, with the interface of ``SecureSession``.

A frame is a WebSocket text frame as g-crypt makes it. There is no handshake and there are no
control messages, and nothing tells a replayed or reordered frame from a good one. See
``docs/protocol.md``, *gcrypt.v1*.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

from ..crypto import jsontext
from ..crypto.classic import Crypt
from ..exceptions import DecryptionFailed, InvalidFrame, LocalError, MessageTooBig, ProtocolError
from ..protocol import messages
from .events import Text
from .frames import DEFAULT_MAX_MESSAGE
from .profiles import V1
from .states import State

__all__ = ["ClassicSession", "max_frame_size"]

_FRAME_OVERHEAD: Final = 128
"""More characters than a frame has besides its base64."""


def max_frame_size(max_message: int) -> int:
    """Return the characters of the longest frame that can hold ``max_message`` bytes."""
    return (max_message // 16 + 1) * 16 * 4 // 3 + _FRAME_OVERHEAD


class ClassicSession:
    """Either side of a connection.

    ``max_frame`` is the size in characters (all ASCII) above which a frame is refused.

    While a passphrase is being rotated there are several: each is tried on what comes in until one
    opens a frame; from then on that one alone serves both directions. Until then the first one
    seals. The state is ``OPEN``, ``CLOSED`` once this side has closed, or ``FAILED``.
    """

    profile: Final = V1

    def __init__(
        self, passphrases: Sequence[str], *, max_message: int = DEFAULT_MAX_MESSAGE
    ) -> None:
        """Take one passphrase or more, the primary first; ``max_message`` is in bytes of UTF-8."""
        if not passphrases:
            raise ValueError("a session needs a passphrase")
        self.peer_max_message = sys.maxsize  # v1 has no way to tell a limit
        self._crypts = [Crypt(passphrase) for passphrase in passphrases]
        self._max_message = max_message
        self._max_frame = max_frame_size(max_message)
        self._state = State.OPEN

    @property
    def state(self) -> State:
        """Where the connection is; see ``states``."""
        return self._state

    def receive(self, frame: bytes | str) -> Text:
        """Return the JSON text in a frame; it is a ``JsonText`` with its value.

        Raises ``InvalidFrame`` or ``MessageTooBig``; either one ends the session.
        """
        try:
            return self._open(frame)
        except ProtocolError:
            self.forget()
            raise

    def seal(self, data: str | bytes) -> list[str]:
        """Return the one frame that carries a JSON text.

        Raises ``LocalError`` when the data is not JSON text, which is all that v1 can carry. A
        ``JsonText`` is not parsed again.
        """
        if self._state is not State.OPEN:
            raise LocalError(f"nothing can be sent in state {self._state.name}")
        if not isinstance(data, str):
            raise LocalError(f"{V1} carries JSON text, not bytes")
        if type(data) is not jsontext.JsonText:
            messages.encode_text(data)
            try:
                jsontext.parse(data)
            except ValueError:
                raise LocalError(f"{V1} carries JSON text only") from None
        return [self._crypts[0].seal(data)]

    def seal_accept(self, subprotocol: str | None) -> list[str]:
        """Return no frames: v1 has no such message."""
        return []

    def seal_close(self, code: int, reason: str) -> list[str]:
        """Return no frames, and seal nothing afterwards. See ``SecureSession.seal_close``."""
        messages.check_close(code, reason)
        if self._state is not State.OPEN:
            raise LocalError(f"nothing can be sent in state {self._state.name}")
        self._state = State.CLOSED
        return []

    def seal_gap(self, group: str, missed: int) -> list[str]:
        """Return no frames: v1 has no such message."""
        return []

    def forget(self) -> None:
        """Drop the passphrases: nothing can be sealed or received any more."""
        self._state = State.FAILED
        self._crypts = []

    def _open(self, frame: bytes | str) -> Text:
        if not isinstance(frame, str):
            raise InvalidFrame
        if len(frame) > self._max_frame:
            raise MessageTooBig
        for crypt in self._crypts:
            try:
                text = crypt.open(frame)
            except DecryptionFailed:
                continue
            if len(self._crypts) > 1:
                self._crypts = [crypt]
            if len(text) * 4 > self._max_message and len(text.encode()) > self._max_message:
                raise MessageTooBig
            return Text(text)
        raise InvalidFrame
