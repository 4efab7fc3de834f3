"""Other process managers, each installed into the cache and run as its own manual says.

A peer keeps the processes of a `Formation`, whose ports are fixed: it knows no data plane. What is
missing on this machine is `None` here, and said aloud.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.options import say
from benchmarks.processes import end, free_port, run, running, started

# setuptools: supervisor still asks for its pkg_resources.
PYTHON_PEERS = ("supervisor==4.3.0", "circus==0.19.0", "honcho==2.0.0", "setuptools<81")
NODE_PEERS = ("pm2@7.0.4",)


@dataclass(frozen=True)
class Member:
    """One process: of which service, in which folder, on which port."""

    service: str
    folder: Path
    port: int

    @property
    def name(self) -> str:
        """Unique in its formation."""
        return f"{self.service}-{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What it has to be told."""
        return {"HOST": "127.0.0.1", "PORT": str(self.port)}


@dataclass(frozen=True)
class Kept:
    """Processes under a peer's care."""

    restart: Callable[[Sequence[Member]], None]
    """Restart these processes in place, all together, as the peer does."""


Peer = Callable[[Path, Sequence[Member]], AbstractContextManager[Kept]]
"""Keeps processes for as long as a block lasts, in a folder of its own."""


def python_peers(cache: Path) -> Path:
    """The folder with the commands of supervisor, circus and honcho."""
    home = cache / "python-peers"
    stamp = home / "installed"
    wanted = "\n".join(PYTHON_PEERS)
    if not stamp.exists() or stamp.read_text() != wanted:
        say(f"installing {', '.join(PYTHON_PEERS)}")
        cache.mkdir(parents=True, exist_ok=True)
        run([sys.executable, "-m", "venv", "--clear", str(home)], cache)
        run([str(home / "bin" / "pip"), "install", "--quiet", *PYTHON_PEERS], cache)
        stamp.write_text(wanted)
    return home / "bin"


def pm2_program(cache: Path) -> Path | None:
    """The command of pm2."""
    if not shutil.which("npm"):
        say("pm2 is left out: there is no npm on this machine")
        return None
    home = cache / "node-peers"
    program = home / "node_modules" / ".bin" / "pm2"
    if not program.exists():
        say(f"installing {', '.join(NODE_PEERS)}")
        home.mkdir(parents=True, exist_ok=True)
        run(["npm", "install", "--no-fund", "--no-audit", "--silent", *NODE_PEERS], home)
    return program


def keepers(cache: Path) -> dict[str, Peer]:
    """Those that start a process again when it ends, by name; pm2 only where there is npm."""
    python = python_peers(cache)
    found: dict[str, Peer] = {
        "supervisor": partial(supervisor, python),
        "circus": partial(circus, python),
    }
    program = pm2_program(cache)
    if program is not None:
        found["pm2"] = partial(pm2, program)
    return found


@contextmanager
def supervisor(bin_folder: Path, folder: Path, members: Sequence[Member]) -> Iterator[Kept]:
    """supervisord, spoken to with supervisorctl."""
    folder.mkdir()
    lines = [
        "[supervisord]\nnodaemon=true\n",
        "[unix_http_server]\nfile=%(here)s/control.sock\n",
        "[supervisorctl]\nserverurl=unix://%(here)s/control.sock\n",
        "[rpcinterface:supervisor]\n"
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n",
    ]
    for member in members:
        told = ",".join(f'{key}="{value}"' for key, value in member.environment.items())
        lines.append(
            f"[program:{member.name}]\ncommand={sys.executable} main.py\n"
            f"directory={member.folder}\nenvironment={told}\nautorestart=true\n"
        )
    configuration = folder / "supervisord.conf"
    configuration.write_text("\n".join(lines))
    control = [str(bin_folder / "supervisorctl"), "-c", str(configuration)]

    def restart(chosen: Sequence[Member]) -> None:
        run([*control, "restart", *(member.name for member in chosen)], folder)

    command = [str(bin_folder / "supervisord"), "-c", str(configuration)]
    with running(command, folder / "output"):
        yield Kept(restart)


@contextmanager
def circus(bin_folder: Path, folder: Path, members: Sequence[Member]) -> Iterator[Kept]:
    """circusd, spoken to with circusctl."""
    folder.mkdir()
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    lines = [
        f"[circus]\nendpoint = {endpoint}\npubsub_endpoint = tcp://127.0.0.1:{free_port()}\n",
    ]
    for member in members:
        told = "\n".join(f"{key} = {value}" for key, value in member.environment.items())
        lines.append(
            f"[watcher:{member.name}]\ncmd = {sys.executable} main.py\n"
            f"working_dir = {member.folder}\ncopy_env = true\n\n[env:{member.name}]\n{told}\n"
        )
    configuration = folder / "circus.ini"
    configuration.write_text("\n".join(lines))
    control = [str(bin_folder / "circusctl"), "--endpoint", endpoint]

    def restart(chosen: Sequence[Member]) -> None:
        for member in chosen:
            run([*control, "restart", member.name], folder)

    with running([str(bin_folder / "circusd"), str(configuration)], folder / "output"):
        yield Kept(restart)


@contextmanager
def pm2(program: Path, folder: Path, members: Sequence[Member]) -> Iterator[Kept]:
    """pm2's daemon in a home of its own."""
    folder.mkdir()
    environment = os.environ | {"PM2_HOME": str(folder / "home"), "PM2_DISCRETE_MODE": "true"}
    apps = [
        {
            "name": member.name,
            "script": "main.py",
            "interpreter": sys.executable,
            "cwd": str(member.folder),
            "env": member.environment,
        }
        for member in members
    ]
    configuration = folder / "apps.json"
    configuration.write_text(json.dumps({"apps": apps}))

    def restart(chosen: Sequence[Member]) -> None:
        run([str(program), "restart", *(member.name for member in chosen)], folder, environment)

    try:
        run([str(program), "start", str(configuration)], folder, environment)
        yield Kept(restart)
    finally:
        run([str(program), "kill"], folder, environment)


@contextmanager
def honcho(bin_folder: Path, folder: Path, members: Sequence[Member]) -> Iterator[Kept]:
    """honcho with one Procfile; it has no restart, so it is ended and started as a whole."""
    folder.mkdir()
    lines = [
        f"{member.name}: cd {member.folder} && "
        f"HOST=127.0.0.1 PORT={member.port} exec {sys.executable} main.py"
        for member in members
    ]
    (folder / "Procfile").write_text("\n".join(lines) + "\n")
    command = [str(bin_folder / "honcho"), "start"]
    process: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        process.append(started(command, folder / "output"))

    def restart(_: Sequence[Member]) -> None:
        end(process.pop())
        start()

    start()
    try:
        yield Kept(restart)
    finally:
        end(process.pop())
