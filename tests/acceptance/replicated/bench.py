"""A project with the tiny replicated store and a caller, and a client that counts what was
acknowledged."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import threading
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import psutil

from acceptance.project import Project, until

STORE = Path(__file__).with_name("store.py")
ANSWER_SECONDS = 2.0


def stateful(project: Project, scale: int = 3, **state: Any) -> None:
    """Write the manifest: `store`, and `caller`, which needs it."""
    source = project.folder / "store"
    source.mkdir(exist_ok=True)
    shutil.copy(STORE, source / "store.py")
    project.service("caller", needs=["store"])
    project.manifest["services"]["store"] = {
        "source": "./store",
        "run": "python3 -S store.py",
        "protocol": "tcp",
        "scale": scale,
        "health": {"every": "200ms", "timeout": "4s", "startup": "60s"},
        "stop": {"drain": "2s", "grace": "5s"},
        "state": {
            "volume": "data",
            "role": "python3 -S store.py role",
            "switchover": "python3 -S store.py promote",
            "failover": "6s",
            **state,
        },
    }
    project.write()


def store(project: Project) -> Any:
    """The service as `status` shows it."""
    return project.status()["services"]["store"]


def roles(project: Project) -> dict[str, str | None]:
    """Role by instance."""
    return {item["id"]: item["role"] for item in store(project)["instances"]}


def primary(project: Project) -> str:
    """The instance that is the recorded primary."""
    return str(store(project)["primary"]["instance"])


def pid(project: Project, instance: str) -> int:
    """Its process."""
    return next(int(item["pid"]) for item in store(project)["instances"] if item["id"] == instance)


def settled(project: Project, scale: int = 3) -> bool:
    """One primary, the rest replicas, nothing under way."""
    now = store(project)
    found = sorted(item["role"] or "" for item in now["instances"])
    whole = found == ["primary"] + ["replica"] * (scale - 1)
    return whole and not now["primary"]["changing"] and now["state"] == "healthy"


def address(project: Project, variable: str) -> tuple[str, int]:
    """Where the caller reaches it."""
    status, body = project.get("/caller/env")
    assert status == 200, body
    found = urlsplit(json.loads(body)[variable])
    assert found.hostname and found.port
    return found.hostname, found.port


def volume(project: Project, number: int) -> Path:
    """The folder of one place."""
    return project.home / "trial" / "dev" / "volumes" / "store" / f"data-{number}"


def kill(number: int, how: signal.Signals = signal.SIGKILL) -> None:
    """Only this process, whatever looks after it."""
    os.kill(number, how)


def gone(number: int) -> bool:
    """Whether a process has ended."""
    return not psutil.pid_exists(number)


class Writing(ABC):
    """Somebody who writes 1, 2, 3, ... all the time and remembers what was acknowledged."""

    def __init__(self) -> None:
        self.acknowledged: list[int] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        until(lambda: self.acknowledged, "a first write")
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def more(self, count: int = 20) -> None:
        """Return when so many more were acknowledged."""
        goal = len(self.acknowledged) + count
        until(lambda: len(self.acknowledged) >= goal, f"{count} more writes")

    @abstractmethod
    def _run(self) -> None:
        """Write until the end is set."""


class Writer(Writing):
    """Writes one number after the other, each until it is acknowledged, and remembers the longest
    time between two acknowledgements."""

    def __init__(self, where: tuple[str, int]) -> None:
        super().__init__()
        self.longest = 0.0
        self._where = where
        self._last = time.monotonic()

    def _run(self) -> None:
        number = 1
        while not self._end.is_set():
            try:
                with socket.create_connection(self._where, timeout=ANSWER_SECONDS) as talk:
                    number = self._write(talk, number)
            except OSError:
                time.sleep(0.01)

    def _write(self, talk: socket.socket, number: int) -> int:
        with talk.makefile("r") as lines:
            while not self._end.is_set():
                talk.sendall(f"SET {number}\n".encode())
                if lines.readline() != f"OK {number}\n":
                    return number + 1
                now = time.monotonic()
                self.longest = max(self.longest, now - self._last)
                self._last = now
                self.acknowledged.append(number)
                number += 1
                time.sleep(0.002)
        return number


def ask(where: tuple[str, int], words: str) -> str:
    """One question to whoever answers there; "" if nobody does."""
    try:
        with socket.create_connection(where, timeout=ANSWER_SECONDS) as talk:
            talk.sendall(words.encode() + b"\n")
            with talk.makefile("r") as lines:
                return lines.readline().strip()
    except OSError:
        return ""


def lost(project: Project, writer: Writer) -> set[int]:
    """Acknowledged writes that are not there any more."""
    kept = until(lambda: ask(address(project, "STORE_URL"), "ALL"), "an answer of the primary")
    return set(writer.acknowledged) - {int(word) for word in kept.split()}
