"""What the instances of a service wrote, merged by time, secrets masked."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path

from volery.api.app import LogLine, LogQuery
from volery.model.masking import Masking
from volery.supervise.logs import follow, read

RESCAN_SECONDS = 1.0
QUEUE_LINES = 1000
Folders = Callable[[], dict[str, Path]]


def past_logs(folders: dict[str, Path], query: LogQuery, secrets: Iterable[str]) -> list[LogLine]:
    """What was written until now, oldest first."""
    mask = Masking(secrets)
    return list(
        heapq.merge(
            *(_lines(name, path, query, mask) for name, path in sorted(folders.items())),
            key=lambda line: line.at,
        )
    )


def _lines(name: str, path: Path, query: LogQuery, mask: Masking) -> Iterator[LogLine]:
    for line in read(path, query.since, query.lines):
        yield LogLine(line.at, name, mask(line.text))


async def follow_logs(
    folders: Folders, query: LogQuery, secrets: Iterable[str], stopping: asyncio.Event
) -> AsyncIterator[LogLine]:
    """What was written and what is being written, also by instances that are yet to come."""
    mask = Masking(secrets)
    queue: asyncio.Queue[LogLine] = asyncio.Queue(QUEUE_LINES)
    tasks: dict[str, asyncio.Task[None]] = {}

    async def pump(name: str, path: Path) -> None:
        async for line in follow(path, query.since, query.lines):
            await queue.put(LogLine(line.at, name, mask(line.text)))

    try:
        while not stopping.is_set():
            for name, path in folders().items():
                if name not in tasks:
                    tasks[name] = asyncio.create_task(pump(name, path))
            try:
                yield await asyncio.wait_for(queue.get(), RESCAN_SECONDS)
            except TimeoutError:
                continue
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
