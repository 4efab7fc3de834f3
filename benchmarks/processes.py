"""Processes of a benchmark: started in a group of their own, and ended whatever happens.

Waiting is always for a condition, with a limit after which the benchmark gives up loudly.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

PATIENCE_SECONDS = 60.0
END_SECONDS = 10.0
Found = TypeVar("Found")
VOLERY = (sys.executable, "-m", "volery")
"""The command as a user types it, of this checkout."""


def free_port() -> int:
    """A port to listen on, out of the range from which outgoing connections get theirs."""
    while True:
        port = 12_000 + secrets.randbelow(8_000)
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


def until(
    condition: Callable[[], Found],
    what: str,
    seconds: float = PATIENCE_SECONDS,
    pause: float = 0.01,
) -> Found:
    """The first true value of a condition.

    Raises:
        TimeoutError: it did not come true in time.
    """
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(pause)
    return found


def listens(port: int) -> bool:
    """Whether somebody accepts connections there."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A program for as long as the block lasts; its output is in `log`."""
    process = started(command, log, environment)
    try:
        yield process
    finally:
        end(process)


def started(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """A program in a group of its own, in the folder of `log`, which gets its output."""
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            cwd=log.parent,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def end(process: subprocess.Popen[bytes]) -> None:
    """End a program politely, and what is left of its group by force."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(END_SECONDS)


def run(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str] | None = None,
    seconds: float | None = None,
) -> str:
    """A command's standard output.

    Raises:
        RuntimeError: it failed; with what it said.
        subprocess.TimeoutExpired: it took longer than so many seconds.
    """
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    if done.returncode:
        said = done.stdout + done.stderr
        raise RuntimeError(f"{' '.join(command)} failed ({done.returncode}): {said}")
    return done.stdout


def processor_seconds(pid: int) -> float:
    """What a process has used of the processors, from the kernel's fine count of turns."""
    total = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        total += int((thread / "schedstat").read_text().split()[0])
    return total / 1e9
