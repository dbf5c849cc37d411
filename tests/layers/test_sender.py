from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from gcrypt_channels.crypto.primitives import AesGcm
from gcrypt_channels.exceptions import TryAgainLater
from gcrypt_channels.layers import envelope
from gcrypt_channels.layers import sender as sending
from gcrypt_channels.layers.envelope import Envelope, MessageKind
from gcrypt_channels.layers.receiver import Opened, Receiver
from gcrypt_channels.layers.sender import Sender, send


@pytest.fixture(autouse=True)
def _no_earlier_senders() -> None:
    sending.forget_senders()


def open_all(messages: list[dict[str, Any]]) -> list[Opened]:
    """Open what was sent to `room` as a process does that was there from the beginning."""
    receiver = Receiver()
    return [
        receiver.open(Envelope.parse(each), "room", joined_at=0, expiry=60) for each in messages
    ]


def test_no_two_messages_share_key_and_nonce(monkeypatch: pytest.MonkeyPatch) -> None:
    used: set[tuple[bytes, bytes]] = set()
    derived: dict[int, bytes] = {}

    class Recording(AesGcm):
        def __init__(self, key: bytes) -> None:
            super().__init__(key)
            derived[id(self)] = key

        __slots__ = ()

        def seal(self, nonce: bytes, plaintext: bytes, associated_data: bytes) -> bytes:
            assert (derived[id(self)], nonce) not in used
            used.add((derived[id(self)], nonce))
            return super().seal(nonce, plaintext, associated_data)

    monkeypatch.setattr(envelope, "AesGcm", Recording)
    monkeypatch.setattr(sending, "MAX_GROUPS", 3)
    envelope._aead.cache_clear()
    loop = asyncio.new_event_loop()
    loop.close()
    senders = [Sender(loop), Sender(loop)]
    identities = set()
    for number in range(100):
        for each in senders:
            each.seal(f"room {number % 5}", MessageKind.BROADCAST, b"")
            identities.add(each.id)
    assert len(used) == 200
    assert len(identities) > 2  # past the limit of groups, a sender begins anew
    envelope._aead.cache_clear()


class SlowLayer:
    """Takes longer for the earlier messages, as a network would."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.waiting = 20

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        self.waiting -= 1
        for _ in range(self.waiting):
            await asyncio.sleep(0)
        self.sent.append(message)


async def test_concurrent_messages_reach_the_layer_in_the_order_of_their_numbers() -> None:
    slow = SlowLayer()
    await asyncio.gather(
        *(send(slow, "room", MessageKind.BROADCAST, b"%d" % number) for number in range(20))
    )
    opened = open_all(slow.sent)
    assert [each.payload for each in opened] == [b"%d" % number for number in range(20)]
    assert not any(each.lost for each in opened)
    assert not sending.current_sender().locks._locks


class BrokenLayer:
    def __init__(self) -> None:
        self.error: Exception | None = None
        self.sent: list[dict[str, Any]] = []

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        if self.error is not None:
            raise self.error
        self.sent.append(message)


async def test_a_layer_that_fails_is_one_clear_error_and_a_gap() -> None:
    broken = BrokenLayer()
    await send(broken, "room", MessageKind.BROADCAST, b"0")
    broken.error = OSError("connection refused")
    with pytest.raises(TryAgainLater) as caught:
        await send(broken, "room", MessageKind.BROADCAST, b"1")
    assert caught.value.reason == "the channel layer is down"
    assert caught.value.cause.startswith("the channel layer is down: ")  # and what was raised
    broken.error = None
    await send(broken, "room", MessageKind.BROADCAST, b"2")
    opened = open_all(broken.sent)
    assert [each.payload for each in opened] == [b"0", b"2"]
    assert opened[1].lost is not None


async def test_a_layer_that_hangs_is_given_up_for_all_who_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class HangingLayer:
        async def group_send(self, group: str, message: dict[str, Any]) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr(sending, "LAYER_TIMEOUT", 0.01)
    results = await asyncio.gather(
        *(send(HangingLayer(), "room", MessageKind.BROADCAST, b"") for _ in range(5)),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [TryAgainLater] * 5
    assert not sending.current_sender().locks._locks


def test_one_loop_after_another_continues_the_same_sender() -> None:
    """As in a WSGI view: each `async_to_sync` makes an event loop in a thread of its own."""
    broken = BrokenLayer()
    for number in range(5):
        async_to_sync(send)(broken, "room", MessageKind.BROADCAST, b"%d" % number)
    opened = open_all(broken.sent)
    assert len({each.sender for each in opened}) == 1
    assert [each.payload for each in opened] == [b"%d" % number for number in range(5)]


def test_threads_that_send_at_once_have_senders_of_their_own() -> None:
    barrier = threading.Barrier(4)

    class MeetingLayer(BrokenLayer):
        async def group_send(self, group: str, message: dict[str, Any]) -> None:
            barrier.wait(10)
            await super().group_send(group, message)

    meeting = MeetingLayer()
    threads = [
        threading.Thread(
            target=async_to_sync(send), args=(meeting, "room", MessageKind.BROADCAST, b"")
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    identities = {Envelope.parse(message).sender for message in meeting.sent}
    assert len(identities) == 4
    assert all(sending.is_own(identity) for identity in identities)
    assert not sending.is_own(bytes(16))


def test_a_forked_process_draws_an_identity_of_its_own() -> None:
    async def identity() -> bytes:
        return sending.current_sender().id

    ours = asyncio.run(identity())
    assert asyncio.run(identity()) == ours
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, asyncio.run(identity()))
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    theirs = os.read(read, 100)
    os.close(read)
    os.close(write)
    assert len(theirs) == 16
    assert theirs != ours
