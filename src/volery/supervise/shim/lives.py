"""One process through all its lives: start, end, restart, stop.

A single loop looks at everything that can be due, then sleeps until a signal or the next deadline.
All is level-triggered: a lost signal costs a second. An error of the machine (a full disk, no
more processes) is noted and met again at the next look; it never ends the supervision.
"""

# Importing pathlib would cost a third of the time to start.
# ruff: noqa: PTH109, PTH116, PTH119, PTH208
from __future__ import annotations

import ctypes
import fcntl
import json
import os
import resource
import signal
import sys
import time
import zlib

from volery.supervise.shim.cgroups import Cgroups, tree_memory
from volery.supervise.shim.child import Command, Held, NotStarted, may_open
from volery.supervise.shim.files import (
    overwrite,
    read_document,
    replace,
    unlink,
    write_durably,
)
from volery.supervise.shim.log import GLANCE, Log
from volery.supervise.shim.processes import Stat, descendants, send, signal_name, stat_of

TYPE_CHECKING = False  # typing would cost as much
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from volery.supervise.shim.child import Spec

ENVIRONMENT_FD, LOCK_FD, FIRST_HELD_FD = 3, 4, 5
"""Inherited, and held open for as long as the shim lives: an anonymous file with the environment as
JSON, which whoever comes later can read there; the locked lock file; then whatever else."""
BLOCKED = frozenset(
    {
        signal.SIGHUP,
        signal.SIGCHLD,
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGQUIT,
        signal.SIGUSR1,
        signal.SIGUSR2,
    }
)
"""Signals that are waited for. Whoever starts a shim blocks them, so none comes too early."""
STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})
PATIENCE = 1.0
"""Seconds that whoever should answer may take to speak."""
KEPT_EXITS = 10
PR_SET_CHILD_SUBREAPER = 36


class Shim:
    """One process through all its lives."""

    def __init__(self, spec: Spec, environment: dict[str, str]) -> None:
        self.spec = spec
        self.environment = environment
        self.tree = bool(spec["tree"])
        self.log = Log(int(spec["log_bytes"]))
        here = os.getcwd()
        name = f"volery-{zlib.crc32(here.encode()):08x}-{os.path.basename(here)[:60]}"
        self.cgroups = Cgroups(name, spec["limits"]) if self.tree else None
        self.identity = Stat.mine().identity
        self.child: Stat | None = None
        self.phase = "waiting"
        self.stopping = self.restart = self.fallback = self.over_memory = False
        self.crowded = self.told = False
        self.grace = float(spec["grace"])
        self.failures = self.restarts = self.kills_before = 0
        self.began = self.deadline = self.due = self.watch_at = 0.0
        self.started_at = self.next_at = 0.0
        self.detail = self.complaint = ""
        self.exits: list[dict[str, Any]] = []
        self.asked: set[int] = set()
        self.control: tuple[int, int] = (0, 0)
        self.dirty = False

    def run(self) -> None:
        """Until the process has ended for good and that is on disk."""
        while True:
            try:
                self.look()
            except OSError as error:  # supervision goes on whatever the machine does to us
                self.complain(error)
            if self.phase == "ended" and (not self.dirty or gone(".")):
                self.log.close()
                return
            got = signal.sigtimedwait(BLOCKED, self.pause())
            self.told = self.told or (got is not None and got.si_signo in STOP_SIGNALS)

    def look(self) -> None:
        """Everything that can be due, each part idempotent."""
        self.crowded = self.reap()
        if self.told or gone("."):  # nobody could ever control it again in a folder that is gone
            self.stop()
        else:
            self.heed()
        self.advance()
        if self.dirty:
            self.save()
        self.log.keep()
        self.watch_memory()

    def pause(self) -> float:
        """Seconds until something is due even if no signal comes."""
        now, due = time.monotonic(), self.log.pace
        if self.dirty or self.watches_memory():
            due = min(due, GLANCE)
        if self.child is not None and self.stopping:
            due = min(due, max(self.deadline - now, 0.05))
        elif self.child is None and self.crowded:
            due = 0.01
        elif self.phase == "waiting":
            due = min(due, max(self.due - now, 0.0))
        return due

    def reap(self) -> bool:
        """Take note of every process that ended; whether some of ours still run."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if self.child is not None and pid == self.child.pid:
                self.ended(status)

    def ended(self, status: int) -> None:
        """The process itself is gone; what it left behind is dealt with in `advance`."""
        ran = time.monotonic() - self.began
        code, number = os.waitstatus_to_exitcode(status), 0
        if code < 0:
            code, number = 0, -code
        kills = self.cgroups.out_of_memory_kills() - self.kills_before if self.cgroups else 0
        killed = number == signal.SIGKILL or code == 128 + signal.SIGKILL
        self.exits.append(
            {
                "code": None if number else code,
                "signal": signal_name(number) if number else None,
                "oom": killed and (kills > 0 or self.over_memory),
                "at": time.time(),
                "ran": ran,
            }
        )
        del self.exits[:-KEPT_EXITS]
        if ran >= float(self.spec["backoff"]["healthy"]):
            self.failures = 0
        self.decide()

    def decide(self) -> None:
        """After an end: once more, and when, or not."""
        self.child, self.dirty, self.over_memory = None, True, False
        if not self.restart or self.stopping:
            self.phase = "stopping"
            return
        wait = self.wait_before_restart()
        self.failures += 1
        self.restarts += 1
        self.phase, self.due, self.next_at = "waiting", time.monotonic() + wait, time.time() + wait

    def wait_before_restart(self) -> float:
        """Nothing the first time, then doubling to a cap, with jitter."""
        backoff = self.spec["backoff"]
        if self.failures == 0:
            return 0.0
        doubled = float(backoff["first"]) * 2.0 ** min(self.failures - 1, 30)
        longest = min(float(backoff["cap"]), doubled)
        return longest * (0.5 + os.urandom(1)[0] / 510)

    def heed(self) -> None:
        """Look at what is wished, if that changed."""
        try:
            found = os.stat("control.json")
        except FileNotFoundError:
            return
        if (found.st_ino, found.st_mtime_ns) == self.control:
            return
        self.control = (found.st_ino, found.st_mtime_ns)
        wish = read_document("control.json") or {}
        self.restart = bool(wish.get("restart", self.restart))
        self.grace = float(wish.get("grace", self.grace))
        self.dirty = True
        if wish.get("wish") == "stop":
            self.stop()

    def stop(self) -> None:
        """Begin to end it: politely, until the grace is over, which can only be made shorter."""
        if self.stopping:
            self.deadline = min(self.deadline, time.monotonic() + self.grace)
            return
        self.stopping, self.phase, self.dirty = True, "stopping", True
        self.deadline = time.monotonic() + self.grace
        if self.child is not None:
            signal_all = os.killpg if self.tree else os.kill
            signal_all(self.child.pid, signal.SIGTERM)
            signal_all(self.child.pid, signal.SIGCONT)  # a suspended one shall hear it too

    def advance(self) -> None:
        """Take the next step if it is due."""
        now = time.monotonic()
        if self.child is not None:
            if self.stopping and now >= self.deadline:
                self.kill()
        elif self.crowded and self.tree:
            self.clear(polite=self.stopping and now < self.deadline)
        elif self.phase == "stopping":
            self.phase, self.dirty = "ended", True
            if self.cgroups:
                self.cgroups.remove()
        elif self.phase == "waiting" and now >= self.due:
            self.begin()

    def kill(self) -> None:
        """SIGKILL the process, and where the tree is ours everything below it."""
        if not self.tree and self.child is not None:
            os.kill(self.child.pid, signal.SIGKILL)
            return
        if self.cgroups:
            self.cgroups.kill()
        for stat in descendants(os.getpid()):
            send(stat.pid, stat.ticks, signal.SIGKILL)

    def clear(self, polite: bool) -> None:
        """End what the process left behind: it may hold the port."""
        if not polite:
            self.kill()
            return
        for stat in descendants(os.getpid()):
            if stat.ticks not in self.asked:
                self.asked.add(stat.ticks)
                send(stat.pid, stat.ticks, signal.SIGTERM)

    def begin(self) -> None:
        """Start the process; it runs its program only once state.json says who it is."""
        command = self.command()
        self.began, self.started_at = time.monotonic(), time.time()
        self.phase, self.detail, self.dirty = "running", "", True
        try:
            why = self.hatch(Held(self.spec, command, self.log.fd))
        except (NotStarted, OSError) as error:
            why = str(error)
        if why:
            self.detail = why
            self.log.write(why)
            self.decide()
            if self.phase == "waiting":
                self.restarts -= 1  # it did not begin, so it has not ended once more

    def hatch(self, held: Held) -> str:
        """Let a held process go on once it is known; if the disk is full, all the same.

        Known to whoever looks and whoever succeeds us: that takes no wait for the disk (16 ms
        measured), which only a power cut could tell, and no process survives that. It is forced
        to disk right after.
        """
        try:
            self.child = stat_of(held.pid)
            if self.cgroups:
                self.cgroups.join(held.pid)
                self.kills_before = self.cgroups.out_of_memory_kills()
            self.save(replace)
            self.dirty = True
        finally:
            why = held.release()
        return why

    def command(self) -> Command:
        """What to run; another command if it has one for when nobody answers."""
        fallback: dict[str, Any] | None = self.spec.get("fallback")
        self.fallback = fallback is not None and not answers(fallback["unless"])
        words = fallback["argv"] if fallback and self.fallback else self.spec["argv"]
        return Command(list(words), self.environment, bool(self.spec["expand"]))

    def watches_memory(self) -> bool:
        """Whether the kernel enforces no memory limit, so that we have to."""
        watched = self.cgroups and self.cgroups.enforced.get("memory") == "watched"
        return bool(watched) and self.child is not None

    def watch_memory(self) -> None:
        """Enforce a memory limit, once a second."""
        if not self.watches_memory() or time.monotonic() < self.watch_at:
            return
        self.watch_at = time.monotonic() + 1.0
        limit = int(self.spec["limits"]["memory"])
        if tree_memory(os.getpid(), limit) > limit:
            self.over_memory = True
            self.kill()

    def save(self, write: Callable[[str, object], None] = write_durably) -> None:
        """Write down what is, and tell whoever listens. Tried again if the disk is full."""
        document = {
            "shim": self.identity,
            "child": self.child.identity if self.child else None,
            "phase": self.phase,
            "stop": self.stopping,
            "restart": self.restart,
            "restarts": self.restarts,
            "started_at": self.started_at,
            "next_at": self.next_at if self.phase == "waiting" else None,
            "fallback": self.fallback,
            "detail": self.detail,
            "exits": self.exits,
            "enforced": self.enforced(),
            "cgroups": sorted(self.cgroups.made) if self.cgroups else [],
        }
        try:
            write("state.json", document)
        except OSError as error:
            self.complain(error)
            self.dirty = not self.squeeze_in(document)
        else:
            self.dirty = False
        self.ring()

    def squeeze_in(self, document: dict[str, Any]) -> bool:
        """On a full disk the blocks of the old file are still ours."""
        try:
            unlink("state.json.tmp")
            overwrite("state.json", document)
        except OSError as error:
            self.complain(error)
            return False
        return True

    def complain(self, error: OSError) -> None:
        """To shim.log, each new trouble once."""
        if str(error) == self.complaint:
            return
        self.complaint = str(error)
        try:
            os.write(2, f"{time.time():.0f} {error!r}\n".encode(errors="replace"))
        except OSError:  # the disk is full, which is what this would have said
            return

    def enforced(self) -> dict[str, str]:
        """What really enforces each wished limit."""
        found = dict(self.cgroups.enforced) if self.cgroups else {}
        if "files" in self.spec["limits"]:
            right = may_open(int(self.spec["limits"]["files"]))
            found["files"] = "rlimit" if right else "not enforced"
        return found

    def ring(self) -> None:
        """Wake the control plane. If none listens it will look by itself."""
        bell = self.spec.get("notify")
        if not bell:
            return
        try:
            fd = os.open(bell, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:  # nobody there
            return
        try:
            os.write(fd, os.path.basename(os.getcwd()).encode() + b"\n")
        except OSError:  # so much unread that another wake-up adds nothing
            return
        finally:
            os.close(fd)


def gone(folder: str) -> bool:
    """Whether our folder was removed under us."""
    return os.stat(folder).st_nlink == 0


def answers(path: str) -> bool:
    """Whether somebody on this unix socket speaks first, as an HTTP/2 server does.

    That it can be connected to says little: the kernel accepts for a process that hangs. The path
    may be longer than an address allows.
    """
    import socket  # only the data plane needs it

    folder, name = os.path.split(path)
    try:
        fd = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(PATIENCE)
        try:
            probe.connect(f"/proc/self/fd/{fd}/{name}")
            return bool(probe.recv(1))
        except OSError:
            return False
        finally:
            os.close(fd)


def main() -> None:
    """Become the shim of the folder given."""
    signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
    held = FIRST_HELD_FD + int(sys.argv[2])
    for fd in [int(name) for name in os.listdir("/proc/self/fd")]:
        if fd >= held:
            _close(fd)
        elif fd >= ENVIRONMENT_FD:
            os.set_inheritable(fd, False)
    os.chdir(sys.argv[1])
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    fcntl.flock(LOCK_FD, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with os.fdopen(ENVIRONMENT_FD, "rb", closefd=False) as file:
        environment = json.load(file)
    spec = read_document("spec.json")
    if spec is None:
        raise SystemExit("spec.json is missing or damaged")
    if spec["tree"] and ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise SystemExit("this kernel lets no process adopt its descendants")
    Shim(spec, environment).run()


def _close(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:  # the folder listing's own, closed by now
        return
