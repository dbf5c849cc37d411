from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcrypt_channels.exceptions import InvalidFrame, LocalError, MessageTooBig, ProtocolError
from gcrypt_channels.protocol.events import (
    Accepted,
    Binding,
    Bytes,
    Closed,
    Gap,
    GroupText,
    HandshakeDone,
    HelloReceived,
    Joined,
    Left,
    Position,
    Stamped,
    Text,
)
from gcrypt_channels.protocol.frames import FrameKind
from gcrypt_channels.protocol.profiles import V2, V3, SecureProfile
from gcrypt_channels.protocol.secure import SecureSession
from gcrypt_channels.protocol.states import State

from .secure_profiles import AVAILABLE, each_profile

KID, PSK = bytes(range(8)), bytes(range(32))
BINDING = Binding(("gcrypt.v2",), "localhost", "/ws/?a=b")
Pair = tuple[SecureSession, SecureSession]


def greeted(profile: SecureProfile) -> Pair:
    server, client = SecureSession(profile, role="server"), SecureSession(profile, role="client")
    client.receive(server.hello(KID, PSK))
    return server, client


def ready(
    profile: SecureProfile,
    *,
    max_message: int = 1_048_576,
    padding: bool = False,
    rekey_interval: int = 65_536,
) -> Pair:
    server = SecureSession(
        profile,
        role="server",
        max_message=max_message,
        padding=padding,
        rekey_interval=rekey_interval,
    )
    client = SecureSession(
        profile,
        role="client",
        max_message=max_message,
        padding=padding,
        rekey_interval=rekey_interval,
    )
    client.receive(server.hello(KID, PSK))
    server.receive(client.reply(PSK, (), BINDING))
    return server, client


def opened(
    profile: SecureProfile,
    *,
    max_message: int = 1_048_576,
    padding: bool = False,
    rekey_interval: int = 65_536,
) -> Pair:
    server, client = ready(
        profile, max_message=max_message, padding=padding, rekey_interval=rekey_interval
    )
    (accept,) = server.seal_accept(None)
    client.receive(accept)
    return server, client


def only(frames: list[bytes]) -> bytes:
    (frame,) = frames
    return frame


def assert_over(session: SecureSession, code: int = 4400, *, frame: bytes = b"") -> None:
    """Assert that a session fails on a frame, and with everything else from then on."""
    with pytest.raises(ProtocolError) as caught:
        session.receive(frame)
    assert caught.value.code == code
    assert session.state is State.FAILED
    with pytest.raises(InvalidFrame):
        session.receive(b"\x10" + bytes(16))
    attempts: list[Callable[[], object]] = [
        lambda: session.hello(KID, PSK),
        lambda: session.reply(PSK, (), BINDING),
        lambda: session.seal("x"),
        lambda: session.seal_accept(None),
        lambda: session.seal_close(1000, ""),
        lambda: session.seal_gap("room", 1),
    ]
    for attempt in attempts:
        with pytest.raises(LocalError):
            attempt()


# Handshake


@each_profile
def test_the_handshake_step_by_step(profile: SecureProfile) -> None:
    server = SecureSession(profile, role="server", max_message=5000)
    client = SecureSession(profile, role="client", max_message=7000)
    assert server.profile == client.profile == profile
    hello = server.hello(KID, PSK)
    assert hello[:9] == b"\x01" + KID
    assert client.receive(hello) == HelloReceived(KID)
    assert client.peer_max_message == 1_048_576  # not known before HELLO is opened
    names = ("graphql-transport-ws", "json")
    reply = client.reply(PSK, names, BINDING)
    assert reply[:1] == b"\x02"
    assert server.receive(reply) == HandshakeDone(names, BINDING)
    assert (server.peer_max_message, client.peer_max_message) == (7000, 5000)
    assert (server.state, client.state) == (State.READY, State.READY)
    assert client.receive(only(server.seal_accept("json"))) == Accepted("json")
    assert (server.state, client.state) == (State.OPEN, State.OPEN)


@each_profile
def test_the_plaintext_of_the_handshake_is_not_on_the_wire(profile: SecureProfile) -> None:
    server, client = SecureSession(profile, role="server"), SecureSession(profile, role="client")
    hello = server.hello(KID, PSK)
    client.receive(hello)
    assert b"max_message" not in hello + client.reply(PSK, ["canary"], BINDING)


@each_profile
def test_a_client_with_another_key_fails_and_so_does_its_server(profile: SecureProfile) -> None:
    _, client = greeted(profile)
    with pytest.raises(InvalidFrame):
        client.reply(bytes(32), (), BINDING)
    assert client.state is State.FAILED


@each_profile
def test_a_server_refuses_a_client_that_replies_to_another_hello(profile: SecureProfile) -> None:
    (_, client), (other, _) = greeted(profile), greeted(profile)
    assert_over(other, frame=client.reply(PSK, (), BINDING))


@each_profile
def test_a_client_replies_once_and_only_to_a_hello(profile: SecureProfile) -> None:
    client = SecureSession(profile, role="client")
    with pytest.raises(LocalError):
        client.reply(PSK, (), BINDING)
    client.receive(SecureSession(profile, role="server").hello(KID, PSK))
    client.reply(PSK, (), BINDING)
    with pytest.raises(LocalError):
        client.reply(PSK, (), BINDING)


@each_profile
def test_a_server_greets_once(profile: SecureProfile) -> None:
    server = SecureSession(profile, role="server")
    server.hello(KID, PSK)
    with pytest.raises(LocalError):
        server.hello(KID, PSK)


@each_profile
def test_nobody_plays_the_other_role(profile: SecureProfile) -> None:
    with pytest.raises(LocalError):
        SecureSession(profile, role="client").hello(KID, PSK)
    with pytest.raises(LocalError):
        SecureSession(profile, role="server").reply(PSK, (), BINDING)
    _, client = opened(profile)
    with pytest.raises(LocalError):
        client.seal_accept(None)
    with pytest.raises(LocalError):
        client.seal_gap("room", 1)


@pytest.mark.parametrize("role", ["server", "client"])
@each_profile
def test_nothing_is_sent_before_the_handshake_is_complete(
    profile: SecureProfile, role: str
) -> None:
    session = greeted(profile)[role == "client"]
    attempts: list[Callable[[], object]] = [
        lambda: session.seal("x"),
        lambda: session.seal_accept(None),
        lambda: session.seal_close(1000, ""),
    ]
    for attempt in attempts:
        with pytest.raises(LocalError):
            attempt()


@each_profile
def test_wrong_sizes_of_kid_and_psk_are_mistakes_of_ours(profile: SecureProfile) -> None:
    server, client = greeted(profile)
    with pytest.raises(ValueError, match="8 bytes"):
        SecureSession(profile, role="server").hello(KID[:7], PSK)
    with pytest.raises(ValueError, match="32 bytes"):
        SecureSession(profile, role="server").hello(KID, PSK[:31])
    with pytest.raises(ValueError, match="32 bytes"):
        client.reply(PSK[:31], (), BINDING)
    with pytest.raises(LocalError):
        client.reply(PSK, [""], BINDING)
    server.receive(client.reply(PSK, (), BINDING))  # none of it has done any harm


@pytest.mark.parametrize("frame", ["", "text", '{"ct":"","s":""}'])
@each_profile
def test_a_text_frame_is_a_failure_at_any_time(profile: SecureProfile, frame: str) -> None:
    for session in (*greeted(profile), *ready(profile), *opened(profile)):
        with pytest.raises(InvalidFrame):
            session.receive(frame)
        assert session.state is State.FAILED


@given(st.binary(max_size=100))
@each_profile
def test_no_bytes_are_taken_for_a_frame(profile: SecureProfile, frame: bytes) -> None:
    for session in (*greeted(profile), *opened(profile), SecureSession(profile, role="server")):
        assert_over(session, frame=frame)


# Messages


@pytest.mark.parametrize("padding", [False, True])
@given(
    st.lists(st.tuples(st.booleans(), st.text() | st.binary())),
    st.integers(1, 4),
)
@each_profile
def test_messages_arrive_once_in_order_and_as_what_they_were(
    profile: SecureProfile,
    padding: bool,
    messages: list[tuple[bool, str | bytes]],
    rekey_interval: int,
) -> None:
    server, client = opened(profile, padding=padding, rekey_interval=rekey_interval)
    for from_server, data in messages:
        sender, receiver = (server, client) if from_server else (client, server)
        expected = Text(data) if isinstance(data, str) else Bytes(data)
        assert receiver.receive(only(sender.seal(data))) == expected


@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize("data", ["ü€😀" * 60_000, b"\x80\0" * 300_000])
@each_profile
def test_a_long_message_arrives_whole(
    profile: SecureProfile, data: str | bytes, padding: bool
) -> None:
    server, client = opened(profile, padding=padding)
    *first, last = server.seal(data)
    assert len(first) >= 2
    assert [client.receive(frame) for frame in first] == [None] * len(first)
    event = client.receive(last)
    assert event == (Text(data) if isinstance(data, str) else Bytes(data))


@each_profile
def test_the_same_message_never_looks_the_same(profile: SecureProfile) -> None:
    server, _ = opened(profile)
    assert len({only(server.seal("x")) for _ in range(50)}) == 50


@each_profile
def test_a_message_the_peer_would_not_take_costs_nothing(profile: SecureProfile) -> None:
    server, client = opened(profile, max_message=10)
    for data in ("x" * 11, "ä" * 6, b"x" * 11):
        with pytest.raises(MessageTooBig):
            server.seal(data)
    assert client.receive(only(server.seal("x" * 10))) == Text("x" * 10)


@each_profile
def test_text_with_a_lone_surrogate_costs_nothing(profile: SecureProfile) -> None:
    server, client = opened(profile)
    with pytest.raises(LocalError):
        server.seal("\ud800")
    assert client.receive(only(server.seal("x"))) == Text("x")


@each_profile
def test_a_message_over_our_limit_ends_the_connection_with_1009(profile: SecureProfile) -> None:
    server, client = opened(profile, max_message=10)
    server.peer_max_message = 11
    with pytest.raises(MessageTooBig):
        client.receive(only(server.seal("x" * 11)))
    with pytest.raises(LocalError, match="OVERFLOWED"):
        client.seal("x")
    assert server.receive(only(client.seal_close(1009, "too big"))) == Closed(1009, "too big")
    assert client.state is State.CLOSED


@each_profile
def test_nothing_is_received_behind_a_message_over_our_limit(profile: SecureProfile) -> None:
    server, client = opened(profile, max_message=10)
    server.peer_max_message = 11
    with pytest.raises(MessageTooBig):
        client.receive(only(server.seal("x" * 11)))
    assert_over(client, frame=only(server.seal("x")))


@each_profile
def test_a_message_over_our_limit_behind_our_close_is_a_failure_like_others(
    profile: SecureProfile,
) -> None:
    server, client = opened(profile, max_message=10)
    server.peer_max_message = 11
    client.seal_close(1000, "")
    assert_over(client, 1009, frame=only(server.seal("x" * 11)))


@each_profile
def test_a_gap_is_told_to_the_client(profile: SecureProfile) -> None:
    server, client = opened(profile)
    assert client.receive(only(server.seal_gap("room", 3))) == Gap("room", 3)


@each_profile
def test_a_control_message_has_to_fit_into_one_frame(profile: SecureProfile) -> None:
    server, client = opened(profile, padding=True)
    with pytest.raises(LocalError, match="one frame"):
        server.seal_gap("x" * 262_144, 1)
    assert client.receive(only(server.seal("still open"))) == Text("still open")


# A hostile wire


def flipped(frame: bytes, bit: int) -> bytes:
    return (int.from_bytes(frame, "big") ^ 1 << bit).to_bytes(len(frame), "big")


@each_profile
def test_every_bit_of_hello_counts(profile: SecureProfile) -> None:
    hello = SecureSession(profile, role="server").hello(KID, PSK)
    for bit in range(8 * len(hello)):
        client = SecureSession(profile, role="client")
        with pytest.raises(InvalidFrame) as caught:  # noqa: PT012 (the kid is not checked at once)
            client.receive(flipped(hello, bit))
            client.reply(PSK, (), BINDING)
        assert caught.value.code == 4400
        assert client.state is State.FAILED


@each_profile
def test_every_bit_of_reply_counts(profile: SecureProfile) -> None:
    server, client = greeted(profile)
    for bit in range(8 * len(client.reply(PSK, (), BINDING))):
        server, client = greeted(profile)
        reply = client.reply(PSK, (), BINDING)
        with pytest.raises(InvalidFrame) as caught:
            server.receive(flipped(reply, bit))
        assert caught.value.code == 4400
        assert server.state is State.FAILED


@pytest.mark.skipif(len(AVAILABLE) < 2, reason="no ML-KEM-768 here")
@pytest.mark.parametrize(("one", "other"), [(V2, V3), (V3, V2)])
def test_the_profiles_do_not_understand_each_other_under_one_key(
    one: SecureProfile, other: SecureProfile
) -> None:
    hello = SecureSession(one, role="server").hello(KID, PSK)
    client = SecureSession(other, role="client")
    client.receive(hello)
    with pytest.raises(InvalidFrame):
        client.reply(PSK, (), BINDING)
    server, client = greeted(one)
    _, stranger = greeted(other)
    assert_over(server, frame=stranger.reply(PSK, (), BINDING))


@pytest.mark.parametrize("role", ["server", "client"])
@each_profile
def test_every_bit_of_a_frame_counts(profile: SecureProfile, role: str) -> None:
    frame_size = 1 + 2 + 16
    for bit in range(8 * frame_size):
        server, client = opened(profile)
        sender, receiver = (client, server) if role == "server" else (server, client)
        frame = only(sender.seal("hi"))
        tampered = (int.from_bytes(frame, "big") ^ 1 << bit).to_bytes(frame_size, "big")
        with pytest.raises(InvalidFrame):
            receiver.receive(tampered)
        assert receiver.state is State.FAILED


@each_profile
def test_replayed_dropped_reordered_reflected_and_foreign_frames_are_failures(
    profile: SecureProfile,
) -> None:
    server, client = opened(profile)
    frame = only(server.seal("once"))
    client.receive(frame)
    assert_over(client, frame=frame)

    server, client = opened(profile)
    server.seal("dropped")
    assert_over(client, frame=only(server.seal("next")))

    server, client = opened(profile)
    assert_over(server, frame=only(server.seal("mine")))

    (server, _), (_, client) = opened(profile), opened(profile)
    assert_over(client, frame=only(server.seal("for another connection of the same user")))


# Order


@pytest.mark.parametrize("role", ["server", "client"])
@each_profile
def test_neither_side_sends_data_before_the_accept(profile: SecureProfile, role: str) -> None:
    session = ready(profile)[role == "client"]
    with pytest.raises(LocalError, match="READY"):
        session.seal("x")


@each_profile
def test_the_accept_comes_once(profile: SecureProfile) -> None:
    server, _ = opened(profile)
    with pytest.raises(LocalError, match="OPEN"):
        server.seal_accept(None)


@pytest.mark.parametrize("closer", [0, 1])
@each_profile
def test_a_close_is_told_and_what_was_under_way_still_arrives(
    profile: SecureProfile, closer: int
) -> None:
    pair = opened(profile)
    closing, other = pair[closer], pair[1 - closer]
    close = only(closing.seal_close(4000, "bye"))
    under_way = only(other.seal("under way"))
    with pytest.raises(LocalError):
        closing.seal("x")
    with pytest.raises(LocalError):
        closing.seal_close(1000, "")
    assert closing.receive(under_way) == Text("under way")
    assert other.receive(close) == Closed(4000, "bye")
    assert closing.receive(only(other.seal_close(1000, ""))) == Closed(1000, "")
    assert closing.state is other.state is State.CLOSED


@pytest.mark.parametrize("closer", [0, 1])
@each_profile
def test_nothing_follows_a_close(profile: SecureProfile, closer: int) -> None:
    pair = opened(profile)
    closing, other = pair[closer], pair[1 - closer]
    transport = closing._transport
    other.receive(only(closing.seal_close(1000, "")))
    assert transport is not None
    with pytest.raises(InvalidFrame):
        other.receive(only(transport.seal(0x10, b"late")))  # type: ignore[arg-type]


@each_profile
def test_an_application_can_refuse(profile: SecureProfile) -> None:
    server, client = ready(profile)
    assert client.receive(only(server.seal_close(4403, "no"))) == Closed(4403, "no")
    assert server.state is client.state is State.REFUSED
    with pytest.raises(LocalError):
        client.seal("x")


@each_profile
def test_a_client_can_leave_before_the_accept(profile: SecureProfile) -> None:
    server, client = ready(profile)
    close, accept = only(client.seal_close(1001, "")), only(server.seal_accept(None))
    assert client.receive(accept) == Accepted(None)
    assert client.receive(only(server.seal("under way"))) == Text("under way")
    assert server.receive(close) == Closed(1001, "")
    assert server.state is client.state is State.CLIENT_CLOSED


@pytest.mark.parametrize("chosen", ["json", None])
@each_profile
def test_a_client_takes_a_subprotocol_that_it_offered_or_none(
    profile: SecureProfile, chosen: str | None
) -> None:
    server, client = greeted(profile)
    server.receive(client.reply(PSK, ["xml", "json"], BINDING))
    assert client.receive(only(server.seal_accept(chosen))) == Accepted(chosen)


@each_profile
def test_a_client_refuses_a_subprotocol_that_it_did_not_offer(profile: SecureProfile) -> None:
    server, client = greeted(profile)
    server.receive(client.reply(PSK, ["json"], BINDING))
    assert_over(client, frame=only(server.seal_accept("xml")))


@pytest.mark.parametrize(("code", "reason"), [(1005, ""), (5000, ""), (1000, "x" * 124)])
@each_profile
def test_a_close_that_may_not_be_sent_costs_nothing(
    profile: SecureProfile, code: int, reason: str
) -> None:
    server, client = opened(profile)
    with pytest.raises(LocalError):
        server.seal_close(code, reason)
    assert client.receive(only(server.seal("still open"))) == Text("still open")


@each_profile
def test_a_target_that_no_request_has_costs_nothing(profile: SecureProfile) -> None:
    server, client = greeted(profile)
    with pytest.raises(LocalError, match="target"):
        client.reply(PSK, (), BINDING._replace(target="/ws/#top"))
    assert server.receive(client.reply(PSK, (), BINDING)) == HandshakeDone((), BINDING)


# Secrets


@each_profile
def test_the_keys_are_dropped_at_the_end(profile: SecureProfile) -> None:
    server, client = opened(profile)
    client.receive(only(server.seal_close(1000, "")))
    server.receive(only(client.seal_close(1000, "")))
    failed, other = opened(profile)
    assert_over(failed)
    with pytest.raises(InvalidFrame):
        other.receive("text")
    for session in (server, client, failed, other):
        assert (session._transport, session._handshake, session._hello) == (None, None, None)


@each_profile
def test_a_repr_tells_role_and_state_alone(profile: SecureProfile) -> None:
    server, client = opened(profile)
    assert repr(server) == "<SecureSession server OPEN>"
    assert repr(client) == "<SecureSession client OPEN>"


# Positions

EPOCH = "00112233445566ff"


def joined(number: int, group: str, n: int) -> Joined:
    return Joined(number, Position(group, EPOCH, n), recovered=False)


def positioned(profile: SecureProfile, *, max_message: int = 1_048_576) -> Pair:
    """A pair whose client knows of positions, after the accept."""
    server = SecureSession(profile, role="server")
    client = SecureSession(profile, role="client", max_message=max_message)
    client.receive(server.hello(KID, PSK))
    server.receive(client.reply(PSK, (), BINDING, [Position("room", EPOCH, 3)]))
    client.receive(only(server.seal_accept(None)))
    return server, client


@each_profile
def test_group_messages_carry_their_group_and_position(profile: SecureProfile) -> None:
    server, client = positioned(profile)
    for joining in (joined(1, "room", 3), joined(5, "hall", 0)):
        assert client.receive(only(server.seal_joined(joining))) == joining
    for number, group, n in ((1, "room", 4), (5, "hall", 2), (1, "room", 2**53 - 1)):
        received = client.receive(only(server.seal(Stamped(number, n, "text"))))
        assert received == GroupText("text", Position(group, EPOCH, n))
    assert client.receive(only(server.seal_left(1))) == Left(1, "room")
    client.receive(only(server.seal_joined(joined(6, "room", 0))))
    assert client.receive(only(server.seal(Stamped(6, 1, "")))) == GroupText(
        "", Position("room", EPOCH, 1)
    )


@each_profile
def test_a_long_group_message_counts_without_its_header(profile: SecureProfile) -> None:
    server, client = positioned(profile, max_message=300_000)
    client.receive(only(server.seal_joined(joined(1, "room", 0))))
    *parts, last = server.seal(Stamped(1, 1, "x" * 300_000))
    assert parts
    assert [client.receive(part) for part in parts] == [None] * len(parts)
    assert client.receive(last) == GroupText("x" * 300_000, Position("room", EPOCH, 1))
    with pytest.raises(MessageTooBig):
        server.seal(Stamped(1, 2, "x" * 300_001))


Wrong = Callable[[SecureSession], list[bytes]]


@each_profile
@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda server: server.seal(Stamped(2, 9, "x")), id="an id of nobody"),
        pytest.param(lambda server: server.seal(Stamped(1, 3, "x")), id="an n that was joined at"),
        pytest.param(lambda server: server.seal(Stamped(1, 2**53, "x")), id="an n that is none"),
        pytest.param(lambda server: server.seal_joined(joined(1, "hall", 0)), id="an id again"),
        pytest.param(lambda server: server.seal_joined(joined(2, "room", 0)), id="a group again"),
        pytest.param(lambda server: server.seal_left(2), id="nothing is left"),
        pytest.param(
            lambda server: [*server.seal(Stamped(1, 5, "x")), *server.seal(Stamped(1, 5, "x"))],
            id="an n again",
        ),
        pytest.param(
            lambda server: [*server.seal_left(1), *server.seal(Stamped(1, 5, "x"))],
            id="a group that was left",
        ),
        pytest.param(
            lambda server: [*server.seal_left(1), *server.seal_joined(joined(1, "room", 0))],
            id="an id that was left",
        ),
    ],
)
def test_a_position_out_of_turn_ends_the_session(profile: SecureProfile, wrong: Wrong) -> None:
    server, client = positioned(profile)
    client.receive(only(server.seal_joined(joined(1, "room", 3))))
    *before, frame = wrong(server)
    for each in before:
        client.receive(each)
    assert_over(client, frame=frame)


@each_profile
@pytest.mark.parametrize(
    "wrong",
    [
        lambda server: server.seal_joined(joined(1, "room", 3)),
        lambda server: server.seal_left(1),
        lambda server: server.seal(Stamped(1, 1, "x")),
    ],
)
def test_a_client_that_offered_no_positions_takes_none(
    profile: SecureProfile, wrong: Wrong
) -> None:
    server, client = opened(profile)
    assert_over(client, frame=only(wrong(server)))


@each_profile
def test_a_client_sends_no_positions(profile: SecureProfile) -> None:
    server, client = positioned(profile)
    with pytest.raises(LocalError):
        client.seal(Stamped(1, 1, "x"))
    transport = client._transport
    assert transport is not None
    assert_over(server, frame=only(transport.seal(FrameKind.GROUP, bytes(12))))


@each_profile
def test_positions_wait_for_the_accept(profile: SecureProfile) -> None:
    server, _ = ready(profile)
    attempts: list[Callable[[], object]] = [
        lambda: server.seal_joined(joined(1, "room", 0)),
        lambda: server.seal_left(1),
        lambda: server.seal(Stamped(1, 1, "x")),
    ]
    for attempt in attempts:
        with pytest.raises(LocalError):
            attempt()
