"""Runs what takes too long for `make test`, and prints a table: `python -m scripts.campaign`.

With words as arguments it runs only the lines whose names hold one of them. What a line prints is
in `build/campaign/`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.foreign.__main__ import NOT_RUN
from tests.foreign.suites import SUITES
from tests.fuzz import NAMES

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / "build" / "campaign"
VERDICTS = {0: "passed", NOT_RUN: "not run"}  # by exit status; every other one is a failure


@dataclass(frozen=True)
class Line:
    """A line of the table: what is tried, how often, and the `python -m` command that does so."""

    name: str
    figure: str
    command: str
    env: dict[str, str] = field(default_factory=dict)


PYTEST = "pytest -q -o faulthandler_timeout=0"
HISTORIES, ISOLATION = "tests/sessions/test_histories.py", "tests/test_isolation.py"
FAULTS = {
    "layer": "14 on 4 sites",
    "stores": "6 on 4 sites",
    "workers": "6 on 4 sites",
}

LINES = [
    Line("session histories", "10,000 per engine", f"{PYTEST} {HISTORIES}", {"HISTORIES": "10000"}),
    Line(
        "histories of groups",
        "100 per layer, 500 messages each",
        f"{PYTEST} tests/faults/test_histories.py",
        {"HISTORIES": "100"},
    ),
    Line(
        "histories between processes",
        "100 per layer, 500 messages each",
        f"{PYTEST} -m cluster tests/faults/test_members.py",
        {"HISTORIES": "100"},
    ),
    Line("frames elsewhere", "50 users, every pair", f"{PYTEST} {ISOLATION}", {"CALLERS": "50"}),
    Line("servers at SIGTERM", "11 more ways to serve", f"{PYTEST} -m campaign tests/hub"),
    *(
        Line(f"faults of {what}", figure, f"{PYTEST} -m cluster tests/faults/test_{what}.py")
        for what, figure in FAULTS.items()
    ),
    Line(
        "WebKitGTK",
        "its best profile, v2, v1",
        f"{PYTEST} -m campaign tests/browser/test_webkit.py",
    ),
    *(
        Line(
            f"browser client on Node {version}", "source and built", f"scripts.node_tests {version}"
        )
        for version in (20, 22, 24, 26)
    ),
    *(
        Line(f"fuzzing of {name}", "20 million inputs", f"tests.fuzz 20000000 {name}")
        for name in NAMES
    ),
    *(
        Line(f"suite of {name}", f"{len(suite.modes)} modes", f"tests.foreign {name}")
        for name, suite in SUITES.items()
    ),
]


def run(line: Line) -> tuple[str, str, float]:
    """The verdict, the last thing that the line printed, and the seconds it took."""
    log = LOGS / f"{line.name.replace(' ', '-')}.log"
    started = time.monotonic()
    with log.open("w") as output:
        status = subprocess.run(
            [sys.executable, "-m", *line.command.split()],
            cwd=ROOT,
            env={**os.environ, **line.env},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    printed = log.read_text("utf-8").split("\n")
    last = next((each.strip() for each in reversed(printed) if each.strip()), "")
    return VERDICTS.get(status, "FAILED"), last, time.monotonic() - started


def main(words: list[str]) -> int:
    LOGS.mkdir(parents=True, exist_ok=True)
    chosen = [line for line in LINES if not words or any(word in line.name for word in words)]
    if not chosen:
        print(f"no line of the campaign holds {' or '.join(words)}", file=sys.stderr)
        return 2
    rows = []
    for line in chosen:
        print(f"=== {line.name}", flush=True)
        verdict, last, seconds = run(line)
        print(f"{verdict}: {last}", flush=True)
        rows.append((line, verdict, last, seconds))
    print("\n=== campaign ===")
    for line, verdict, last, seconds in rows:
        print(f"{line.name:<38} {line.figure:<22} {verdict:<8} {seconds:>6.0f} s  {last}")
    return int(any(verdict == "FAILED" for _, verdict, _, _ in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
