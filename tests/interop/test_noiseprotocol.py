"""Whole connections with a peer on the noiseprotocol package, in both roles."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Literal

import pytest
from websockets.asyncio.client import connect as open_socket
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from gcrypt_channels.protocol.events import (
    Accepted,
    Binding,
    Bytes,
    Closed,
    Gap,
    HandshakeDone,
    HelloReceived,
    SessionEvent,
    Text,
)
from gcrypt_channels.protocol.profiles import V2, V3, SecureProfile, is_available
from gcrypt_channels.protocol.secure import SecureSession
from tests.interop.wire_site import KEYRING
from tests.reference.hybrid_peer import HybridPeer
from tests.reference.noise_peer import NoisePeer
from tests.servers import WebServer

pytestmark = pytest.mark.interop

TEXT, BINARY, CONTROL, MORE, PADDED = 0x10, 0x11, 0x12, 0x80, 0x40
Role = Literal["server", "client"]
KID, PSK = bytes(range(8)), bytes(range(32))
BINDING = Binding(("gcrypt.v2",), "localhost", "/ws/?a=b")
BOUND = {"offered": ["gcrypt.v2"], "host": "localhost", "target": "/ws/?a=b"}
FRAMES = 10_000
REKEY_INTERVAL = 3000


PEERS: dict[SecureProfile, type[NoisePeer]] = {V2: NoisePeer, V3: HybridPeer}
each_profile = pytest.mark.parametrize("profile", [*filter(is_available, PEERS)])


class Peer:
    """The other end, written from ``docs/protocol.md`` alone."""

    def __init__(self, profile: SecureProfile, *, initiator: bool) -> None:
        self._peer = PEERS[profile](
            initiator=initiator,
            psk=PSK,
            prologue=profile.encode() + KID,
            rekey_interval=REKEY_INTERVAL,
        )
        self.write_handshake = self._peer.write_handshake
        self.read_handshake = self._peer.read_handshake
        self.seal, self.open = self._peer.seal, self._peer.open

    def say(self, message: dict[str, object]) -> bytes:
        return self.seal(CONTROL, json.dumps(message).encode())

    def heard(self, frame: bytes) -> tuple[int, object]:
        first, plaintext = self.open(frame)
        return first, json.loads(plaintext)


def connect_to_our_server(profile: SecureProfile, *, padding: bool) -> tuple[SecureSession, Peer]:
    ours = SecureSession(profile, role="server", padding=padding, rekey_interval=REKEY_INTERVAL)
    peer = Peer(profile, initiator=False)
    hello = ours.hello(KID, PSK)
    assert hello[:9] == b"\x01" + KID
    assert json.loads(peer.read_handshake(hello[9:])) == {"max_message": 1_048_576}
    reply = {"subprotocols": ["a", "b"], "max_message": 1_000_000, **BOUND}
    frame = b"\x02" + peer.write_handshake(json.dumps(reply).encode())
    assert ours.receive(frame) == HandshakeDone(("a", "b"), BINDING)
    (accept,) = ours.seal_accept("b")
    if not padding:
        assert peer.heard(accept) == (CONTROL, {"type": "accept", "subprotocol": "b"})
    else:
        assert peer.open(accept)[0] == CONTROL | PADDED
    return ours, peer


def connect_our_client(profile: SecureProfile, *, padding: bool) -> tuple[SecureSession, Peer]:
    ours = SecureSession(profile, role="client", padding=padding, rekey_interval=REKEY_INTERVAL)
    peer = Peer(profile, initiator=True)
    hello = b"\x01" + KID + peer.write_handshake(b'{"max_message": 1000000}')
    assert ours.receive(hello) == HelloReceived(KID)
    reply = ours.reply(PSK, ["a"], BINDING)
    assert reply[:1] == b"\x02"
    assert json.loads(peer.read_handshake(reply[1:])) == {
        "subprotocols": ["a"],
        "max_message": 1_048_576,
        **BOUND,
    }
    assert ours.receive(peer.say({"type": "accept", "subprotocol": None})) == Accepted(None)
    return ours, peer


def connect(profile: SecureProfile, role: Role, *, padding: bool) -> tuple[SecureSession, Peer]:
    connector = connect_to_our_server if role == "server" else connect_our_client
    return connector(profile, padding=padding)


def contents(seed: int) -> Iterator[str | bytes]:
    draw = random.Random(seed)
    while True:
        size = draw.choice([0, 1, 15, 100, draw.randrange(2000)])
        if draw.random() < 0.5:
            yield "".join(draw.choices("abc ü€😀\0", k=size))
        else:
            yield draw.randbytes(size)


def unpad(first: int, plaintext: bytes) -> bytes:
    return plaintext.rstrip(b"\0")[:-1] if first & PADDED else plaintext


def offering(server: WebServer, target: str, offered: list[str]) -> open_socket:
    """A plain WebSocket of the server, without a proxy, with these subprotocols."""
    subprotocols = [Subprotocol(each) for each in offered]
    return open_socket(f"{server.websocket_url}{target}", subprotocols=subprotocols, proxy=None)


@each_profile
async def test_a_real_server_is_understood(wired: WebServer, profile: SecureProfile) -> None:
    key = KEYRING.session_keys[0]
    prologue = profile.encode() + key.kid
    peer = PEERS[profile](initiator=False, psk=key.psk, prologue=prologue)
    offered = [profile, f"gcrypt.kid.{key.kid.hex()}"]
    async with offering(wired, "/ws/room/noise/?x=1", offered) as socket:
        assert socket.subprotocol == profile
        hello = await socket.recv(decode=False)
        assert hello[:9] == b"\x01" + key.kid
        assert json.loads(peer.read_handshake(hello[9:])) == {"max_message": 1_048_576}
        request = {"offered": offered, "host": "127.0.0.1", "target": "/ws/room/noise/?x=1"}
        await socket.send(b"\x02" + peer.write_handshake(json.dumps(request).encode()))
        heard = [peer.open(await socket.recv(decode=False)) for _ in range(2)]
        assert [(first, json.loads(plaintext)) for first, plaintext in heard] == [
            (CONTROL, {"type": "accept", "subprotocol": None}),
            (TEXT, {"room": "noise", "query": "x=1"}),
        ]
        await socket.send(peer.seal(TEXT, b'"hello"'))
        assert peer.open(await socket.recv(decode=False)) == (TEXT, b'"hello"')


ENTRY = {"group": "room", "epoch": "00112233445566ff", "n": 1}


@pytest.mark.parametrize(
    "resume",
    [
        [{**ENTRY, "group": f"room{number}"} for number in range(65)],
        [ENTRY, ENTRY],
        [{**ENTRY, "n": "1"}],
        {},
    ],
    ids=["65 groups", "a group twice", "a wrong type", "no list"],
)
async def test_positions_that_no_client_offers_end_with_4400(
    wired: WebServer, resume: object
) -> None:
    key = KEYRING.session_keys[0]
    peer = NoisePeer(initiator=False, psk=key.psk, prologue=V2.encode() + key.kid)
    offered = [V2, f"gcrypt.kid.{key.kid.hex()}"]
    async with offering(wired, "/ws/room/noise/", offered) as socket:
        peer.read_handshake((await socket.recv(decode=False))[9:])
        reply = {"offered": offered, "host": "127.0.0.1", "target": "/ws/room/noise/"}
        request = json.dumps({**reply, "resume": resume}).encode()
        await socket.send(b"\x02" + peer.write_handshake(request))
        with pytest.raises(ConnectionClosed) as caught:
            await socket.recv()
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 4400


@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize("role", ["server", "client"])
@each_profile
def test_ten_thousand_frames_each_way_over_three_rekeys(
    profile: SecureProfile, role: Role, padding: bool
) -> None:
    ours, peer = connect(profile, role, padding=padding)
    to_us, to_peer = contents(1), contents(2)
    draw = random.Random(3)
    received = sent = 0
    while received < FRAMES or sent < FRAMES:
        if draw.random() < 0.5:
            data = next(to_us)
            plaintext = data.encode() if isinstance(data, str) else data
            frame = peer.seal(TEXT if isinstance(data, str) else BINARY, plaintext)
            expected: SessionEvent = Text(data) if isinstance(data, str) else Bytes(data)
            assert ours.receive(frame) == expected
            received += 1
        else:
            data = next(to_peer)
            (frame,) = ours.seal(data)
            first, plaintext = peer.open(frame)
            assert first == (TEXT if isinstance(data, str) else BINARY) | (PADDED * padding)
            content = unpad(first, plaintext)
            assert content == (data.encode() if isinstance(data, str) else data)
            sent += 1
    assert min(sent, received) // REKEY_INTERVAL >= 3


@pytest.mark.parametrize("role", ["server", "client"])
@each_profile
def test_a_message_in_fragments_each_way(profile: SecureProfile, role: Role) -> None:
    ours, peer = connect(profile, role, padding=False)
    message = random.Random(4).randbytes(1_000_000)
    cuts = [message[start : start + 99_999] for start in range(0, len(message), 99_999)]
    for part in cuts[:-1]:
        assert ours.receive(peer.seal(BINARY | MORE, part)) is None
    assert ours.receive(peer.seal(BINARY, cuts[-1])) == Bytes(message)
    frames = [peer.open(frame) for frame in ours.seal(message)]
    assert [first for first, _ in frames] == [BINARY | MORE] * 8 + [BINARY]
    assert b"".join(plaintext for _, plaintext in frames) == message


@pytest.mark.parametrize("role", ["server", "client"])
@each_profile
def test_an_authenticated_close_each_way(profile: SecureProfile, role: Role) -> None:
    ours, peer = connect(profile, role, padding=False)
    close = {"type": "close", "code": 4000, "reason": "grüße"}
    assert ours.receive(peer.say(close)) == Closed(4000, "grüße")
    (frame,) = ours.seal_close(1000, "")
    assert peer.heard(frame) == (CONTROL, {"type": "close", "code": 1000, "reason": ""})


@each_profile
def test_a_gap_reaches_our_client_and_leaves_our_server(profile: SecureProfile) -> None:
    ours, peer = connect(profile, "client", padding=False)
    gap = {"type": "gap", "group": "room", "missed": 2}
    assert ours.receive(peer.say(gap)) == Gap("room", 2)
    ours, peer = connect(profile, "server", padding=False)
    (frame,) = ours.seal_gap("room", 2)
    assert peer.heard(frame) == (CONTROL, gap)
