"""What came of one deploy: times, harm and loss, from the servers' book and users' report. Pure.

The *book* is what the servers wrote about every request; see `services/bird.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median

from benchmarks.canary.cases import Case
from benchmarks.figures import met
from benchmarks.results import Line, Table

ITS_OWN = "status_500"
COLUMNS = (
    "release",
    "ended as it should",
    "traffic off, s",
    "worst",
    "deploy, s",
    "worst",
    "users harmed",
    "worst",
    "lost by the machinery",
    "goal, s",
    "met",
)


@dataclass(frozen=True)
class Outcome:
    """One deploy: exit code, seconds of the command, seconds from the first to the last request of
    the new release, requests it harmed, requests lost on the way, and how it was explained."""

    code: int
    seconds: float
    exposed: float
    harmed: int
    lost: int
    reason: str


@dataclass(frozen=True)
class Entry:
    """One request in the book."""

    at: float
    version: str
    harmed: bool


def entries(lines: Iterable[str]) -> list[Entry]:
    """The book, read."""
    found = []
    for line in lines:
        at, version, harmed = line.split()
        found.append(Entry(float(at), version, harmed == "1"))
    return found


def outcome(
    case: Case,
    mine: list[Entry],
    causes: Mapping[str, int],
    *,
    code: int,
    seconds: float,
    reason: str,
) -> Outcome:
    """What came of it, from the entries of the new release and users' failures by cause."""
    exposed = mine[-1].at - mine[0].at if mine else 0.0
    strange = sum(number for cause, number in causes.items() if cause != ITS_OWN)
    harmed = sum(entry.harmed for entry in mine)
    if case.harms_all:
        return Outcome(code, seconds, exposed, sum(causes.values()), 0, reason)
    return Outcome(code, seconds, exposed, harmed, strange, reason)


def table(found: Mapping[Case, list[Outcome]]) -> Table:
    """A row for each case: the median and the worst of all rounds."""
    rows = [_row(case, outcomes) for case, outcomes in found.items()]
    lost = sum(one.lost for outcomes in found.values() for one in outcomes)
    rounds = max((len(outcomes) for outcomes in found.values()), default=0)
    notes = (
        f"{rounds} round{'s' if rounds != 1 else ''}. Requests lost by the machinery: {lost};"
        f" goal 0, met: {met(lost == 0)}.",
    )
    return Table(COLUMNS, rows, notes)


def _row(case: Case, outcomes: list[Outcome]) -> Line:
    exposed = [one.exposed for one in outcomes]
    seconds = [one.seconds for one in outcomes]
    harmed = [one.harmed for one in outcomes]
    right = sum(one.code == (0 if case.good else 3) for one in outcomes)
    held = max(seconds if case.good else exposed) < case.goal and right == len(outcomes)
    return (
        case.name,
        f"{right} of {len(outcomes)}",
        *(("-", "-") if case.good else (f"{median(exposed):.1f}", f"{max(exposed):.1f}")),
        f"{median(seconds):.1f}",
        f"{max(seconds):.1f}",
        f"{median(harmed):.0f}",
        f"{max(harmed)}",
        str(sum(one.lost for one in outcomes)),
        f"{case.goal:g}",
        met(held),
    )
