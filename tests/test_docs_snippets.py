"""What the documents tell the reader to write really works: put together and run."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from channels.auth import AuthMiddlewareStack
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.contrib.auth.models import AnonymousUser, User
from django.core.asgi import get_asgi_application
from django.core.exceptions import ImproperlyConfigured
from django.template import Context, Template
from django.test import RequestFactory
from django.urls import include, path, re_path

from gcrypt_channels import Crypt, EncryptedJsonConsumer, GcryptMiddleware
from gcrypt_channels.conf import problems
from gcrypt_channels.keys import Keyring, resolve
from tests.communicators import Communicator, EncryptedCommunicator
from tests.reference import ml_kem
from tests.wire import resolver as wire_resolver

from .documents import ROOT, blocks

# Channels looks after database connections wherever a consumer runs.
pytestmark = pytest.mark.django_db(transaction=True)

PRINTED = "a passphrase that gcrypt_keygen printed"
UPGRADING = ROOT / "docs" / "upgrading-from-g-crypt.md"
SETTINGS = ROOT / "docs" / "settings.md"

# What a reader's files import already.
IMPORTED: dict[str, Any] = {
    "AllowedHostsOriginValidator": AllowedHostsOriginValidator,
    "AsyncJsonWebsocketConsumer": AsyncJsonWebsocketConsumer,
    "AuthMiddlewareStack": AuthMiddlewareStack,
    "EncryptedJsonConsumer": EncryptedJsonConsumer,
    "GcryptMiddleware": GcryptMiddleware,
    "ProtocolTypeRouter": ProtocolTypeRouter,
    "URLRouter": URLRouter,
    "get_asgi_application": get_asgi_application,
    "include": include,
    "path": path,
    "re_path": re_path,
}
ORIGIN = [(b"origin", b"http://testserver"), (b"host", b"testserver")]


def snippet(document: Path, title: str, index: int = 0) -> str:
    return [block.text for block in blocks(document, "python") if block.title == title][index]


def run(text: str, **names: Any) -> dict[str, Any]:
    namespace = {**IMPORTED, **names}
    exec(compile(text, "<document>", "exec"), namespace)
    return namespace


def configure(settings: Any, text: str, passphrase: str = "") -> None:
    """Apply a settings snippet, whose ellipsis stands for what a project has already."""
    settings.GCRYPT = {}
    for name, value in run(text, env=lambda name: passphrase).items():
        if name == "INSTALLED_APPS":
            assert set(value) - {..., "daphne"} <= set(settings.INSTALLED_APPS)
        elif name.startswith("GCRYPT"):
            setattr(settings, name, value)
    assert problems() == []


def application(document: Path) -> Any:
    """The WebSocket application of a document's asgi.py, with its consumer at /ws/counter/."""
    consumer = run(snippet(document, "consumers.py"))["CounterConsumer"]
    names = {**IMPORTED, "websocket_urlpatterns": [path("ws/counter/", consumer.as_asgi())]}
    return eval(f"{{{snippet(document, 'asgi.py')}}}", names)["websocket"]


@pytest.fixture
def alice() -> User:
    user: User = User.objects.create_user("alice")
    return user


async def test_a_json_codec_of_the_projects_own_is_used_and_guarded() -> None:
    consumer: Any = run(snippet(SETTINGS, "codecs.py"))["FastConsumer"]

    class Echo(consumer):  # type: ignore[misc]
        async def receive_json(self, content: Any, **kwargs: Any) -> None:
            await self.send_json({"got": content, "by": type(content).__name__})

    application = GcryptMiddleware(Echo.as_asgi(), resolver=wire_resolver)
    client = EncryptedCommunicator(application, "/", resolver=wire_resolver)
    assert await client.connect() == (True, None)
    await client.send_to(text_data="123456789012345678901234567890")
    assert await client.receive_json_from() == {"got": 123456789012345678901234567890, "by": "int"}
    await client.send_to(text_data="NaN")
    assert (await client.receive_output())["code"] == 4400
    await client.disconnect()


async def test_the_lines_of_the_settings_page_make_a_consumer_that_counts(alice: User) -> None:
    client = EncryptedCommunicator(application(SETTINGS), "/ws/counter/", ORIGIN, user=alice)
    assert await client.connect() == (True, None)
    await client.send_json_to({"id": 1})
    assert await client.receive_json_from() == {"id": 2}
    await client.disconnect()


def test_the_template_imports_the_client_and_finds_the_key_endpoint(settings: Any) -> None:
    settings.ROOT_URLCONF = tuple(run(snippet(SETTINGS, "urls.py"))["urlpatterns"])
    [html] = [each.text for each in blocks(SETTINGS, "html")]
    request = RequestFactory().get("/")
    page = Template(html).render(Context({"request": request}))
    assert '{"imports": {"gcrypt_channels": "/static/gcrypt_channels/gcrypt.js"}}' in page
    assert '"keyUrl": "/gcrypt/key/"' in page


async def count_as_g_crypt(application: Any, url: str, crypt: Crypt) -> Any:
    """What a page with g-crypt does: no subprotocol, one text frame each way."""
    page = Communicator(application, url, headers=ORIGIN)
    assert await page.connect() == (True, None)
    await page.send_to(text_data=crypt.encrypt({"id": 1}))
    answer = crypt.decrypt(str(await page.receive_from()))
    await page.disconnect()
    return answer


async def test_the_first_step_of_the_upgrade_serves_the_page_as_it_is(
    settings: Any,
) -> None:
    configure(settings, snippet(UPGRADING, "settings.py"), PRINTED)
    assert settings.GCRYPT_SHARED_PASSPHRASE in blocks(UPGRADING, "html")[0].text
    crypt = Crypt(settings.GCRYPT_SHARED_PASSPHRASE)
    answer = await count_as_g_crypt(application(UPGRADING), "/ws/counter/", crypt)
    assert answer == {"id": 2}


async def test_the_second_step_of_the_upgrade_serves_old_and_new_pages(
    settings: Any, alice: User
) -> None:
    configure(settings, snippet(UPGRADING, "settings.py"), PRINTED)
    configure(settings, snippet(UPGRADING, "settings.py", 1).split("# urls.py")[0])
    consumer = run(snippet(UPGRADING, "consumers.py"))["CounterConsumer"]
    asgi = snippet(UPGRADING, "asgi.py", 1)
    patterns = [path("ws/counter/", consumer.as_asgi())]
    names = run(asgi, CounterConsumer=consumer, websocket_urlpatterns=patterns)

    crypt = Crypt(settings.GCRYPT_SHARED_PASSPHRASE)
    answer = await count_as_g_crypt(names["application"], "/ws/old/", crypt)
    assert answer == {"id": 2}
    client = EncryptedCommunicator(
        names["application"], "/ws/counter/", ORIGIN, user=alice, profile="gcrypt.v1"
    )
    assert (await client.connect())[0]
    await client.send_json_to({"id": 1})
    assert await client.receive_json_from() == {"id": 2}
    await client.disconnect()


async def test_the_resolver_of_the_settings_page_gives_each_device_its_key() -> None:
    [block] = [each for each in blocks(SETTINGS, "python") if "def by_device" in each.text]
    by_device = run(block.text)["by_device"]

    class Session(dict[str, str]):
        session_key = "of alice's login"

    async def keyring(**session: str) -> Any:
        return await resolve({"user": User(pk=1), "session": Session(session)}, by_device)

    laptop, phone = await keyring(device="laptop"), await keyring(device="phone")
    assert laptop == await keyring(device="laptop")
    assert laptop.session_keys[0] != phone.session_keys[0]
    assert await resolve({"user": AnonymousUser(), "session": Session()}, by_device) is None


async def only_key(scope: Any) -> Keyring:
    return Keyring.derive("the only one")


async def test_a_middleware_takes_a_resolver_of_its_own_by_its_dotted_path() -> None:
    consumer = run(snippet(SETTINGS, "consumers.py"))["CounterConsumer"]
    own = f"{__name__}.only_key"
    middleware = GcryptMiddleware(consumer.as_asgi(), resolver=own)
    client = EncryptedCommunicator(middleware, "/", resolver=own)
    assert await client.connect() == (True, None)
    await client.disconnect()
    with pytest.raises(ImproperlyConfigured, match="cannot be imported"):
        GcryptMiddleware(consumer.as_asgi(), resolver="no.such.function")


def test_the_frames_on_the_protocol_page_are_those_of_the_vectors() -> None:
    page = (ROOT / "docs" / "protocol.md").read_text("utf-8")
    vectors = json.loads((ROOT / "tests" / "vectors" / "v2.json").read_text("utf-8"))
    connection = vectors["connections"][0]
    digits = "".join(page.split("### Example")[1].split())
    for name in ("kid", "psk", "server_ephemeral", "client_ephemeral"):
        assert connection[name] in digits
    for step in connection["steps"][:5]:
        assert step["frames"][0] in digits, step["event"]


def test_the_example_of_gcrypt_v3_on_the_protocol_page_is_that_of_the_vectors() -> None:
    pytest.importorskip("Crypto.PublicKey.MLKEM")
    page = (ROOT / "docs" / "protocol.md").read_text("utf-8")
    vectors = json.loads((ROOT / "tests" / "vectors" / "v3.json").read_text("utf-8"))
    connection = vectors["connections"][0]
    digits = "".join(page.split("### Example of gcrypt.v3")[1].split())
    inputs = ("kid", "psk", "server_ephemeral", "client_ephemeral", "kem_seed", "kem_coins")
    for name in (*inputs, "handshake_hash"):
        assert connection[name] in digits, name
    seed, coins = (bytes.fromhex(connection[name]) for name in ("kem_seed", "kem_coins"))
    public = ml_kem.public_key(seed)
    ciphertext, secret = ml_kem.encapsulate(public, coins)
    assert secret.hex() in digits
    hello, reply, *transport = (step["frames"][0] for step in connection["steps"][:5])
    for hashed in (public, ciphertext, bytes.fromhex(hello), bytes.fromhex(reply)):
        assert hashlib.sha256(hashed).hexdigest() in digits
    assert hello[:82] in digits
    assert reply[:66] in digits
    assert all(frame in digits for frame in transport)


def test_the_frame_of_gcrypt_v1_on_the_protocol_page_opens() -> None:
    [frame, *_] = [
        block.text
        for block in blocks(ROOT / "docs" / "protocol.md", "json")
        if block.text.startswith('{"ct"')
    ]
    assert Crypt("a long passphrase, of words").decrypt(frame) == {"id": 1}
