"""The statistical benchmark of the judge, in one command:

    .venv/bin/python -m benchmarks.judge --quick      # minutes; rough numbers
    .venv/bin/python -m benchmarks.judge              # about an hour on one core
    .venv/bin/python -m benchmarks.judge --tables     # only the pages, from the last results

Simulates services in kind and unkind traffic, lets the judge and the rules of others look at the
very same rollouts, and writes what they did into docs/benchmarks-judge.md and docs/plots/. The raw
numbers stay in benchmarks/judge/results.json. Seeds are fixed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unit.decide.judge.world import Regression

from benchmarks.judge import measure, starts, tables
from benchmarks.judge.cost import costs
from benchmarks.judge.measure import Size

RESULTS = Path(__file__).parent / "results.json"
PARTS = ("healthy", "bad", "starts", "promotion", "plots", "cost")
RUNS, QUICK_RUNS = 400, 40
HOUR = 3600
BAD_RELEASES = (
    Regression(),
    Regression(errors=0.1),
    Regression(errors=0.02),
    Regression(slower=2.0),
    Regression(tail=4.0),
)


def measured(part: str, size: Size, results: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rows of one part; what it needs of the others is in `results`."""
    limits = {row["config"]: row["limits"] for row in results if row.get("limits")}
    if part == "cost":
        yield costs()
    elif part == "promotion":
        yield from measure.promotion(size.runs)
    elif part == "healthy":
        yield from measure.healthy(size)
        yield from measure.same_age(size)
    elif part == "starts":
        yield from starts.healthy(size.runs)
        yield from starts.bad(size.bad_runs)
    elif part == "bad":
        yield from measure.bad(size, limits)
    else:
        scores = measure.over_time("B", BAD_RELEASES, 300)
        names = ["good", *(measure.what(bad) for bad in BAD_RELEASES[1:])]
        yield {"kind": "plots", "scores": dict(zip(names, scores, strict=True))}


def main() -> None:
    """Measure what is asked for, keep the numbers, write the pages."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.judge")
    parser.add_argument("--runs", type=int, default=RUNS, help="simulated rollouts of a kind")
    parser.add_argument("--quick", action="store_true", help=f"the same as --runs {QUICK_RUNS}")
    parser.add_argument("--tables", action="store_true", help="measure nothing")
    parser.add_argument("--only", choices=PARTS, help="measure one part again")
    options = parser.parse_args()
    runs = QUICK_RUNS if options.quick else options.runs
    size = Size(runs, bad_runs=max(runs // 2, 20), seconds=HOUR, bad_seconds=HOUR)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    for part in () if options.tables else (options.only,) if options.only else PARTS:
        results = [row for row in results if row["kind"] != part]
        for row in measured(part, size, results):
            results.append(row)
            print(json.dumps(row)[:200], flush=True)
            RESULTS.write_text(json.dumps(results, indent=None, separators=(",", ":")))
    tables.write(results)


if __name__ == "__main__":
    main()
