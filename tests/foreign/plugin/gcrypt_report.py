"""A pytest plugin that writes what became of each test into the file `GCRYPT_FOREIGN_REPORT`.

The file is JSON: `outcomes`, where a test that its suite lets fail has passed, and `encrypted`, the
number of connections or channel layers with our encryption in them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

encrypted: list[object] = []
_outcomes: dict[str, str] = {}


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        _outcomes[report.nodeid] = "failed"


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note the worst of a test's three phases."""
    outcome = "passed" if hasattr(report, "wasxfail") else report.outcome
    ended = report.when == "call" or outcome != "passed"
    if ended and _outcomes.get(report.nodeid) != "failed":
        _outcomes[report.nodeid] = outcome


def pytest_sessionfinish() -> None:
    report = {"outcomes": _outcomes, "encrypted": len(encrypted)}
    Path(os.environ["GCRYPT_FOREIGN_REPORT"]).write_text(json.dumps(report), "utf-8")
