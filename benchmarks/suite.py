"""Measures real servers, plain and encrypted, and compares the figures with the goals.

    python -m benchmarks.suite [--quick] [--write] [SCENARIO…]

All contestants of a scenario take turns in each round, on one server process. ``--quick`` takes a
few scenarios and three rounds (below two minutes). ``--write`` keeps the run: ``results.json`` and
``chart.svg`` beside this file, and the tables in ``README.md``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from .chart import chart
from .measuring import Bench, Sample, machine
from .scenarios import GOALS, SCENARIOS, Goal, Scenario

HERE: Final = Path(__file__).resolve().parent
README: Final = HERE / "README.md"
BEGIN, END = "<!-- what the suite wrote -->", "<!-- the end of what the suite wrote -->"
QUICK_ROUNDS: Final = 3
QUICK_SHARE: Final = 0.4
"""Of the seconds or broadcasts that a run of the whole suite takes."""

Results = dict[str, dict[str, dict[str, dict[str, list[float]]]]]
"""Figures of each round by scenario, server, contestant and name."""

UNITS: Final = {
    "cpu": "CPU, µs",
    "rate": "msgs/s",
    "p50": "p50, µs",
    "p99": "p99, µs",
    "client": "client's CPU, µs",
    "held": "loop held, ms",
    "memory": "memory, KiB",
    "import": "CPU, ms",
}


def measure(scenarios: Iterable[Scenario], *, quick: bool) -> Results:
    """Run everything; print a line for each scenario when it is done."""
    results: Results = {}
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory))
        try:
            for scenario in scenarios:
                for server in scenario.servers:
                    measured = _rounds(bench, scenario, server, quick=quick)
                    results.setdefault(scenario.name, {})[server] = measured
                    print(f"{scenario.title}, {server}: {_line(measured)}", flush=True)
        finally:
            bench.stop()
    return results


def _rounds(
    bench: Bench, scenario: Scenario, server: str, *, quick: bool
) -> dict[str, dict[str, list[float]]]:
    figures: dict[str, dict[str, list[float]]] = {}
    rounds = scenario.rounds
    if quick:
        rounds, scenario = QUICK_ROUNDS, replace(scenario, amount=QUICK_SHARE * scenario.amount)
    for number in range(-1, rounds):  # the first one only warms up
        for contestant in scenario.contestants:
            sample: Sample = scenario.measure(bench, scenario, server, contestant)
            if number >= 0:
                for name, value in sample.items():
                    figures.setdefault(contestant.name, {}).setdefault(name, []).append(value)
    return figures


def _line(measured: dict[str, dict[str, list[float]]]) -> str:
    parts = []
    for contestant, figures in measured.items():
        name = next(iter(figures))
        parts.append(f"{contestant} {statistics.median(figures[name]):.1f}")
    return " · ".join(parts)


# Tables


def spread(values: list[float], digits: int) -> str:
    """The median, and the least and the most behind it."""
    median, least, most = statistics.median(values), min(values), max(values)
    return f"{median:,.{digits}f} ({least:,.{digits}f} - {most:,.{digits}f})"


def goal_rows(results: Results) -> Iterator[str]:
    """The table of goals, as far as their scenarios were run."""
    yield "| goal | server | bound | measured, median (min - max) | |"
    yield "|---|---|--:|--:|---|"
    for goal in GOALS:
        for server, bound in goal.bounds.items():
            measured = results.get(goal.scenario, {}).get(server)
            if measured is None:
                continue
            values = _values(goal, measured)
            met = goal.is_met(statistics.median(values), server)
            sign = "≥" if goal.kind == "at least" else "≤"
            told = f"{sign} {bound:g}" if bound else ""
            verdict = ("met" if met else "**missed**") if bound else ""
            digits = 2 if goal.against is not None else 1
            place = server if server != "none" else ""
            yield f"| {goal.title} | {place} | {told} | {spread(values, digits)} | {verdict} |"


def _values(goal: Goal, measured: dict[str, dict[str, list[float]]]) -> list[float]:
    ours = measured[goal.contestant.name][goal.figure]
    against = goal.against
    return goal.values(ours, ours if against is None else measured[against.name][goal.figure])


def figure_rows(results: Results) -> Iterator[str]:
    """The table of everything that was measured."""
    yield "| work | server | contestant | " + " | ".join(UNITS.values()) + " |"
    yield "|---|---|---|" + "--:|" * len(UNITS)
    titles = {each.name: each.title for each in SCENARIOS}
    for name, servers in results.items():
        for server, measured in servers.items():
            for contestant, figures in measured.items():
                cells = [
                    f"{statistics.median(figures[unit]):,.0f}" if unit in figures else ""
                    for unit in UNITS
                ]
                place = server if server != "none" else ""
                yield f"| {titles[name]} | {place} | {contestant} | {' | '.join(cells)} |"


def report(results: Results, about: dict[str, str]) -> str:
    """The Markdown of a run."""
    versions = ", ".join(f"{name} {value}" for name, value in about.items())
    goals, figures = "\n".join(goal_rows(results)), "\n".join(figure_rows(results))
    return f"{goals}\n\nEvery figure is the median of its rounds.\n\n{figures}\n\n{versions}."


def draw(results: Results) -> str:
    """The chart of the first scenario."""
    groups = {
        f"{server}": {
            contestant: statistics.median(figures["cpu"])
            for contestant, figures in measured.items()
        }
        for server, measured in results["echo"].items()
    }
    return chart("Server CPU for one message of 100 B, there and back", groups)


def write(results: Results, about: dict[str, str]) -> None:
    """Keep the run beside this file."""
    document = {"machine": about, "results": results}
    (HERE / "results.json").write_text(json.dumps(document, indent=1) + "\n")
    (HERE / "chart.svg").write_text(draw(results))
    before, _, rest = README.read_text().partition(BEGIN)
    _, _, behind = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n\n{report(results, about)}\n\n{END}{behind}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure real servers, plain and encrypted.")
    parser.add_argument("--quick", action="store_true", help="a few scenarios, three rounds")
    parser.add_argument("--write", action="store_true", help="keep the run in this folder")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("scenario", nargs="*", help="the scenarios to run; by default all")
    options = parser.parse_args()
    unknown = set(options.scenario) - {each.name for each in SCENARIOS}
    if unknown:
        sys.exit(f"no such scenario: {', '.join(sorted(unknown))}")
    chosen = [
        each
        for each in SCENARIOS
        if (each.name in options.scenario if options.scenario else each.quick or not options.quick)
    ]
    results, about = measure(chosen, quick=options.quick), machine()
    print(report(results, about))
    if options.json:
        options.json.write_text(json.dumps({"machine": about, "results": results}, indent=1))
    if options.write:
        write(results, about)


if __name__ == "__main__":
    main()
