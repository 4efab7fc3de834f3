"""What every table and every age on the terminal is made of."""

from __future__ import annotations

import sys
from collections.abc import Collection
from datetime import UTC, datetime

from rich.table import Table

from volery.cli.show.console import out
from volery.model.units import format_duration

FOLDED_WIDTH = 20
"""A column that is folded is never narrower than this."""
ANY_WIDTH = 100_000


def table(*columns: str, fold: Collection[str] = ()) -> Table:
    """An empty table without lines. Columns in `fold` have more than one line where a terminal is
    narrow."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        made.add_column(column, no_wrap=column not in fold, overflow="fold")
    return made


def print_table(made: Table) -> None:
    """Print all of it: a name that is cut off is of no use. Where a terminal is too narrow even so
    its lines are wrapped by the terminal; elsewhere a row is one line, however long."""
    console = out()
    far = console.options.update(max_width=ANY_WIDTH)
    needed = console.measure(made, options=far).maximum
    if sys.stdout.isatty():
        folded = [list(column.cells) for column in made.columns if not column.no_wrap]
        wide = [max(console.measure(cell, options=far).maximum for cell in one) for one in folded]
        needed -= sum(max(0, each - FOLDED_WIDTH) for each in wide)
    made.width = needed if needed > console.width else None
    with console.capture() as shown:
        console.print(made)
    print("\n".join(line.rstrip() for line in shown.get().splitlines()))


def age(moment: str | None) -> str:
    """How long ago an RFC 3339 time was."""
    if not moment:
        return "-"
    then = datetime.fromisoformat(moment)
    return format_duration(max(0, round((datetime.now(UTC) - then).total_seconds())))
