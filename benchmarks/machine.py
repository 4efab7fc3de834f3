"""What the figures depend on: cores, memory, kernel, versions. No names, no folders."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import version

import psutil

from volery.traffic.proxy import envoy_binary


def description() -> str:
    """This machine and the programs measured, in one line."""
    kernel = ".".join(platform.release().split(".")[:2])
    memory = round(psutil.virtual_memory().total / 2**30)
    parts = [
        f"{os.cpu_count()} cores",
        f"{memory} GiB",
        f"Linux {kernel} {platform.machine()}",
        f"Python {platform.python_version()}",
        f"Volery {version('volery')}",
        f"Envoy {_asked(envoy_binary(), '--version')}",
    ]
    known = {"nginx": "-v", "haproxy": "-v", "node": "--version"}
    found = ((name, shutil.which(name), flag) for name, flag in known.items())
    parts += [f"{name} {_asked(path, flag)}" for name, path, flag in found if path]
    return ", ".join(parts)


def load() -> str:
    """How busy the machine was with other things, before anything was measured."""
    return f"load average {os.getloadavg()[0]:.1f}"


def _asked(program: str, flag: str) -> str:
    said = subprocess.run([program, flag], capture_output=True, text=True, check=False)
    number = re.search(r"\d+\.\d+\.\d+", said.stdout + said.stderr)
    return number[0] if number else "of unknown version"
