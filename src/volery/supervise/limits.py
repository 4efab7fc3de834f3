"""Finds out which limits can be enforced on this machine, by enforcing them on a process."""

from __future__ import annotations

import os
import subprocess
import sys

from volery.supervise.shim.cgroups import Cgroups
from volery.supervise.shim.child import may_open

_TRIED = {"memory": 256.0 * 1024 * 1024, "cpu": 1.0, "pids": 100.0}


def try_limits() -> dict[str, str]:
    """What enforces each limit; nothing is left of the trial."""
    groups = Cgroups(f"volery-trial-{os.getpid()}", _TRIED)
    waiting = (sys.executable, "-I", "-S", "-c", "input()")
    try:
        with subprocess.Popen(waiting, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
            groups.join(process.pid)
            process.kill()
    finally:
        groups.remove()
    return groups.enforced | {"files": "rlimit" if may_open(1024) else "not enforced"}
