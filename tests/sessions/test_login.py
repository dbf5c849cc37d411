from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.backends import AllowAllUsersModelBackend, BaseBackend, ModelBackend
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.test import override_settings
from hypothesis import given

from gcrypt_channels.sessions.login import NOBODY, Login, find_ended_logins, login_of, session_id
from gcrypt_channels.sessions.store import session_store
from tests.hostile import ANY_TEXT
from tests.visitors import site

MODEL_BACKEND = "django.contrib.auth.backends.ModelBackend"


class CustomBackend(BaseBackend):
    """Finds its users somewhere else, where carol is not to be found any more."""

    def get_user(self, user_id: Any) -> User | None:
        user: User | None = User.objects.filter(pk=user_id).exclude(username="carol").first()
        return user


class CountingBackend(CustomBackend):
    asked = 0

    def get_user(self, user_id: Any) -> User | None:
        CountingBackend.asked += 1
        return super().get_user(user_id)


class Gatekeeper(ModelBackend):
    """Lets in who is on the staff."""

    def user_can_authenticate(self, user: Any) -> bool:
        return bool(user.is_staff)


class SessionStore(SessionBase):
    """A session engine that nobody has ever heard of, which creates what it does not find."""

    stored: dict[str, dict[str, Any]] = {}  # noqa: RUF012 - it is the store
    written = 0

    def load(self) -> dict[str, Any]:
        if self.session_key not in self.stored:
            self.create()
            return {}
        return self.stored[self.session_key or ""]

    async def aload(self) -> dict[str, Any]:
        return self.load()

    def create(self) -> None:
        SessionStore.written += 1
        self._session_key = "x" * 32


@pytest.fixture
def alice(db: None) -> User:
    user: User = User.objects.create_user("alice", password="alice")
    return user


def log_in(user: User, backend: str = MODEL_BACKEND, *, store: Any = DatabaseStore) -> Login:
    session = store()
    session.update(
        {
            SESSION_KEY: str(user.pk),
            BACKEND_SESSION_KEY: backend,
            HASH_SESSION_KEY: user.get_session_auth_hash(),
        }
    )
    session.create()
    session.save()
    return async_to_sync(login_of)({"session": session, "user": user})


def test_a_login_holds_until_it_ends(alice: User) -> None:
    login = log_in(alice)
    assert login.verifiable
    assert find_ended_logins([login]) == set()
    DatabaseStore(login.session_key).delete()
    assert find_ended_logins([login]) == {login}


def test_nobody_has_nothing_that_could_end(db: None) -> None:
    assert not NOBODY.verifiable
    assert async_to_sync(login_of)({}) == NOBODY
    assert async_to_sync(login_of)({"user": AnonymousUser()}) == NOBODY
    assert find_ended_logins([NOBODY]) == set()


def test_a_login_shows_no_secret(alice: User) -> None:
    login = log_in(alice)
    assert login.session_key not in repr(login)
    assert alice.get_session_auth_hash() not in repr(login)
    assert login.session_key not in login.session_id


def test_only_what_ended_is_found_among_many(alice: User) -> None:
    logins = [log_in(alice) for _ in range(20)]
    for login in logins[::2]:
        DatabaseStore(login.session_key).delete()
    assert find_ended_logins(logins) == set(logins[::2])


def test_a_user_who_came_without_a_session_holds_while_the_account_does(alice: User) -> None:
    login = async_to_sync(login_of)({"user": alice})
    assert (login.user_id, login.session_key, login.in_database) == (str(alice.pk), "", True)
    assert find_ended_logins([login]) == set()
    User.objects.update(is_active=False)
    assert find_ended_logins([login]) == {login}
    User.objects.all().delete()
    assert find_ended_logins([login]) == {login}


def test_a_visitor_whose_session_once_was_a_login_is_a_visitor(alice: User) -> None:
    """The user was deactivated before: Channels says anonymous, and that is what holds."""
    login = log_in(alice)
    session = DatabaseStore(login.session_key)
    User.objects.update(is_active=False)
    visitor = async_to_sync(login_of)({"session": session, "user": AnonymousUser()})
    assert find_ended_logins([visitor]) == set()
    session.delete()
    assert find_ended_logins([visitor]) == {visitor}


def test_a_user_of_no_database_cannot_be_looked_up(db: None) -> None:
    class Token:
        pk = "7"
        is_authenticated = True

    login = async_to_sync(login_of)({"user": Token()})
    assert login.user_id == "7"
    assert not login.verifiable
    assert find_ended_logins([login]) == set()


def test_a_backend_that_left_the_settings_vouches_for_nobody(alice: User) -> None:
    assert find_ended_logins([login := log_in(alice, f"{__name__}.CustomBackend")]) == {login}


@pytest.mark.parametrize("name", ["alice", "carol"])
def test_a_backend_with_users_of_its_own_is_asked(db: None, settings: Any, name: str) -> None:
    settings.AUTHENTICATION_BACKENDS = [f"{__name__}.CustomBackend"]
    login = log_in(User.objects.create_user(name), f"{__name__}.CustomBackend")
    assert (find_ended_logins([login]) == {login}) == (name == "carol")


def test_a_backend_is_asked_once_for_a_user_with_many_logins(alice: User, settings: Any) -> None:
    settings.AUTHENTICATION_BACKENDS = [f"{__name__}.CountingBackend"]
    logins = [log_in(alice, f"{__name__}.CountingBackend") for _ in range(5)]
    CountingBackend.asked = 0
    assert find_ended_logins(logins) == set()
    assert CountingBackend.asked == 1


def test_who_may_act_is_for_the_backend_to_say(alice: User, settings: Any) -> None:
    everyone = f"{AllowAllUsersModelBackend.__module__}.AllowAllUsersModelBackend"
    staff = f"{__name__}.Gatekeeper"
    settings.AUTHENTICATION_BACKENDS = [everyone, staff]
    logins = [log_in(alice, everyone), log_in(alice, staff)]
    User.objects.update(is_active=False)
    assert find_ended_logins(logins) == {logins[1]}
    User.objects.update(is_staff=True)
    assert find_ended_logins(logins) == set()


@pytest.mark.parametrize("backend", [MODEL_BACKEND, f"{__name__}.CustomBackend"])
def test_a_primary_key_of_another_user_model_is_nobodys(
    alice: User, settings: Any, backend: str
) -> None:
    settings.AUTHENTICATION_BACKENDS = [backend]
    session = DatabaseStore()
    session.update({SESSION_KEY: "not a number", BACKEND_SESSION_KEY: backend})
    session.create()
    session.save()
    login = async_to_sync(login_of)({"session": session, "user": alice})
    assert find_ended_logins([login]) == {login}


def test_an_engine_from_elsewhere_is_read_and_never_written(alice: User, settings: Any) -> None:
    settings.SESSION_ENGINE = __name__
    SessionStore.stored["k" * 32] = {
        SESSION_KEY: str(alice.pk),
        BACKEND_SESSION_KEY: MODEL_BACKEND,
        HASH_SESSION_KEY: alice.get_session_auth_hash(),
    }
    scope = {"session": SessionStore("k" * 32), "user": alice}
    login = async_to_sync(login_of)(scope)
    assert find_ended_logins([login]) == set()
    SessionStore.stored.clear()
    assert find_ended_logins([login]) == {login}
    assert SessionStore.written == 0


def test_an_expired_file_is_read_and_not_replaced(alice: User, tmp_path: Path) -> None:
    with site("file", tmp_path):
        login = log_in(alice, store=session_store())
        before = sorted(tmp_path.iterdir())
        with override_settings(SESSION_COOKIE_AGE=-1):
            assert find_ended_logins([login]) == {login}
        assert sorted(tmp_path.iterdir()) == before


def test_a_session_key_names_its_session_and_does_not_show_it(alice: User) -> None:
    login = log_in(alice)
    assert session_id(login.session_key) == login.session_id


def test_a_cookie_that_is_no_session_names_none(settings: Any) -> None:
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
    assert session_id("nonsense") == ""


@given(cookie=ANY_TEXT)
@pytest.mark.parametrize("engine", ["db", "signed_cookies"])
def test_any_cookie_has_a_name_or_none(engine: str, cookie: str) -> None:
    with override_settings(SESSION_ENGINE=f"django.contrib.sessions.backends.{engine}"):
        name = session_id(cookie)
    assert name == "" if engine == "signed_cookies" or not cookie else len(name) == 64


# SECRET_KEY_FALLBACKS


def test_a_session_made_with_a_former_secret_key_holds_as_it_does_for_http(
    alice: User, settings: Any
) -> None:
    login = log_in(alice)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another one, and long enough for Django to accept it"
    assert find_ended_logins([login]) == set()
    settings.SECRET_KEY_FALLBACKS = []
    assert find_ended_logins([login]) == {login}
