"""A cell as a row: what users lost, how soon it was out and well, and why so. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from benchmarks.faults.cases import Cell
from benchmarks.faults.cell import Seen
from benchmarks.figures import milliseconds
from benchmarks.results import Line, Table
from volery.prober import ProbeReport

COLUMNS = ("service", "fault", "load", "sent", "failed", "out", "well", "Volery did", "explained")
UNSEEN = "-"


def table(found: Mapping[Cell, Sequence[Seen]]) -> Table:
    """Every cell, medians of its rounds."""
    return Table(COLUMNS, [row(cell, seen) for cell, seen in found.items()], NOTES)


NOTES = (
    "*failed* by kind of request, with causes; *out*: the last moment a victim was sent a request;"
    " *well*: every instance is ready again and the victim is replaced. Medians of all rounds.",
)


def key(cell: Cell) -> Line:
    """The cells of a row that say which one it is."""
    return cell.kind, cell.fault.name, f"{cell.load:g}/s"


def row(cell: Cell, seen: Sequence[Seen]) -> Line:
    """One cell."""
    reports = [item.report for item in seen if item.report is not None]
    return (
        *key(cell),
        str(sum(report.sent for report in reports)),
        "; ".join(map(failed, reports)) or UNSEEN,
        when([item.out for item in seen]),
        when([item.well for item in seen]),
        _did(seen[-1]),
        cell.fault.because,
    )


def failed(report: ProbeReport) -> str:
    """By stream, with the causes."""
    lost = [
        f"{stream.name} {stream.failed} ({', '.join(f'{k} {v}' for k, v in stream.causes.items())})"
        for stream in report.streams
        if stream.failed
    ]
    return ", ".join(lost) or "0"


def when(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return milliseconds(median(known)) if known and len(known) == len(values) else UNSEEN


def _did(seen: Seen) -> str:
    """The kinds of events, in order, each once, with how often."""
    kinds: dict[str, int] = {}
    for event in seen.events:
        kind = str(event["kind"]).removeprefix("instance.")
        kinds[kind] = kinds.get(kind, 0) + 1
    return ", ".join(f"{kind}{f' x{n}' if n > 1 else ''}" for kind, n in kinds.items()) or "nothing"
