from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from channels.testing import ApplicationCommunicator, WebsocketCommunicator
from django.contrib.auth.models import User
from hypothesis import settings

from gcrypt_channels.testing import EncryptedWebsocketCommunicator
from tests.servers import Redis
from tests.visitors import ENGINES, site

# A loaded machine is not a failure. The parent is hypothesis's own choice: in CI it is repeatable.
settings.register_profile("tests", settings(), deadline=None)
settings.load_profile("tests")


def _be_patient(*methods: Callable[..., object]) -> None:
    """Give communicators a minute instead of their one second; only a failing test waits for it."""
    for method in methods:
        defaults = tuple(60 if each == 1 else each for each in method.__defaults__ or ())
        method.__defaults__ = defaults


_be_patient(
    ApplicationCommunicator.receive_output,
    ApplicationCommunicator.wait,
    EncryptedWebsocketCommunicator.receive_output,
    WebsocketCommunicator.connect,
    WebsocketCommunicator.disconnect,
    WebsocketCommunicator.receive_from,
    WebsocketCommunicator.receive_json_from,
)


@pytest.fixture(scope="session")
def redis() -> Iterator[Redis]:
    """A redis-server for all tests that do not stop it."""
    with Redis() as server:
        yield server


@pytest.fixture
def users(transactional_db: None) -> None:
    """Alice and bob, in a database that sockets can read."""
    for name in ("alice", "bob"):
        User.objects.create_user(name, password=name)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path: Path, users: None) -> Iterator[str]:
    """A site for each session engine."""
    with site(request.param, tmp_path):
        yield request.param


@pytest.fixture
def db_engine(tmp_path: Path, users: None) -> Iterator[None]:
    """A site whose sessions live in the database."""
    with site("db", tmp_path):
        yield
