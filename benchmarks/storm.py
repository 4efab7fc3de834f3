"""A retry storm: a callee is asked for twice what it can do for a while, then for half of it.

The same callee and the same open-loop load through three data planes, one after the other: an edge
with Volery's defaults, an Envoy that tries three times more (no budget), and an Envoy with its own
defaults. A try may take the same time everywhere. *Goodput* is what is answered well within the
patience of a user; the others hang up. The callee has a queue without end and works on what nobody
waits for any more, so an overload can outlive its cause (a metastable failure). The load afterwards
lasts longer than the backlog of the overload alone would: who is still down then is kept down by
the retries of those who wait.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template

from benchmarks.data_plane import service, serving
from benchmarks.figures import met
from benchmarks.options import Options, say
from benchmarks.processes import free_port, listens, running, until
from benchmarks.results import Line as Cells
from benchmarks.results import Table
from benchmarks.svg import Axis, Line, plot
from volery.model.needs import Need
from volery.model.ports import Edge, TrafficConfig
from volery.traffic.proxy import envoy_binary

HERE = Path(__file__).parent
WORKERS, WORK_SECONDS = 4, 0.04
CAPACITY = WORKERS / WORK_SECONDS
OVERLOAD, AFTERWARDS = 2.0, 0.5
TRY_SECONDS, PATIENCE_SECONDS = 0.5, 2.0
GOAL = 2.0
RECOVERED, FOR_SECONDS = 0.9, 3
PICTURE, SMOOTH_SECONDS = "storm.svg", 3
OURS, NAIVE, PLAIN = "Volery's defaults", "3 naive retries", "Envoy's defaults"
COLUMNS = ("edge", "goodput in overload", "of capacity", "against naive", "recovered after")
POLICIES: Mapping[str, tuple[str, str]] = {
    NAIVE: (
        f"timeout: 0s, retry_policy: {{retry_on: 5xx, num_retries: 3, "
        f"per_try_timeout: {TRY_SECONDS}s}}",
        "thresholds: [{max_retries: 100000, max_requests: 100000, "
        "max_pending_requests: 100000, max_connections: 100000}]",
    ),
    PLAIN: (f"timeout: {TRY_SECONDS}s", ""),
}
"""Route and circuit breakers of those configured by hand."""


@dataclass(frozen=True)
class Storm:
    """How long each part lasts, in seconds."""

    before: int
    overload: int
    after: int

    def rate(self, second: float) -> float:
        """Requests a second that are asked for."""
        busy = self.before <= second < self.before + self.overload
        return CAPACITY * (OVERLOAD if busy else AFTERWARDS)

    @property
    def whole(self) -> int:
        """All of it."""
        return self.before + self.overload + self.after


@dataclass
class Seconds:
    """What was asked and what was answered well in time, by the second it was asked in."""

    asked: list[int]
    good: list[int]


def measure(options: Options) -> Table:
    """Goodput and recovery of the three, each with a fresh callee."""
    storm = options.size(Storm(5, 60, 180), Storm(2, 8, 8))
    found: dict[str, Seconds] = {}
    for name in (OURS, NAIVE, PLAIN):
        say(f"storm: {name}, {storm.whole} s")
        with (
            tempfile.TemporaryDirectory(prefix="volery-bench-") as folder,
            _callee(Path(folder)) as upstream,
            _edge(Path(folder), name, upstream) as port,
        ):
            found[name] = asyncio.run(_load(port, storm))
    return _table(found, storm)


# --- what is measured -----------------------------------------------------------------------------


async def _load(port: int, storm: Storm) -> Seconds:
    """Requests at a rate that does not care for answers."""
    seen = Seconds([0] * storm.whole, [0] * storm.whole)
    begun = time.monotonic()
    next_at = 0.0
    async with asyncio.TaskGroup() as group:
        while (now := time.monotonic() - begun) < storm.whole:
            if next_at > now:
                await asyncio.sleep(next_at - now)
                continue
            next_at += 1 / storm.rate(next_at)
            second = min(int(next_at), storm.whole - 1)
            seen.asked[second] += 1
            group.create_task(_one(port, second, seen))
    return seen


async def _one(port: int, second: int, seen: Seconds) -> None:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            good = await _status(port) == b"200"
            seen.good[second] += good
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return


async def _status(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        return (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1]
    finally:
        writer.close()


def goodput(seen: Seconds, storm: Storm) -> float:
    """Good answers a second during the overload."""
    return sum(seen.good[storm.before : storm.before + storm.overload]) / storm.overload


def recovery(seen: Seconds, storm: Storm) -> int | None:
    """Seconds from the end of the overload until nearly all is answered again, for a while."""
    end = storm.before + storm.overload
    for second in range(end, storm.whole - FOR_SECONDS + 1):
        window = range(second, second + FOR_SECONDS)
        if all(seen.good[at] >= RECOVERED * seen.asked[at] for at in window):
            return second - end
    return None


def _table(found: Mapping[str, Seconds], storm: Storm) -> Table:
    naive = goodput(found[NAIVE], storm)
    rows = [_row(name, seen, storm, naive) for name, seen in found.items()]
    ours = goodput(found[OURS], storm)
    back = recovery(found[OURS], storm)
    notes = (
        f"Goals for {OURS}: at least {GOAL:g}x the goodput of naive retries (met: "
        f"{met(ours >= GOAL * naive)}), and it recovers (met: {met(back is not None)}).",
        f"A callee of {CAPACITY:.0f} requests/s is asked for {CAPACITY * OVERLOAD:.0f}/s for "
        f"{storm.overload} s, then for {CAPACITY * AFTERWARDS:.0f}/s for {storm.after} s. A try "
        f"may take {TRY_SECONDS * 1000:.0f} ms, a user waits {PATIENCE_SECONDS:g} s.",
    )
    return Table(COLUMNS, rows, notes, {PICTURE: picture(found, storm)})


def picture(found: Mapping[str, Seconds], storm: Storm) -> str:
    """Goodput over time, and what was asked for; means of SMOOTH_SECONDS."""
    lines = [Line(name, _smooth(seen.good)) for name, seen in found.items()]
    lines.append(Line("asked for", _smooth(next(iter(found.values())).asked), dashed=True))
    x = Axis("seconds", 0, storm.whole, range(0, storm.whole + 1, max(1, storm.whole // 8)))
    most = CAPACITY * OVERLOAD * 1.1
    y = Axis("requests a second", 0, most, range(0, int(most) + 1, int(CAPACITY / 2)))
    return plot("Asked for twice its capacity: answers in time", x, y, lines)


def _smooth(counts: Sequence[int]) -> list[tuple[float, float]]:
    parts = range(0, len(counts), SMOOTH_SECONDS)
    windows = [counts[start : start + SMOOTH_SECONDS] for start in parts]
    return [(start, sum(some) / len(some)) for start, some in zip(parts, windows, strict=True)]


def _row(name: str, seen: Seconds, storm: Storm, naive: float) -> Cells:
    good, back = goodput(seen, storm), recovery(seen, storm)
    return (
        name,
        f"{good:.1f}/s",
        f"{good / CAPACITY:.0%}",
        f"{good / naive:.1f}x" if naive else "naive has none",
        f"not within {storm.after} s" if back is None else f"{back} s",
    )


# --- what is in between ---------------------------------------------------------------------------


@contextmanager
def _callee(folder: Path) -> Iterator[int]:
    port = free_port()
    told = {"HOST": "127.0.0.1", "PORT": f"{port}"}
    told |= {"WORKERS": f"{WORKERS}", "SECONDS": f"{WORK_SECONDS}"}
    command = [sys.executable, str(HERE / "services" / "backlog.py")]
    with running(command, folder / "callee", os.environ | told):
        until(lambda: listens(port), "the callee listens")
        yield port


@contextmanager
def _edge(folder: Path, name: str, upstream: int) -> Iterator[int]:
    port = free_port()
    if name == OURS:
        edge = Edge("caller", "a", "callee", port, Need(timeout=TRY_SECONDS))
        callee = service("http", {"callee-1": upstream})
        with serving(folder / "volery", TrafficConfig(None, {"callee": callee}, (edge,))):
            yield port
        return
    with running(_envoy(folder, name, port, upstream), folder / "envoy"):
        until(lambda: listens(port), f"{name} listens")
        yield port


def _envoy(folder: Path, name: str, port: int, upstream: int) -> Sequence[str]:
    policy, breakers = POLICIES[name]
    text = (HERE / "configs" / "storm.yaml").read_text()
    given = {"port": port, "upstream": upstream, "policy": policy, "breakers": breakers}
    path = folder / "storm.yaml"
    path.write_text(Template(text).substitute(given))
    command = [envoy_binary(), "--config-path", str(path), "--concurrency", "2"]
    return [*command, "--disable-hot-restart", "--log-level", "warning"]
