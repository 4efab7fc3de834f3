"""`python -m benchmarks.canary [--rounds N] [--quick] [--only TEXT] [--write]`: measure, print."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.canary.cases import BAD, GOOD, QUICK, Case
from benchmarks.canary.measure import KNOWN_SECONDS, rounds
from benchmarks.canary.outcome import Outcome, table
from benchmarks.canary.picture import picture
from benchmarks.results import markdown, text, with_section
from benchmarks.svg import Line

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "benchmarks-canary.md"
PLOTS = DOCS / "plots"
Looks = Sequence[tuple[float, Mapping[str, Any]]]


def main() -> None:
    """Measure every case in every round."""
    given = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    where = f"{machine.description()}; {machine.load()}"
    asked = QUICK if given.quick else (*BAD, *GOOD)
    cases = tuple(case for case in asked if not given.only or any(map(case.name.count, given.only)))
    known = KNOWN_SECONDS / 4 if given.quick else KNOWN_SECONDS
    found: dict[Case, list[Outcome]] = {case: [] for case in cases}
    looks: dict[Case, Looks] = {}
    for case, watched in rounds(cases, 1 if given.quick else given.rounds, known):
        found[case].append(watched.outcome)
        looks[case] = watched.looks
    results = table(found)
    print(f"\n{text(results)}\n{where}\n", flush=True)
    if given.write:
        said = f"Measured {datetime.now(UTC):%Y-%m-%d} on: {where}."
        page = with_section(PAGE.read_text(), "canary", f"{markdown(results)}\n\n{said}")
        PAGE.write_text(page)
        _draw(looks)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.canary", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often (default 3)")
    parser.add_argument("--quick", action="store_true", help="three cases, once")
    parser.add_argument("--only", action="append", help="cases whose name has this in it")
    parser.add_argument("--write", action="store_true", help=f"rewrite {PAGE.name} and its plots")
    return parser.parse_args()


def _draw(looks: Mapping[Case, Looks]) -> None:
    """Evidence over time: of the release that fails a tenth, and of the good one."""
    PLOTS.mkdir(exist_ok=True)
    for case, seen in looks.items():
        if case is BAD[3]:
            curves = _curves(seen, "evidence")
            title = f"Evidence against a release: {case.name}"
            (PLOTS / "canary-bad.svg").write_text(picture(title, curves, 100, _steps(seen)))
        if case is GOOD[0]:
            curves = _curves(seen, "confidence")
            title = f"Evidence in favour of a release: {case.name}"
            (PLOTS / "canary-good.svg").write_text(picture(title, curves, 20, _steps(seen)))


def _curves(seen: Looks, value: str) -> list[Line]:
    names = ("errors", "p50", "p90", "p99")
    points: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for at, rollout in seen:
        for line in rollout["evidence"]:
            if line["metric"] in points and rollout["cause"] == "deploy":
                points[line["metric"]].append((at, line[value]))
    return [Line(name, found) for name, found in points.items() if found]


def _steps(seen: Looks) -> list[float]:
    """When each step began."""
    began: dict[int, float] = {}
    for at, rollout in seen:
        if rollout["cause"] == "deploy" and rollout["step"]:
            began.setdefault(rollout["step"], at)
    return list(began.values())


if __name__ == "__main__":
    main()
