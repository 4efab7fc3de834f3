"""How shims tell the control plane at once that something changed: names written into a FIFO.

Best effort on both sides: nobody waits, and a lost name costs time only, for the listener looks by
itself now and then. A FIFO needs no module of its own in every shim, and its path may be long.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable
from pathlib import Path

_CHUNK = 65536


class Bell:
    """Calls `ring(name)` for every name a shim writes. One listener per path."""

    def __init__(self, path: Path, ring: Callable[[str], None]) -> None:
        self.path = path
        self._ring = ring
        self._fd: int | None = None
        self._rest = b""

    def open(self) -> None:
        """Listen, in the running event loop."""
        if self.path.exists() and not stat.S_ISFIFO(self.path.lstat().st_mode):
            self.path.unlink()
        if not self.path.exists():
            os.mkfifo(self.path, 0o600)
        # Open for writing too, or the end of the last writer would look like the end of all.
        self._fd = os.open(self.path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        asyncio.get_running_loop().add_reader(self._fd, self._read)

    def close(self) -> None:
        """Listen no more."""
        if self._fd is not None:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None

    def _read(self) -> None:
        assert self._fd is not None
        try:
            *names, self._rest = (self._rest + os.read(self._fd, _CHUNK)).split(b"\n")
        except BlockingIOError:
            return
        for name in dict.fromkeys(names):
            self._ring(os.fsdecode(name))
