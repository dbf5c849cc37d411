"""``SecureSession``: one connection under ``gcrypt.v3`` or ``gcrypt.v2``, in either role.

Sans-IO: the driver hands in each frame it receives, and sends the frames it is handed, in that
order and with no other sender in between. The profiles differ in the handshake alone. See
``docs/protocol.md``, *gcrypt.v2* and *gcrypt.v3*, and ``states`` for the table of states.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from ..crypto.noise import NN_PSK0, NNHFS_PSK0, HandshakeState, Pattern
from ..exceptions import InvalidFrame, LocalError, MessageTooBig, ProtocolError
from ..protocol import messages
from .events import (
    Accepted,
    Binding,
    Bytes,
    Closed,
    Gap,
    GroupText,
    HelloReceived,
    Joined,
    Left,
    Position,
    SessionEvent,
    Stamped,
    Text,
)
from .frames import (
    DEFAULT_MAX_MESSAGE,
    FRAGMENT_SIZE,
    KID_SIZE,
    FrameKind,
    parse_group,
    parse_hello,
    parse_reply,
    serialize_group,
    serialize_hello,
    serialize_reply,
)
from .profiles import V2, V3, SecureProfile
from .states import TRANSITIONS, State, Step, Steps
from .transport import REKEY_INTERVAL, Transport

__all__ = ["SecureSession"]

_PATTERNS: Final[dict[SecureProfile, Pattern]] = {V2: NN_PSK0, V3: NNHFS_PSK0}

_CONTROL_STEPS: Final[dict[type, Step]] = {
    Accepted: Step.ACCEPT,
    Closed: Step.CLOSE,
    Gap: Step.GROUP,
    Joined: Step.GROUP,
    Left: Step.GROUP,
    type(None): Step.IGNORED,
}


class SecureSession:
    """The state machine.

    Server: ``hello``, ``receive`` until ``HandshakeDone``, then ``seal_accept``. Client:
    ``receive`` until ``HelloReceived``, ``reply``, ``receive`` until ``Accepted``.

    The first frame that is not valid ends the session: the keys are dropped, and from then on
    ``receive`` raises ``InvalidFrame`` and every ``seal`` ``LocalError``.
    """

    def __init__(
        self,
        profile: SecureProfile = V2,
        *,
        role: Literal["server", "client"],
        max_message: int = DEFAULT_MAX_MESSAGE,
        padding: bool = False,
        rekey_interval: int = REKEY_INTERVAL,
    ) -> None:
        """``max_message``: the largest message, in bytes, that this side accepts.

        ``padding`` hides the sizes of what is sent. ``rekey_interval``, in frames, is the same for
        every peer; only tests shorten it.
        """
        self.profile: Final = profile
        self.peer_max_message = DEFAULT_MAX_MESSAGE
        self._is_server = role == "server"
        self._max_message = max_message
        self._padding = padding
        self._rekey_interval = rekey_interval
        self._offered: tuple[str, ...] = ()
        self._positions: dict[int, Position] | None = None  # client: by id; None: it has none
        self._last_id = 0
        self._hello: tuple[bytes, bytes] | None = None
        self._handshake: HandshakeState | None = None
        self._transport: Transport | None = None
        self._enter(State.START)

    def __repr__(self) -> str:
        role = "server" if self._is_server else "client"
        return f"<{type(self).__name__} {role} {self._state.name}>"

    @property
    def state(self) -> State:
        """Where the connection is; see ``states``."""
        return self._state

    # Handshake

    def hello(self, kid: bytes, psk: bytes) -> bytes:
        """Server: return the HELLO frame for the session key ``psk`` (32) named ``kid`` (8)."""
        if len(kid) != KID_SIZE:
            raise ValueError("a kid has 8 bytes")
        if Step.HELLO not in self._may_send:
            raise LocalError(f"HELLO cannot be sent in state {self._state.name}")
        self._handshake = self._new_handshake(kid, psk, initiator=True)
        payload = messages.serialize_hello_payload(self._max_message)
        frame = serialize_hello(kid, self._handshake.write_message(payload))
        self._enter(self._may_send[Step.HELLO])
        return frame

    def reply(
        self,
        psk: bytes,
        subprotocols: Sequence[str],
        binding: Binding,
        resume: Sequence[Position] | None = None,
    ) -> bytes:
        """Client: verify HELLO under ``psk`` (32) and return the REPLY frame.

        ``subprotocols`` are those that the application may choose from, ``binding`` is the request
        that was made, and ``resume`` up to where this client has group messages; with ``None`` the
        server tells it nothing of positions. Raises ``InvalidFrame``, and the session is over, when
        HELLO was not made with this key; ``LocalError``, and the session goes on, when the
        arguments are wrong.
        """
        if self._hello is None:
            raise LocalError(f"there is no HELLO to reply to in state {self._state.name}")
        kid, message = self._hello
        handshake = self._new_handshake(kid, psk, initiator=False)
        payload = messages.serialize_reply_payload(subprotocols, self._max_message, binding, resume)
        try:
            self.peer_max_message = messages.parse_hello_payload(handshake.read_message(message))
        except ProtocolError:
            self._enter(State.FAILED)
            raise
        frame = serialize_reply(handshake.write_message(payload))
        self._offered = tuple(subprotocols)
        self._positions = None if resume is None else {}
        self._start_transport(handshake)
        self._enter(self._may_send[Step.REPLY])
        return frame

    # Receiving

    def receive(self, frame: bytes | str) -> SessionEvent | None:
        """Return what a frame means: ``None`` for a fragment or an unknown control message.

        Raises ``InvalidFrame`` or ``MessageTooBig``; either one ends the session, but for the close
        that tells the peer of the latter.
        """
        try:
            if isinstance(frame, str):
                raise InvalidFrame
            if self._transport is None:
                return self._receive_handshake(frame)
            return self._receive_transport(frame, self._transport)
        except MessageTooBig:
            self._enter(State.OVERFLOWED if Step.CLOSE in self._may_send else State.FAILED)
            raise
        except ProtocolError:
            self._enter(State.FAILED)
            raise

    def _receive_handshake(self, frame: bytes) -> SessionEvent:
        if Step.HELLO in self._may_receive:
            self._hello = parse_hello(frame)
            self._received(Step.HELLO)
            return HelloReceived(self._hello[0])
        if self._handshake is None:
            raise InvalidFrame
        payload = self._handshake.read_message(parse_reply(frame))
        done, self.peer_max_message = messages.parse_reply_payload(payload)
        self._start_transport(self._handshake)
        self._received(Step.REPLY)
        return done

    def _receive_transport(self, frame: bytes, transport: Transport) -> SessionEvent | None:
        kind, message = transport.open(frame)
        if kind is FrameKind.CONTROL and message is not None:
            control = messages.parse_control(message)
            self._received(_CONTROL_STEPS[type(control)])
            if isinstance(control, Accepted) and control.subprotocol not in (None, *self._offered):
                raise InvalidFrame
            if isinstance(control, Joined):
                self._on_joined(control)
            if isinstance(control, Left):
                return control._replace(group=self._on_left(control))
            return control
        if kind is FrameKind.GROUP:
            self._received(Step.GROUP)
            return None if message is None else self._group_text(message)
        self._received(Step.DATA)
        if message is None:
            return None
        return Text(messages.decode_text(message)) if kind is FrameKind.TEXT else Bytes(message)

    # Positions

    def _on_joined(self, joined: Joined) -> None:
        positions = self._positions
        if positions is None or joined.id <= self._last_id:
            raise InvalidFrame
        if any(each.group == joined.position.group for each in positions.values()):
            raise InvalidFrame
        self._last_id = joined.id
        positions[joined.id] = joined.position

    def _on_left(self, left: Left) -> str:
        position = None if self._positions is None else self._positions.pop(left.id, None)
        if position is None:
            raise InvalidFrame
        return position.group

    def _group_text(self, message: bytes) -> GroupText:
        joined, n, text = parse_group(message)
        position = None if self._positions is None else self._positions.get(joined)
        if self._positions is None or position is None:
            raise InvalidFrame
        if not position.n < n <= messages.MAX_POSITION:
            raise InvalidFrame
        position = self._positions[joined] = position._replace(n=n)
        return GroupText(messages.decode_text(text), position)

    # Sending

    def seal(self, data: str | bytes | Stamped) -> list[bytes]:
        """Return the frames that carry a message, to be sent in this order.

        Raises ``MessageTooBig`` when the peer would not take it and ``LocalError`` when UTF-8
        cannot express it; then nothing has been sealed, and the session goes on.
        """
        transport = self._transport_for(Step.GROUP if isinstance(data, Stamped) else Step.DATA)
        text = data.text if isinstance(data, Stamped) else data
        if isinstance(text, str):
            kind, message = FrameKind.TEXT, messages.encode_text(text)
        else:
            kind, message = FrameKind.BINARY, text
        if len(message) > self.peer_max_message:
            raise MessageTooBig
        if isinstance(data, Stamped):
            kind, message = FrameKind.GROUP, serialize_group(data.id, data.n, message)
        return transport.seal(kind, message)

    def seal_accept(self, subprotocol: str | None) -> list[bytes]:
        """Server: return the frames that tell the client that the application accepted it."""
        return self._seal_control(Step.ACCEPT, messages.serialize_accept(subprotocol))

    def seal_close(self, code: int, reason: str) -> list[bytes]:
        """Return the frames of an authenticated close; this side can seal nothing afterwards.

        Raises ``LocalError``, and nothing has happened, for a code or a reason that a close may not
        have; see ``messages.check_close``.
        """
        return self._seal_control(Step.CLOSE, messages.serialize_close(code, reason))

    def seal_gap(self, group: str, missed: int) -> list[bytes]:
        """Server: return the frames that tell of ``missed`` lost messages to ``group``."""
        return self._seal_control(Step.GROUP, messages.serialize_gap(group, missed))

    def seal_joined(self, joined: Joined) -> list[bytes]:
        """Server: return the frames that tell of a membership of a group with history."""
        return self._seal_control(Step.GROUP, messages.serialize_joined(joined))

    def seal_left(self, joined: int) -> list[bytes]:
        """Server: return the frames that tell of the end of the membership ``joined``."""
        return self._seal_control(Step.GROUP, messages.serialize_left(joined))

    def _seal_control(self, step: Step, message: bytes) -> list[bytes]:
        transport = self._transport_for(step)
        if len(message) >= FRAGMENT_SIZE:
            raise LocalError("a control message has to fit into one frame")
        frames = transport.seal(FrameKind.CONTROL, message)
        self._enter(self._may_send[step])
        return frames

    def forget(self) -> None:
        """Drop the keys: nothing can be sealed or received any more."""
        self._enter(State.FAILED)

    # States

    def _new_handshake(self, kid: bytes, psk: bytes, *, initiator: bool) -> HandshakeState:
        prologue = self.profile.encode() + kid
        pattern = _PATTERNS[self.profile]
        return HandshakeState(pattern, initiator=initiator, psk=psk, prologue=prologue)

    def _start_transport(self, handshake: HandshakeState) -> None:
        sending, receiving = handshake.split()
        self._handshake = self._hello = None
        self._transport = Transport(
            sending,
            receiving,
            max_message=self._max_message,
            padding=self._padding,
            rekey_interval=self._rekey_interval,
        )

    def _transport_for(self, step: Step) -> Transport:
        """Return the transport for a frame that may be sent now."""
        if self._transport is None or step not in self._may_send:
            raise LocalError(f"{step.name} cannot be sent in state {self._state.name}")
        return self._transport

    def _received(self, step: Step) -> None:
        state = self._may_receive.get(step)
        if state is None:
            raise InvalidFrame
        if state is not self._state:
            self._enter(state)

    def _enter(self, state: State) -> None:
        self._state = state
        server, client = TRANSITIONS[state]
        self._may_send: Steps = server if self._is_server else client
        self._may_receive: Steps = client if self._is_server else server
        if not self._may_receive and not self._may_send:  # the end: drop the keys
            self._hello = self._handshake = self._transport = None
