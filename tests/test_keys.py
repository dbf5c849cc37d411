from __future__ import annotations

import hashlib
import hmac
import threading
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.backends.signed_cookies import SessionStore as CookieStore
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from gcrypt_channels import Crypt, keys
from gcrypt_channels.keys import Keyring, Purpose, SessionKey, purpose_secret
from gcrypt_channels.sessions.identity import prepare_session
from tests.hostile import ANY_TEXT, documented
from tests.sessions.stores import GivenSession

ROOTS = ["the first passphrase of this test", "the second passphrase of this test"]


def expand(root: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869 with SHA-256 and no salt, written out."""
    key = hmac.digest(bytes(32), root, "sha256")
    output, block = b"", b""
    for counter in range(1, 3):
        block = hmac.digest(key, block + info + bytes([counter]), "sha256")
        output += block
    return output[:length]


def encoded(*parts: str) -> bytes:
    return b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in parts)


def session(**data: str) -> SessionStore:
    store = SessionStore()
    store.update(data)
    store.create()
    store.save()
    return store


def resolve(**scope: Any) -> Keyring | None:
    return async_to_sync(keys.resolve)(scope)


def ring(**scope: Any) -> Keyring:
    found = resolve(**scope)
    assert found is not None
    return found


@pytest.fixture
def alice(db: None) -> User:
    user: User = User.objects.create_user("alice", password="alice")
    return user


# Derivation


def test_keys_are_derived_as_documented() -> None:
    salt = b"gcrypt_channels root v1"
    with override_settings(GCRYPT_PASSPHRASE=ROOTS[0]):
        found = Keyring.derive("session", "some identity")
    root = hashlib.scrypt(
        ROOTS[0].encode(), salt=salt, n=2**15, r=8, p=1, dklen=32, maxmem=64 * 2**20
    )
    secret = expand(root, b"gcrypt_channels purpose client", 32)
    material = encoded("session", "some identity")
    derived = expand(secret, b"gcrypt session key" + material, 40)
    assert found.session_keys == (SessionKey(kid=derived[:8], psk=derived[8:]),)
    assert found.passphrases == (expand(secret, b"gcrypt.v1 passphrase" + material, 32).hex(),)


def test_every_purpose_has_a_secret_of_its_own_under_every_passphrase() -> None:
    purposes = get_args(Purpose)
    secrets = {purpose_secret(purpose, each) for purpose in purposes for each in ROOTS}
    assert len(secrets) == len(purposes) * len(ROOTS)
    assert {len(secret) for secret in secrets} == {32}


# Hostile text


@pytest.mark.parametrize(
    ("identity", "options", "error"),
    [
        (("device", 7), {}, TypeError),
        ((None,), {}, TypeError),
        ((b"bytes",), {}, TypeError),
        (("\ud800",), {}, ValueError),
        (("x",), {"passphrases": [""]}, ValueError),
        (("x",), {"passphrases": []}, ValueError),
        (("x",), {"passphrases": ["good", "\udfff"]}, ValueError),
        (("x",), {"passphrases": ["good", 7]}, TypeError),
        (("x",), {"passphrases": "one"}, TypeError),
    ],
)
def test_an_argument_that_is_none_is_refused_and_the_call_named(
    identity: Any, options: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"^Keyring\.derive") as caught:
        Keyring.derive(*identity, **options)
    assert not isinstance(caught.value, UnicodeError)


@given(identity=st.lists(ANY_TEXT), passphrases=st.none() | st.lists(ANY_TEXT))
def test_any_text_makes_keys_or_is_refused(
    identity: list[str], passphrases: list[str] | None
) -> None:
    with documented(ValueError):
        assert Keyring.derive(*identity, passphrases=passphrases).session_keys


@given(answer=ANY_TEXT | st.lists(ANY_TEXT) | st.builds(Keyring, st.tuples(ANY_TEXT), st.just(())))
def test_any_answer_of_a_resolver_is_used_or_refused(answer: Any) -> None:
    async def resolver(scope: Any) -> Any:
        return answer

    with documented(ImproperlyConfigured):
        found = async_to_sync(keys.resolve)({}, resolver)
        assert found is not None
        assert all(Crypt(each) for each in found.passphrases)


@given(pk=ANY_TEXT, chosen=st.none() | ANY_TEXT, auth_hash=ANY_TEXT)
def test_any_session_has_keys_or_is_refused(pk: str, chosen: str | None, auth_hash: str) -> None:
    data = {"_auth_user_hash": auth_hash, "_auth_user_id": pk, "gcrypt_passphrase": chosen}
    store = GivenSession("k" * 32, **data)
    user = SimpleNamespace(pk=pk, is_authenticated=True)
    with documented(ImproperlyConfigured, ValueError):
        found = resolve(session=store, user=user)
        assert found is None or found.session_keys


@given(
    one=st.lists(st.text(max_size=3), max_size=4), other=st.lists(st.text(max_size=3), max_size=4)
)
def test_different_identities_have_different_keys_however_they_are_cut(
    one: list[str], other: list[str]
) -> None:
    same = Keyring.derive(*one) == Keyring.derive(*other)
    assert same == (one == other)


def test_a_key_shows_nothing_secret() -> None:
    found = Keyring.derive("identity")
    shown = repr(found)
    assert found.session_keys[0].psk.hex() not in shown
    assert repr(found.session_keys[0].psk) not in shown
    assert found.passphrases[0] not in shown


def test_every_root_has_its_keys_and_the_first_is_primary() -> None:
    with override_settings(GCRYPT_PASSPHRASE=ROOTS):
        both = Keyring.derive("identity")
    with override_settings(GCRYPT_PASSPHRASE=ROOTS[0]):
        first = Keyring.derive("identity")
    with override_settings(GCRYPT_PASSPHRASE=ROOTS[1]):
        second = Keyring.derive("identity")
    assert both.session_keys == first.session_keys + second.session_keys
    assert both.passphrases == first.passphrases + second.passphrases


def test_the_key_that_a_client_names_is_used_if_it_is_one_of_its_own() -> None:
    with override_settings(GCRYPT_PASSPHRASE=ROOTS):
        mine, foreign = Keyring.derive("mine"), Keyring.derive("foreign")
    primary, previous = mine.session_keys
    assert mine.session_key(primary.kid) == primary
    assert mine.session_key(previous.kid) == previous
    assert mine.session_key(None) == primary
    assert mine.session_key(foreign.session_keys[0].kid) == primary
    assert mine.session_key(b"") == primary


def test_a_keyring_for_the_classic_profile_says_that_it_has_no_key_for_the_other() -> None:
    with pytest.raises(ImproperlyConfigured, match="session_keys"):
        Keyring(passphrases=("a passphrase",), session_keys=()).session_key(None)


def test_a_weak_passphrase_of_a_session_does_not_weaken_its_secure_key() -> None:
    weak, other = Keyring.derive("x", passphrases=["1234"]), Keyring.derive("x", passphrases=["5"])
    assert weak.passphrases == ("1234",)
    assert len(weak.session_keys[0].psk) == 32
    assert weak.session_keys != other.session_keys
    with override_settings(GCRYPT_PASSPHRASE=ROOTS[0]):
        assert Keyring.derive("x", passphrases=["1234"]).session_keys != weak.session_keys


# The session resolver


def test_a_key_depends_on_session_and_user_and_password(alice: User) -> None:
    bob = User.objects.create_user("bob")
    one, two = session(_auth_user_hash="h"), session(_auth_user_hash="h")
    rings = [
        ring(session=one, user=alice),
        ring(session=two, user=alice),
        ring(session=one, user=bob),
    ]
    one["_auth_user_hash"] = "another"
    rings.append(ring(session=one, user=alice))
    assert len({each.session_keys[0].psk for each in rings}) == 4
    assert len({each.passphrases for each in rings}) == 4
    assert ring(session=two, user=alice) == rings[1]


def test_anonymous_visitors_get_a_key_only_where_the_settings_say_so(db: None) -> None:
    visit = session()
    assert resolve(session=visit, user=AnonymousUser()) is None
    with override_settings(GCRYPT={"ANONYMOUS": True}):
        one = ring(session=visit, user=AnonymousUser())
        assert ring(session=visit) == one
        assert ring(session=session(), user=AnonymousUser()) != one
        assert resolve(session=SessionStore(), user=AnonymousUser()) is None


def test_an_anonymous_key_is_not_that_of_the_login_that_follows(alice: User) -> None:
    visit = session()
    with override_settings(GCRYPT={"ANONYMOUS": True}):
        assert ring(session=visit, user=AnonymousUser()) != ring(session=visit, user=alice)


def test_a_session_that_does_not_exist_has_no_key(alice: User) -> None:
    assert resolve(session=SessionStore("f" * 32), user=alice) is None


def test_a_scope_without_a_session_has_no_key_and_the_log_says_why(
    alice: User, caplog: pytest.LogCaptureFixture
) -> None:
    assert resolve(user=alice) is None
    assert "AuthMiddlewareStack" in caplog.text


def test_a_passphrase_of_the_session_is_the_classic_one(alice: User) -> None:
    chosen = ring(session=session(gcrypt_passphrase="chosen by the application"), user=alice)
    assert chosen.passphrases == ("chosen by the application",)
    again = ring(session=session(gcrypt_passphrase="chosen by the application"), user=alice)
    assert again.session_keys != chosen.session_keys


@pytest.mark.parametrize("value", ["", 7, ["a"], "\ud800"])
def test_a_passphrase_of_the_session_that_is_none_is_named(alice: User, value: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match="gcrypt_passphrase"):
        resolve(session=session(gcrypt_passphrase=value), user=alice)


def test_a_passphrase_that_the_browser_could_read_is_refused(alice: User) -> None:
    store = CookieStore()
    prepare_session(store)
    store["gcrypt_passphrase"] = "chosen by the application"
    with pytest.raises(ImproperlyConfigured, match="readable in the browser"):
        resolve(session=store, user=alice)


def test_a_cookie_keeps_its_key_while_its_content_changes(alice: User) -> None:
    store = CookieStore()
    assert resolve(session=store, user=alice) is None
    prepare_session(store)
    before = ring(session=store, user=alice)
    store["something"] = "else"
    prepare_session(store)
    assert ring(session=store, user=alice) == before
    store["_auth_user_id"] = "2"
    assert ring(session=store, user=alice) != before


def test_a_session_is_made_for_a_visitor_who_has_none(db: None) -> None:
    store = SessionStore()
    prepare_session(store)
    made = store.session_key
    assert made is not None
    assert SessionStore().exists(made)
    prepare_session(store)
    assert store.session_key == made


# Other resolvers


def test_the_shared_resolver_hands_out_the_shared_passphrases() -> None:
    with override_settings(GCRYPT_SHARED_PASSPHRASE=ROOTS):
        found = async_to_sync(keys.resolve)({}, "shared")
    assert found == Keyring(passphrases=tuple(ROOTS), session_keys=())


class AsyncResolver:
    async def __call__(self, scope: keys.Scope) -> str:
        return str(scope["passphrase"])


async def async_resolver(scope: keys.Scope) -> str:
    return str(scope["passphrase"])


def sync_resolver(scope: keys.Scope) -> str:
    return str(scope["passphrase"])


@pytest.mark.parametrize(
    "resolver", [async_resolver, sync_resolver, AsyncResolver(), f"{__name__}.sync_resolver"]
)
def test_a_resolver_of_the_project_may_be_of_any_kind(db: None, resolver: Any) -> None:
    found = async_to_sync(keys.resolve)({"passphrase": "of the project"}, resolver)
    assert found is not None
    assert found.passphrases == ("of the project",)
    assert len(found.session_keys) == 1


async def test_a_synchronous_resolver_does_not_run_on_the_event_loop(
    transactional_db: None,
) -> None:
    threads: list[int] = []

    def resolver(scope: keys.Scope) -> None:
        threads.append(threading.get_ident())
        assert not User.objects.exists()

    assert await keys.resolve({}, resolver) is None
    assert threads == [await sync_to_async(threading.get_ident)()]
    assert threads != [threading.get_ident()]


@pytest.mark.parametrize(
    "answer",
    [
        *("", [], [""], [7], 7, b"bytes", ["good", None], "\ud800", ["good", "\ud800"]),
        Keyring(passphrases=("\ud800",), session_keys=()),
        Keyring(passphrases=(), session_keys=(SessionKey(kid=b"short", psk=bytes(32)),)),
        Keyring(passphrases=(), session_keys=(SessionKey(kid=bytes(8), psk=b"short"),)),
    ],
)
def test_a_resolver_that_answers_nonsense_is_told_so(db: None, answer: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match="PASSPHRASE_RESOLVER"):
        async_to_sync(keys.resolve)({}, lambda scope: answer)


def test_several_passphrases_of_a_resolver_each_have_keys_of_every_root(db: None) -> None:
    with override_settings(GCRYPT_PASSPHRASE=ROOTS):
        found = async_to_sync(keys.resolve)({}, lambda scope: ["one", "two"])
    assert found is not None
    assert found.passphrases == ("one", "two")
    assert len({each.kid for each in found.session_keys}) == 4
