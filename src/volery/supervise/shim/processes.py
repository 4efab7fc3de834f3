"""Processes as /proc shows them, and signals that reach exactly the one that is meant.

A process is known by its number *and* its start time in ticks: numbers are used again. What has
ended but was not reaped (a zombie) counts as dead.
"""

# Importing pathlib would cost a third of the time to start.
# ruff: noqa: PTH208
from __future__ import annotations

import os
import signal

from volery.supervise.shim.files import read_text


def boot_id() -> str:
    """Another one after every start of the machine."""
    return read_text("/proc/sys/kernel/random/boot_id").strip()


class Stat:
    """What /proc/PID/stat says: who the parent is, whether it lives, and since when."""

    __slots__ = ("cpu_ticks", "parent", "pid", "session", "state", "ticks")

    def __init__(self, pid: int, fields: list[str]) -> None:
        self.pid = pid
        self.state = fields[0]
        self.parent = int(fields[1])
        self.session = int(fields[3])
        self.ticks = int(fields[19])
        # Its own time, and that of the children it waited for.
        self.cpu_ticks = sum(map(int, fields[11:15]))

    @classmethod
    def mine(cls) -> Stat:
        """This process itself."""
        stat = stat_of(os.getpid())
        if stat is None:
            raise OSError("/proc is not mounted")
        return stat

    @property
    def identity(self) -> dict[str, str | int]:
        """Who it is, for ever."""
        return {"boot": boot_id(), "pid": self.pid, "ticks": self.ticks}

    @property
    def dead(self) -> bool:
        """A zombie runs no more, whoever has not reaped it."""
        return self.state in ("Z", "X")


def stat_of(pid: int) -> Stat | None:
    """The process with this number now; its name may hold blanks and parentheses."""
    text = read_text(f"/proc/{pid}/stat")
    fields = text[text.rfind(")") + 2 :].split()
    return Stat(pid, fields) if len(fields) > 19 else None


def all_processes() -> list[Stat]:
    """Every process that can be seen."""
    found = [stat_of(int(name)) for name in os.listdir("/proc") if name.isdigit()]
    return [stat for stat in found if stat is not None]


def descendants(root: int) -> list[Stat]:
    """Every living process below this one, however deep."""
    children: dict[int, list[Stat]] = {}
    for stat in all_processes():
        children.setdefault(stat.parent, []).append(stat)
    found, unvisited = [], [root]
    while unvisited:
        below = children.get(unvisited.pop(), [])
        found += below
        unvisited += [stat.pid for stat in below]
    return [stat for stat in found if not stat.dead]


def send(pid: int, ticks: int, number: int) -> bool:
    """Signal exactly this process, never a later one with the same number. False if it is gone, or
    somebody else's (sudo): it ends when it likes, and must not keep the others from it."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        stat = stat_of(pid)
        if stat is None or stat.ticks != ticks or stat.dead:
            return False
        signal.pidfd_send_signal(pidfd, number)
    except (ProcessLookupError, PermissionError):
        return False
    finally:
        os.close(pidfd)
    return True


def signal_name(number: int) -> str:
    """SIGKILL for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"
