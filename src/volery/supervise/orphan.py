"""The tree of a process whose shim was killed: found and ended without it.

Once the main process is gone nothing is below it any more. What it started is found in the control
groups the shim made, where it could make any; by what nobody else has, our log as its output; by
its session; and what was found once is remembered until it is dead.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Collection, Mapping
from pathlib import Path

from volery.supervise.identity import BOOT, Identity, environment_of
from volery.supervise.process import Status
from volery.supervise.shim.cgroups import REMOVAL_PAUSE, REMOVALS, remove_group
from volery.supervise.shim.processes import Stat, all_processes, send

_PAUSE = 0.02


async def end(folder: Path, status: Status, grace: float) -> None:
    """SIGTERM, grace, SIGKILL of all of it, until nothing is left; then its control groups go."""
    asked: set[tuple[int, int]] = set()
    known: list[Stat] = []
    deadline = time.monotonic() + grace
    while left := await asyncio.to_thread(tree, folder, status, known):
        late = time.monotonic() >= deadline
        known = [stat for stat in left if _ask(stat, asked, late=late)]
        await asyncio.sleep(_PAUSE)
    groups = list(status.cgroups)
    for _ in range(REMOVALS):
        groups = [group for group in groups if not remove_group(group)]
        if not groups:
            return
        await asyncio.sleep(REMOVAL_PAUSE)  # the kernel is not done yet with the last process


def _ask(stat: Stat, asked: set[tuple[int, int]], *, late: bool) -> bool:
    """Ask it to end, once, or make it. False if it is gone, or not ours to end."""
    if late:
        return send(stat.pid, stat.ticks, signal.SIGKILL)
    if (stat.pid, stat.ticks) in asked:
        return True
    asked.add((stat.pid, stat.ticks))
    reached = send(stat.pid, stat.ticks, signal.SIGTERM)
    send(stat.pid, stat.ticks, signal.SIGCONT)
    return reached


def tree(folder: Path, status: Status, known: Collection[Stat] = ()) -> list[Stat]:
    """Every living process of it, also what is left of those that were `known` to be."""
    everyone = {stat.pid: stat for stat in all_processes() if not stat.dead}
    found = {int(word) for group in status.cgroups for word in _members(group)}
    found |= _writers(folder / "log", everyone)
    found |= {stat.pid for stat in known if _is_still(stat, everyone)}
    if status.child is not None and status.child.boot == BOOT:
        found |= _session(status.child, folder.name, everyone)
    while below := {stat.pid for stat in everyone.values() if stat.parent in found} - found:
        found |= below
    return [everyone[pid] for pid in found if pid in everyone]


def _is_still(stat: Stat, everyone: Mapping[int, Stat]) -> bool:
    return stat.pid in everyone and everyone[stat.pid].ticks == stat.ticks


def _session(child: Identity, instance: str, everyone: Mapping[int, Stat]) -> set[int]:
    """Who is in the session of the main process. When that is gone, and its workers belong to
    nobody, the number may be somebody else's: then only who was started for the instance."""
    found = {stat.pid for stat in everyone.values() if stat.session == child.pid}
    if child.alive():
        return found | {child.pid}
    return {pid for pid in found if (environment_of(pid) or {}).get("VOLERY_INSTANCE") == instance}


def _members(group: str) -> list[str]:
    try:
        return (Path(group) / "cgroup.procs").read_text().split()
    except OSError:
        return []


def _writers(log: Path, everyone: Collection[int]) -> set[int]:
    try:
        wanted = log.stat()
    except OSError:
        return set()
    mine = os.getpid()
    return {pid for pid in everyone if pid != mine and any(_is(pid, fd, wanted) for fd in (1, 2))}


def _is(pid: int, fd: int, wanted: os.stat_result) -> bool:
    try:
        found = Path(f"/proc/{pid}/fd/{fd}").stat()
    except OSError:  # gone, or not ours to look at
        return False
    return os.path.samestat(found, wanted)
