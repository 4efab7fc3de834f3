"""Which loopback ports are ours: reserved machine-wide, race-free, as long as a fd is open.

A reservation is an flock on a file named after the port, in a folder of this user that every Volery
process agrees on. The lock goes with the file descriptor, so whoever inherits it (a shim) keeps the
port for life and a crash frees it. The port is also tried with bind, against strangers who know
nothing of our locks. Ports come from 20000 to 31999, below the usual ephemeral range, so that an
outgoing connection does not take one between its reservation and its use.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from volery.model.errors import Code, VoleryError

FIRST, LAST = 20000, 31999
STRIDE = 4999
"""Prime to the size of the range, so that steps of it visit every port once."""
_FOLDER = f"/tmp/volery-{os.getuid()}"  # noqa: S108 - fixed, so that every TMPDIR agrees; checked below
NAMES = 100
"""How many names for the folder are tried."""
_TAKEN = frozenset({errno.EADDRINUSE, errno.EACCES})


@dataclass(frozen=True)
class Reservation:
    """A port that is ours while `fd`, or an inherited copy of it, is open."""

    port: int
    fd: int

    def close(self) -> None:
        """Let go of our copy; a process that inherited one keeps the port."""
        os.close(self.fd)


def reserve(preferred: int | None = None) -> Reservation:
    """A port nobody else has, `preferred` if that is free.

    Raises:
        VoleryError: every port of the range is taken, or the folder of locks cannot be trusted.
    """
    folder = _locks()
    for port in _candidates(preferred):
        fd = _lock(folder / str(port))
        if fd is None:
            continue
        if _can_bind(port, anew=port != preferred):
            return Reservation(port, fd)
        os.close(fd)
    raise VoleryError(
        f"no free port between {FIRST} and {LAST}",
        code=Code.CONFLICT,
        hint="stop something that listens there: ss -ltnp",
    )


def hold(port: int) -> Reservation | None:
    """A port that a process of ours listens on already, so that it stays ours when that stops; None
    if somebody else has reserved it."""
    fd = _lock(_locks() / str(port))
    return None if fd is None else Reservation(port, fd)


def _candidates(preferred: int | None) -> Iterator[int]:
    """The preferred port, then every other one from a random start, ephemeral ones last."""
    if preferred is not None:
        yield preferred
    size, begin = LAST - FIRST + 1, secrets.randbelow(LAST - FIRST + 1)
    ports = [FIRST + (begin + step * STRIDE) % size for step in range(size)]
    low, high = _ephemeral()
    yield from (port for port in ports if port != preferred and not low <= port <= high)
    yield from (port for port in ports if port != preferred and low <= port <= high)


def _ephemeral() -> tuple[int, int]:
    try:
        low, high = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    except OSError:  # a sandbox may hide it; then only bind protects
        return 0, -1
    return int(low), int(high)


def _locks() -> Path:
    """The folder of lock files, made if missing: the first name that is ours. Where temporary files
    are anybody can take a name, and would keep us from starting anything if it were the only one.
    """
    for top in (Path(f"{_FOLDER}{suffix}") for suffix in ("", *range(-1, -NAMES, -1))):
        if _is_ours(top):
            folder = top / "ports"
            folder.mkdir(mode=0o700, exist_ok=True)
            return folder
    raise VoleryError(
        f"others have taken {_FOLDER} and {NAMES - 1} names after it",
        code=Code.REFUSED,
        hint=f"look who made them: ls -ld {_FOLDER}*",
        where=_FOLDER,
    )


def _is_ours(top: Path) -> bool:
    """Whether the folder is there, made if missing, and belongs to this user.

    Raises:
        VoleryError: it cannot be made, or others could write to it.
    """
    try:
        with suppress(FileExistsError):
            top.mkdir(mode=0o700)
        found = top.lstat()
    except OSError as error:
        raise VoleryError(
            f"cannot use {top}: {error.strerror}",
            hint="it must be a folder that you can write, or not be there at all",
            where=str(top),
        ) from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        return False
    if stat.S_IMODE(found.st_mode) & 0o022:
        raise VoleryError(
            f"{top} is not a folder that only this user can write",
            code=Code.REFUSED,
            hint=f"look who wrote to it, then remove it: ls -l {top}",
            where=str(top),
        )
    return True


def _lock(path: Path) -> int | None:
    """The locked file, or None if another process has it or just removed it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(fd), path.stat()):
            return fd
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(fd)
    return None


def _can_bind(port: int, *, anew: bool) -> bool:
    return all(_binds(host, port, anew) for host in ("127.0.0.1", "0.0.0.0"))


def _binds(host: str, port: int, anew: bool) -> bool:
    with socket.socket() as probe:
        # Connections of whoever listened there linger for a minute. That is in the way of servers
        # that do not set SO_REUSEADDR; who comes back to its own port has to take it as it is.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, not anew)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno in _TAKEN:
                return False
            raise
        return True
