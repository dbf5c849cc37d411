"""How long secrets stay in memory: the psk until the greeting, the session's keys until the end."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Iterator
from secrets import token_hex
from typing import Any

import pytest

from gcrypt_channels import GcryptMiddleware
from gcrypt_channels.crypto.noise import CipherState
from gcrypt_channels.keys import Keyring
from gcrypt_channels.protocol.events import Accepted, Binding, HelloReceived
from tests.wire import Wire

pytestmark = pytest.mark.skipif(
    sys.version_info[:2] == (3, 12),
    reason="walking every object of the process aborted Python 3.12.1 itself",
)


def texts(containers: list[Any]) -> Iterator[Any]:
    """The bytes and strings that `containers` hold."""
    for container in containers:
        for each in gc.get_referents(container):
            if issubclass(type(each), bytes | bytearray | str):  # isinstance wakes lazy objects
                yield each
            elif not gc.is_tracked(each):  # as a tuple of bytes, which is in nobody's list
                yield from texts([each])


def holds(each: Any, secret: bytes | str) -> bool:
    return isinstance(each, str) == isinstance(secret, str) and secret in each


def copies(*secrets: bytes | str) -> list[Any]:
    """The objects anywhere in memory that hold one of `secrets`, besides those that were given."""
    gc.collect()
    own = {id(secrets), *map(id, secrets)}
    shortest = min(map(len, secrets))
    found = {
        id(each): each
        for each in texts([each for each in gc.get_objects() if id(each) not in own])
        if len(each) >= shortest
        and id(each) not in own
        and any(holds(each, secret) for secret in secrets)
    }
    return list(found.values())


def ciphers() -> int:
    """How many live keys of directions there are; each object of the cipher holds one."""
    gc.collect()
    return sum(type(each) is CipherState for each in gc.get_objects())


class Someone:
    """A login whose keys nobody else has, and which nobody keeps."""

    def __init__(self) -> None:
        self._identity = token_hex(8)
        self.facade: Any = None

    def keyring(self) -> Keyring:
        return Keyring.derive(self._identity)

    async def resolver(self, scope: Any) -> Keyring:
        return self.keyring()

    async def application(self, scope: Any, receive: Any, send: Any) -> None:
        self.facade = scope["gcrypt"]  # as a project may keep it
        while (event := await receive())["type"] != "websocket.disconnect":
            if event["type"] == "websocket.connect":
                await send({"type": "websocket.accept"})

    def wire(self, profile: str) -> Wire:
        application = GcryptMiddleware(self.application, resolver=self.resolver, seal_outbound=True)
        return Wire(application, subprotocols=[profile])

    async def handshake(self, server: Wire) -> None:
        await server.until(2)
        hello = server.client.receive(server.sent[1]["bytes"])
        assert isinstance(hello, HelloReceived)
        binding = Binding(tuple(server.scope["subprotocols"]), "testserver", "/")
        reply = server.client.reply(self.keyring().session_key(hello.kid).psk, (), binding)
        server.put_frames([reply])
        await server.until(3)
        assert isinstance(server.opened(2)[0], Accepted)


def test_a_copy_is_found_wherever_it_is() -> None:
    """The search itself can fail."""
    secret = token_hex(16)
    holders: Any = [(secret.encode(),), {"key": f"<{secret}>"}]

    async def waiting(argument: str) -> None:
        await asyncio.sleep(0)

    suspended = waiting(f"in a frame: {secret}")
    assert len(copies(secret)) == 2
    assert len(copies(secret.encode())) == 1
    suspended.close()
    del suspended
    holders.clear()
    assert copies(secret) == []


async def test_the_psk_is_there_for_the_handshake_alone() -> None:
    someone = Someone()
    server = someone.wire("gcrypt.v2")
    await server.until(2)
    psk = someone.keyring().session_keys[0].psk
    assert copies(psk)  # it waits for the reply
    await someone.handshake(server)
    assert copies(psk) == []
    server.leave()
    await server.end()


async def test_no_psk_is_left_of_a_handshake_that_fails(settings: Any) -> None:
    settings.GCRYPT = {**settings.GCRYPT, "HANDSHAKE_TIMEOUT": 0.05}
    visitors = [Someone() for _ in range(3)]
    servers = [someone.wire("gcrypt.v2") for someone in visitors]
    for server in servers:
        await server.until(2)
    servers[0].leave()
    servers[1].put_frames([b"\x02" + bytes(100)])
    for server in servers:  # the third one never replies
        await server.end()
    assert copies(*(someone.keyring().session_keys[0].psk for someone in visitors)) == []


@pytest.mark.parametrize("how", ["cut", "closed by the server", "closed by the client", "failed"])
async def test_no_key_is_left_after_the_end_even_if_the_project_keeps_its_facade(how: str) -> None:
    before = ciphers()
    someone = Someone()
    server = someone.wire("gcrypt.v2")
    await someone.handshake(server)
    assert ciphers() == before + 4  # two directions on each side
    if how == "closed by the server":
        await someone.facade.close(4001)
    elif how == "closed by the client":
        server.put_frames(server.client.seal_close(1000, ""))
        server.leave()
    elif how == "failed":
        server.put_frames([b"\x10" + bytes(32)])
    else:
        server.leave()
    await server.end()
    server.client.forget()
    assert someone.facade.profile == "gcrypt.v2"
    assert ciphers() == before


async def test_no_classic_passphrase_is_left_after_the_end() -> None:
    visitors = [Someone() for _ in range(3)]
    servers = [someone.wire("gcrypt.v1") for someone in visitors]
    for server in servers:
        await server.until(1)
    passphrases = [someone.keyring().passphrases[0].encode() for someone in visitors]
    assert len(copies(*passphrases)) >= 3
    servers[0].leave()
    servers[1].put_frames(["no frame"])
    await visitors[2].facade.close(4001)
    for server in servers:
        await server.end()
    assert [someone.facade.profile for someone in visitors] == ["gcrypt.v1"] * 3
    assert copies(*passphrases) == []
