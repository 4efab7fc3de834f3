"""Control groups: limits on memory, processor and processes, and a handle to kill a tree.

Versions 1 and 2 are used wherever this process may; `Cgroups.enforced` says of each wished limit
what really enforces it. Where nothing enforces memory, `tree_memory` lets the shim watch it.
"""

# Importing pathlib would cost a third of the time to start.
# ruff: noqa: PTH103, PTH106, PTH110, PTH112, PTH118, PTH120, PTH123
from __future__ import annotations

import os
import re
import resource
import time

from volery.supervise.shim.files import read_text
from volery.supervise.shim.processes import descendants

TYPE_CHECKING = False  # typing would cost as much
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Settings = Callable[[str, float], list[tuple[str, str, bool]]]

KINDS = ("memory", "cpu", "pids")
REMOVALS, REMOVAL_PAUSE = 20, 0.005


class Cgroups:
    """The groups of one tree, always below our own: no limit set from outside is escaped."""

    def __init__(self, name: str, limits: dict[str, float]) -> None:
        self.limits = limits
        self.enforced: dict[str, str] = {}
        self.made: set[str] = set()
        self._folders: dict[str, str] = {}
        ours = dict(_own_groups())
        wanted = [kind for kind in KINDS if kind in limits]
        for kind in wanted:
            if kind in ours:
                self._add(kind, os.path.join(ours[kind], name), _v1_settings)
        if "" in ours:
            self._add_v2(ours[""], name, wanted)

    def _add_v2(self, own: str, name: str, wanted: list[str]) -> None:
        """One group of the unified hierarchy: for killing, and for what is delegated to us."""
        delegated: dict[str, list[str]] = {}
        for base in (own, os.path.dirname(own)):
            controllers = read_text(base + "/cgroup.subtree_control").split()
            delegated[base] = [kind for kind in wanted if kind in controllers]
        base = next((base for base in delegated if delegated[base]), own)
        self._add("", os.path.join(base, name), lambda kind, limit: [])
        for kind in delegated[base] if "" in self._folders else ():
            self._add(kind, self._folders[""], _v2_settings)

    def _add(self, kind: str, folder: str, settings: Settings) -> None:
        try:
            os.makedirs(folder, exist_ok=True)
            self.made.add(folder)
            for file, value, needed in settings(kind, self.limits.get(kind, 0)):
                if needed or os.path.exists(os.path.join(folder, file)):
                    _put(os.path.join(folder, file), value)
        except OSError:  # no right to, or read-only: `enforced` will say that nothing enforces it
            return
        self._folders[kind] = folder

    def join(self, pid: int) -> None:
        """Put a held process in, and note what that enforces."""
        for folder in self.made:
            try:
                _put(os.path.join(folder, "cgroup.procs"), str(pid))
            except OSError:
                self._folders = {k: v for k, v in self._folders.items() if v != folder}
        self.enforced = {kind: self._enforcer(kind) for kind in KINDS if kind in self.limits}

    def _enforcer(self, kind: str) -> str:
        folder = self._folders.get(kind)
        if folder is None:
            return "watched" if kind == "memory" else "not enforced"
        return "cgroup v2" if folder == self._folders.get("") else "cgroup v1"

    def out_of_memory_kills(self) -> int:
        """How many processes the kernel has killed because of our memory limit."""
        folder = self._folders.get("memory", "/nonexistent")
        for file in ("memory.oom_control", "memory.events"):
            found = re.search(r"^oom_kill (\d+)$", read_text(os.path.join(folder, file)), re.M)
            if found:
                return int(found[1])
        return 0

    def kill(self) -> None:
        """SIGKILL all of it at once, where the kernel can."""
        switch = os.path.join(self._folders.get("", "/nonexistent"), "cgroup.kill")
        try:
            if os.path.exists(switch):
                _put(switch, "1")
        except OSError:  # the walk over the descendants does it too
            return

    def remove(self) -> None:
        """Remove the groups; one that stays busy is left, and state.json names it."""
        for _ in range(REMOVALS):
            self.made = {folder for folder in self.made if not remove_group(folder)}
            if not self.made:
                return
            time.sleep(REMOVAL_PAUSE)  # the kernel is not done yet with the last process


def remove_group(folder: str) -> bool:
    """Remove a control group; false if something is still in it or we may not."""
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _put(path: str, value: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(value)


def _v1_settings(kind: str, limit: float) -> list[tuple[str, str, bool]]:
    match kind:
        case "memory":
            text = str(int(limit))
            swap = ("memory.memsw.limit_in_bytes", text, False)
            return [("memory.limit_in_bytes", text, True), swap]
        case "cpu":
            quota = str(max(1000, int(limit * 100_000)))
            return [("cpu.cfs_period_us", "100000", True), ("cpu.cfs_quota_us", quota, True)]
        case _:
            return [("pids.max", str(int(limit)), True)]


def _v2_settings(kind: str, limit: float) -> list[tuple[str, str, bool]]:
    match kind:
        case "memory":
            return [("memory.max", str(int(limit)), True), ("memory.swap.max", "0", False)]
        case "cpu":
            return [("cpu.max", f"{max(1000, int(limit * 100_000))} 100000", True)]
        case _:
            return [("pids.max", str(int(limit)), True)]


def _own_groups() -> Iterator[tuple[str, str]]:
    """(controller, folder of the group we are in); "" is the unified hierarchy."""
    own: dict[str, str] = {}
    for line in read_text("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        own |= dict.fromkeys(controllers.split(","), path)
    for line in read_text("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        root, mounted = before.split()[3:5]
        kind, _, options = after.split(" ", 2)
        names = [""] if kind == "cgroup2" else options.split(",") if kind == "cgroup" else []
        for name in own.keys() & set(names):
            # In a container the mount may show our group as its root.
            inside = own[name].removeprefix(root.rstrip("/")).strip("/")
            folder = os.path.join(mounted, inside).rstrip("/")
            yield name, folder if os.path.isdir(folder) else mounted


def tree_memory(root: int, limit: int) -> int:
    """Bytes used by the tree. Shared pages are only told apart when a first sum exceeds the limit,
    for that is dearer."""
    pids = [stat.pid for stat in descendants(root)]
    total = sum(resident(pid) for pid in pids)
    return total if total <= limit else sum(proportional(pid) for pid in pids)


def resident(pid: int) -> int:
    """Bytes that a process has in memory, shared ones included; 0 if it is gone."""
    fields = read_text(f"/proc/{pid}/statm").split()
    return int(fields[1]) * resource.getpagesize() if len(fields) > 1 else 0


def proportional(pid: int) -> int:
    """Bytes that a process has in memory, its part of shared ones; 0 if it is gone."""
    found = re.search(r"^Pss:\s+(\d+) kB$", read_text(f"/proc/{pid}/smaps_rollup"), re.M)
    return int(found[1]) * 1024 if found else resident(pid)
