"""The parent of one command: `python -I -S leash.py PARENT REPORT PROGRAM WORD...`.

It ends when the command ends, when it gets SIGTERM, or when its own parent, the control plane,
dies; and it never leaves anything of the command behind: as subreaper it inherits whatever left
group or session, and kills it. How the command ended goes to the descriptor REPORT: `exit 1`,
`signal 9` or, if it could not be executed, `error 2` (an errno).

One file, standard library only. It decides nothing and writes nothing else.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time

GRACE_SECONDS = 2.0
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
WAITED_FOR = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}


def main() -> None:
    """See above."""
    parent, report, program, words = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:]
    os.set_inheritable(report, False)
    signal.pthread_sigmask(signal.SIG_BLOCK, WAITED_FOR)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before that was set
        return
    child = os.fork()
    if child == 0:
        _become(program, words, report)
    status = _wait(child)
    _kill_all()
    if status is not None:
        os.write(report, _described(status).encode())


def _become(program: str, words: list[str], report: int) -> None:
    try:
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores these, programs expect them
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execve(program, words, _given_environment())  # noqa: S606
    except OSError as error:
        os.write(report, f"error {error.errno}\n".encode())
    finally:
        os._exit(127)


def _given_environment() -> dict[bytes, bytes]:
    """What we were started with: Python itself adds LC_CTYPE where there is no locale."""
    with open("/proc/self/environ", "rb") as file:  # noqa: PTH123
        words = file.read().split(b"\0")
    return {name: value for name, found, value in (w.partition(b"=") for w in words) if found}


def _wait(child: int) -> int | None:
    """How the child ended; None if it had to be killed."""
    deadline = None
    while True:
        ended = _reap()
        if child in ended:
            return ended[child]
        if deadline is None:
            got = signal.sigwait(WAITED_FOR)
            if got != signal.SIGCHLD:
                deadline = time.monotonic() + GRACE_SECONDS
                os.killpg(0, signal.SIGTERM)  # to us as well, where it stays blocked
        elif time.monotonic() >= deadline:
            return None
        else:
            signal.sigtimedwait({signal.SIGCHLD}, max(0.0, deadline - time.monotonic()))


def _reap() -> dict[int, int]:
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended[pid] = status


def _kill_all() -> None:
    """Kill children until there are none; orphans below them become our children on the way."""
    while killed := [pid for pid in _children() if _kill(pid)]:
        for pid in killed:
            os.waitpid(pid, 0)


def _kill(pid: int) -> bool:
    """False if it is somebody else's (sudo): it ends when it likes."""
    try:
        os.kill(pid, signal.SIGKILL)  # ours until reaped, so never a stranger's number
    except PermissionError:
        return False
    return True


def _children() -> list[int]:
    me, found = b"%d" % os.getpid(), []
    for name in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208 - pathlib costs a start:
        try:
            with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                text = file.read()
        except OSError:  # gone meanwhile
            continue
        if text.rpartition(b")")[2].split()[1] == me:
            found.append(int(name))
    return found


def _described(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"exit {code}\n" if code >= 0 else f"signal {-code}\n"


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl failed")


if __name__ == "__main__":
    main()
