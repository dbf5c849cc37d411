from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
from channels.auth import AuthMiddlewareStack
from channels.generic.websocket import AsyncJsonWebsocketConsumer, JsonWebsocketConsumer
from django.conf import settings
from django.contrib.auth.models import User
from django.test import AsyncClient, TestCase

from gcrypt_channels import EncryptedJsonConsumer, GcryptMiddleware
from gcrypt_channels.exceptions import LocalError, MessageTooBig
from gcrypt_channels.keys import Keyring
from gcrypt_channels.protocol.profiles import PROFILES, Profile, is_available, secure_profiles
from gcrypt_channels.testing import EncryptedWebsocketCommunicator
from gcrypt_channels.tickets import TicketMiddleware, ticket_response
from gcrypt_channels.views import error_response
from tests.communicators import EncryptedCommunicator
from tests.consumers import ECHO_CONSUMERS, PlainEcho
from tests.documents import ROOT, Block, blocks

pytestmark = pytest.mark.django_db(transaction=True)

AVAILABLE = [*filter(is_available, PROFILES)]


@pytest.fixture(autouse=True)
def _every_profile(settings: Any) -> None:
    settings.GCRYPT = {"PROFILES": list(PROFILES)}


def with_auth(consumer: Any) -> Any:
    return AuthMiddlewareStack(GcryptMiddleware(consumer))


STACKS = [GcryptMiddleware, with_auth]


class Counter(EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        await self.send_json({"id": content["id"] + 1, "user": str(self.scope["user"])})


class Doorman(EncryptedJsonConsumer, JsonWebsocketConsumer):
    """Accepts those who offer `tea`, and closes with what they ask for."""

    def connect(self) -> None:
        if "tea" in self.scope["subprotocols"]:
            self.accept("tea")
        else:
            self.close(4123, "no tea")

    def receive_json(self, content: Any, **kwargs: Any) -> None:
        self.send_json("bye")
        self.close(**content)


@pytest.fixture
async def alice() -> User:
    user: User = await User.objects.acreate_user("alice")
    return user


@pytest.mark.parametrize("profile", AVAILABLE)
@pytest.mark.parametrize("stack", STACKS)
async def test_a_consumer_test_is_as_short_as_with_channels(
    alice: User, profile: Profile, stack: Any
) -> None:
    application = stack(Counter.as_asgi())
    communicator = EncryptedWebsocketCommunicator(application, "/", user=alice, profile=profile)
    assert await communicator.connect() == (True, None)
    await communicator.send_json_to({"id": 1})
    assert await communicator.receive_json_from() == {"id": 2, "user": "alice"}
    assert await communicator.receive_nothing()
    await communicator.disconnect()


async def opened_profile(alice: User, profiles: list[Profile]) -> str:
    seen = []

    class Seeing(Counter):
        async def connect(self) -> None:
            seen.append(self.gcrypt.profile)
            await super().connect()

    application = GcryptMiddleware(Seeing.as_asgi(), profiles=profiles)
    communicator = EncryptedCommunicator(application, "/", user=alice)
    assert await communicator.connect() == (True, None)
    await communicator.disconnect()
    [profile] = seen
    return profile


async def test_the_middleware_chooses_between_the_profiles_with_a_handshake(alice: User) -> None:
    for profile in secure_profiles():
        assert await opened_profile(alice, [profile]) == profile
    assert await opened_profile(alice, ["gcrypt.v2", "gcrypt.v3"]) == "gcrypt.v2"
    assert await opened_profile(alice, ["gcrypt.v3", "gcrypt.v2"]) == secure_profiles()[0]


@pytest.mark.usefixtures("no_ml_kem")
async def test_without_ml_kem_it_is_v2(alice: User) -> None:
    assert await opened_profile(alice, ["gcrypt.v3", "gcrypt.v2"]) == "gcrypt.v2"


@pytest.mark.parametrize("consumer", ECHO_CONSUMERS)
async def test_text_and_bytes_come_back_as_what_they_are(alice: User, consumer: Any) -> None:
    application = GcryptMiddleware(consumer.as_asgi())
    communicator = EncryptedCommunicator(application, "/", user=alice)
    assert await communicator.connect() == (True, None)
    await communicator.send_to(text_data="text")
    assert await communicator.receive_from() == "text"
    await communicator.send_to(bytes_data=b"\x00bytes")
    assert await communicator.receive_from() == b"\x00bytes"
    await communicator.send_to(text_data="large" * 100_000)  # in fragments
    assert await communicator.receive_from() == "large" * 100_000
    await communicator.disconnect()


async def test_the_consumers_choice_of_a_subprotocol_is_returned(alice: User) -> None:
    application = GcryptMiddleware(Doorman.as_asgi())
    communicator = EncryptedCommunicator(
        application, "/", subprotocols=["coffee", "tea"], user=alice
    )
    assert await communicator.connect() == (True, "tea")
    await communicator.disconnect()


@pytest.mark.parametrize("profile", AVAILABLE)
async def test_a_refusal_returns_the_consumers_code(alice: User, profile: Profile) -> None:
    application = GcryptMiddleware(Doorman.as_asgi())
    communicator = EncryptedCommunicator(application, "/", user=alice, profile=profile)
    assert await communicator.connect() == (False, 4123)
    await communicator.disconnect()


@pytest.mark.parametrize("profile", AVAILABLE)
async def test_what_follows_the_accept_at_once_is_received(alice: User, profile: Profile) -> None:
    class Greeter(EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
        async def connect(self) -> None:
            await self.accept()
            await self.send_json("hello")
            await self.close(4001)

    communicator = EncryptedCommunicator(
        GcryptMiddleware(Greeter.as_asgi()), "/", user=alice, profile=profile
    )
    assert await communicator.connect() == (True, None)
    assert await communicator.receive_json_from() == "hello"
    assert (await communicator.receive_output())["code"] == 4001
    await communicator.disconnect()


@pytest.mark.parametrize("profile", AVAILABLE)
async def test_the_consumers_close_is_an_output_with_code_and_reason(
    alice: User, profile: Profile
) -> None:
    application = GcryptMiddleware(Doorman.as_asgi())
    communicator = EncryptedCommunicator(
        application, "/", subprotocols=["tea"], user=alice, profile=profile
    )
    await communicator.connect()
    await communicator.send_json_to({"code": 4002, "reason": "empty pot"})
    assert not await communicator.receive_nothing()
    assert await communicator.receive_json_from() == "bye"
    closed = await communicator.receive_output()
    assert closed == {"type": "websocket.close", "code": 4002, "reason": "empty pot"}
    await communicator.disconnect()


async def test_the_disconnect_code_reaches_the_consumer(alice: User) -> None:
    codes: list[int] = []

    class Leaving(EncryptedJsonConsumer, JsonWebsocketConsumer):
        def disconnect(self, code: int) -> None:
            codes.append(code)

    application = GcryptMiddleware(Leaving.as_asgi())
    communicator = EncryptedCommunicator(application, "/", user=alice)
    await communicator.connect()
    await communicator.disconnect(code=3001)
    assert codes == [3001]


@pytest.mark.parametrize("profile", AVAILABLE)
async def test_without_a_login_the_middleware_refuses(profile: Profile) -> None:
    application = with_auth(Counter.as_asgi())
    communicator = EncryptedCommunicator(application, "/", profile=profile)
    assert await communicator.connect() == (False, 4401)


@pytest.mark.parametrize("stack", STACKS)
async def test_a_session_serves_in_place_of_a_user(alice: User, stack: Any) -> None:
    client = AsyncClient()
    await client.aforce_login(alice)
    communicator = EncryptedCommunicator(
        stack(Counter.as_asgi()), "/", session=await client.asession()
    )
    assert await communicator.connect() == (True, None)
    await communicator.send_json_to({"id": 1})
    assert await communicator.receive_json_from() == {"id": 2, "user": "alice"}
    await communicator.disconnect()


async def test_an_anonymous_session_serves_where_the_settings_allow_it(settings: Any) -> None:
    settings.GCRYPT = {"ANONYMOUS": True}
    session = import_module(settings.SESSION_ENGINE).SessionStore()
    application = with_auth(ECHO_CONSUMERS[0].as_asgi())
    communicator = EncryptedCommunicator(application, "/", session=session)
    assert await communicator.connect() == (True, None)
    await communicator.disconnect()


@pytest.mark.parametrize("engine", ["db", "cached_db", "cache", "signed_cookies"])
async def test_every_session_engine_serves(alice: User, settings: Any, engine: str) -> None:
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    application = with_auth(Counter.as_asgi())
    communicator = EncryptedCommunicator(application, "/", user=alice)
    assert await communicator.connect() == (True, None)
    await communicator.send_json_to({"id": 1})
    assert await communicator.receive_json_from() == {"id": 2, "user": "alice"}
    await communicator.disconnect()


async def test_a_cookie_of_the_test_stays_beside_the_sessions(alice: User) -> None:
    seen: dict[str, str] = {}

    class Cookies(EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
        async def connect(self) -> None:
            seen.update(self.scope["cookies"])
            await self.accept()

    communicator = EncryptedCommunicator(
        with_auth(Cookies.as_asgi()),
        "/",
        [(b"cookie", b"taste=chocolate")],
        user=alice,
    )
    assert await communicator.connect() == (True, None)
    assert seen["taste"] == "chocolate"
    assert settings.SESSION_COOKIE_NAME in seen
    await communicator.disconnect()


async def test_a_resolver_of_the_middleware_is_given_to_both() -> None:
    async def by_path(scope: Any) -> Keyring:
        return Keyring.derive("path", scope["path"])

    application = GcryptMiddleware(ECHO_CONSUMERS[0].as_asgi(), resolver=by_path)
    communicator = EncryptedCommunicator(application, "/room/7/", resolver=by_path)
    assert await communicator.connect() == (True, None)
    await communicator.send_to(text_data="here")
    assert await communicator.receive_from() == "here"
    await communicator.disconnect()


@pytest.mark.parametrize("profile", AVAILABLE)
async def test_a_resolver_that_the_communicator_does_not_know_is_pointed_out(
    alice: User, profile: Profile
) -> None:
    async def own(scope: Any) -> str:
        return "the middleware's own passphrase"

    application = GcryptMiddleware(ECHO_CONSUMERS[0].as_asgi(), resolver=own)
    communicator = EncryptedCommunicator(application, "/", profile=profile)
    with pytest.raises(AssertionError, match="resolver="):
        await communicator.connect()


async def test_an_application_without_the_middleware_is_pointed_out(alice: User) -> None:
    communicator = EncryptedCommunicator(PlainEcho.as_asgi(), "/", user=alice)
    with pytest.raises(AssertionError, match="GcryptMiddleware"):
        await communicator.connect()


async def test_a_message_before_the_accept_is_the_tests_mistake(alice: User) -> None:
    application = GcryptMiddleware(ECHO_CONSUMERS[0].as_asgi())
    communicator = EncryptedCommunicator(application, "/", user=alice)
    with pytest.raises(LocalError):
        await communicator.send_to(text_data="too early")


async def test_a_message_over_the_servers_limit_is_the_tests_mistake(
    alice: User, settings: Any
) -> None:
    settings.GCRYPT = {"MAX_MESSAGE_SIZE": 1024}
    application = GcryptMiddleware(ECHO_CONSUMERS[0].as_asgi())
    communicator = EncryptedCommunicator(application, "/", user=alice)
    await communicator.connect()
    with pytest.raises(MessageTooBig):
        await communicator.send_to(text_data="x" * 1025)
    await communicator.disconnect()


def test_an_unknown_profile_is_named() -> None:
    with pytest.raises(ValueError, match=r"gcrypt\.v2"):
        EncryptedCommunicator(PlainEcho.as_asgi(), "/", profile="gcrypt.v4")  # type: ignore[arg-type]


EXAMPLES = list(blocks(ROOT / "docs" / "testing.md", "python"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.title)
async def test_the_examples_of_the_documentation_pass(
    example: Block, django_user_model: Any
) -> None:
    namespace: dict[str, Any] = {}
    exec(compile(example.text, example.title, "exec"), namespace)
    tests = [value for name, value in namespace.items() if name.startswith("test_")]
    for test in tests:
        await test(django_user_model)
    cases = [value for name, value in namespace.items() if name.endswith("Tests")]
    for case in cases:
        await case().test_the_user_is_known()
    assert tests or cases


class DjangoTests(TestCase):
    """The same in Django's own test case."""

    async def test_a_consumer_answers(self) -> None:
        user = await User.objects.acreate_user("bob")
        application = with_auth(Counter.as_asgi())
        communicator = EncryptedCommunicator(application, "/", user=user)
        assert await communicator.connect() == (True, None)
        await communicator.send_json_to({"id": 1})
        assert await communicator.receive_json_from() == {"id": 2, "user": "bob"}
        await communicator.disconnect()


# A drop-in for Channels' communicator


async def test_an_exception_of_the_application_is_what_the_test_sees(alice: User) -> None:
    class Broken(EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
        async def receive_json(self, content: Any, **kwargs: Any) -> None:
            await self.send_json(1 / content)

    communicator = EncryptedCommunicator(GcryptMiddleware(Broken.as_asgi()), "/", user=alice)
    await communicator.connect()
    await communicator.send_json_to(0)
    with pytest.raises(ZeroDivisionError):
        await communicator.receive_json_from()


async def test_a_subclass_reads_plaintext_from_both_queues(alice: User) -> None:
    class Recording(EncryptedCommunicator):
        outputs: list[Any] = []  # noqa: RUF012 - of this one test

        async def receive_output(self, timeout: float = 1) -> Any:
            self.outputs.append(await self.output_queue.get())
            return self.outputs[-1]

    communicator = Recording(GcryptMiddleware(Counter.as_asgi()), "/", user=alice)
    assert await communicator.connect() == (True, None)
    await communicator.input_queue.put({"type": "websocket.receive", "text": '{"id": 1}'})
    assert await communicator.receive_json_from() == {"id": 2, "user": "alice"}
    assert [each["type"] for each in communicator.outputs] == ["websocket.accept", "websocket.send"]
    await communicator.disconnect()


async def test_user_and_session_are_public(alice: User) -> None:
    communicator = EncryptedCommunicator(GcryptMiddleware(Counter.as_asgi()), "/", user=alice)
    assert await communicator.connect() == (True, None)
    assert communicator.user == alice
    assert communicator.session is not None
    by_session = EncryptedCommunicator(
        GcryptMiddleware(Counter.as_asgi()), "/", session=communicator.session, spec_version="2.4"
    )
    assert await by_session.connect() == (True, None)
    assert by_session.user == alice
    scope: Any = by_session.scope
    assert scope["spec_version"] == "2.4"
    await by_session.disconnect()
    await communicator.disconnect()


# Tickets


def held_tokens(tokens: Any) -> list[Any]:
    return [each for each in tokens if each.identity != "revoked"]


@pytest.mark.parametrize("profile", [*secure_profiles(), None])
@pytest.mark.parametrize("around", [lambda inner: inner, AuthMiddlewareStack])
async def test_a_ticket_logs_in_without_a_session(alice: User, profile: Any, around: Any) -> None:
    application = around(TicketMiddleware(GcryptMiddleware(Counter.as_asgi())))
    communicator = EncryptedCommunicator(
        application, "/", profile=profile, ticket=ticket_response(alice)
    )
    assert await communicator.connect() == (True, None)
    assert communicator.session is None
    await communicator.send_json_to({"id": 1})
    assert await communicator.receive_json_from() == {"id": 2, "user": "alice"}
    await communicator.disconnect()


async def test_a_ticket_counts_whoevers_session_is_beside_it(alice: User) -> None:
    bob = await User.objects.acreate_user("bob")
    application = AuthMiddlewareStack(TicketMiddleware(GcryptMiddleware(Counter.as_asgi())))
    communicator = EncryptedCommunicator(application, "/", user=bob, ticket=ticket_response(alice))
    assert await communicator.connect() == (True, None)
    await communicator.send_json_to({"id": 1})
    assert (await communicator.receive_json_from())["user"] == "alice"
    await communicator.disconnect()


async def test_a_ticket_of_a_revoked_token_is_refused_as_in_production(
    alice: User, settings: Any
) -> None:
    settings.GCRYPT = {"TOKEN_RESOLVER": "tests.test_testing.held_tokens"}
    application = TicketMiddleware(GcryptMiddleware(Counter.as_asgi()))
    for identity, answer in (("held", (True, None)), ("revoked", (False, 4401))):
        communicator = EncryptedCommunicator(
            application, "/", ticket=ticket_response(alice, identity)
        )
        assert await communicator.connect() == answer
        await communicator.disconnect()


async def test_a_ticket_without_the_middleware_is_refused(alice: User) -> None:
    communicator = EncryptedCommunicator(
        GcryptMiddleware(Counter.as_asgi()), "/", ticket=ticket_response(alice)
    )
    assert await communicator.connect() == (False, 4401)


async def test_what_is_no_ticket_is_the_tests_mistake(alice: User) -> None:
    with pytest.raises(ValueError, match="401"):
        EncryptedCommunicator(PlainEcho.as_asgi(), "/", ticket=error_response(401, "login", "?"))
    with pytest.raises(ValueError, match=r"gcrypt\.v1"):
        EncryptedCommunicator(
            PlainEcho.as_asgi(), "/", profile="gcrypt.v1", ticket=ticket_response(alice)
        )
