"""What the trees of processes of instances use: processor time and memory.

Where an instance has control groups that count, they are asked: two small files. Where they do not
count memory, they tell whose to add up. All others are found in one walk over /proc. Processor time
is that of everything that runs or was waited for, so it does not shrink when a worker ends. Memory
is what cannot be taken away again: not the file cache, and pages that several processes share only
once. Looks only; may take milliseconds, so it is not for the event loop.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from volery.supervise.shim.cgroups import proportional, resident
from volery.supervise.shim.files import read_text
from volery.supervise.shim.processes import all_processes

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Tree:
    """The processes of one instance: everything below its shim, or else its main process and what
    is below that."""

    shim: int
    child: int
    cgroups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Usage:
    """Processor seconds so far and bytes now, None if not known; `at` in monotonic seconds."""

    at: float
    cpu_seconds: float | None = None
    memory: int | None = None


def measure(trees: Mapping[str, Tree]) -> dict[str, Usage]:
    """What each of these trees uses, by the same key."""
    found = {key: _of_groups(tree.cgroups) for key, tree in trees.items()}
    rest = {
        key: trees[key]
        for key, usage in found.items()
        if usage.cpu_seconds is None or usage.memory is None
    }
    walked = _walk(rest) if rest else {}
    return {
        key: Usage(
            usage.at,
            usage.cpu_seconds if usage.cpu_seconds is not None else other.cpu_seconds,
            usage.memory if usage.memory is not None else other.memory,
        )
        for key, usage in found.items()
        for other in (walked.get(key, usage),)
    }


def _of_groups(folders: Iterable[str]) -> Usage:
    cpu: float | None = None
    memory: int | None = None
    at = time.monotonic()
    for folder in folders:
        cpu = _cpu_of(folder) if cpu is None else cpu
        memory = _memory_of(folder) if memory is None else memory
    return Usage(at, cpu, memory)


def _cpu_of(folder: str) -> float | None:
    microseconds = _field(f"{folder}/cpu.stat", "usage_usec")
    if microseconds is not None:
        return microseconds / 1e6
    nanoseconds = read_text(f"{folder}/cpuacct.usage").strip()
    return int(nanoseconds) / 1e9 if nanoseconds.isdigit() else None


def _memory_of(folder: str) -> int | None:
    for name, cache in (
        ("memory.current", "inactive_file"),
        ("memory.usage_in_bytes", "total_inactive_file"),
    ):
        used = read_text(f"{folder}/{name}").strip()
        if used.isdigit():
            return max(0, int(used) - (_field(f"{folder}/memory.stat", cache) or 0))
    members = {int(pid) for pid in read_text(f"{folder}/cgroup.procs").split()}
    return _memory(members) if members else None


def _field(path: str, name: str) -> int | None:
    for line in read_text(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.isdigit():
            return int(value)
    return None


def _walk(trees: Mapping[str, Tree]) -> dict[str, Usage]:
    at = time.monotonic()
    alive = {stat.pid: stat for stat in all_processes() if not stat.dead}
    children: dict[int, list[int]] = {}
    for stat in alive.values():
        children.setdefault(stat.parent, []).append(stat.pid)
    found = {}
    for key, tree in trees.items():
        roots = {*children.get(tree.shim, ()), tree.child} & alive.keys()
        members = {pid for root in roots for pid in (root, *_below(root, children))}
        if members:
            cpu = sum(alive[pid].cpu_ticks for pid in members) / TICKS
            found[key] = Usage(at, cpu, _memory(members))
    return found


def _below(root: int, children: Mapping[int, list[int]]) -> Iterator[int]:
    unvisited = [root]
    while unvisited:
        below = children.get(unvisited.pop(), [])
        yield from below
        unvisited += below


def _memory(members: set[int]) -> int:
    """Telling shared pages apart is dear, and needless for a process that is alone."""
    if len(members) > 1:
        return sum(proportional(pid) for pid in members)
    return sum(resident(pid) for pid in members)
