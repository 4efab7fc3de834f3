"""Watches one cell: breaks something under load and sees who noticed, and when all was well.

*Out* is the last moment the data plane sent a victim anything, looked up in Envoy every 20 ms;
*well* is when every instance that should be there is ready and none of them is a victim that is
still broken. What Volery did is read from its ledger.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.faults.bed import TARGET, Bed, Json
from benchmarks.faults.cases import INSTANCES, Cell
from benchmarks.faults.hurt import hurt
from volery.model.errors import VoleryError
from volery.prober import ProbePlan, ProbeReport, probing
from volery.traffic.admin import Admin, AdminError
from volery.traffic.proxy import known

LIMIT_SECONDS = 60.0
"""What is not well by then is said not to be."""
STEADY_SECONDS = 1.0
LONGEST_SECONDS = 300.0
AFTER_SECONDS = 2.0
LOOK_SECONDS = 0.02
STATUS_SECONDS = 0.05


@dataclass
class Seen:
    """What was seen of a cell; seconds since it was broken. None: not within the limit."""

    out: float | None = None
    well: float | None = None
    report: ProbeReport | None = None
    events: Sequence[Json] = ()


@dataclass
class Watch:
    """How many requests each victim was sent, and when that last grew (monotonic)."""

    names: Collection[str]
    totals: dict[str, int] = field(default_factory=dict)
    grew: float = 0.0

    def look(self, hosts: Mapping[str, int]) -> None:
        """Note what Envoy says now."""
        for name, total in hosts.items():
            if name in self.names and total > self.totals.get(name, 0):
                self.totals[name], self.grew = total, time.monotonic()


def run(bed: Bed, cell: Cell) -> Seen:
    """Break it, watch it, and come to rest again."""
    bed.rest()
    before = bed.instances()
    victims = before if cell.fault.all_of_them else before[:1]
    broken = _pids(bed, cell, victims)
    since = bed.app.client.get("/v1/events", limit=1)["last"]
    with probing(ProbePlan(bed.streams(cell.load), LONGEST_SECONDS)) as users:
        users.wait_for(round(cell.load / 5) + 5, timeout=60)
        with watching(bed.traffic, {item["id"] for item in victims}) as watch:
            began = time.monotonic()
            with hurt(bed, cell.fault, victims):
                well = _well(bed, cell, broken, began)
                time.sleep(AFTER_SECONDS)
        users.wait_for(5, timeout=60)
    seen = Seen(well=well, report=users.report, events=_events(bed, since))
    if well is not None and watch.grew:
        # A process that was started again in its place gets requests under the same name.
        seen.out = min(well, max(0.0, watch.grew - began))
    return seen


def _pids(bed: Bed, cell: Cell, victims: Sequence[Json]) -> set[int]:
    """The processes that have to be replaced."""
    if cell.fault.process == "envoy":
        return set(bed.app.status()["processes"]["envoy"])
    return {item["pid"] for item in victims}


def _well(bed: Bed, cell: Cell, broken: set[int], began: float) -> float | None:
    """When all was well again for a second."""
    if cell.fault.process == "control plane":
        bed.app.volery("up")
    since: float | None = None
    while time.monotonic() - began < LIMIT_SECONDS:
        if not _is_well(bed, broken):
            since = None
        elif since is None:
            since = time.monotonic()
        elif time.monotonic() - since > STEADY_SECONDS:
            return since - began
        time.sleep(STATUS_SECONDS)
    return None


def _is_well(bed: Bed, broken: set[int]) -> bool:
    """Whether as many as should be are ready, and no broken process is there any more."""
    with suppress(VoleryError):
        status = bed.app.status()
        now = status["services"][TARGET]["instances"]
        there = {item["pid"] for item in now} | set(status["processes"]["envoy"])
        ready = all(item["state"] == "ready" for item in now)
        return (
            len(now) == INSTANCES
            and ready
            and bool(status["processes"]["envoy"])
            and not broken & there
        )
    return False


def _events(bed: Bed, since: int) -> Sequence[Json]:
    found: list[Json] = bed.app.client.get("/v1/events", after=since, service=TARGET)["events"]
    return found


@contextmanager
def watching(traffic: Path, names: Collection[str]) -> Iterator[Watch]:
    """Look at Envoy all the time, in a thread of its own."""
    watch, ending = Watch(names), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(lambda: asyncio.run(_look(traffic, watch, ending)))
        try:
            yield watch
        finally:
            ending.set()
            done.result()


async def _look(traffic: Path, watch: Watch, ending: threading.Event) -> None:
    admin: Admin | None = None
    while not ending.is_set():
        admin = admin or known(traffic)[-1].admin
        try:
            hosts = await admin.hosts()
        except AdminError:  # it was killed; its successor is another one
            await admin.close()
            admin = None
        else:
            watch.look({name: count.total for (_, name), count in hosts.items()})
        await asyncio.sleep(LOOK_SECONDS)
    if admin is not None:
        await admin.close()
