"""What the instances of a service wrote, merged by time, secrets masked."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from volery.api.places import LogQuery, Place, gone, there
from volery.model.masking import Masking
from volery.supervise.logs import follow, read

RESCAN_SECONDS = 0.5
QUEUE_LINES = PIECE_LINES = 1000


@dataclass(frozen=True)
class LogLine:
    """One line an instance wrote; `at` is Unix seconds, exact as the index is."""

    at: float
    instance: str
    text: str
    crashed: bool = False


@dataclass(frozen=True)
class Logs:
    """The logs of one service below the home of an environment. `secrets` says which values to hide
    in them, each time an instance is begun with: a new value reaches only new instances."""

    home: Path
    service: str
    query: LogQuery
    secrets: Callable[[], Iterable[str]]

    def check(self) -> bool:
        """Whether anything was written.

        Raises:
            VoleryError: NOT_FOUND, there is no such instance.
        """
        return bool(self._gone() or self._there())

    def past(self) -> Iterator[LogLine]:
        """What was written until now, oldest first, read as it is taken."""
        return self._of([*self._gone(), *self._there()])

    async def follow(self, stopping: asyncio.Event) -> AsyncIterator[LogLine]:
        """What was written and what is being written, also by instances that are yet to come."""
        async for line in in_pieces(self._of(self._gone())):
            yield line
        queue: asyncio.Queue[LogLine] = asyncio.Queue(QUEUE_LINES)
        tasks: dict[Path, asyncio.Task[None]] = {}
        lines = self.query.lines
        clock, look_at = asyncio.get_running_loop().time, 0.0
        try:
            while not stopping.is_set():
                if clock() >= look_at:
                    self._pump(tasks, queue, lines)
                    lines = None  # of an instance that is yet to come everything is new
                    look_at = clock() + RESCAN_SECONDS
                try:
                    yield await asyncio.wait_for(queue.get(), look_at - clock())
                except TimeoutError:
                    continue
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)

    def _pump(
        self,
        tasks: dict[Path, asyncio.Task[None]],
        queue: asyncio.Queue[LogLine],
        lines: int | None,
    ) -> None:
        """Follow every instance that is there, also one that has the name of one that is gone.

        Raises:
            VoleryError: the secrets cannot be read any more.
        """
        for place in self._there():
            task = tasks.get(place.folder)
            if task is not None and task.done():
                task.result()
            if task is None or task.done():
                tasks[place.folder] = asyncio.create_task(self._read_on(place, queue, lines))

    async def _read_on(
        self, place: Place, queue: asyncio.Queue[LogLine], lines: int | None
    ) -> None:
        mask = Masking(self.secrets())
        async for line in follow(place.folder, self.query.since, lines):
            await queue.put(LogLine(line.at, place.instance, mask(line.text)))

    def _gone(self) -> list[Place]:
        return gone(self.home, self.service, self.query)

    def _there(self) -> list[Place]:
        return there(self.home, self.service, self.query)

    def _of(self, places: list[Place]) -> Iterator[LogLine]:
        mask = Masking(self.secrets())
        lines = (self._lines(place, mask) for place in places)
        return heapq.merge(*lines, key=lambda line: line.at)

    def _lines(self, place: Place, mask: Masking) -> Iterator[LogLine]:
        for line in read(place.folder, self.query.since, self.query.lines):
            yield LogLine(line.at, place.instance, mask(line.text), place.crashed)


async def in_pieces(lines: Iterator[LogLine]) -> AsyncIterator[LogLine]:
    """The same, a piece at a time and in a thread: logs may be long, and the loop has others to
    serve."""
    while piece := await asyncio.to_thread(lambda: list(islice(lines, PIECE_LINES))):
        for line in piece:
            yield line
