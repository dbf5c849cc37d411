"""A test that takes long to clean up fails: what hangs at the end must not pass for slow."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

LIMIT = 5.0
"""Seconds for all that a test tears down, the fixtures of its module and session included.

``@pytest.mark.teardown(limit=…)`` gives a test another limit.
"""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    started = time.monotonic()
    yield
    took = time.monotonic() - started
    marker = item.get_closest_marker("teardown")
    limit = LIMIT if marker is None else marker.kwargs["limit"]
    if took > limit:
        pytest.fail(f"the teardown of {item.nodeid} took {took:.1f} s, more than {limit} s")
