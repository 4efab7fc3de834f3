"""Real services for the local engine, and the certainty that none survives a test."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from volery.engines.local import LocalEngine
from volery.model.application import Health, Probe, Resources, Stop
from volery.model.ports import InstanceSpec, Observation
from volery.supervise import orphan
from volery.supervise.process import Supervised

DEADLINE = 60.0
PYTHON = (sys.executable, "-S", "-E", "-c")

SERVER = """
import os, socket, sys
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind((os.environ["HOST"], int(os.environ["PORT"])))
server.listen()
print("listening", flush=True)
while True:
    connection, _ = server.accept()
    line = connection.recv(65536).split(b"\\r\\n")[0].split()
    path = line[1].decode() if len(line) > 1 else ""
    if path == "/crash":
        os._exit(3)
    if path == "/close":
        server.close()
        connection.close()
        import time
        time.sleep(1000)
    sick = os.path.exists("sick")
    status = b"503 Unwell" if sick else b"200 OK"
    connection.sendall(b"HTTP/1.1 " + status + b"\\r\\nContent-Length: 2\\r\\n\\r\\nok")
    connection.close()
"""


@dataclass
class Lab:
    """A home, a folder for services, and an engine that can come and go."""

    home: Path
    work: Path
    wakes: list[int] = field(default_factory=list)

    def engine(self, **options: Any) -> LocalEngine:
        return LocalEngine(self.home, lambda: self.wakes.append(1), **options)

    def spec(self, identity: str, *command: str, **changes: Any) -> InstanceSpec:
        """An instance that runs a command, or Python code, or the server."""
        if not command:
            command = (SERVER,)
        if len(command) == 1:
            command = (*PYTHON, command[0])
        given: dict[str, Any] = {
            "id": identity,
            "service": "web",
            "release": "web@1",
            "command": command,
            "directory": str(self.work),
            "environment": {"PATH": os.environ["PATH"], "VOLERY_INSTANCE": identity},
            "protocol": "http",
            "health": Health(every=0.05, timeout=2.0, failures=2),
            "resources": Resources(),
            "stop": Stop(drain=0.0, grace=20.0),
        }
        return InstanceSpec(**given | changes)

    def http(self, path: str = "/healthz", **changes: Any) -> Health:
        return Health(ready=Probe(path=path), every=0.05, timeout=2.0, failures=2, **changes)

    def run(self, scenario: Callable[[LocalEngine], Awaitable[None]], **options: Any) -> None:
        """A scenario with an open engine."""

        async def whole() -> None:
            engine = self.engine(**options)
            await engine.open()
            try:
                await scenario(engine)
            finally:
                await engine.close()

        asyncio.run(whole())

    def supervised(self, identity: str) -> Supervised:
        return Supervised(self.home / "instances" / identity)

    def phase(self, identity: str) -> str:
        """What its shim last wrote."""
        status = self.supervised(identity).status()
        return status.phase if status is not None else ""

    def restarts(self, identity: str) -> bool:
        """Whether its shim has heard that it shall restart it."""
        status = self.supervised(identity).status()
        return status is not None and status.restart

    def lives(self, identity: str) -> int:
        """How many processes it has had until now, if one runs; else 0."""
        status = self.supervised(identity).status()
        running = status is not None and status.phase == "running"
        return 1 + len(status.exits) if status is not None and running else 0

    def has_lives(self, identity: str, number: int) -> bool:
        """Whether so many processes have been started, the last of which runs."""
        return self.lives(identity) == number

    def kill_shim(self, identity: str) -> None:
        """kill -9, and gone."""
        status = self.supervised(identity).status()
        assert status is not None
        assert status.shim.send(signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(status.shim.pid, 0)

    def end(self) -> None:
        """Whatever still runs ends now."""
        for folder in (self.home / "instances").glob("*"):
            status = Supervised(folder).status()
            if status is None:
                continue
            status.shim.send(signal.SIGKILL)
            asyncio.run(orphan.end(folder, status, 0.0))
            with suppress(ChildProcessError):
                os.waitpid(status.shim.pid, 0)


async def until(condition: Callable[[], object], seen: Callable[[], object] = str) -> None:
    """Waits for a condition, generously; `seen` says what is there instead."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {DEADLINE:g} s; {seen()}")
        await asyncio.sleep(0.01)


async def reaches(engine: LocalEngine, identity: str, state: str) -> Observation:
    """Waits until an instance is in a state, and says what is seen then."""
    await until(
        lambda: engine.observe()[identity].state == state,
        lambda: f"{engine.observe()[identity]} is not {state}",
    )
    return engine.observe()[identity]


async def fetch(address: str, path: str = "/") -> str:
    """What an instance answers, headers and all; "" if it hangs up."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {path} HTTP/1.1\r\n\r\n".encode())
    try:
        return (await reader.read()).decode()
    except ConnectionError:
        return ""
    finally:
        writer.close()


DAEMONS = """
import os, signal, sys, time
def daemon(name, deaf):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            if deaf:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            null = os.open("/dev/null", os.O_RDWR)
            for fd in (0, 1, 2):
                os.dup2(null, fd)
            open(name + ".tmp", "w").write(str(os.getpid()))
            os.rename(name + ".tmp", name)
            time.sleep(1000)
        os._exit(0)
    os.wait()
daemon("polite", False)
daemon("deaf", True)
"""


def daemons(lab: Lab) -> list[int]:
    """The process ids that the daemons wrote."""
    return [int((lab.work / name).read_text()) for name in ("polite", "deaf")]


def running(pid: int) -> bool:
    """Whether there is such a process, zombies aside."""
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
