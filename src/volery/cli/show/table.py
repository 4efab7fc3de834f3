"""What every table and every age on the terminal is made of."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.table import Table

from volery.model.units import format_duration


def table(*columns: str) -> Table:
    """An empty table without lines."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        made.add_column(column, no_wrap=True)
    return made


def age(moment: str | None) -> str:
    """How long ago an RFC 3339 time was."""
    if not moment:
        return "-"
    then = datetime.fromisoformat(moment)
    return format_duration(max(0, round((datetime.now(UTC) - then).total_seconds())))
