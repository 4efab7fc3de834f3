"""Hears at once that a process ended, whoever its parent is, and reaps it if that is us."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from volery.supervise.identity import Identity


class DeathWatch:
    """Calls `died` once, from the event loop, when this process has ended or had before."""

    def __init__(self, identity: Identity, died: Callable[[], None]) -> None:
        self.identity = identity
        self._died = died
        self._loop = asyncio.get_running_loop()
        self._fd = identity.open()
        self._soon: asyncio.Handle | None = None
        if self._fd is None:
            self._soon = self._loop.call_soon(died)
        else:
            self._loop.add_reader(self._fd, self._ended)

    def _ended(self) -> None:
        self.close()
        reap(self.identity.pid)
        self._died()

    def close(self) -> None:
        """Listen no more."""
        if self._soon is not None:
            self._soon.cancel()
        if self._fd is not None:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None


def reap(pid: int) -> None:
    """Let go of an ended child; nothing happens if it is not ours."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
