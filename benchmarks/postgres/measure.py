"""How long writes stand still, and whether any acknowledged commit is lost, over many primaries.

In turns the postmaster is killed (its shim starts it again) and everything of the primary with its
shim (another one has to be promoted); then planned switchovers. Writers commit all the time; the
outage is the longest time between two acknowledgements around each event. Patroni is quoted, not
measured: its documented defaults.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.figures import met, milliseconds, percentile
from benchmarks.ledger import Ledger
from benchmarks.options import Options, say
from benchmarks.postgres.cluster import Cluster, cluster, missing
from benchmarks.postgres.commits import writing
from benchmarks.processes import until
from benchmarks.recipe import UP_SECONDS
from benchmarks.results import Line, Table

COLUMNS = ("what happened", "times", "writes stood still", "p95", "longest", "commits lost")
OUTAGE_GOAL, STALL_GOAL = 5.0, 1.0
PATRONI = (
    ("Patroni's defaults: primary process ends", "-", "up to 10 s + restart", "-", "-", "-"),
    ("Patroni's defaults: primary host gone", "-", "30-40 s", "-", "-", "-"),
)


def measure(options: Options) -> Table:
    """Medians, and every acknowledged commit asked for at the end of each part."""
    why = missing()
    if why:
        raise SystemExit(why)
    kills, switches = options.size((50, 10), (4, 2))
    folder = Path(tempfile.mkdtemp(prefix="volery-bench-"))
    with cluster(folder) as made, writing(made.port) as ledger:
        until(lambda: len(ledger.commits) > 20, "commits are acknowledged", UP_SECONDS)
        parts = {
            "postmaster killed": _part(made, ledger, kills // 2, made.kill),
            "primary and its shim killed": _part(made, ledger, kills - kills // 2, made.destroy),
            "planned switchover": _part(made, ledger, switches, lambda _: _switch(made)),
        }
        lost = ledger.lost()
    rows = [_row(name, outages, len(lost)) for name, outages in parts.items()]
    killed = [*parts["postmaster killed"], *parts["primary and its shim killed"]]
    stalls = parts["planned switchover"]
    goals = (
        f"a killed primary under {OUTAGE_GOAL:g} s (met: {met(max(killed) < OUTAGE_GOAL)})",
        f"a switchover under {STALL_GOAL:g} s (met: {met(max(stalls) < STALL_GOAL)}; the median: "
        f"{met(percentile(stalls, 0.5) < STALL_GOAL)})",
        f"no commit lost (met: {met(not lost)})",
    )
    notes = (
        f"{len(ledger.commits)} commits were acknowledged, {len(lost)} of them lost.",
        f"Goals: {', '.join(goals)}.",
        "Patroni: ttl 30 s, loop_wait 10 s, retry_timeout 10 s; its leader key has to expire before"
        " anybody else may be promoted.",
    )
    return Table(COLUMNS, [*rows, *PATRONI], notes)


def _switch(made: Cluster) -> None:
    made.volery("switchover", "orders-db")


def _part(made: Cluster, ledger: Ledger, times: int, hurt: Callable[[str], None]) -> list[float]:
    outages = []
    for number in range(1, times + 1):
        primary = made.primary
        began = time.monotonic()
        hurt(primary)
        until(partial(ledger.written_after, time.monotonic()), "commits go on", UP_SECONDS)
        made.rest()
        outages.append(ledger.outage(began))
        say(f"{number} of {times}: {primary}, {milliseconds(outages[-1])}")
    return outages


def _row(name: str, outages: list[float], lost: int) -> Line:
    return (
        name,
        str(len(outages)),
        milliseconds(percentile(outages, 0.5)),
        milliseconds(percentile(outages, 0.95)),
        milliseconds(max(outages)),
        str(lost),
    )
