"""The tree of a process whose shim was killed: found and ended without it.

What left group and session is no longer below anyone of ours. It is found in the control groups the
shim made, where it could make any, and by what nobody else has: our log as its output.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

from volery.supervise.process import Status
from volery.supervise.shim.cgroups import REMOVAL_PAUSE, REMOVALS, remove_group
from volery.supervise.shim.processes import Stat, all_processes, descendants, send, stat_of

_PAUSE = 0.02


async def end(folder: Path, status: Status, grace: float) -> None:
    """SIGTERM, grace, SIGKILL of all of it, until nothing is left; then its control groups go."""
    asked: set[tuple[int, int]] = set()
    deadline = time.monotonic() + grace
    while left := await asyncio.to_thread(tree, folder, status):
        late = time.monotonic() >= deadline
        for stat in left:
            if late:
                send(stat.pid, stat.ticks, signal.SIGKILL)
            elif (stat.pid, stat.ticks) not in asked:
                asked.add((stat.pid, stat.ticks))
                send(stat.pid, stat.ticks, signal.SIGTERM)
                send(stat.pid, stat.ticks, signal.SIGCONT)
        await asyncio.sleep(_PAUSE)
    groups = list(status.cgroups)
    for _ in range(REMOVALS):
        groups = [group for group in groups if not remove_group(group)]
        if not groups:
            return
        await asyncio.sleep(REMOVAL_PAUSE)  # the kernel is not done yet with the last process


def tree(folder: Path, status: Status) -> list[Stat]:
    """Every living process of it."""
    pids = {int(word) for group in status.cgroups for word in _members(group)}
    if status.child is not None and status.child.alive():
        pids |= {status.child.pid, *(stat.pid for stat in descendants(status.child.pid))}
    pids |= _writers(folder / "log")
    found = [stat_of(pid) for pid in pids]
    return [stat for stat in found if stat is not None and not stat.dead]


def _members(group: str) -> list[str]:
    try:
        return (Path(group) / "cgroup.procs").read_text().split()
    except OSError:
        return []


def _writers(log: Path) -> set[int]:
    try:
        wanted = log.stat()
    except OSError:
        return set()
    mine = os.getpid()
    return {
        stat.pid
        for stat in all_processes()
        if stat.pid != mine and any(_is(stat.pid, fd, wanted) for fd in (1, 2))
    }


def _is(pid: int, fd: int, wanted: os.stat_result) -> bool:
    try:
        found = Path(f"/proc/{pid}/fd/{fd}").stat()
    except OSError:  # gone, or not ours to look at
        return False
    return os.path.samestat(found, wanted)
