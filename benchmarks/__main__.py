"""`./task bench [NAME...] [--quick] [--write] [--cache FOLDER]`: measure, print, write down."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import deploys, footprint, gateway, heal, machine, storm, storm_of_heals, xds
from benchmarks.options import Options, say
from benchmarks.postgres import measure as postgres
from benchmarks.results import Table, markdown, text, with_section

DOCS = Path(__file__).parent.parent / "docs"
RESILIENCE = "benchmarks-resilience.md"
PAGES = {"storm": RESILIENCE, "storm-of-heals": RESILIENCE, "postgres": RESILIENCE}
"""Where results go that do not belong on `benchmarks.md`."""
BENCHMARKS: Mapping[str, Callable[[Options], Table]] = {
    "deploys": deploys.measure,
    "gateway": gateway.measure,
    "heal": heal.measure,
    "footprint": footprint.measure,
    "xds": xds.measure,
    "storm-of-heals": storm_of_heals.measure,
    "postgres": postgres.measure,
    "storm": storm.measure,
}


def main() -> None:
    """Measure what was asked for, one after the other."""
    given = _arguments()
    # What was started must end and what was written must go, also when it is told to stop.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    options = Options(given.cache.expanduser(), given.quick)
    for name in given.names or BENCHMARKS:
        say(f"{name}: measuring ...")
        where = f"{machine.description()}; {machine.load()}"
        table = BENCHMARKS[name](options)
        print(f"\n{name}\n{text(table)}\n{where}\n", flush=True)
        if given.write:
            _write(name, table, where)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./task bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="little of everything")
    parser.add_argument("--write", action="store_true", help="rewrite the pages of results")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "volery-bench"
    parser.add_argument("--cache", type=Path, default=cache, help="where peers are installed")
    given = parser.parse_args()
    unknown = [name for name in given.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    return given


def _write(name: str, table: Table, where: str) -> None:
    said = f"Measured {datetime.now(UTC):%Y-%m-%d} on: {where}."
    path = page_of(name)
    path.write_text(with_section(path.read_text(), name, f"{markdown(table)}\n\n{said}"))
    for picture, svg in table.pictures.items():
        (DOCS / "plots" / picture).write_text(svg)


def page_of(name: str) -> Path:
    """The page with the results of a benchmark."""
    return DOCS / PAGES.get(name, "benchmarks.md")


if __name__ == "__main__":
    main()
