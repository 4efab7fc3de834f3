"""The log of a process, bounded from outside the data path.

The process writes straight into `log`; nothing it does waits for us. When the file is over its
limit its last part is copied to `log.1` and it is cut to nothing; what is written between the copy
and the cut is lost. Room for what comes next is reserved on disk, so that a full one does not fail
the writes of a process that means no more than to say something.

Positions count every byte ever written. `log.index` begins with a line `base of log.1, base of
log`, followed by `*` while a cut is under way; then come lines `time position`, so that a reader
finds a moment to about GLANCE seconds; the first one after a silence, to SELDOM.
"""

# Importing pathlib would cost a third of the time to start.
# ruff: noqa: PTH104, PTH123
from __future__ import annotations

import ctypes
import errno
import os

from volery.supervise.shim.files import read_text, unlink

INDEX_BYTES = 256 * 1024
HEADROOM = 256 * 1024
"""Bytes reserved beyond the end, looked after whenever less than half of it is left."""
HURRY, GLANCE, SELDOM = 0.05, 0.25, 1.0
"""Seconds between two looks at a log that grows quickly, that grows, and that has been silent for
eight seconds; until then the pauses grow from look to look."""
GROWTH = 1.1
FALLOC_FL_KEEP_SIZE = 1
LIBC = ctypes.CDLL(None, use_errno=True)


class Log:
    """The file, its older half and its index, in the current folder."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.fd = os.open("log", os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        header = read_text("log.index").partition("\n")[0].split()
        known = [int(word) for word in header[:2] if word.isdigit()]
        self.older, self.base = known if len(known) == 2 else (0, 0)
        self.seen = os.fstat(self.fd).st_size
        self.pace = GLANCE
        """Seconds until the next look is due."""
        self._reserved = 0
        self._reserve(self.seen)
        self._rewrite(cutting=False)

    def keep(self) -> None:
        """Note growth, and cut the file when it is over its limit."""
        found = os.fstat(self.fd)
        size = found.st_size
        if size == self.seen:
            self.pace = min(SELDOM, max(GLANCE, self.pace * GROWTH))
            return
        self.pace = HURRY if size - self.seen > self.limit // 4 else GLANCE
        self.seen = size
        self._note(size, found.st_mtime)
        full = not self._reserve(size)
        if size > self.limit or (full and size > HEADROOM // 2):
            self._cut(size)

    def _reserve(self, size: int) -> bool:
        """Whether there is room for what comes next; false only if the disk is full."""
        if self._reserved - size >= HEADROOM // 2:
            return True
        room = (ctypes.c_int64(size), ctypes.c_int64(HEADROOM))
        if LIBC.fallocate(self.fd, FALLOC_FL_KEEP_SIZE, *room) != 0:
            return ctypes.get_errno() not in (errno.ENOSPC, errno.EDQUOT)
        self._reserved = size + HEADROOM
        return True

    def write(self, text: str) -> None:
        """A line of ours among those of the process."""
        try:
            os.write(self.fd, f"volery: {text}\n".encode())
        except OSError:  # a full disk; state.json says it too
            return

    def close(self) -> None:
        """Nothing will be written any more: give back what was reserved."""
        os.ftruncate(self.fd, os.fstat(self.fd).st_size)
        os.close(self.fd)

    def _note(self, size: int, written_at: float) -> None:
        try:
            fd = os.open("log.index", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, f"{written_at:.2f} {self.base + size}\n".encode())
                full = os.fstat(fd).st_size > INDEX_BYTES
            finally:
                os.close(fd)
        except OSError:  # a full disk costs precision of --since, nothing else
            return
        if full:
            self._rewrite(cutting=False, every=2)

    def _cut(self, size: int) -> None:
        self._rewrite(cutting=True)
        start = max(0, size - self.limit)
        try:
            copied = self._copy(start)
        except OSError:  # a full disk: the bound matters more than the older half
            unlink("log.1.tmp")
            unlink("log.1")
            copied = 0
        os.ftruncate(self.fd, 0)
        self.older, self.base = self.base + start, self.base + start + copied
        self.seen = self._reserved = 0
        self._reserve(0)
        self._rewrite(cutting=False)

    def _copy(self, start: int) -> int:
        """Bytes from there on, also those that come meanwhile, but not without end."""
        target = os.open("log.1.tmp", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            copied = 0
            while copied < 2 * self.limit:
                step = os.sendfile(target, self.fd, start + copied, self.limit)
                if step == 0:
                    break
                copied += step
        finally:
            os.close(target)
        os.rename("log.1.tmp", "log.1")
        return copied

    def _rewrite(self, cutting: bool, every: int = 1) -> None:
        lines = read_text("log.index").splitlines()[1:]
        kept = [line for line in lines[::every] if _position(line) >= self.older]
        header = f"{self.older} {self.base}{' *' if cutting else ''}"
        try:
            with open("log.index.tmp", "w", encoding="ascii") as file:
                file.write("\n".join([header, *kept, ""]))
            os.rename("log.index.tmp", "log.index")
        except OSError:  # as above
            return


def _position(line: str) -> int:
    last = line.rpartition(" ")[2]
    return int(last) if last.isdigit() else -1
