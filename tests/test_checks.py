from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.core.checks import Error, Warning, run_checks  # noqa: A004
from django.core.checks.registry import registry

from gcrypt_channels import GcryptMiddleware, checks
from gcrypt_channels.hub.hub import current_hub
from tests.channel_layers import core, in_memory, pubsub, sealed
from tests.consumers import AsyncEchoMixinFirst
from tests.servers import Redis
from tests.wire import Wire, resolver

LOCMEM = "django.core.cache.backends.locmem.LocMemCache"
NO_REDIS = "redis://127.0.0.1:1"  # the checks connect to nothing
REDIS = "django.core.cache.backends.redis.RedisCache"


@pytest.fixture(autouse=True)
def development(settings: Any) -> None:
    settings.DEBUG = True  # the test runner turns it off


def ids() -> list[str]:
    """The package's own findings, from a run of all checks."""
    found = [each.id for each in run_checks() if str(each.id).startswith("gcrypt_channels.")]
    return [str(each).removeprefix("gcrypt_channels.") for each in found]


def test_the_checks_are_registered() -> None:
    registered: set[Any] = set(registry.registered_checks)
    assert registered > {
        checks.check_settings,
        checks.check_security,
        checks.check_sessions,
        checks.check_channel_layer,
        checks.check_sealing,
    }


def test_the_suites_own_settings_pass() -> None:
    assert ids() == []


def test_a_problem_with_the_settings_is_an_error_with_a_hint(settings: Any) -> None:
    settings.GCRYPT = {"PROFILE": []}
    [found] = [each for each in run_checks() if each.id == "gcrypt_channels.E004"]
    assert isinstance(found, Error)
    assert found.hint


def test_histories_that_processes_keep_apart_are_e014(settings: Any) -> None:
    groups = {"GROUPS": {"chat.": {"messages": 1, "seconds": 1}}}
    settings.GCRYPT = {"HISTORY": groups}
    assert ids() == []
    settings.CHANNEL_LAYERS = {"default": sealed(core(NO_REDIS))}
    assert ids() == ["E014"]
    settings.CHANNEL_LAYERS = {"default": sealed(in_memory(NO_REDIS))}
    assert ids() == []
    settings.CHANNEL_LAYERS = {"default": sealed(core(NO_REDIS))}
    settings.GCRYPT = {"HISTORY": {**groups, "URL": NO_REDIS}}
    assert ids() == []


def test_every_warning_has_a_hint(settings: Any) -> None:
    settings.DEBUG = False
    settings.GCRYPT_PASSPHRASE = "p" * 20
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
    found = [each for each in run_checks() if str(each.id).startswith("gcrypt_channels.W")]
    assert len(found) == 4
    assert all(isinstance(each, Warning) and each.hint for each in found)


@pytest.mark.parametrize(
    "passphrase",
    [
        "0123456789abcdef0123456789abcde",
        "abababababababababababababababababababab",
        "django-insecure-0123456789abcdef0123456789abcdef",
    ],
)
def test_a_weak_passphrase_is_w001(settings: Any, passphrase: str) -> None:
    settings.GCRYPT_PASSPHRASE = passphrase
    assert ids() == ["W001"]
    settings.GCRYPT_PASSPHRASE = ["0123456789abcdef0123456789abcdef", passphrase]
    assert ids() == ["W001"]


def test_the_secret_key_as_a_passphrase_is_w001(settings: Any) -> None:
    settings.GCRYPT_PASSPHRASE = settings.SECRET_KEY
    assert ids() == ["W001"]


def test_the_classic_profile_in_production_is_w002(settings: Any) -> None:
    settings.CHANNEL_LAYERS = {"default": sealed(core(NO_REDIS))}
    settings.DEBUG = False
    assert ids() == ["W002"]
    settings.GCRYPT = {"PROFILES": ["gcrypt.v2"]}
    assert ids() == []


@pytest.mark.usefixtures("no_ml_kem")
@pytest.mark.parametrize("profiles", [["gcrypt.v3", "gcrypt.v2"], ["gcrypt.v2", "gcrypt.v3"]])
def test_v3_in_the_settings_without_ml_kem_is_w011(settings: Any, profiles: list[str]) -> None:
    settings.GCRYPT = {"PROFILES": profiles}
    assert ids() == ["W011"]
    settings.GCRYPT = {"PROFILES": ["gcrypt.v2"]}
    assert ids() == []
    settings.GCRYPT = {}  # the default says nothing about what a project expects
    assert ids() == []


def test_v3_with_ml_kem_is_no_warning(settings: Any) -> None:
    pytest.importorskip("cryptography.hazmat.primitives.asymmetric.mlkem")
    settings.GCRYPT = {"PROFILES": ["gcrypt.v3"]}
    assert ids() == []


@pytest.mark.parametrize("bound", [[], ["host"], ["target"]])
def test_a_request_that_is_not_bound_is_w012_which_names_what_is_left_out(
    settings: Any, bound: list[str]
) -> None:
    settings.GCRYPT = {"BIND_REQUEST": bound}
    assert ids() == ["W012"]
    [found] = checks.check_security(None)
    assert {each for each in ("host", "target") if f"'{each}'" in found.msg} == {
        "host",
        "target",
    } - set(bound)
    settings.GCRYPT = {"BIND_REQUEST": ["target", "host"]}
    assert ids() == []


def test_without_django_auth_the_session_resolver_is_w003(settings: Any) -> None:
    settings.INSTALLED_APPS = ["django.contrib.contenttypes", "channels", "gcrypt_channels"]
    settings.MIDDLEWARE = []
    # Not by a run of all checks: those of Django's auth need it installed.
    assert [each.id for each in checks.check_sessions(None)] == ["gcrypt_channels.W003"]
    settings.GCRYPT = {"PASSPHRASE_RESOLVER": "shared", "PROFILES": ["gcrypt.v1"]}
    assert list(checks.check_sessions(None)) == []


def test_signed_cookies_are_w004(settings: Any) -> None:
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
    assert ids() == ["W004"]


@pytest.mark.parametrize("engine", ["cache", "cached_db"])
def test_sessions_in_a_cache_of_one_process_are_w005_in_production(
    settings: Any, engine: str
) -> None:
    settings.GCRYPT = {"PROFILES": ["gcrypt.v2"]}
    settings.CHANNEL_LAYERS = {"default": sealed(core(NO_REDIS))}
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    settings.CACHES = {"default": {"BACKEND": LOCMEM}}
    assert ids() == []
    settings.DEBUG = False
    assert ids() == ["W005"]
    settings.CACHES = {"default": {"BACKEND": REDIS, "LOCATION": "redis://127.0.0.1:1"}}
    assert ids() == []


def test_a_missing_channel_layer_is_w006(settings: Any) -> None:
    settings.GCRYPT = {"CHANNEL_LAYER": "other"}
    assert ids() == ["W006"]
    del settings.CHANNEL_LAYERS
    settings.GCRYPT = {}
    assert ids() == ["W006"]


@pytest.mark.parametrize("config", [in_memory(""), sealed(in_memory(""))])
def test_the_in_memory_layer_in_production_is_w007(settings: Any, config: dict[str, Any]) -> None:
    settings.GCRYPT = {"PROFILES": ["gcrypt.v2"]}
    settings.CHANNEL_LAYERS = {"default": config}
    settings.DEBUG = False
    assert ids() == ["W007"]


@pytest.mark.parametrize(
    ("options", "scarce"),
    [
        ({"socket_timeout": 5, "max_connections": 1000}, "'socket_timeout': 15."),
        ({"socket_timeout": 15, "max_connections": 100}, "'max_connections': 10000."),
        (
            {"socket_timeout": 5, "max_connections": 100},
            "'socket_timeout': 15, 'max_connections': 10000.",
        ),
        ({"socket_timeout": 15, "max_connections": 1000}, None),
        ({"socket_timeout": None, "max_connections": 1000}, None),
    ],
)
@pytest.mark.parametrize("layer", [core, pubsub])
def test_a_redis_client_with_too_little_time_or_too_few_connections_is_w008(
    settings: Any, layer: Callable[[str], Any], options: dict[str, Any], scarce: str | None
) -> None:
    config = layer(NO_REDIS)
    config["CONFIG"]["hosts"] = [{"address": NO_REDIS, **options}]
    settings.CHANNEL_LAYERS = {"default": sealed(config)}
    settings.GCRYPT = {"PROFILES": ["gcrypt.v2"]}
    if layer is pubsub or scarce is None:
        assert ids() == []
    else:
        [(found, message)] = errors_and_warnings().items()
        assert found == "W008"
        assert message.endswith(f"more: {scarce}")


def errors_and_warnings() -> dict[str, str]:
    found = [each for each in run_checks() if str(each.id).startswith("gcrypt_channels.")]
    return {
        str(each.id).removeprefix("gcrypt_channels."): f"{each.msg} {each.hint}" for each in found
    }


@pytest.mark.parametrize("layer", [core, pubsub])
def test_a_layer_that_carries_plaintext_is_w009(settings: Any, layer: Callable[[str], Any]) -> None:
    settings.CHANNEL_LAYERS = {"default": in_memory(""), "other": layer(NO_REDIS)}
    [(found, message)] = errors_and_warnings().items()
    assert found == "W009"
    assert "CHANNEL_LAYERS['other']" in message
    assert "gcrypt_channels.layers.SealedChannelLayer" in message


@pytest.mark.parametrize(
    "config",
    [in_memory(""), sealed(in_memory("")), sealed(core(NO_REDIS)), sealed(pubsub(NO_REDIS))],
)
def test_a_layer_that_is_sealed_or_stays_in_the_process_is_none(
    settings: Any, config: dict[str, Any]
) -> None:
    settings.CHANNEL_LAYERS = {"default": config}
    assert ids() == []


def test_a_layer_with_symmetric_keys_carries_no_plaintext(settings: Any) -> None:
    config = core(NO_REDIS)
    config["CONFIG"]["symmetric_encryption_keys"] = ["a key for the tests"]
    settings.CHANNEL_LAYERS = {"default": config}
    assert ids() == []


def test_a_layer_that_cannot_be_imported_is_left_to_whoever_uses_it(settings: Any) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "nowhere.Layer"}, "other": {}}
    assert ids() == []


SEALED = "gcrypt_channels.layers.SealedChannelLayer"


@pytest.mark.parametrize(
    ("config", "key"),
    [
        pytest.param({"BACKEND": SEALED}, "['CONFIG']['layer']", id="nothing inside"),
        pytest.param(
            {"BACKEND": SEALED, "CONFIG": core(NO_REDIS)}, "['CONFIG']['layer']", id="no layer key"
        ),
        pytest.param(
            {"BACKEND": SEALED, "CONFIG": {"layer": SEALED}}, "['CONFIG']['layer']", id="a path"
        ),
        pytest.param(
            {"BACKEND": SEALED, "CONFIG": {"layer": core(NO_REDIS), "expiry": 10}},
            "['CONFIG']['expiry']",
            id="an option of the layer inside",
        ),
        pytest.param(
            sealed({"BACKEND": "channels_redis.core.RedisChannelLayer", "hosts": []}),
            "['CONFIG']['layer']['hosts']",
            id="an option beside CONFIG",
        ),
        pytest.param(sealed({}), "['CONFIG']['layer']['BACKEND']", id="no backend"),
        pytest.param(
            sealed({"BACKEND": "nowhere.Layer"}), "['CONFIG']['layer']['BACKEND']", id="no module"
        ),
        pytest.param(
            sealed({"BACKEND": "os.sep"}), "['CONFIG']['layer']['BACKEND']", id="no class"
        ),
        pytest.param(
            sealed({**core(NO_REDIS), "CONFIG": []}), "['CONFIG']['layer']['CONFIG']", id="a list"
        ),
        pytest.param(
            sealed(sealed(core(NO_REDIS))), "['CONFIG']['layer']['BACKEND']", id="sealed twice"
        ),
        pytest.param(
            {**core(NO_REDIS), "CONFIG": {"layer": sealed(core(NO_REDIS))}},
            "['CONFIG']['layer']",
            id="inside out",
        ),
        pytest.param(
            {**pubsub(NO_REDIS), "CONFIG": {"layer": sealed(pubsub(NO_REDIS))}},
            "['CONFIG']['layer']",
            id="inside out, pubsub",
        ),
    ],
)
def test_a_sealed_layer_that_is_put_together_wrongly_is_e011_and_the_key_is_named(
    settings: Any, config: dict[str, Any], key: str
) -> None:
    settings.CHANNEL_LAYERS = {"default": config}
    [(found, message)] = errors_and_warnings().items()
    assert found == "E011"
    assert message.startswith(f"CHANNEL_LAYERS['default']{key} ")


def test_several_event_loops_on_the_core_layer_are_warned_of(settings: Any, redis: Redis) -> None:
    settings.CHANNEL_LAYERS = {"default": core(redis.url)}
    serving, done = threading.Barrier(3), threading.Event()

    async def serve() -> None:
        hub = current_hub()
        wire = Wire(GcryptMiddleware(AsyncEchoMixinFirst.as_asgi(), resolver=resolver))
        await wire.until(2)
        assert hub.members.connections
        await asyncio.to_thread(serving.wait)
        await asyncio.to_thread(done.wait)
        wire.leave()
        await wire.end()

    threads = [threading.Thread(target=asyncio.run, args=(serve(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    serving.wait(20)
    found = [each.id for each in checks.check_channel_layer(None)]
    done.set()
    for thread in threads:
        thread.join()
    assert found == ["gcrypt_channels.W010"]
    assert "gcrypt_channels.W010" not in [each.id for each in checks.check_channel_layer(None)]
