from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import Redis


@pytest.fixture(scope="session")
def redis() -> Iterator[Redis]:
    """A redis-server for all tests that do not stop it."""
    with Redis() as server:
        yield server
