"""The table of figures that a run of these tests prints at its end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.garage import Garage

TABLE = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def garage() -> Iterator[Garage]:
    with Garage() as garage:
        yield garage


@pytest.fixture(scope="session")
def table(pytestconfig: pytest.Config) -> list[str]:
    """Lines to print at the end of the session."""
    return pytestconfig.stash.setdefault(TABLE, [])


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if lines := config.stash.get(TABLE, []):
        terminalreporter.section("faults")
        for line in lines:
            terminalreporter.write_line(line)
