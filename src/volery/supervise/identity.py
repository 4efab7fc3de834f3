"""Who a process is, for ever: boot, number and start time; a number alone is used again.

Signals go through a pidfd that is compared after it was opened, so they never hit a stranger. A
process of another boot is dead; so is a zombie.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass

from volery.supervise.shim.processes import boot_id, stat_of

BOOT = boot_id()
"""Of the machine; it cannot change while we run."""


@dataclass(frozen=True)
class Identity:
    """One process of this machine, alive or not."""

    boot: str
    pid: int
    ticks: int

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """The living process that has this number now."""
        stat = stat_of(pid)
        return cls(BOOT, pid, stat.ticks) if stat and not stat.dead else None

    @classmethod
    def read(cls, document: object) -> Identity | None:
        """From its JSON form; None if that is not one."""
        match document:
            case {"boot": str(boot), "pid": int(pid), "ticks": int(ticks)}:
                return cls(boot, pid, ticks)
            case _:
                return None

    def alive(self) -> bool:
        """Whether exactly this process still runs."""
        return Identity.of(self.pid) == self

    def open(self) -> int | None:
        """A pidfd that becomes readable when it ends; None if it has ended."""
        try:
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return None
        if self.alive():
            return fd
        os.close(fd)
        return None

    def send(self, number: int) -> bool:
        """Signal it; false if it has ended."""
        fd = self.open()
        if fd is None:
            return False
        try:
            signal.pidfd_send_signal(fd, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(fd)
        return True


def environment_of(pid: int) -> Mapping[str, str] | None:
    """The environment a process was started with, if we may read it. Many a process shows its state
    in `ps` by writing over it (setproctitle)."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123 - not a path of ours
            content = file.read()
    except OSError:
        return None
    pairs = (item.partition("=") for item in os.fsdecode(content).split("\0") if item)
    return {name: value for name, _, value in pairs}
