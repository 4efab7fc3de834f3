"""A client of a database that remembers every write it was told of, and asks for each afterwards.

Writers, each over a connection of its own, write numbers one at a time. A number is *acknowledged*
when the database said so without a reservation; what failed or was never answered may be there or
not, and its number is not used again. A writer that loses its connection makes a new one at once,
and goes on for ever. An *outage* is the time between two acknowledgements, whoever got them. It
never decides whether an outage is too long.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import count, pairwise

PAUSE_SECONDS = 0.01
END_SECONDS = 30.0
Write = Callable[[int], bool]
"""Writes a number; whether that was acknowledged."""


@dataclass(frozen=True)
class Database:
    """How to write to it, and to ask for what is there."""

    connected: Callable[[], AbstractContextManager[Write]]
    present: Callable[[], set[int]]
    errors: type[Exception]
    """What is raised when a connection or a write fails."""


@dataclass(frozen=True)
class Commit:
    """One acknowledged number, and when that was (monotonic)."""

    number: int
    at: float


@dataclass
class Ledger:
    """What writers were told; grows while they write."""

    database: Database
    commits: list[Commit] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)
    """What went wrong, by its first line, and how often."""

    def outage(self, since: float, until: float = float("inf")) -> float:
        """The longest time without an acknowledgement in a window (monotonic), in seconds."""
        return max((later - earlier for earlier, later in self._gaps(since, until)), default=0.0)

    def history(self, since: float, longer_than: float = 0.2) -> list[tuple[float, float]]:
        """Outages: seconds after `since`, and how long."""
        return [
            (earlier - since, later - earlier)
            for earlier, later in self._gaps(since, float("inf"))
            if later - earlier > longer_than
        ]

    def written_after(self, moment: float) -> bool:
        """Whether anything was acknowledged later."""
        return bool(self.commits) and self.commits[-1].at > moment

    def lost(self) -> set[int]:
        """Acknowledged numbers that are not there."""
        told = {commit.number for commit in self.commits}
        return told - self.database.present()

    def _gaps(self, since: float, until: float) -> Iterator[tuple[float, float]]:
        times = sorted(commit.at for commit in list(self.commits))
        return (
            (earlier, later)
            for earlier, later in pairwise(times)
            if since < later and earlier < until
        )


@contextmanager
def writing(database: Database, first: int, writers: int = 2) -> Iterator[Ledger]:
    """Write numbers from `first` on for as long as the block lasts.

    Raises:
        TimeoutError: a writer did not end; it waits for an answer.
    """
    ledger, numbers, told = Ledger(database), count(first), threading.Event()
    threads = [
        threading.Thread(target=_write, args=(ledger, numbers, told), daemon=True)
        for _ in range(writers)
    ]
    for thread in threads:
        thread.start()
    try:
        yield ledger
    finally:
        told.set()
        for thread in threads:
            thread.join(END_SECONDS)
    if any(thread.is_alive() for thread in threads):
        raise TimeoutError(f"a write has not been answered for {END_SECONDS:g} s")


def _write(ledger: Ledger, numbers: Iterator[int], told: threading.Event) -> None:
    while not told.is_set():
        try:
            with ledger.database.connected() as write:
                while not told.wait(PAUSE_SECONDS):
                    number = next(numbers)
                    if write(number):
                        ledger.commits.append(Commit(number, time.monotonic()))
        except ledger.database.errors as error:
            name = (str(error).strip() or type(error).__name__).splitlines()[0]
            ledger.errors[name] = ledger.errors.get(name, 0) + 1
            told.wait(PAUSE_SECONDS)
