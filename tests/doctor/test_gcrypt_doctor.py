from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from channels.auth import AuthMiddlewareStack
from channels.consumer import AsyncConsumer
from channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer
from channels.layers import InMemoryChannelLayer
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator, OriginValidator
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application
from django.core.cache.backends.locmem import LocMemCache
from django.core.checks import ERROR, INFO, WARNING, CheckMessage, Info
from django.core.management import CommandError, call_command
from django.urls import path, re_path

from gcrypt_channels import EncryptedJsonConsumer, GcryptMiddleware
from gcrypt_channels.doctor import examine
from tests.channel_layers import REDIS_LAYERS, core, sealed
from tests.consumers import AsyncEchoMixinFirst, PlainEcho, SyncEchoMixinLast
from tests.servers import Redis

pytestmark = pytest.mark.django_db(transaction=True)

application: Any = None
"""What ASGI_APPLICATION names; each test sets its own."""


def routes(*endpoints: Any) -> URLRouter:
    patterns = [path(f"ws/{number}/", each) for number, each in enumerate(endpoints)]
    return URLRouter(patterns)


def stack(inner: Any) -> Any:
    return AuthMiddlewareStack(GcryptMiddleware(inner))


def deployed(inner: Any) -> ProtocolTypeRouter:
    return ProtocolTypeRouter(
        {"http": pages(), "websocket": OriginValidator(inner, ["example.org"])}
    )


def pages() -> Any:
    """What answers pages, with the static files that daphne alone does not serve."""
    return ASGIStaticFilesHandler(get_asgi_application())


@pytest.fixture(autouse=True)
def site(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A project with nothing to find fault with."""
    settings.DEBUG = True
    settings.ASGI_APPLICATION = f"{__name__}.application"
    use(monkeypatch, deployed(stack(routes(AsyncEchoMixinFirst.as_asgi()))))
    return settings


def use(monkeypatch: pytest.MonkeyPatch, chosen: Any) -> None:
    monkeypatch.setattr(f"{__name__}.application", chosen)


def faults() -> list[CheckMessage]:
    return [each for each in examine() if each.level > INFO]


def the_fault(subject: str) -> CheckMessage:
    [found] = faults()
    assert found.obj == subject
    assert found.hint
    return found


# The command


def doctor() -> tuple[str, str]:
    """What the command prints, and how it fails."""
    printed = StringIO()
    try:
        call_command("gcrypt_doctor", stdout=printed, no_color=True)
    except CommandError as error:
        return printed.getvalue(), str(error)
    return printed.getvalue(), ""


def test_a_healthy_project_gets_a_table_of_what_is_well() -> None:
    printed, error = doctor()
    assert error == ""
    lines = [line.split(maxsplit=2) for line in printed.splitlines() if line[0] != " "]
    assert [line[1] for line in lines if line[0] == "ok"] == [
        "settings",
        "key",
        "sessions",
        "channel",
        "/ws/0/",
        "script",
        "requests",
    ]
    assert {line[0] for line in lines} == {"ok"}


def test_a_failure_is_told_with_what_to_do_and_by_the_exit_status(site: Any) -> None:
    site.GCRYPT_PASSPHRASE = "short"
    printed, error = doctor()
    assert error == "1 error."
    assert "error    E002" in printed
    assert "→ Set GCRYPT_PASSPHRASE to what 'manage.py gcrypt_keygen' prints" in printed


def test_a_warning_alone_is_no_failure(site: Any) -> None:
    site.GCRYPT_PASSPHRASE = "p" * 40
    printed, error = doctor()
    assert "warning  W001" in printed
    assert error == ""


def test_a_silenced_check_is_silent_here_as_well(site: Any) -> None:
    site.GCRYPT_PASSPHRASE = "p" * 40
    site.SILENCED_SYSTEM_CHECKS = ["gcrypt_channels.W001"]
    printed, _ = doctor()
    assert "W001" not in printed


def test_no_secret_is_printed(site: Any) -> None:
    printed, _ = doctor()
    assert site.GCRYPT_PASSPHRASE not in printed
    assert site.SECRET_KEY not in printed


def test_every_problem_of_the_settings_is_told_and_the_rest_still_examined(site: Any) -> None:
    site.GCRYPT = {"PROFILES": [], "CHANNEL_LAYER": 3, "PASSPHRASE_RESOLVER": 3}
    found = faults()
    assert [each.id for each in found] == ["gcrypt_channels.E005"] * 3
    assert any(each.obj == "sessions" for each in examine())


# Settings and services


def test_a_rotation_is_shown(site: Any) -> None:
    site.GCRYPT_PASSPHRASE = [site.GCRYPT_PASSPHRASE, "an older one that was strong enough, too"]
    assert "2 passphrases" in next(examine()).msg


@pytest.mark.usefixtures("no_ml_kem")
def test_a_profile_that_is_skipped_is_shown(site: Any) -> None:
    site.GCRYPT = {}
    shown = next(examine()).msg
    assert "gcrypt.v3 (skipped: no ML-KEM-768), gcrypt.v2;" in shown


def test_a_missing_key_endpoint_is_a_failure(site: Any) -> None:
    site.ROOT_URLCONF = "gcrypt_channels.urls"  # not under its namespace
    found = the_fault("key endpoint")
    assert found.level is ERROR
    assert "include(" in str(found.hint)


@pytest.mark.parametrize("engine", ["db", "cached_db", "cache", "file", "signed_cookies"])
def test_every_session_engine_of_django_is_found_to_work(
    site: Any, engine: str, tmp_path: Any
) -> None:
    site.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    site.SESSION_FILE_PATH = str(tmp_path)
    subjects = {each.obj for each in examine() if each.level is INFO}
    assert "sessions" in subjects
    assert ("cache" in subjects) == (engine in ("cache", "cached_db"))
    assert not Session.objects.exists()
    assert not list(tmp_path.iterdir())


def test_a_session_store_that_forgets_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SessionStore, "save", lambda self: None)
    monkeypatch.setattr(SessionStore, "session_key", "lost")
    found = the_fault("sessions")
    assert found.level is ERROR
    assert "not found again" in found.msg


def test_a_session_store_that_cannot_be_reached_is_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def down(self: Any) -> None:
        raise OSError("no such table: django_session")

    monkeypatch.setattr(SessionStore, "save", down)
    found = the_fault("sessions")
    assert "OSError: no such table" in found.msg
    assert "migrate" in str(found.hint)


def test_a_cache_that_forgets_is_a_failure(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    site.SESSION_ENGINE = "django.contrib.sessions.backends.cached_db"
    monkeypatch.setattr(LocMemCache, "get", lambda self, key, default=None, **more: default)
    found = the_fault("cache")
    assert found.level is ERROR


@pytest.mark.parametrize("layer", REDIS_LAYERS)
def test_a_redis_layer_is_found_to_work(site: Any, layer: Any, redis: Redis) -> None:
    site.CHANNEL_LAYERS = {"default": sealed(layer(redis.url))}
    found = {each.obj: each for each in examine()}
    assert found["channel layer"].level is INFO
    assert layer(redis.url)["BACKEND"] in found["channel layer"].msg


def test_a_redis_layer_that_cannot_be_reached_is_a_failure(site: Any, closed_port: int) -> None:
    site.CHANNEL_LAYERS = {"default": sealed(core(f"redis://127.0.0.1:{closed_port}/0"))}
    assert the_fault("channel layer").level is ERROR


def test_a_layer_that_carries_plaintext_is_a_warning(site: Any, redis: Redis) -> None:
    site.CHANNEL_LAYERS = {"default": core(redis.url)}
    [found] = faults()
    assert found.id == "gcrypt_channels.W009"
    assert found.level is WARNING


def test_a_redis_client_that_cuts_quiet_sockets_is_a_warning_behind_the_seal_as_well(
    site: Any, redis: Redis
) -> None:
    config = core(redis.url)
    config["CONFIG"]["hosts"][0]["socket_timeout"] = 5  # the default of redis-py 8
    site.CHANNEL_LAYERS = {"default": sealed(config)}
    [found] = faults()
    assert found.id == "gcrypt_channels.W008"
    assert "socket_timeout" in str(found.hint)


def test_a_sealed_layer_that_is_put_together_wrongly_is_a_failure(site: Any) -> None:
    site.CHANNEL_LAYERS = {"default": sealed(sealed(core("")))}
    assert {each.id or each.obj for each in faults()} == {"gcrypt_channels.E011", "channel layer"}
    assert all(each.level is ERROR for each in faults())


def test_a_layer_that_cannot_be_imported_is_a_failure(site: Any) -> None:
    site.CHANNEL_LAYERS = {"default": {"BACKEND": "nowhere.Layer"}}
    assert the_fault("channel layer").level is ERROR


def test_a_layer_that_changes_what_it_carries_is_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def changed(self: Any, channel: str) -> Any:
        return {"type": "gcrypt.doctor", "data": "something else"}

    monkeypatch.setattr(InMemoryChannelLayer, "receive", changed)
    assert the_fault("channel layer").level is ERROR


# Routing


def test_without_an_application_the_routing_is_not_looked_at(site: Any) -> None:
    del site.ASGI_APPLICATION
    assert the_fault("routing").level is WARNING


@pytest.mark.parametrize("name", ["tests.nowhere.application", f"{__name__}.nothing"])
def test_an_application_that_cannot_be_loaded_is_a_failure(site: Any, name: str) -> None:
    site.ASGI_APPLICATION = name
    assert the_fault("routing").level is ERROR


def test_an_application_without_websockets_is_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use(monkeypatch, ProtocolTypeRouter({"http": pages()}))
    assert the_fault("routing").level is WARNING


def test_consumers_in_nested_routers_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    inner: Any = routes(AsyncEchoMixinFirst.as_asgi(), SyncEchoMixinLast.as_asgi())
    others: Any = routes(PlainEcho.as_asgi())
    patterns: list[Any] = [re_path(r"^app/", inner), path("", others)]
    use(monkeypatch, deployed(stack(URLRouter(patterns))))
    found = [each for each in examine() if str(each.obj).startswith("/")]
    assert [each.obj for each in found] == ["/app/ws/0/", "/app/ws/1/", "/ws/0/"]


def test_a_consumer_without_the_mixin_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, deployed(stack(routes(AsyncEchoMixinFirst.as_asgi(), PlainEcho.as_asgi()))))
    found = the_fault("/ws/1/")
    assert found.level is ERROR
    assert "PlainEcho sends plaintext" in found.msg


def test_a_consumer_without_the_mixin_is_well_where_outbound_is_sealed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sealing = GcryptMiddleware(routes(PlainEcho.as_asgi()), seal_outbound=True)
    use(monkeypatch, deployed(AuthMiddlewareStack(sealing)))
    assert faults() == []


def test_a_consumer_with_the_mixin_and_without_the_middleware_is_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use(monkeypatch, deployed(AuthMiddlewareStack(routes(AsyncEchoMixinFirst.as_asgi()))))
    found = the_fault("/ws/0/")
    assert found.level is ERROR
    assert "no GcryptMiddleware" in found.msg


def test_a_consumer_that_is_not_encrypted_at_all_is_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use(monkeypatch, deployed(routes(PlainEcho.as_asgi())))
    assert the_fault("/ws/0/").level is WARNING


def test_authentication_inside_the_encryption_is_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inner: Any = AuthMiddlewareStack(routes(AsyncEchoMixinFirst.as_asgi()))
    use(monkeypatch, deployed(GcryptMiddleware(inner)))
    found = the_fault("/ws/0/")
    assert found.level is ERROR
    assert "AuthMiddlewareStack" in found.msg


def test_a_resolver_of_the_projects_own_needs_no_authentication(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inner = routes(AsyncEchoMixinFirst.as_asgi())
    use(monkeypatch, deployed(GcryptMiddleware(inner, resolver=lambda scope: "its own")))
    assert faults() == []


@pytest.mark.parametrize(
    "around",
    [
        lambda inner: inner,
        lambda inner: OriginValidator(inner, ["*"]),
    ],
)
def test_origins_that_are_not_validated_are_a_warning(
    monkeypatch: pytest.MonkeyPatch, around: Any
) -> None:
    around = around(stack(routes(AsyncEchoMixinFirst.as_asgi())))
    use(monkeypatch, ProtocolTypeRouter({"http": pages(), "websocket": around}))
    found = the_fault("/ws/0/")
    assert found.level is WARNING
    assert "Origin" in found.msg


def test_channels_own_validator_is_recognized(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    site.ALLOWED_HOSTS = ["example.org"]
    validated = AllowedHostsOriginValidator(stack(routes(AsyncEchoMixinFirst.as_asgi())))
    use(monkeypatch, ProtocolTypeRouter({"http": pages(), "websocket": validated}))
    assert faults() == []


def test_an_application_that_is_no_consumer_is_left_to_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def endpoint(scope: Any, receive: Any, send: Any) -> None:
        pass

    use(monkeypatch, deployed(stack(endpoint)))
    [found] = [each for each in examine() if each.obj == "/"]
    assert found == Info("endpoint is encrypted", obj="/")


def test_routes_are_shown_as_people_write_them(monkeypatch: pytest.MonkeyPatch) -> None:
    patterns: list[Any] = [
        re_path(r"^ws/chat/(?P<room>[\w.-]+)/$", AsyncEchoMixinFirst.as_asgi()),  # type: ignore[arg-type]
        re_path(r"ws/data\.json\Z", AsyncEchoMixinFirst.as_asgi()),  # type: ignore[arg-type]
    ]
    use(monkeypatch, deployed(stack(URLRouter(patterns))))
    shown = [str(each.obj) for each in examine() if str(each.obj).startswith("/")]
    assert shown == ["/ws/chat/<room>/", "/ws/data.json"]


def test_one_middleware_inside_another_is_a_failure_without_a_traceback(site: Any) -> None:
    site.ASGI_APPLICATION = "tests.doctor.doubled.application"
    found = the_fault("routing")
    assert found.level is ERROR
    assert "One GcryptMiddleware is inside another" in found.msg
    assert "\n" not in found.msg


def test_a_consumer_class_that_is_routed_itself_is_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use(monkeypatch, deployed(stack(routes(AsyncEchoMixinFirst))))
    found = the_fault("/ws/0/")
    assert found.level is ERROR
    assert "AsyncEchoMixinFirst.as_asgi()" in str(found.hint)


def test_a_consumer_that_accepts_nobody_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    class Handlerless(AsyncConsumer):
        pass

    sealing = GcryptMiddleware(routes(Handlerless.as_asgi()), seal_outbound=True)
    use(monkeypatch, deployed(AuthMiddlewareStack(sealing)))
    found = the_fault("/ws/0/")
    assert found.level is ERROR
    assert "websocket_connect" in found.msg


def test_a_handler_of_the_other_kind_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Asynchronous(EncryptedJsonConsumer, AsyncWebsocketConsumer):
        def connect(self) -> None:  # type: ignore[override]
            pass

    class Synchronous(EncryptedJsonConsumer, WebsocketConsumer):
        async def connect(self) -> None:  # type: ignore[override]
            pass

    use(monkeypatch, deployed(stack(routes(Asynchronous.as_asgi(), Synchronous.as_asgi()))))
    told = [(each.obj, each.level, each.msg) for each in faults()]
    assert told == [
        ("/ws/0/", WARNING, "Asynchronous.connect is def, but the consumer is asynchronous."),
        ("/ws/1/", ERROR, "Synchronous.connect is async def, but the consumer is synchronous."),
    ]


# Pages


def test_a_script_that_the_application_does_not_serve_is_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inner = OriginValidator(stack(routes(AsyncEchoMixinFirst.as_asgi())), ["example.org"])
    plain = ProtocolTypeRouter({"http": get_asgi_application(), "websocket": inner})
    use(monkeypatch, plain)
    found = the_fault("script")
    assert found.level is WARNING
    assert "status 404" in found.msg


def test_an_application_without_http_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = OriginValidator(stack(routes(AsyncEchoMixinFirst.as_asgi())), ["example.org"])
    use(monkeypatch, ProtocolTypeRouter({"websocket": inner}))
    assert {each.obj: each.level for each in faults()} == {"requests": ERROR, "script": WARNING}


def test_played_requests_leave_no_lines_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    assert list(examine())
    assert caplog.records == []


@pytest.mark.parametrize(
    ("named", "is_well"),
    [
        ({"SESSION_COOKIE_SECURE": True}, False),
        ({"SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https")}, True),
        ({"CSRF_USE_SESSIONS": True}, True),
        ({"USE_X_FORWARDED_HOST": True}, True),
    ],
)
def test_a_request_is_played_as_the_proxy_would_send_it(
    site: Any, named: dict[str, Any], is_well: bool
) -> None:
    site.ALLOWED_HOSTS = ["chat.example"]
    for name, value in named.items():
        setattr(site, name, value)
    if is_well:
        assert faults() == []
    else:
        found = the_fault("requests")
        assert found.level is WARNING
        assert "Origin checking failed - https://chat.example" in found.msg
        assert "SECURE_PROXY_SSL_HEADER" in str(found.hint)


def test_a_redirect_to_https_that_never_ends_is_a_failure(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.MIDDLEWARE = ["django.middleware.security.SecurityMiddleware", *site.MIDDLEWARE]
    site.SECURE_SSL_REDIRECT = True
    use(monkeypatch, deployed(stack(routes(AsyncEchoMixinFirst.as_asgi()))))
    assert "status 301" in {each.obj: each.msg for each in faults()}["requests"]


def test_a_probe_that_raises_is_one_line_and_the_others_go_on(site: Any) -> None:
    site.ROOT_URLCONF = "tests.nowhere"
    printed, error = doctor()
    assert "Traceback" not in printed
    assert "configuration" in printed
    assert "ModuleNotFoundError: No module named 'tests.nowhere'" in printed
    assert "/ws/0/" in printed
    assert error


def test_the_system_checks_have_a_tag_of_their_own(site: Any) -> None:
    site.GCRYPT_PASSPHRASE = "p" * 40
    printed = StringIO()
    call_command("check", tags=["gcrypt"], stdout=printed, stderr=printed, no_color=True)
    assert "W001" in printed.getvalue()
