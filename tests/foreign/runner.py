"""Runs one suite in one mode, in a process of its own, and compares with what is expected."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.foreign.suites import HERE, Suite
from tests.servers import Redis

TIMEOUT = 900.0
"""Seconds for one run of one suite."""

EXPECTED: list[dict[str, Any]] = json.loads((HERE / "differences.json").read_text("utf-8"))
"""What does not pass: `tests` of a `suite` in the `modes`, all for one `reason`.

Where `race` is true they may pass as well.
"""


@dataclass(frozen=True)
class Report:
    """The outcome of each test, and how many connections or layers were encrypted."""

    outcomes: dict[str, str]
    encrypted: int


def run(suite: Suite, mode: str) -> Report:
    """Run the tests of `suite`.

    Raises:
        NotAvailableError: the suite's archive cannot be had here.
        RuntimeError: the run broke off.
    """
    with TemporaryDirectory() as directory, Redis() as redis:
        unpacked, ours, report = (Path(directory, name) for name in ("suite", "ours", "report"))
        root = suite.unpack(unpacked)
        ours.mkdir()  # the package without `tests` beside it, since theirs is called so as well
        (ours / "gcrypt_channels").symlink_to(HERE.parent.parent / "gcrypt_channels")
        outside = {key: value for key, value in os.environ.items() if "DJANGO" not in key}
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-p", "gcrypt_report", "-p", suite.plugin),
                *("-p", "no:cacheprovider", "-o", "addopts=", f"--rootdir={root}"),
                *suite.arguments,
            ],
            cwd=root,
            env={
                **outside,
                "PYTHONPATH": os.pathsep.join(map(str, (root, ours, HERE / "plugin"))),
                "REDIS_URL": redis.url,
                "GCRYPT_FOREIGN_MODE": mode,
                "GCRYPT_FOREIGN_REPORT": str(report),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        if done.returncode not in (0, 1) or not report.exists():
            raise RuntimeError(f"the run of {suite.name} broke off:\n{done.stdout}")
        return Report(**json.loads(report.read_text("utf-8")))


def differences(suite: str, mode: str, report: Report) -> list[str]:
    """Where `report` is not what is expected."""
    outcomes = report.outcomes
    expected, races = set[str](), set[str]()
    for each in EXPECTED:
        if each["suite"] == suite and mode in each["modes"]:
            (races if each.get("race") else expected).update(each["tests"])
    differ = {test for test, outcome in outcomes.items() if outcome != "passed"} - races
    return [
        *(["nothing was encrypted"] if mode != "plain" and not report.encrypted else []),
        *(f"{outcomes[test]}: {test}" for test in sorted(differ - expected)),
        *(f"passed, and is not expected to: {test}" for test in sorted(expected - differ)),
        *(f"is not there: {test}" for test in sorted((races | expected) - set(outcomes))),
    ]
