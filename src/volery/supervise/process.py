"""A supervised process as its owner sees it: one folder that says what is wished and what is.

Starts a shim for it, reads what the shim wrote, and writes wishes. Holds no state: whoever opens
the folder later, after any crash, sees and can do the same. Everything here may wait for the disk.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from volery.model.errors import Code, VoleryError
from volery.supervise.identity import Identity
from volery.supervise.shim import __file__ as _shim
from volery.supervise.shim.files import read_document, write_durably
from volery.supervise.shim.lives import BLOCKED, ENVIRONMENT_FD

if TYPE_CHECKING:
    from volery.model.ports import Exit

Phase = Literal["running", "waiting", "stopping", "ended"]
KEPT_NAME = "environment"
"""Of the anonymous file that a shim keeps."""
LEAVING_SECONDS = 5.0
"""How long a shim that has written its last word may take to let go of the folder."""
ASKING_SECONDS = 0.05
"""Longer than who only asks whether somebody looks after a folder holds its lock."""
SETTLED_SECONDS = 2.0
"""A file that was written so long ago looks different when it is written again: longer than any
file system's clock takes to move on."""


@dataclass(frozen=True)
class Backoff:
    """Waits before restarts: none at first, then `first` doubling to `cap`, with jitter; after
    `healthy` seconds of running it begins again."""

    first: float = 0.1
    cap: float = 10.0
    healthy: float = 10.0


@dataclass(frozen=True)
class Fallback:
    """Another command, used whenever nothing answers on a unix socket at a start."""

    argv: tuple[str, ...]
    unless: str


@dataclass(frozen=True)
class Spec:
    """What to run, given once. Must hold no secret: it is written to disk."""

    argv: tuple[str, ...]
    cwd: str
    tree: bool = True
    """Whether everything it starts, however deep, ends with it."""
    expand: bool = False
    """Whether $NAME in `argv` stands for a variable of its environment."""
    limits: Mapping[str, float] = field(default_factory=dict)
    """Of: memory (bytes), cpu (cores), pids, files."""
    grace: float = 10.0
    log_bytes: int = 8 * 1024 * 1024
    backoff: Backoff = Backoff()
    fallback: Fallback | None = None
    notify: str | None = None
    """A `bell.Bell` to ring at every change."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """The owner's own notes; the shim does not look at them."""


@dataclass(frozen=True)
class Wish:
    """What shall be: run or not, and whether an exit is followed by another start."""

    stop: bool = False
    restart: bool = False
    grace: float | None = None


@dataclass(frozen=True)
class Status:
    """What the shim last wrote."""

    phase: Phase
    shim: Identity
    child: Identity | None
    stop: bool
    restart: bool
    restarts: int
    started_at: float
    next_at: float | None
    fallback: bool
    detail: str
    exits: tuple[Exit, ...]
    """The latest ones, oldest first."""
    enforced: Mapping[str, str]
    cgroups: tuple[str, ...]


class Supervised:
    """The folder of one supervised process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._state = path / "state.json"
        self._read: tuple[tuple[int, ...], Status | None] = (), None

    def launch(
        self,
        spec: Spec,
        environment: Mapping[str, str],
        *,
        restart: bool = False,
        hold: Sequence[int] = (),
    ) -> Identity:
        """Start a shim, which starts the process. `hold` are descriptors it keeps open for life.

        Raises:
            VoleryError: the process is already supervised, or the folder cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._locked() as lock:
                self._state.unlink(missing_ok=True)
                write_durably(str(self.path / "spec.json"), asdict(spec))
                self._write(Wish(restart=restart))
                return self._spawn(environment, lock, hold)
        except OSError as error:
            raise VoleryError(
                f"cannot start a shim in {self.path}: {error.strerror or error}",
                hint="volery doctor: disk, rights and the number of processes",
                where=str(self.path),
            ) from None

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """The lock of the folder: the shim inherits it, so there is no moment without."""
        fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            began = time.monotonic()
            while not _lock(fd):
                status = self.status()
                ending = status is not None and status.phase == "ended"
                patience = LEAVING_SECONDS if ending else ASKING_SECONDS
                if time.monotonic() - began > patience:
                    raise VoleryError(f"a shim already looks after {self.path}", code=Code.CONFLICT)
                time.sleep(0.005)
            yield fd
        finally:
            os.close(fd)

    def _spawn(self, environment: Mapping[str, str], lock: int, hold: Sequence[int]) -> Identity:
        secret = os.memfd_create(KEPT_NAME, os.MFD_CLOEXEC)
        complaints = os.open(
            self.path / "shim.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        # Moved out of the way first: the numbers they shall get may be those of one another.
        above = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100) for fd in (secret, lock, *hold)]
        try:
            _write_all(secret, json.dumps(dict(environment)).encode())
            os.lseek(secret, 0, os.SEEK_SET)
            pid = _spawn_shim(str(self.path), complaints, above)
        finally:
            for fd in (secret, complaints, *above):
                os.close(fd)
        identity = Identity.of(pid)
        if identity is None:
            os.waitpid(pid, 0)
            raise VoleryError("the shim ended at once", hint=f"see {self.path / 'shim.log'}")
        return identity

    def status(self) -> Status | None:
        """What is; None before the shim has first written it."""
        try:
            found = self._state.stat()
        except OSError:
            return None
        seen = found.st_ino, found.st_size, found.st_mtime_ns
        before, status = self._read
        if seen != before:
            status = _status(read_document(str(self._state)))
            settled = time.time() - found.st_mtime > SETTLED_SECONDS
            self._read = (seen if settled else ()), status
        return status

    def environment(self) -> Mapping[str, str] | None:
        """What its process is started with: its shim keeps that, and tells whoever may read it.
        None if there is no shim."""
        status = self.status()
        if status is None:
            return None
        kept = Path(f"/proc/{status.shim.pid}/fd/{ENVIRONMENT_FD}")
        try:
            if KEPT_NAME not in kept.readlink().name or not status.shim.alive():
                return None
            found: Mapping[str, str] = json.loads(kept.read_bytes())
        except OSError:
            return None
        return found

    def about(self) -> Mapping[str, Any]:
        """The owner's notes; empty if there are none to read."""
        found = (read_document(str(self.path / "spec.json")) or {}).get("about")
        return found if isinstance(found, dict) else {}

    def wished(self) -> Wish:
        """The latest wish."""
        document = read_document(str(self.path / "control.json")) or {}
        grace = document.get("grace")
        return Wish(document.get("wish") == "stop", document.get("restart") is True, grace)

    def wish(self, wish: Wish) -> None:
        """Make this the wish, and tell the shim.

        Raises:
            OSError: it cannot be written; a stop is then told to the shim all the same.
        """
        status = self.status()
        try:
            self._write(wish)
        except OSError:
            if wish.stop and status is not None:
                status.shim.send(signal.SIGTERM)
            raise
        if status is not None:
            status.shim.send(signal.SIGHUP)

    def _write(self, wish: Wish) -> None:
        document: dict[str, object] = {"wish": "stop" if wish.stop else "run"}
        document["restart"] = wish.restart
        if wish.grace is not None:
            document["grace"] = wish.grace
        write_durably(str(self.path / "control.json"), document)

    def looked_after(self) -> bool:
        """Whether a shim holds the folder."""
        try:
            fd = os.open(self.path / "lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return not _lock(fd)
        finally:
            os.close(fd)


def _spawn_shim(folder: str, complaints: int, inherited: Sequence[int]) -> int:
    actions: list[tuple[Any, ...]] = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
        (os.POSIX_SPAWN_DUP2, complaints, 2),
    ]
    for number, fd in enumerate(inherited, ENVIRONMENT_FD):
        actions.append((os.POSIX_SPAWN_DUP2, fd, number))
    program = str(Path(_shim).with_name("__main__.py"))
    held = str(len(inherited) - 2)
    return os.posix_spawn(
        sys.executable,
        [sys.executable, "-I", "-S", "-X", "utf8", program, folder, held],
        {},
        file_actions=actions,
        setsid=True,
        setsigmask=BLOCKED,
        setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
    )


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write_all(fd: int, content: bytes) -> None:
    while content:
        content = content[os.write(fd, content) :]


def _status(document: dict[str, Any] | None) -> Status | None:
    shim = Identity.read(document and document.get("shim"))
    if document is None or shim is None:
        return None
    get = document.get  # a shim of another version may have written less
    return Status(
        phase=cast(Phase, get("phase", "running")),
        shim=shim,
        child=Identity.read(get("child")),
        stop=get("stop", False),
        restart=get("restart", False),
        restarts=get("restarts", 0),
        started_at=get("started_at", 0.0),
        next_at=get("next_at"),
        fallback=get("fallback", False),
        detail=get("detail", ""),
        exits=_exits(get("exits", ())),
        enforced=get("enforced", {}),
        cgroups=tuple(get("cgroups", ())),
    )


def _exits(found: Sequence[Mapping[str, Any]]) -> tuple[Exit, ...]:
    # Here, because the ports bring the whole manifest along, which commands that look do without.
    from volery.model.ports import Exit

    return tuple(Exit(one["code"], one["signal"], one["oom"], one["at"]) for one in found)
