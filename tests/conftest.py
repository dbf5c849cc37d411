from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from hypothesis import settings

from gcrypt_channels.crypto import primitives
from tests.servers import Redis, Site, demo_site, reserve_port
from tests.teardowns import pytest_runtest_teardown  # noqa: F401 - a hook of this suite
from tests.visitors import ENGINES, site

# A loaded machine is not a failure. The parent is hypothesis's own choice: in CI it is repeatable.
settings.register_profile("tests", settings(), deadline=None)
settings.load_profile("tests")


@pytest.fixture(scope="session")
def redis() -> Iterator[Redis]:
    """A redis-server for all tests that do not stop it."""
    with Redis() as server:
        yield server


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that refuses connections, however long the test takes."""
    with closing(reserve_port()) as reserved:
        yield reserved.getsockname()[1]


@pytest.fixture(scope="session")
def demo_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database of the demo with both users and drawn secrets, to be copied."""
    return demo_site(tmp_path_factory.mktemp("demo")).directory


def copied(files: Path, directory: Path) -> Site:
    return Site(shutil.copytree(files, directory, dirs_exist_ok=True), env={"DEMO": "0"})


@pytest.fixture
def demo(demo_files: Path, tmp_path: Path) -> Site:
    """The demo project with a database of this test's own, in which alice and bob exist."""
    return copied(demo_files, tmp_path / "demo")


@pytest.fixture(scope="module")
def shared_demo(demo_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The same for all tests of a module."""
    return copied(demo_files, tmp_path_factory.mktemp("demo"))


@pytest.fixture
def no_ml_kem(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A `cryptography` that is too old for ML-KEM-768."""
    module = "cryptography.hazmat.primitives.asymmetric.mlkem"
    monkeypatch.setitem(sys.modules, module, None)  # to import it is an ImportError
    primitives.mlkem768_available.cache_clear()
    yield
    primitives.mlkem768_available.cache_clear()


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
