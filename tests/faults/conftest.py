"""The table of figures that a run of these tests prints at its end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.garage import Garage

IN_EVERY_RUN = {"test_histories.py", "test_planted.py"}

TABLE = pytest.StashKey[list[str]]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep what starts a site for the campaign, until it has run often enough to be trusted.

    What proves that the checks can fail is tried in every run, and so is a short random history.
    """
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and item.path.name not in IN_EVERY_RUN:
            item.add_marker(pytest.mark.campaign)


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
