from __future__ import annotations

import asyncio
import logging
from importlib import import_module
from typing import Any

import pytest
from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.core.exceptions import ImproperlyConfigured
from django.urls import path

from gcrypt_channels import GcryptMiddleware
from gcrypt_channels.connection.connection import Connection
from gcrypt_channels.connection.facade import connection_of
from gcrypt_channels.crypto.classic import Crypt
from gcrypt_channels.exceptions import NoProfile
from gcrypt_channels.keys import Keyring
from gcrypt_channels.middleware import negotiate
from gcrypt_channels.protocol.events import Accepted, Bytes, Closed, Text
from gcrypt_channels.protocol.profiles import V1, V2, V3, Profile, secure_profiles
from tests.consumers import PlainEcho
from tests.wire import KEYRING, Wire, resolver


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """The smallest application that uses its connection."""
    while (event := await receive())["type"] != "websocket.disconnect":
        if event["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        else:
            await send({**event, "type": "websocket.send"})


def wire(inner: Any = echo, *, subprotocols: Any = (V2,), **options: Any) -> Wire:
    options = {"resolver": resolver, "seal_outbound": True, **options}
    return Wire(GcryptMiddleware(inner, **options), subprotocols=subprotocols)


# Negotiation


@pytest.mark.parametrize(
    ("offered", "enabled", "expected"),
    [
        ([V2], [V2, V1], V2),
        ([V1], [V2, V1], V1),
        ([V1, V2], [V2, V1], V2),
        ([V2, V1], [V1, V2], V1),
        ([], [V2, V1], V1),
        (["chat"], [V2, V1], V1),
        ([V2, "gcrypt.kid.0011223344556677"], [V2], V2),
    ],
)
def test_the_servers_preference_decides(
    offered: list[str], enabled: list[Profile], expected: Profile
) -> None:
    assert negotiate(offered, enabled) == expected


@pytest.mark.parametrize(
    ("offered", "enabled"),
    [([], [V2]), (["chat"], [V2]), ([V1], [V2]), ([V2], [V1]), (["gcrypt.v4"], [V2, V1])],
)
def test_nothing_acceptable_is_no_profile(offered: list[str], enabled: list[Profile]) -> None:
    with pytest.raises(NoProfile):
        negotiate(offered, enabled)


def test_v3_is_selected_where_it_is_preferred_and_v2_without_it() -> None:
    pytest.importorskip("cryptography.hazmat.primitives.asymmetric.mlkem")
    assert negotiate([V3, V2], [V3, V2]) == negotiate([V2, V3], [V3, V2]) == V3
    assert negotiate([V3, V2], [V2, V3]) == negotiate([V2], [V3, V2]) == V2


@pytest.mark.usefixtures("no_ml_kem")
def test_without_ml_kem_v3_is_skipped() -> None:
    assert negotiate([V3, V2], [V3, V2]) == V2
    with pytest.raises(NoProfile):
        negotiate([V3], [V3, V2])


@pytest.mark.usefixtures("no_ml_kem")
@pytest.mark.parametrize("options", [{}, {"profiles": [V3]}])
def test_without_ml_kem_v3_alone_stops_the_server_at_its_start(settings: Any, options: Any) -> None:
    GcryptMiddleware(echo)
    settings.GCRYPT = {"PROFILES": [V2] if options else [V3]}
    with pytest.raises(ImproperlyConfigured, match="ML-KEM-768"):
        GcryptMiddleware(echo, **options)


@pytest.mark.parametrize("offered", [[], ["chat"], [V1], ["gcrypt.v4", "chat"]])
async def test_a_refused_profile_is_accepted_first_and_closed_with_4406(
    offered: list[str],
) -> None:
    server = wire(profiles=[V2], subprotocols=offered)
    await server.end()
    accept, close = server.sent
    assert accept["type"] == "websocket.accept"
    assert accept["subprotocol"] == (offered[0] if offered else None)
    assert close["code"] == 4406


async def test_the_profiles_of_the_settings_are_the_default(settings: Any) -> None:
    settings.GCRYPT = {"PROFILES": [V1]}
    server = wire()
    await server.end()
    assert server.close["code"] == 4406


# The profiles with a handshake


async def test_hello_follows_the_accept_at_once_and_names_the_kid() -> None:
    server = wire()
    await server.until(2)
    assert server.sent[0] == {"type": "websocket.accept", "subprotocol": V2}
    assert server.sent[1]["bytes"][:9] == b"\x01" + KEYRING.session_keys[0].kid
    server.leave()
    await server.end()


async def test_the_application_starts_behind_the_handshake_and_not_before() -> None:
    started: list[Any] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        started.append(scope)
        await echo(scope, receive, send)

    server = wire(inner)
    await server.until(2)
    assert not started
    await server.handshake(["tea", "coffee"])
    await server.until(3)
    [scope] = started
    assert scope["subprotocols"] == ["tea", "coffee"]
    assert isinstance(connection_of(scope["gcrypt"]), Connection)
    assert scope["gcrypt"].profile == V2
    assert server.opened(2) == [Accepted(None)]
    server.send("text")
    server.send(b"bytes")
    await server.until(5)
    assert server.opened(3) == [Text("text"), Bytes(b"bytes")]
    server.leave()
    await server.end()


async def test_a_key_named_by_the_client_is_used_when_it_is_an_older_one(settings: Any) -> None:
    settings.GCRYPT_PASSPHRASE = ["n" * 40, "o" * 40]
    rotating = Keyring.derive("someone")

    async def resolve(scope: Any) -> Keyring:
        return rotating

    primary, older = rotating.session_keys
    for offered, expected in [
        ([V2], primary),
        ([V2, f"gcrypt.kid.{older.kid.hex()}"], older),
        ([f"gcrypt.kid.{older.kid.hex()}", V2], older),
        ([V2, f"gcrypt.kid.{bytes(8).hex()}"], primary),
        ([V2, f"gcrypt.kid.{older.kid.hex().upper()}"], primary),
        ([V2, "gcrypt.kid."], primary),
    ]:
        server = wire(subprotocols=offered, resolver=resolve)
        await server.until(2)
        assert server.sent[1]["bytes"][1:9] == expected.kid, offered
        server.leave()
        await server.end()


async def _not_reached(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("the application was started")


@pytest.mark.parametrize(
    "frames", [["plaintext"], [b""], [b"\x02"], [b"\x02" + b"?" * 100], [b"\x10" + b"?" * 32]]
)
async def test_a_wrong_reply_closes_with_4400_and_starts_nothing(frames: Any) -> None:
    server = wire(_not_reached)
    await server.until(2)
    server.put_frames(frames)
    await server.end()
    assert server.close["code"] == 4400


async def test_a_client_that_does_not_answer_is_closed_with_4408(settings: Any) -> None:
    settings.GCRYPT = {"HANDSHAKE_TIMEOUT": 0.05}
    server = wire(_not_reached)
    await server.end()
    assert server.close["code"] == 4408


async def test_a_client_that_leaves_during_the_handshake_starts_nothing() -> None:
    server = wire(_not_reached)
    await server.until(2)
    server.leave()
    await server.end()
    assert [event["type"] for event in server.sent] == ["websocket.accept", "websocket.send"]


async def test_a_client_that_leaves_at_once_starts_nothing() -> None:
    async def gone() -> dict[str, Any]:
        return {"type": "websocket.disconnect", "code": 1006}

    async def send(event: Any) -> None:
        raise AssertionError("something was sent")

    scope = {"type": "websocket", "subprotocols": [V2]}
    await GcryptMiddleware(_not_reached)(scope, gone, send)


async def test_a_message_over_the_limit_closes_with_an_authentic_1009(settings: Any) -> None:
    settings.GCRYPT = {"MAX_MESSAGE_SIZE": 1024}
    server = wire()
    await server.open()
    server.client.peer_max_message = 10_000
    server.send("x" * 1025)
    await server.end()
    assert server.opened(3) == [Closed(1009, "message too big")]
    assert server.close["code"] == 1009


@pytest.mark.parametrize("profile", [*secure_profiles(), V1])
async def test_a_server_that_refuses_a_close_code_gets_another(profile: str) -> None:
    import_module("daphne.ws_protocol")  # which is what makes a server suspicious

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await scope["gcrypt"].close(1011, "internal error")

    middleware = GcryptMiddleware(inner, resolver=resolver, seal_outbound=True)

    async def like_daphne(scope: Any, receive: Any, send: Any) -> None:
        async def picky(event: Any) -> None:
            if event["type"] == "websocket.close" and 1000 < event["code"] < 3000:
                raise ValueError("invalid close code")
            await send(event)

        await middleware(scope, receive, picky)

    server = Wire(like_daphne, subprotocols=[profile])
    if profile != V1:
        await server.handshake()
    await server.end()
    assert server.close["code"] == 4011
    if profile != V1:
        assert server.opened(2) == [Accepted(None), Closed(1011, "internal error")]


async def test_the_messages_before_a_bad_frame_are_answered_and_none_behind_it() -> None:
    received: list[Any] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        async def watched() -> Any:
            event = await receive()
            received.append(event)
            return event

        await echo(scope, watched, send)

    server = wire(inner)
    await server.open()
    server.send("good")
    [frame] = server.client.seal("altered")
    server.put_frames([frame[:-1] + bytes([frame[-1] ^ 1])])
    server.send("behind")
    await server.end()
    assert [event["type"] for event in received] == [
        "websocket.connect",
        "websocket.receive",
        "websocket.disconnect",
    ]
    assert received[-1]["code"] == 4400
    assert server.close == {"type": "websocket.close", "code": 4400, "reason": ""}


async def test_the_clients_authenticated_close_tells_code_and_reason() -> None:
    received: list[Any] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] != "websocket.disconnect":
            pass
        received.append(event)

    server = wire(inner)
    await server.open()
    server.put_frames(server.client.seal_close(3001, "done"))
    server.leave(1005)
    await server.end()
    [event] = received
    assert (event["code"], event["reason"]) == (3001, "done")


# gcrypt.v1


@pytest.mark.parametrize(
    ("offered", "named"), [([V1], V1), ([], None), (["chat"], None), ([V1, "chat"], V1)]
)
async def test_a_classic_client_counts(offered: list[str], named: str | None) -> None:
    server = wire(subprotocols=offered)
    await server.until(1)
    assert server.sent[0]["subprotocol"] == named
    crypt = Crypt(KEYRING.passphrases[0])
    server.put_frames([crypt.encrypt({"id": 1})])
    await server.until(2)
    assert crypt.decrypt(server.sent[1]["text"]) == {"id": 1}
    server.leave()
    await server.end()


async def test_a_classic_client_of_the_older_passphrase_is_answered_under_it(
    settings: Any,
) -> None:
    settings.GCRYPT_SHARED_PASSPHRASE = ["n" * 40, "o" * 40]
    server = wire(subprotocols=[V1], profiles=[V1], resolver="shared")
    await server.until(1)
    crypt = Crypt("o" * 40)
    server.put_frames([crypt.encrypt("hello")])
    await server.until(2)
    assert crypt.decrypt(server.sent[1]["text"]) == "hello"
    server.leave()
    await server.end()


async def test_a_classic_client_without_a_subprotocol_may_choose_among_the_applications() -> None:
    async def inner(scope: Any, receive: Any, send: Any) -> None:
        assert scope["subprotocols"] == ["chat"]
        await send({"type": "websocket.accept", "subprotocol": "chat"})

    server = wire(inner, subprotocols=["chat"])
    await server.end()
    assert server.sent[0]["subprotocol"] == "chat"


@pytest.mark.parametrize("frame", ["{}", '{"id": 1}', "plaintext", "", b"bytes"])
async def test_every_classic_failure_looks_the_same(frame: Any) -> None:
    server = wire(subprotocols=[V1])
    await server.until(1)
    server.put_frames([frame])
    await server.end()
    assert server.close == {"type": "websocket.close", "code": 4400, "reason": "invalid frame"}


# Whose key


async def test_a_resolver_that_answers_none_closes_with_4401() -> None:
    async def nobody(scope: Any) -> None:
        return None

    server = wire(_not_reached, resolver=nobody)
    await server.end()
    assert server.sent[0] == {"type": "websocket.accept", "subprotocol": V2}
    assert server.close["code"] == 4401


async def test_a_resolver_that_fails_closes_with_1013_and_logs_the_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def down(scope: Any) -> None:
        raise OSError("the session store is down")

    server = wire(_not_reached, resolver=down)
    await server.end()
    assert server.close["code"] == 1013
    [record] = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert record.exc_info is not None


async def test_a_resolver_that_is_misused_is_the_projects_error() -> None:
    async def wrong(scope: Any) -> int:
        raise ImproperlyConfigured("of no use")

    server = wire(_not_reached, resolver=wrong)
    with pytest.raises(ImproperlyConfigured):
        await server.end()


@pytest.mark.django_db(transaction=True)
async def test_a_synchronous_resolver_may_ask_the_database() -> None:
    def resolve(scope: Any) -> str:
        return f"a passphrase for {User.objects.count()} users"

    server = wire(resolver=resolve)
    await server.until(2)
    server.leave()
    await server.end()


@pytest.mark.django_db(transaction=True)
async def test_anonymous_visitors_get_no_key() -> None:
    server = Wire(AuthMiddlewareStack(GcryptMiddleware(_not_reached)))
    await server.end()
    assert server.close["code"] == 4401


async def test_without_a_session_in_the_scope_the_log_says_what_is_missing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = Wire(GcryptMiddleware(_not_reached))
    await server.end()
    assert server.close["code"] == 4401
    assert "AuthMiddlewareStack" in caplog.text


# Outbound


@pytest.mark.parametrize("profile", [*secure_profiles(), V1])
async def test_plaintext_from_a_consumer_is_refused_with_1011_and_an_error(
    profile: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def leaking(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "canary"})
        await send({"type": "websocket.send", "bytes": b"canary"})
        assert (await receive())["code"] == 1011

    server = wire(leaking, subprotocols=[profile], seal_outbound=False)
    if profile != V1:
        await server.handshake()
    await server.end()
    assert server.close["code"] == 1011
    assert "canary" not in repr(server.sent)
    [record] = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert "EncryptedJsonConsumer" in record.getMessage()
    assert "canary" not in record.getMessage()


async def test_plaintext_from_a_thread_with_a_loop_of_its_own_is_refused_as_well() -> None:
    async def leaking(scope: Any, receive: Any, send: Any) -> None:
        def leak() -> None:
            asyncio.run(send({"type": "websocket.send", "text": "canary"}))

        await asyncio.get_running_loop().run_in_executor(None, leak)

    server = wire(leaking, seal_outbound=False)
    await server.handshake()
    await server.end()
    assert server.opened(2) == [Closed(1011, "internal error")]


@pytest.mark.django_db(transaction=True)
async def test_seal_outbound_serves_a_consumer_that_knows_nothing() -> None:
    server = wire(PlainEcho.as_asgi(), seal_outbound=True)
    await server.open()
    server.send("text")
    server.send(b"bytes")
    await server.until(5)
    assert server.opened(3) == [Text("text"), Bytes(b"bytes")]
    server.leave()
    await server.end()


async def test_an_http_response_cannot_be_sent_over_the_websocket() -> None:
    async def inner(scope: Any, receive: Any, send: Any) -> None:
        assert scope["extensions"] == {"tls": {}}
        await send({"type": "websocket.http.response.start", "status": 403})

    application = GcryptMiddleware(inner, resolver=resolver, seal_outbound=True)

    async def with_extensions(scope: Any, receive: Any, send: Any) -> None:
        extensions: Any = {"websocket.http.response": {}, "tls": {}}
        await application({**scope, "extensions": extensions}, receive, send)

    server = Wire(with_extensions)
    await server.handshake()
    with pytest.raises(ValueError, match="http"):
        await server.end()
    assert server.close["code"] == 1011


# The application's end


async def test_an_application_that_returns_closes_the_connection() -> None:
    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})

    server = wire(inner)
    await server.handshake()
    await server.end()
    assert server.opened(2) == [Accepted(None), Closed(1000, "")]
    assert server.close["code"] == 1000


async def test_an_exception_of_the_application_propagates_and_closes_with_1011() -> None:
    async def inner(scope: Any, receive: Any, send: Any) -> None:
        raise ZeroDivisionError

    server = wire(inner)
    await server.handshake()
    with pytest.raises(ZeroDivisionError):
        await server.end()
    assert server.opened(2) == [Closed(1011, "internal error")]
    assert server.close == {"type": "websocket.close", "code": 1011, "reason": ""}


async def test_a_cancelled_application_ends_with_an_authentic_1012() -> None:
    server = wire()
    await server.open()
    server.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await server.end()
    assert server.opened(3) == [Closed(1012, "service restart")]
    assert server.close["code"] == 1012


# Around it


@pytest.mark.parametrize("kind", ["http", "lifespan", "channel"])
async def test_other_scopes_pass_untouched(kind: str) -> None:
    passed: list[Any] = []

    async def inner(*arguments: Any) -> None:
        passed.extend(arguments)

    scope, receive, send = {"type": kind, "path": "/"}, object(), object()
    await GcryptMiddleware(inner)(scope, receive, send)  # type: ignore[arg-type]
    assert passed == [scope, receive, send]
    assert passed[0] is scope
    assert scope == {"type": kind, "path": "/"}


async def test_the_servers_scope_is_not_changed() -> None:
    server = wire()
    before = dict(server.scope)
    await server.open()
    assert server.scope == before
    server.leave()
    await server.end()


def test_one_middleware_serves_many_connections_without_keeping_any() -> None:
    async def serve() -> None:
        middleware = GcryptMiddleware(echo, resolver=resolver, seal_outbound=True)
        before = dict(vars(middleware))
        servers = [Wire(middleware) for _ in range(10)]
        for number, server in enumerate(servers):
            await server.open()
            server.send(f"to {number}")
        for number, server in enumerate(servers):
            await server.until(4)
            assert server.opened(3) == [Text(f"to {number}")]
            server.leave()
            await server.end()
        assert vars(middleware) == before

    asyncio.run(serve())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"GCRYPT_PASSPHRASE": None}, "GCRYPT_PASSPHRASE"),
        ({"GCRYPT_PASSPHRASE": "short"}, "shorter than 16"),
        ({"GCRYPT": {"PROFILE": [V2]}}, "unknown key 'PROFILE'"),
        ({"GCRYPT": {"ANONYMOUS": 1}}, "ANONYMOUS"),
        ({"GCRYPT": {"PASSPHRASE_RESOLVER": "nowhere.at_all"}}, "nowhere.at_all"),
    ],
)
def test_wrong_settings_stop_the_server_at_its_start(
    settings: Any, changes: dict[str, Any], message: str
) -> None:
    for name, value in changes.items():
        setattr(settings, name, value)
    with pytest.raises(ImproperlyConfigured, match=message):
        GcryptMiddleware(echo)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"profiles": []}, "profiles="),
        ({"profiles": ["gcrypt.v4"]}, "profiles="),
        ({"resolver": "shared"}, "'shared'"),
        ({"resolver": "shared", "profiles": [V1, V2]}, "'shared'"),
        ({"resolver": "shared", "profiles": [V1]}, "GCRYPT_SHARED_PASSPHRASE"),
    ],
)
def test_wrong_arguments_stop_the_server_at_its_start(options: Any, message: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=message):
        GcryptMiddleware(echo, **options)


def test_the_shared_resolver_of_the_settings_may_be_narrowed_by_the_arguments(
    settings: Any,
) -> None:
    settings.GCRYPT_SHARED_PASSPHRASE = "the passphrase of a g-crypt page"
    settings.GCRYPT = {"PASSPHRASE_RESOLVER": "shared", "PROFILES": [V2]}
    with pytest.raises(ImproperlyConfigured, match="'shared'"):
        GcryptMiddleware(echo)
    GcryptMiddleware(echo, profiles=[V1])
    GcryptMiddleware(echo, resolver="session")


# What the log says of those that were refused, and what is refused at the start


def refusals(caplog: pytest.LogCaptureFixture) -> str:
    [line] = [each.getMessage() for each in caplog.records if "with" in each.getMessage()]
    return line


async def test_a_plain_websocket_is_told_from_an_encrypted_one_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    await wire(profiles=[V2], subprotocols=["chat"]).end()
    line = refusals(caplog)
    assert "refused with 4406: the client offered no profile" in line
    assert "EncryptedWebSocket" in line
    assert V2 in line


async def test_the_log_names_the_profiles_that_were_offered_and_those_there_are(
    caplog: pytest.LogCaptureFixture,
) -> None:
    await wire(profiles=[V2], subprotocols=["gcrypt.v9\n", "x" * 999, "gcrypt." + "y" * 999]).end()
    line = refusals(caplog)
    assert f"{V2} can be used here" in line
    assert r"gcrypt.v9\n" in line
    assert len(line) < 400


async def nobody(scope: Any) -> None:
    return None


@pytest.mark.parametrize(
    ("resolver", "more", "cause"),
    [
        (nobody, {}, "the passphrase resolver returned None"),
        ("session", {}, "put AuthMiddlewareStack around GcryptMiddleware"),
        ("session", {"session": SessionStore()}, "nobody is logged in"),
    ],
)
@pytest.mark.django_db(transaction=True)
async def test_every_4401_names_its_cause_in_the_log(
    resolver: Any, more: dict[str, Any], cause: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="gcrypt_channels.middleware")
    server = wire(resolver=resolver)
    server.scope.update(more)
    await server.end()
    assert server.close["code"] == 4401
    assert server.close["reason"] == ""
    assert f"refused with 4401: {cause}" in refusals(caplog).replace("there is no session: ", "")


async def test_a_1013_of_the_resolver_names_its_cause_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def down(scope: Any) -> Any:
        raise OSError("no route to the store")

    server = wire(resolver=down)
    await server.end()
    assert server.close["code"] == 1013
    assert "refused with 1013: the passphrase resolver" in caplog.text
    assert "OSError" in caplog.text


async def test_a_1011_names_its_cause_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("the canary of a payload")

    server = wire(broken)
    await server.handshake()
    with pytest.raises(LookupError):
        await server.end()
    assert "closed with 1011: the application raised LookupError." in refusals(caplog)


def test_without_the_django_application_the_middleware_does_not_start(settings: Any) -> None:
    settings.INSTALLED_APPS = [each for each in settings.INSTALLED_APPS if "gcrypt" not in each]
    with pytest.raises(ImproperlyConfigured, match="not in INSTALLED_APPS"):
        GcryptMiddleware(echo)


def test_one_middleware_does_not_start_around_another() -> None:
    routed: Any = GcryptMiddleware(echo)
    inner: Any = AuthMiddlewareStack(URLRouter([path("ws/", routed)]))
    with pytest.raises(ImproperlyConfigured, match="One GcryptMiddleware is inside another"):
        GcryptMiddleware(ProtocolTypeRouter({"websocket": inner}))


async def test_one_middleware_that_a_wrapper_hides_in_another_is_a_1011() -> None:
    inner = GcryptMiddleware(echo, resolver=resolver)

    async def wrapper(scope: Any, receive: Any, send: Any) -> None:
        await inner(scope, receive, send)

    server = wire(wrapper)
    await server.handshake()
    with pytest.raises(ImproperlyConfigured, match="One GcryptMiddleware is inside another"):
        await server.end()
    assert server.close["code"] == 1011


def test_a_weak_passphrase_is_warned_of_once_in_the_log(
    settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.GCRYPT_PASSPHRASE = "weak, but long enough to start with"
    GcryptMiddleware(echo)
    assert caplog.records == []
    settings.GCRYPT_PASSPHRASE = "sixteen characters, and a few"
    for _ in range(3):
        GcryptMiddleware(echo)
    assert caplog.text.count("GCRYPT_PASSPHRASE is weak") == 1
    assert settings.GCRYPT_PASSPHRASE not in caplog.text


# An application that does not decide


@pytest.mark.parametrize("profile", [V1, V2])
async def test_an_application_that_does_not_accept_is_closed_with_4408(
    profile: Profile, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gcrypt_channels.connection.connection.ACCEPT_TIMEOUT", 0.05)
    monkeypatch.setattr("gcrypt_channels.connection.connection.APPLICATION_TIMEOUT", 0.05)
    ended = asyncio.Event()

    async def undecided(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    server = wire(undecided, subprotocols=[profile])
    if profile == V2:
        await server.handshake()
    await server.end()
    assert server.close["code"] == 4408
    assert ended.is_set()
    assert "closed with 4408: the application neither accepted nor closed" in caplog.text


async def test_an_application_that_accepted_has_all_the_time(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gcrypt_channels.connection.connection.ACCEPT_TIMEOUT", 0.05)
    server = wire()
    await server.open()
    passed = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.1, passed.set_result, None)  # behind the time-out
    await passed
    server.send("still here")
    await server.until(4)
    assert server.opened(3) == [Text("still here")]
    server.leave()
    await server.end()
    assert caplog.records == []
