"""Starts a service of birdhouse directly, as an engine would, in a copy of its folder."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volery.manifest.read import read
from volery.model.application import Application, Service

BIRDHOUSE = Path(__file__).parents[3] / "examples" / "birdhouse"
DEADLINE_SECONDS = 60.0


def manifest() -> Application:
    """What `volery.yaml` says."""
    return read(BIRDHOUSE / "volery.yaml")


def environment(**more: str) -> dict[str, str]:
    """What a service sees: Volery's Python comes last on PATH, but here it has to be `python`."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    return {"PATH": path, "HOME": os.environ.get("HOME", "/"), **more}


@dataclass
class Bird:
    """A running service."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, method: str = "GET", body: Any = None) -> tuple[int, bytes]:
        """Status and body of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_SECONDS)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            assert answer.headers["x-release"] == "bird@1"
            return answer.status, answer.read()
        finally:
            connection.close()

    def json(self, path: str) -> Any:
        """A right answer, read."""
        status, body = self.get(path)
        assert status == 200, body
        return json.loads(body)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE_SECONDS)


@contextmanager
def flying(
    name: str, folder: Path, service: Service | None = None, /, **env: str
) -> Iterator[Bird]:
    """A service of the manifest, ready; killed in the end if it still runs."""
    with started(name, folder, service, **env) as bird:
        until(lambda: _listens(bird) or bird.process.poll() is not None)
        assert bird.process.poll() is None, bird.log.read_text()
        yield bird


@contextmanager
def started(
    name: str, folder: Path, service: Service | None = None, /, **env: str
) -> Iterator[Bird]:
    """A service of the manifest, just started."""
    service = service or manifest().services[name]
    source, log, port = folder / name, folder / f"{name}.log", _free_port()
    if not source.exists():
        shutil.copytree(BIRDHOUSE / name, source)
    known = {"HOST": "127.0.0.1", "PORT": str(port), "VOLERY_RELEASE": "bird@1"}
    with log.open("ab") as file:
        process = subprocess.Popen(
            service.run, cwd=source, env=environment(**known, **env), stdout=file, stderr=file
        )
    try:
        yield Bird(process, port, log)
    finally:
        process.kill()
        process.wait()


def until(condition: Any) -> Any:
    """Wait for something that must come true, and return it."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return found


def _listens(bird: Bird) -> bool:
    try:
        socket.create_connection(("127.0.0.1", bird.port), timeout=1).close()
    except OSError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
