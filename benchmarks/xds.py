"""From an endpoint that changes to Envoy's acknowledgement, with 10, 100 and 1,000 services.

Every service has ten instances and one edge to the next one; instances are simulated, Envoy is
real. A change is one instance that leaves the rotation or comes back. Measured are: the time until
Envoy acknowledged, what the control plane and Envoy compute for it, and what the controller needs
to decide it (with simulated ports). If the cost did not grow with the environment, the three
columns would be the same.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from benchmarks.figures import met, milliseconds, percentile, ratio
from benchmarks.options import Options, say
from benchmarks.processes import free_port, processor_seconds
from benchmarks.results import Line, Table
from benchmarks.room import EACH, Room
from volery.model.ports import TrafficConfig
from volery.traffic.envoy import EnvoyTraffic

SIZES = (10, 100, 1000)
GOAL_SECONDS = 0.05
PATIENCE_SECONDS = 300.0


@dataclass(frozen=True)
class Change:
    """One change: seconds to the acknowledgement and to the count of what is in flight; seconds of
    processor that the control plane and Envoy used for the first."""

    acknowledged: float
    counted: float
    ours: float
    envoys: float


@dataclass(frozen=True)
class Size:
    """An environment of one size: its changes, and seconds that the controller needs for one."""

    services: int
    changes: Sequence[Change]
    decided: Sequence[float]

    def median(self, what: str) -> float:
        """Of one figure of the changes."""
        values: list[float] = [getattr(change, what) for change in self.changes]
        return median(values)


def measure(options: Options) -> Table:
    """One column a size."""
    counts = options.size((300, 150, 60), (20, 10, 5))
    sizes = [_measured(size, count) for size, count in zip(SIZES, counts, strict=True)]
    p99 = [percentile([item.acknowledged for item in size.changes], 0.99) for size in sizes]
    rows = [
        ("acknowledged by Envoy, median", *_medians(sizes, "acknowledged")),
        ("acknowledged by Envoy, p99", *_cells(p99)),
        ("- processor time of the control plane", *_medians(sizes, "ours")),
        ("- processor time of Envoy", *_medians(sizes, "envoys")),
        ("then, until in flight is counted", *_medians(sizes, "counted")),
        ("the controller decides (simulated ports)", *_decided(sizes)),
    ]
    columns = ("one change", *(f"{size} services" for size in SIZES), "growth")
    goals = f"p99 below 50 ms (met with {SIZES[0]} services: {met(p99[0] < GOAL_SECONDS)}, "
    goals += f"with {SIZES[-1]}: {met(p99[-1] < GOAL_SECONDS)}); cost does not grow."
    notes = (
        f"{EACH} instances a service. Goals: {goals}",
        f"{', '.join(map(str, counts))} changes. Growth: the last size to the first.",
    )
    return Table(columns, rows, notes)


def _measured(services: int, changes: int) -> Size:
    say(f"xds: {services} services")
    with tempfile.TemporaryDirectory(prefix="volery-bench-") as folder:
        found = asyncio.run(_with_envoy(Path(folder), services, changes))
    return Size(services, found, _decisions(services, max(3, changes // 10)))


def _decisions(services: int, count: int) -> list[float]:
    """How long the controller takes to notice one change, decide, and be at rest again."""
    room = Room(services)
    room.settle()
    times = []
    for number in range(count):
        room.engine.ready(room.some_instance, number % 2 == 1)
        began = time.perf_counter()
        room.settle()
        times.append(time.perf_counter() - began)
    return times


async def _with_envoy(home: Path, services: int, changes: int) -> list[Change]:
    """Let one instance leave and come back, again and again."""
    news = asyncio.Event()
    traffic = EnvoyTraffic(home, news.set, drain_seconds=0.0)
    await traffic.open()
    try:
        whole, without = _configurations(traffic, services)
        await _change(traffic, news, whole, 1)  # the first one starts Envoy
        await _change(traffic, news, without, 2)
        return [
            await _change(traffic, news, whole if number % 2 else without, number)
            for number in range(3, changes + 3)
        ]
    finally:
        await traffic.stop()


def _configurations(traffic: EnvoyTraffic, services: int) -> tuple[TrafficConfig, TrafficConfig]:
    room = Room(services)
    whole = room.config(traffic.edge_port)
    assert whole.gateway is not None
    gateway = replace(whole.gateway, port=free_port())
    room.engine.ready(room.some_instance, False)
    without = room.config(traffic.edge_port)
    return replace(whole, gateway=gateway), replace(without, gateway=gateway)


async def _change(
    traffic: EnvoyTraffic, news: asyncio.Event, config: TrafficConfig, generation: int
) -> Change:
    """Apply a configuration and wait until it is acknowledged, and then counted."""
    before = _used(traffic)
    ours, began = time.process_time(), time.perf_counter()
    traffic.apply(config, generation)
    await _until(news, lambda: traffic.observe().acknowledged >= generation)
    acknowledged = time.perf_counter() - began
    ours = time.process_time() - ours
    envoys = _used(traffic) - before
    await _until(news, lambda: traffic.observe().sampled >= generation)
    counted = time.perf_counter() - began - acknowledged
    await asyncio.sleep(0.05)
    return Change(acknowledged, counted, ours, envoys)


async def _until(news: asyncio.Event, condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            news.clear()
            await news.wait()


def _used(traffic: EnvoyTraffic) -> float:
    return sum(processor_seconds(pid) for pid in traffic.observe().proxies)


def _medians(sizes: Sequence[Size], what: str) -> Line:
    return _cells([size.median(what) for size in sizes])


def _decided(sizes: Sequence[Size]) -> Line:
    return _cells([median(size.decided) for size in sizes])


def _cells(values: Sequence[float]) -> Line:
    return (*map(milliseconds, values), ratio(values[-1] / values[0]))
