"""Closed-loop HTTP load by `wrk`, and what it prints, read back."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import run

_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


@dataclass(frozen=True)
class Load:
    """What one run of `wrk` found: requests a second, seconds, and answers that were wrong."""

    rate: float
    p50: float
    p99: float
    requests: int
    wrong: int


def available() -> bool:
    """Whether `wrk` is installed."""
    return shutil.which("wrk") is not None


def load(url: str, seconds: float, connections: int, folder: Path) -> Load:
    """As many requests as `connections` can send one after the other."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency", url]
    return parsed(run(command, folder))


def parsed(output: str) -> Load:
    """What `wrk --latency` printed.

    Raises:
        ValueError: that is not its output.
    """
    errors = re.search(r"Socket errors: (.*)", output)
    counts = re.findall(r"\d+", errors[1]) if errors else []
    others = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    return Load(
        rate=float(_found(r"Requests/sec:\s+([\d.]+)", output)[1]),
        p50=_seconds(_found(r"50%\s+([\d.]+)(us|ms|s|m)", output)),
        p99=_seconds(_found(r"99%\s+([\d.]+)(us|ms|s|m)", output)),
        requests=int(_found(r"(\d+) requests in", output)[1]),
        wrong=sum(map(int, counts)) + (int(others[1]) if others else 0),
    )


def _found(pattern: str, output: str) -> re.Match[str]:
    match = re.search(pattern, output)
    if match is None:
        raise ValueError(f"wrk did not say {pattern!r}:\n{output}")
    return match


def _seconds(match: re.Match[str]) -> float:
    return float(match[1]) * _SECONDS[match[2]]
