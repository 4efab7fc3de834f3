"""`python -m benchmarks.faults [--rounds N] [--only TEXT] [--beside] [--write]`."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

from benchmarks import machine
from benchmarks.faults import beside
from benchmarks.faults.bed import bed
from benchmarks.faults.cases import Cell, cells
from benchmarks.faults.cell import Seen, run
from benchmarks.faults.outcome import key, row, table
from benchmarks.options import Options, say
from benchmarks.results import Table, markdown, parsed, section, text, with_section

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks-resilience.md"


def main() -> None:
    """Every cell in every round."""
    given = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    where = f"{machine.description()}; {machine.load()}"
    if given.beside:
        _report("beside", beside.measure(Options(given.cache.expanduser())), where, given.write)
        return
    chosen = [cell for cell in cells(given.quick) if given.only in f"{cell.kind} {cell.fault.name}"]
    found: dict[Cell, list[Seen]] = {cell: [] for cell in chosen}
    for number in range(1, given.rounds + 1):
        for these, alike in groupby(chosen, lambda cell: (cell.kind, cell.load)):
            say(f"round {number} of {given.rounds}: {these[0]}, {these[1]:g} requests a second")
            _measure(list(alike), found)
    _report("faults", _beside_others(table(found)), where, given.write)


def _beside_others(measured: Table) -> Table:
    """With the rows of the page that were not measured anew."""
    page = section(PAGE.read_text(), "faults")
    if not page:
        return measured
    rows = {row[:3]: row for row in (*parsed(page).rows, *measured.rows)}
    known = [(cell, rows.get(key(cell))) for cell in cells(quick=False)]
    kept = [(*row[:-1], cell.fault.because) for cell, row in known if row]
    return Table(measured.columns, kept, measured.notes)


def _report(name: str, results: Table, where: str, write: bool) -> None:
    print(f"\n{text(results)}\n{where}\n", flush=True)
    if write:
        said = f"Measured {datetime.now(UTC):%Y-%m-%d} on: {where}."
        page = with_section(PAGE.read_text(), name, f"{markdown(results)}\n\n{said}")
        PAGE.write_text(page)


def _measure(alike: Sequence[Cell], found: dict[Cell, list[Seen]]) -> None:
    with bed(alike[0].kind) as made:
        for cell in alike:
            seen = run(made, cell)
            found[cell].append(seen)
            say(" | ".join(row(cell, [seen])[1:-1]))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1, help="how often (default 1)")
    parser.add_argument("--only", default="", help="cells whose kind and fault contain this")
    parser.add_argument("--quick", action="store_true", help="two cells, to see that it works")
    parser.add_argument("--write", action="store_true", help=f"rewrite its part of {PAGE.name}")
    parser.add_argument("--beside", action="store_true", help="three faults, beside other keepers")
    cache = Path("~/.cache/volery-bench")
    parser.add_argument("--cache", type=Path, default=cache, help="where peers are installed")
    return parser.parse_args()


if __name__ == "__main__":
    main()
