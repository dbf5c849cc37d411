"""What the package logs: nothing secret, and nothing that a stranger may write."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from channels.generic.websocket import AsyncJsonWebsocketConsumer

from gcrypt_channels import Crypt, EncryptedJsonConsumer, GcryptMiddleware
from gcrypt_channels.keys import Keyring
from gcrypt_channels.protocol.profiles import V1, Profile, secure_profiles
from tests.communicators import Communicator
from tests.wire import KEYRING, Wire
from tests.wire import resolver as wire_resolver

# Channels looks after database connections wherever a consumer runs.
pytestmark = pytest.mark.django_db(transaction=True)

FORGED = "/ws/\n2026-01-01 ERROR everything is lost"


class Consumer(EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        await self.send_json(content)


class Forgetful(AsyncJsonWebsocketConsumer):
    """Without the mixin: what it sends is refused."""

    async def connect(self) -> None:
        await self.accept()
        await self.send_json("plaintext")


def resolver(scope: Any) -> Keyring:
    return Keyring.derive("anyone")


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG)
    return caplog


def own_lines(log: pytest.LogCaptureFixture) -> list[str]:
    records = [record for record in log.records if record.name.startswith("gcrypt_channels")]
    assert records
    return [record.getMessage() for record in records]


@pytest.mark.parametrize(
    ("application", "subprotocol", "frame"),
    [
        pytest.param(
            GcryptMiddleware(Consumer.as_asgi(), profiles=["gcrypt.v2"]), "none", None, id="refused"
        ),
        pytest.param(
            GcryptMiddleware(Consumer.as_asgi(), resolver=resolver), "gcrypt.v1", "{}", id="failed"
        ),
        pytest.param(
            GcryptMiddleware(Forgetful.as_asgi(), resolver=resolver), "gcrypt.v1", None, id="1011"
        ),
    ],
)
async def test_a_path_cannot_add_a_line_to_the_log(
    application: Any, subprotocol: str, frame: str | None, log: pytest.LogCaptureFixture
) -> None:
    client = Communicator(application, "/ws/", subprotocols=[subprotocol])
    client.scope["path"] = FORGED  # as a server decodes %0A
    await client.connect()
    if frame is not None:
        await client.send_to(text_data=frame)
    await client.wait()
    assert all("\n" not in line and r"\n2026" in line for line in own_lines(log))


@pytest.mark.parametrize("profile", [*secure_profiles(), V1])
async def test_neither_keys_nor_payloads_are_logged(
    profile: Profile, log: pytest.LogCaptureFixture
) -> None:
    application = GcryptMiddleware(Consumer.as_asgi(), resolver=wire_resolver)
    server = Wire(application, subprotocols=[profile])
    foreign = Crypt(KEYRING.passphrases[0]).encrypt("canary")
    if profile == V1:
        await server.until(1)
        server.put_frames([foreign])
        await server.until(2)
        server.put_frames([foreign.encode()])  # a binary frame, which ends the connection
    else:
        await server.open()
        server.send('"canary"')
        await server.until(4)
        server.put_frames([foreign])  # a text frame, which ends it as well
    await server.end()
    text = log.text + "".join(repr(vars(record)) for record in log.records)
    assert "4400" in text
    for secret in ("canary", foreign, KEYRING.passphrases[0], KEYRING.session_keys[0].psk.hex()):
        assert secret not in text
