"""What Volery costs when nothing happens: commands that start, memory, and a share of a core.

An environment with thirty instances of a small service runs, health checks at their default
pace, and nobody sends a request. Memory is counted three ways: *private* is what would be free if
the process ended (USS), *proportional* divides shared pages among their users (PSS), *resident*
counts them in full (RSS).
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any

import psutil

from benchmarks.application import Application, application
from benchmarks.figures import megabytes, met, milliseconds
from benchmarks.options import Options, say
from benchmarks.processes import processor_seconds
from benchmarks.results import Line, Table

SERVICES, EACH = 3, 10
COLUMNS = ("what", "measured", "goal", "met")
SETTLE_SECONDS = 5.0


def measure(options: Options) -> Table:
    """Commands first with nothing running, then beside thirty instances."""
    repeats, seconds = options.size((21, 60.0), (3, 5.0))
    with application() as app:
        for number in range(SERVICES):
            app.add(f"web-{number}", "web", f"/{number}", scale=EACH, health={"ready": "/"})
        helped = _times(app, ("--help",), repeats)
        say("footprint: starting thirty instances")
        app.volery("up")
        shown = _times(app, ("status",), repeats)
        processes = _processes(app.status())
        say(f"footprint: watching for {seconds:g} s")
        time.sleep(SETTLE_SECONDS)
        shares = _shares(processes, seconds)
        rows = [
            _timing("`volery --help`, median", helped, 0.2),
            _timing("`volery status`, thirty instances, median", shown, 0.3),
            *_of_python(app, repeats),
            *_memory(processes),
            *_processor(shares),
        ]
    return Table(COLUMNS, rows, (f"Processor shares are means over {seconds:g} s.",))


def _times(app: Application, arguments: Sequence[str], repeats: int) -> list[float]:
    return [_seconds(lambda: app.volery(*arguments)) for _ in range(repeats)]


def _of_python(app: Application, repeats: int) -> Iterator[Line]:
    """What any Python program costs before its first line, for comparison."""
    command = [sys.executable, "-c", "pass"]
    times = [_seconds(lambda: subprocess.run(command, check=True)) for _ in range(repeats)]
    yield ("Python that does nothing, median", milliseconds(median(times)), "", "")


def _seconds(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _processes(status: Mapping[str, Any]) -> dict[str, list[psutil.Process]]:
    """Ours, by what they are. The gateway's and the control plane's own shims are like any."""
    ours = status["processes"]
    return {
        "control plane": [psutil.Process(ours["control_plane"])],
        "shim": [psutil.Process(pid) for pid in ours["shims"]],
        "Envoy": [psutil.Process(pid) for pid in ours["envoy"]],
    }


def _shares(processes: Mapping[str, Sequence[psutil.Process]], seconds: float) -> dict[str, float]:
    """Which share of a core each kind of process used, added up."""
    before, began = {kind: _used(found) for kind, found in processes.items()}, time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - began
    return {kind: (_used(found) - before[kind]) / passed for kind, found in processes.items()}


def _used(processes: Sequence[psutil.Process]) -> float:
    return sum(processor_seconds(process.pid) for process in processes)


def _timing(what: str, times: Sequence[float], goal: float) -> Line:
    value = median(times)
    return (what, milliseconds(value), f"< {milliseconds(goal)}", met(value < goal))


def _memory(processes: Mapping[str, Sequence[psutil.Process]]) -> Iterator[Line]:
    found = {
        kind: [process.memory_full_info() for process in group] for kind, group in processes.items()
    }
    goals = {("control plane", "rss"): 120e6, ("shim", "uss"): 5e6}
    for kind, group in found.items():
        for field, name in (("uss", "private"), ("pss", "proportional"), ("rss", "resident")):
            value = median(getattr(memory, field) for memory in group)
            goal = goals.get((kind, field))
            limit = (f"< {goal / 1e6:.0f} MB", met(value < goal)) if goal else ("", "")
            many = f", median of {len(group)}" if len(group) > 1 else ""
            yield (f"{kind}: {name} memory{many}", megabytes(value), *limit)


def _processor(shares: Mapping[str, float]) -> Iterator[Line]:
    for kind, share in shares.items():
        goal = ("< 1 % of a core", met(share < 0.01)) if kind == "control plane" else ("", "")
        yield (f"{kind}: processor{', all' if kind == 'shim' else ''}", f"{share:.2%}", *goal)
