from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.servers import Redis

# A loaded machine is not a failure. The parent is hypothesis's own choice: in CI it is repeatable.
settings.register_profile("tests", settings(), deadline=None)
settings.load_profile("tests")


@pytest.fixture(scope="session")
def redis() -> Iterator[Redis]:
    """A redis-server for all tests that do not stop it."""
    with Redis() as server:
        yield server
