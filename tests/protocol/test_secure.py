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
    HandshakeDone,
    HelloReceived,
    Text,
)
from gcrypt_channels.protocol.secure import SecureSession
from gcrypt_channels.protocol.states import State

KID, PSK = bytes(range(8)), bytes(range(32))
BINDING = Binding(("gcrypt.v2",), "localhost", "/ws/?a=b")
Pair = tuple[SecureSession, SecureSession]


def greeted() -> Pair:
    server, client = SecureSession(role="server"), SecureSession(role="client")
    client.receive(server.hello(KID, PSK))
    return server, client


def ready(
    *, max_message: int = 1_048_576, padding: bool = False, rekey_interval: int = 65_536
) -> Pair:
    server = SecureSession(
        role="server", max_message=max_message, padding=padding, rekey_interval=rekey_interval
    )
    client = SecureSession(
        role="client", max_message=max_message, padding=padding, rekey_interval=rekey_interval
    )
    client.receive(server.hello(KID, PSK))
    server.receive(client.reply(PSK, (), BINDING))
    return server, client


def opened(
    *, max_message: int = 1_048_576, padding: bool = False, rekey_interval: int = 65_536
) -> Pair:
    server, client = ready(max_message=max_message, padding=padding, rekey_interval=rekey_interval)
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


def test_the_handshake_step_by_step() -> None:
    server = SecureSession(role="server", max_message=5000)
    client = SecureSession(role="client", max_message=7000)
    assert server.profile == client.profile == "gcrypt.v2"
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


def test_the_plaintext_of_the_handshake_is_not_on_the_wire() -> None:
    server, client = SecureSession(role="server"), SecureSession(role="client")
    hello = server.hello(KID, PSK)
    client.receive(hello)
    assert b"max_message" not in hello + client.reply(PSK, ["canary"], BINDING)


def test_a_client_with_another_key_fails_and_so_does_its_server() -> None:
    _, client = greeted()
    with pytest.raises(InvalidFrame):
        client.reply(bytes(32), (), BINDING)
    assert client.state is State.FAILED


def test_a_server_refuses_a_client_that_replies_to_another_hello() -> None:
    (_, client), (other, _) = greeted(), greeted()
    assert_over(other, frame=client.reply(PSK, (), BINDING))


def test_a_client_replies_once_and_only_to_a_hello() -> None:
    client = SecureSession(role="client")
    with pytest.raises(LocalError):
        client.reply(PSK, (), BINDING)
    client.receive(SecureSession(role="server").hello(KID, PSK))
    client.reply(PSK, (), BINDING)
    with pytest.raises(LocalError):
        client.reply(PSK, (), BINDING)


def test_a_server_greets_once() -> None:
    server = SecureSession(role="server")
    server.hello(KID, PSK)
    with pytest.raises(LocalError):
        server.hello(KID, PSK)


def test_nobody_plays_the_other_role() -> None:
    with pytest.raises(LocalError):
        SecureSession(role="client").hello(KID, PSK)
    with pytest.raises(LocalError):
        SecureSession(role="server").reply(PSK, (), BINDING)
    _, client = opened()
    with pytest.raises(LocalError):
        client.seal_accept(None)
    with pytest.raises(LocalError):
        client.seal_gap("room", 1)


@pytest.mark.parametrize("role", ["server", "client"])
def test_nothing_is_sent_before_the_handshake_is_complete(role: str) -> None:
    session = greeted()[role == "client"]
    attempts: list[Callable[[], object]] = [
        lambda: session.seal("x"),
        lambda: session.seal_accept(None),
        lambda: session.seal_close(1000, ""),
    ]
    for attempt in attempts:
        with pytest.raises(LocalError):
            attempt()


def test_wrong_sizes_of_kid_and_psk_are_mistakes_of_ours() -> None:
    server, client = greeted()
    with pytest.raises(ValueError, match="8 bytes"):
        SecureSession(role="server").hello(KID[:7], PSK)
    with pytest.raises(ValueError, match="32 bytes"):
        SecureSession(role="server").hello(KID, PSK[:31])
    with pytest.raises(ValueError, match="32 bytes"):
        client.reply(PSK[:31], (), BINDING)
    with pytest.raises(LocalError):
        client.reply(PSK, [""], BINDING)
    server.receive(client.reply(PSK, (), BINDING))  # none of it has done any harm


@pytest.mark.parametrize("frame", ["", "text", '{"ct":"","s":""}'])
def test_a_text_frame_is_a_failure_at_any_time(frame: str) -> None:
    for session in (*greeted(), *ready(), *opened()):
        with pytest.raises(InvalidFrame):
            session.receive(frame)
        assert session.state is State.FAILED


@given(st.binary(max_size=100))
def test_no_bytes_are_taken_for_a_frame(frame: bytes) -> None:
    for session in (*greeted(), *opened(), SecureSession(role="server")):
        assert_over(session, frame=frame)


# Messages


@pytest.mark.parametrize("padding", [False, True])
@given(
    st.lists(st.tuples(st.booleans(), st.text() | st.binary())),
    st.integers(1, 4),
)
def test_messages_arrive_once_in_order_and_as_what_they_were(
    padding: bool, messages: list[tuple[bool, str | bytes]], rekey_interval: int
) -> None:
    server, client = opened(padding=padding, rekey_interval=rekey_interval)
    for from_server, data in messages:
        sender, receiver = (server, client) if from_server else (client, server)
        expected = Text(data) if isinstance(data, str) else Bytes(data)
        assert receiver.receive(only(sender.seal(data))) == expected


@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize("data", ["ü€😀" * 60_000, b"\x80\0" * 300_000])
def test_a_long_message_arrives_whole(data: str | bytes, padding: bool) -> None:
    server, client = opened(padding=padding)
    *first, last = server.seal(data)
    assert len(first) >= 2
    assert [client.receive(frame) for frame in first] == [None] * len(first)
    event = client.receive(last)
    assert event == (Text(data) if isinstance(data, str) else Bytes(data))


def test_the_same_message_never_looks_the_same() -> None:
    server, _ = opened()
    assert len({only(server.seal("x")) for _ in range(50)}) == 50


def test_a_message_the_peer_would_not_take_costs_nothing() -> None:
    server, client = opened(max_message=10)
    for data in ("x" * 11, "ä" * 6, b"x" * 11):
        with pytest.raises(MessageTooBig):
            server.seal(data)
    assert client.receive(only(server.seal("x" * 10))) == Text("x" * 10)


def test_text_with_a_lone_surrogate_costs_nothing() -> None:
    server, client = opened()
    with pytest.raises(LocalError):
        server.seal("\ud800")
    assert client.receive(only(server.seal("x"))) == Text("x")


def test_a_message_over_our_limit_ends_the_connection_with_1009() -> None:
    server, client = opened(max_message=10)
    server.peer_max_message = 11
    with pytest.raises(MessageTooBig):
        client.receive(only(server.seal("x" * 11)))
    with pytest.raises(LocalError, match="OVERFLOWED"):
        client.seal("x")
    assert server.receive(only(client.seal_close(1009, "too big"))) == Closed(1009, "too big")
    assert client.state is State.CLOSED


def test_nothing_is_received_behind_a_message_over_our_limit() -> None:
    server, client = opened(max_message=10)
    server.peer_max_message = 11
    with pytest.raises(MessageTooBig):
        client.receive(only(server.seal("x" * 11)))
    assert_over(client, frame=only(server.seal("x")))


def test_a_message_over_our_limit_behind_our_close_is_a_failure_like_others() -> None:
    server, client = opened(max_message=10)
    server.peer_max_message = 11
    client.seal_close(1000, "")
    assert_over(client, 1009, frame=only(server.seal("x" * 11)))


def test_a_gap_is_told_to_the_client() -> None:
    server, client = opened()
    assert client.receive(only(server.seal_gap("room", 3))) == Gap("room", 3)


def test_a_control_message_has_to_fit_into_one_frame() -> None:
    server, client = opened(padding=True)
    with pytest.raises(LocalError, match="one frame"):
        server.seal_gap("x" * 262_144, 1)
    assert client.receive(only(server.seal("still open"))) == Text("still open")


# A hostile wire


@pytest.mark.parametrize("role", ["server", "client"])
def test_every_bit_of_a_frame_counts(role: str) -> None:
    frame_size = 1 + 2 + 16
    for bit in range(8 * frame_size):
        server, client = opened()
        sender, receiver = (client, server) if role == "server" else (server, client)
        frame = only(sender.seal("hi"))
        tampered = (int.from_bytes(frame, "big") ^ 1 << bit).to_bytes(frame_size, "big")
        with pytest.raises(InvalidFrame):
            receiver.receive(tampered)
        assert receiver.state is State.FAILED


def test_replayed_dropped_reordered_reflected_and_foreign_frames_are_failures() -> None:
    server, client = opened()
    frame = only(server.seal("once"))
    client.receive(frame)
    assert_over(client, frame=frame)

    server, client = opened()
    server.seal("dropped")
    assert_over(client, frame=only(server.seal("next")))

    server, client = opened()
    assert_over(server, frame=only(server.seal("mine")))

    (server, _), (_, client) = opened(), opened()
    assert_over(client, frame=only(server.seal("for another connection of the same user")))


# Order


@pytest.mark.parametrize("role", ["server", "client"])
def test_neither_side_sends_data_before_the_accept(role: str) -> None:
    session = ready()[role == "client"]
    with pytest.raises(LocalError, match="READY"):
        session.seal("x")


def test_the_accept_comes_once() -> None:
    server, _ = opened()
    with pytest.raises(LocalError, match="OPEN"):
        server.seal_accept(None)


@pytest.mark.parametrize("closer", [0, 1])
def test_a_close_is_told_and_what_was_under_way_still_arrives(closer: int) -> None:
    pair = opened()
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
def test_nothing_follows_a_close(closer: int) -> None:
    pair = opened()
    closing, other = pair[closer], pair[1 - closer]
    transport = closing._transport
    other.receive(only(closing.seal_close(1000, "")))
    assert transport is not None
    with pytest.raises(InvalidFrame):
        other.receive(only(transport.seal(0x10, b"late")))  # type: ignore[arg-type]


def test_an_application_can_refuse() -> None:
    server, client = ready()
    assert client.receive(only(server.seal_close(4403, "no"))) == Closed(4403, "no")
    assert server.state is client.state is State.REFUSED
    with pytest.raises(LocalError):
        client.seal("x")


def test_a_client_can_leave_before_the_accept() -> None:
    server, client = ready()
    close, accept = only(client.seal_close(1001, "")), only(server.seal_accept(None))
    assert client.receive(accept) == Accepted(None)
    assert client.receive(only(server.seal("under way"))) == Text("under way")
    assert server.receive(close) == Closed(1001, "")
    assert server.state is client.state is State.CLIENT_CLOSED


@pytest.mark.parametrize("chosen", ["json", None])
def test_a_client_takes_a_subprotocol_that_it_offered_or_none(chosen: str | None) -> None:
    server, client = greeted()
    server.receive(client.reply(PSK, ["xml", "json"], BINDING))
    assert client.receive(only(server.seal_accept(chosen))) == Accepted(chosen)


def test_a_client_refuses_a_subprotocol_that_it_did_not_offer() -> None:
    server, client = greeted()
    server.receive(client.reply(PSK, ["json"], BINDING))
    assert_over(client, frame=only(server.seal_accept("xml")))


@pytest.mark.parametrize(("code", "reason"), [(1005, ""), (5000, ""), (1000, "x" * 124)])
def test_a_close_that_may_not_be_sent_costs_nothing(code: int, reason: str) -> None:
    server, client = opened()
    with pytest.raises(LocalError):
        server.seal_close(code, reason)
    assert client.receive(only(server.seal("still open"))) == Text("still open")


def test_a_target_that_no_request_has_costs_nothing() -> None:
    server, client = greeted()
    with pytest.raises(LocalError, match="target"):
        client.reply(PSK, (), BINDING._replace(target="/ws/#top"))
    assert server.receive(client.reply(PSK, (), BINDING)) == HandshakeDone((), BINDING)


# Secrets


def test_the_keys_are_dropped_at_the_end() -> None:
    server, client = opened()
    client.receive(only(server.seal_close(1000, "")))
    server.receive(only(client.seal_close(1000, "")))
    failed, other = opened()
    assert_over(failed)
    with pytest.raises(InvalidFrame):
        other.receive("text")
    for session in (server, client, failed, other):
        assert (session._transport, session._handshake, session._hello) == (None, None, None)


def test_a_repr_tells_role_and_state_alone() -> None:
    server, client = opened()
    assert repr(server) == "<SecureSession server OPEN>"
    assert repr(client) == "<SecureSession client OPEN>"
