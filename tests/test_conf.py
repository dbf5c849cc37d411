from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from gcrypt_channels.conf import OPTIONS, conf, problems

DOCUMENTATION = Path(__file__).resolve().parent.parent / "docs" / "settings.md"

STRONG = "p" * 40


SHARED = "the passphrase of a g-crypt page"


def resolver(scope: Any) -> str:
    return STRONG


def test_the_defaults_are_those_of_the_documentation(settings: Any) -> None:
    settings.GCRYPT = {}
    assert conf.profiles == ("gcrypt.v3", "gcrypt.v2")
    assert conf.resolver == "session"
    assert conf.anonymous is False
    assert conf.max_message_size == 1_048_576
    assert conf.handshake_timeout == 10
    assert conf.padding is False
    assert conf.revalidate_interval == 30
    assert conf.channel_layer == "default"
    assert conf.backlog_size == 1_048_576
    assert conf.bind_request == ("host", "target")


def test_without_the_dictionary_the_defaults_apply(settings: Any) -> None:
    del settings.GCRYPT
    assert conf.profiles == ("gcrypt.v3", "gcrypt.v2")
    assert problems() == []


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_is_documented(name: str) -> None:
    assert f"`{name}`" in DOCUMENTATION.read_text()


@pytest.mark.parametrize(
    ("name", "attribute", "value"),
    [
        ("PROFILES", "profiles", ["gcrypt.v1", "gcrypt.v2"]),
        ("ANONYMOUS", "anonymous", True),
        ("MAX_MESSAGE_SIZE", "max_message_size", 1024),
        ("HANDSHAKE_TIMEOUT", "handshake_timeout", 0.5),
        ("PADDING", "padding", True),
        ("PASSPHRASE_RESOLVER", "passphrase_resolver", "shared"),
        ("REVALIDATE_INTERVAL", "revalidate_interval", 5),
        ("CHANNEL_LAYER", "channel_layer", "other"),
        ("BACKLOG_SIZE", "backlog_size", 4096),
        ("DRAIN", "drain", 0),
        ("DRAIN", "drain", 10),
        ("BIND_REQUEST", "bind_request", []),
    ],
)
def test_a_setting_is_read_when_it_is_used(
    settings: Any, name: str, attribute: str, value: Any
) -> None:
    before = getattr(conf, attribute)
    settings.GCRYPT_SHARED_PASSPHRASE = SHARED
    settings.GCRYPT = {"PROFILES": ["gcrypt.v1"], name: value}
    assert problems() == []
    after = getattr(conf, attribute)
    assert after == (tuple(value) if isinstance(value, list) else value)
    assert after != before


KEPT = {"messages": 1, "seconds": 1}

WRONG: dict[str, list[Any]] = {
    "PROFILES": [[], "gcrypt.v2", ["gcrypt.v4"], ["gcrypt.v2", "gcrypt.v2"], None, {"gcrypt.v2"}],
    "PASSPHRASE_RESOLVER": ["", None, 3],
    "TOKEN_RESOLVER": ["", 3, ["a.b"]],
    "ANONYMOUS": [1, "yes", None],
    "MAX_MESSAGE_SIZE": [1023, 1e6, "1 MiB", True, None],
    "HANDSHAKE_TIMEOUT": [0, -1, 86_401, 10**400, float("inf"), float("nan"), "10", True, None],
    "PADDING": [0, "on", None],
    "REVALIDATE_INTERVAL": [0, "30", None],
    "CHANNEL_LAYER": ["", 3, None],
    "BIND_REQUEST": ["host", ["port"], None, {"host"}, [["host"]]],
    "BACKLOG_SIZE": [1023, "1024", None],
    "DRAIN": [-1, False, 86_401, "3", None],
    "HISTORY": [
        {},
        {"GROUPS": {}},
        {"GROUPS": ["chat."]},
        {"GROUPS": {"chat.": KEPT}, "URI": "redis://h"},
        *({"GROUPS": {"chat.": KEPT}, "URL": url} for url in ("h", "http://h", None, 1)),
        *({"GROUPS": {"chat.": KEPT}, "SENTINELS": each} for each in ("redis://h", ["redis://h"])),
        {"GROUPS": {"chat.": KEPT}, "URL": "redis://kept", "SENTINELS": ["h"]},
        *({"GROUPS": {prefix: KEPT}} for prefix in (1, "gcrypt.", "gcrypt.user.", "\ud800")),
        *({"GROUPS": {"": {**KEPT, "messages": each}}} for each in (0, 10_001, 1.5, "1", True)),
        *({"GROUPS": {"": {**KEPT, "seconds": each}}} for each in (0, 86_401, 1.5, "1", True)),
        *({"GROUPS": {"": each}} for each in (None, {"messages": 1}, {**KEPT, "more": 1})),
        [],
        "redis://h",
    ],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_a_wrong_value_is_named_with_what_is_expected(settings: Any, name: str, value: Any) -> None:
    settings.GCRYPT = {name: value}
    [problem] = problems()
    assert problem.id == "gcrypt_channels.E005"
    assert problem.message == f"GCRYPT[{name!r}] must be {OPTIONS[name].expected}."
    assert repr(OPTIONS[name].default) in problem.hint


def test_every_option_has_wrong_values_here() -> None:
    assert WRONG.keys() == OPTIONS.keys()


def test_all_problems_are_found_at_once(settings: Any) -> None:
    settings.GCRYPT_PASSPHRASE = "short"
    settings.GCRYPT = {"PADING": True, "ANONYMOUS": "no", "BACKLOG_SIZE": 1}
    assert [problem.id[-4:] for problem in problems()] == ["E002", "E004", "E005", "E005"]


def test_an_unknown_key_is_named_beside_the_known_ones(settings: Any) -> None:
    settings.GCRYPT = {"PROFILE": "gcrypt.v2"}
    [problem] = problems()
    assert problem.id == "gcrypt_channels.E004"
    assert "'PROFILE'" in problem.message
    assert "PROFILES" in problem.hint


@pytest.mark.parametrize("value", [[], "gcrypt.v2", None])
def test_what_is_no_dictionary_is_named(settings: Any, value: Any) -> None:
    settings.GCRYPT = value
    [problem] = problems()
    assert problem.id == "gcrypt_channels.E003"
    with pytest.raises(ImproperlyConfigured, match="dictionary"):
        _ = conf.profiles


# The passphrase


@pytest.mark.parametrize("value", [STRONG, [STRONG, "q" * 40], (STRONG,)])
def test_a_passphrase_may_be_one_or_several(settings: Any, value: Any) -> None:
    settings.GCRYPT_PASSPHRASE = value
    assert conf.passphrases == ((value,) if isinstance(value, str) else tuple(value))
    assert problems() == []


@pytest.mark.parametrize("value", [None, "", [], [""], [STRONG, None], 42, b"bytes" * 10])
def test_what_is_no_passphrase_is_e001(settings: Any, value: Any) -> None:
    settings.GCRYPT_PASSPHRASE = value
    [problem] = problems()
    assert problem.id == "gcrypt_channels.E001"
    assert "gcrypt_keygen" in problem.hint


@pytest.mark.parametrize("name", ["GCRYPT_PASSPHRASE", "GCRYPT_SHARED_PASSPHRASE"])
@pytest.mark.parametrize("value", ["\ud800" + STRONG, ["q" * 40, STRONG + "\udfff"]])
def test_a_passphrase_with_a_lone_surrogate_is_e008_and_not_repeated(
    settings: Any, name: str, value: Any
) -> None:
    setattr(settings, name, value)
    [problem] = problems()
    assert problem.id == "gcrypt_channels.E008"
    assert name in problem.message
    assert STRONG not in repr(problem)
    attribute = "passphrases" if name == "GCRYPT_PASSPHRASE" else "shared_passphrases"
    with pytest.raises(ImproperlyConfigured, match="surrogate"):
        getattr(conf, attribute)


def test_a_missing_passphrase_is_e001(settings: Any) -> None:
    del settings.GCRYPT_PASSPHRASE
    assert [problem.id for problem in problems()] == ["gcrypt_channels.E001"]


@pytest.mark.parametrize("value", ["f" * 15, [STRONG, "f" * 15]])
def test_a_short_passphrase_is_e002_and_not_repeated(settings: Any, value: Any) -> None:
    settings.GCRYPT_PASSPHRASE = value
    [problem] = problems()
    assert problem.id == "gcrypt_channels.E002"
    assert "f" * 15 not in repr(problem)


# The resolver


@pytest.mark.parametrize("value", [resolver, "tests.test_conf.resolver"])
def test_a_resolver_may_be_a_function_or_its_path(settings: Any, value: Any) -> None:
    settings.GCRYPT = {"PASSPHRASE_RESOLVER": value}
    assert conf.resolver is resolver
    assert problems() == []


@pytest.mark.parametrize(
    "value",
    [
        "nowhere",
        "tests.nowhere.resolver",
        "tests.test_conf.none",
        "tests.test_conf.STRONG",
        ".relative",
        "\ud800.resolver",
    ],
)
def test_a_path_that_cannot_be_imported_is_e006(settings: Any, value: str) -> None:
    settings.GCRYPT = {"PASSPHRASE_RESOLVER": value}
    [problem] = problems()
    assert problem.id == "gcrypt_channels.E006"
    assert repr(value) in problem.message


def test_the_shared_resolver_with_v2_or_v3_is_e007(settings: Any) -> None:
    settings.GCRYPT_SHARED_PASSPHRASE = SHARED
    settings.GCRYPT = {"PASSPHRASE_RESOLVER": "shared"}
    assert [problem.id for problem in problems()] == ["gcrypt_channels.E007"]
    for profile in ("gcrypt.v3", "gcrypt.v2"):
        settings.GCRYPT["PROFILES"] = ["gcrypt.v1", profile]
        assert [problem.id for problem in problems()] == ["gcrypt_channels.E007"]
    settings.GCRYPT = {"PASSPHRASE_RESOLVER": "shared", "PROFILES": ["gcrypt.v1"]}
    assert problems() == []


@pytest.mark.usefixtures("no_ml_kem")
def test_v3_alone_without_ml_kem_is_e012(settings: Any) -> None:
    settings.GCRYPT = {"PROFILES": ["gcrypt.v3"]}
    [problem] = problems()
    assert problem.id == "gcrypt_channels.E012"
    assert problems(profiles=["gcrypt.v2"]) == []
    settings.GCRYPT = {}
    assert problems() == []
    assert [each.id for each in problems(profiles=["gcrypt.v3"])] == ["gcrypt_channels.E012"]


def test_a_history_in_redis_without_redis_py_is_e013(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.GCRYPT = {"HISTORY": {"GROUPS": {"": KEPT}, "URL": "redis://:secret@h"}}
    assert problems() == []
    assert "secret" not in repr(conf.history)
    monkeypatch.setitem(sys.modules, "redis", None)  # to import it is an ImportError
    [problem] = problems()
    assert problem.id == "gcrypt_channels.E013"


def test_the_shared_resolver_without_its_passphrase_is_e009(settings: Any) -> None:
    settings.GCRYPT = {"PASSPHRASE_RESOLVER": "shared", "PROFILES": ["gcrypt.v1"]}
    [problem] = problems()
    assert problem.id == "gcrypt_channels.E009"
    with pytest.raises(ImproperlyConfigured, match="GCRYPT_SHARED_PASSPHRASE"):
        _ = conf.shared_passphrases


@pytest.mark.parametrize("value", [None, "", [], 42])
def test_a_shared_passphrase_that_is_none_is_e009(settings: Any, value: Any) -> None:
    settings.GCRYPT_SHARED_PASSPHRASE = value
    assert [problem.id for problem in problems()] == ["gcrypt_channels.E009"]


def test_a_short_shared_passphrase_is_e002(settings: Any) -> None:
    settings.GCRYPT_SHARED_PASSPHRASE = "f" * 15
    [problem] = problems()
    assert problem.id == "gcrypt_channels.E002"
    assert "GCRYPT_SHARED_PASSPHRASE" in problem.message


@pytest.mark.parametrize("shared", [STRONG, [SHARED, STRONG]])
def test_a_shared_passphrase_that_is_a_root_is_e010_whatever_the_resolver(
    settings: Any, shared: Any
) -> None:
    settings.GCRYPT_PASSPHRASE = ["q" * 40, STRONG]
    settings.GCRYPT_SHARED_PASSPHRASE = shared
    [problem] = problems()
    assert problem.id == "gcrypt_channels.E010"
    assert STRONG not in repr(problem)


def test_the_arguments_of_a_middleware_replace_the_settings(settings: Any) -> None:
    settings.GCRYPT_SHARED_PASSPHRASE = SHARED
    assert problems(resolver="shared")[0].id == "gcrypt_channels.E007"
    assert problems(resolver="shared", profiles=["gcrypt.v1"]) == []
    assert problems(resolver="nowhere")[0].id == "gcrypt_channels.E006"
    settings.GCRYPT = {"PASSPHRASE_RESOLVER": "shared", "PROFILES": ["gcrypt.v1"]}
    assert problems(profiles=["gcrypt.v2"])[0].id == "gcrypt_channels.E007"
    assert problems(resolver="session", profiles=["gcrypt.v2"]) == []
