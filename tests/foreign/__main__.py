"""Runs the suites that are named, or all, in each mode; prints a table.

The exit status is 0 when everything was as expected, 1 when something was not, and 77 when
nothing was run.
"""

from __future__ import annotations

import sys

from tests.foreign.runner import differences, run
from tests.foreign.suites import SUITES, NotAvailableError

NOT_RUN = 77


def main(names: list[str]) -> int:
    counts = dict.fromkeys(("as expected", "failed", "not run"), 0)
    for name in names or SUITES:
        suite = SUITES[name]
        for mode in suite.modes:
            row = f"{name} {suite.version} {mode}"
            try:
                report = run(suite, mode)
            except NotAvailableError as error:
                print(f"{row:<48} not run: {error}")
                counts["not run"] += 1
                continue
            unexpected = differences(name, mode, report)
            verdict = "failed" if unexpected else "as expected"
            counts[verdict] += 1
            passed = sum(each == "passed" for each in report.outcomes.values())
            figures = f"{passed:>3} of {len(report.outcomes):>3} passed"
            encrypted = f"{report.encrypted:>3} times encrypted"
            print(f"{row:<48} {figures}, {encrypted}: {verdict}", flush=True)
            for difference in unexpected:
                print(f"    {difference}")
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    if counts["failed"]:
        return 1
    return 0 if counts["as expected"] else NOT_RUN


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
