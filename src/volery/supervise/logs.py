"""Reads what a supervised process wrote: by time, the last lines, or as it goes on.

Lines come as text fit to show (see `text.clean`), still with secrets in them; whoever shows them
masks. Times are known to about a quarter of a second, right after a silence to a second, from the
index the shim keeps. The shim may cut the log at any moment: positions count all bytes ever
written, and what was read while a cut was under way is read again.
"""

from __future__ import annotations

import asyncio
import os
import time
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from volery.supervise.text import clean

_CHUNK = 256 * 1024
_LONGEST = 64 * 1024
"""A line longer than this is shown in pieces."""
_CUT_SECONDS = 1.0
"""How long a cut may take; a mark that stays longer was left by a shim that was killed."""
_MOMENT = 0.002
_GUESS = 200
"""Bytes of a line, to find out where to begin to read the last ones."""


@dataclass(frozen=True)
class LogLine:
    """One line and when it was written, in Unix seconds."""

    at: float
    text: str


@dataclass(frozen=True)
class _Index:
    """Where the two files begin, and how far the log was at some moments."""

    older: int = 0
    base: int = 0
    cutting: bool = False
    times: tuple[float, ...] = ()
    positions: tuple[int, ...] = ()
    written: float = field(default=0.0, compare=False)
    """When the log was last written: what is not marked yet came until then."""

    def at(self, position: int) -> float:
        """When the byte at a position was seen first."""
        found = bisect_right(self.positions, position)
        return self.times[found] if found < len(self.times) else self.written

    def since(self, moment: float) -> int:
        """The position from which on everything may have been written at or after a moment."""
        found = bisect_left(self.times, moment)
        return self.positions[found - 1] if found else self.older


def read(
    directory: Path, since: float | None = None, lines: int | None = None
) -> Iterator[LogLine]:
    """What is there now: everything, or from a moment on, or the last lines."""
    with _entered(directory) as here:
        if here is None:
            return
        end = _end(here)
        found = _Reader(here, _begin(here, since, lines)).lines(unfinished=True, until=end)
        yield from found if lines is None else deque(found, maxlen=lines)


async def follow(
    directory: Path, since: float | None = None, lines: int | None = None, every: float = 0.2
) -> AsyncIterator[LogLine]:
    """What `read` gives, and then every new line, until the caller stops or the folder goes."""
    with _entered(directory) as here:
        if here is None:
            return
        reader = _Reader(here, _begin(here, since, lines))
        first = reader.lines(unfinished=False, until=_end(here))
        for line in first if lines is None else deque(first, maxlen=lines):
            yield line
        there = True
        while there:
            await asyncio.sleep(every)
            there = _is(directory, here)
            for line in reader.lines(unfinished=not there):
                yield line


@contextmanager
def _entered(directory: Path) -> Iterator[Path | None]:
    """The folder itself, whatever it is called when its last lines are read; None if it is gone."""
    try:
        folder = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    try:
        yield Path(f"/proc/self/fd/{folder}")
    finally:
        os.close(folder)


def _is(directory: Path, entered: Path) -> bool:
    """Whether the folder still has this name, and no other one has it."""
    try:
        found, mine = directory.stat(), entered.stat()
    except FileNotFoundError:
        return False
    return (found.st_dev, found.st_ino) == (mine.st_dev, mine.st_ino)


def _begin(directory: Path, since: float | None, lines: int | None) -> int:
    """Where to begin to read, so that nothing wanted is before it."""
    index = _index(directory)
    if since is not None:
        return index.since(since)
    if lines is None:
        return index.older
    end, span = _end(directory), max(16 * 1024, lines * _GUESS)
    while end - span > index.older:
        reader = _Reader(directory, end - span)
        found = deque(reader.lines(unfinished=True, until=end), maxlen=lines)
        if len(found) == lines:
            return end - span
        span *= 4
    return index.older


@dataclass
class _Reader:
    """Goes on from a position; in the middle of a line it begins with the next one."""

    directory: Path
    position: int
    _rest: bytes = b""
    _skipping: bool = field(init=False)

    def __post_init__(self) -> None:
        self._skipping = self.position > 0
        self.position = max(0, self.position - 1)

    def lines(self, unfinished: bool, until: int | None = None) -> Iterator[LogLine]:
        """Every line from here to the present end, the last one also without its end if asked.

        With `until` it goes little further than that, however fast somebody writes.
        """
        while until is None or self.position < until:
            content = self._content()
            if not content:
                break
            index = _index(self.directory)
            pieces = self._split(content)
            for start, piece in pieces:
                yield LogLine(index.at(start), clean(piece))
        if unfinished and self._rest and not self._skipping:
            start = self.position - len(self._rest)
            yield LogLine(_index(self.directory).at(start), clean(self._rest))

    def _split(self, content: bytes) -> Iterator[tuple[int, bytes]]:
        start = self.position - len(content) - len(self._rest)
        *whole, self._rest = (self._rest + content).split(b"\n")
        for line in whole:
            if not self._skipping:
                yield from ((start + at, line[at : at + _LONGEST]) for at in _steps(len(line)))
            self._skipping = False
            start += len(line) + 1
        if len(self._rest) > _LONGEST:
            if not self._skipping:
                yield start, self._rest[:_LONGEST]
            self._rest = self._rest[_LONGEST:]

    def _content(self) -> bytes:
        """The next bytes; none at the present end."""
        deadline = time.monotonic() + _CUT_SECONDS
        while True:
            before = _index(self.directory, marks=False)
            if self.position < before.older:  # cut away before we came
                self.position, self._rest = before.older, b""
                self._skipping = before.older > 0
            older = self.position < before.base
            name, start = ("log.1", before.older) if older else ("log", before.base)
            content = _bytes(self.directory / name, self.position - start)
            settled = not before.cutting or time.monotonic() > deadline
            if settled and _index(self.directory, marks=False) == before:
                self.position += len(content)
                if content or not older:
                    return content
                self.position = before.base  # the older half has a gap at its end, or is gone
                continue
            time.sleep(_MOMENT)


def _steps(length: int) -> range:
    return range(0, max(length, 1), _LONGEST)


def _bytes(path: Path, offset: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(_CHUNK)
    except FileNotFoundError:
        return b""


def _end(directory: Path) -> int:
    """The position of what will be written next."""
    deadline = time.monotonic() + _CUT_SECONDS
    while True:
        before = _index(directory, marks=False)
        try:
            size = (directory / "log").stat().st_size
        except FileNotFoundError:
            return before.base
        settled = not before.cutting or time.monotonic() > deadline
        if settled and _index(directory, marks=False) == before:
            return before.base + size
        time.sleep(_MOMENT)


def _index(directory: Path, marks: bool = True) -> _Index:
    try:
        with (directory / "log.index").open(encoding="ascii", errors="replace") as file:
            header = file.readline().split()
            lines = list(islice(file, None if marks else 0))
    except FileNotFoundError:
        return _Index(written=_written(directory))
    numbers = [int(word) for word in header[:2] if word.isdigit()]
    if len(numbers) != 2:
        return _Index(written=_written(directory))
    found = [mark for mark in map(_mark, lines) if mark is not None]
    times, positions = zip(*found, strict=True) if found else ((), ())
    cutting = header[2:] == ["*"]
    return _Index(numbers[0], numbers[1], cutting, times, positions, _written(directory))


def _written(directory: Path) -> float:
    try:
        return (directory / "log").stat().st_mtime
    except FileNotFoundError:
        return time.time()


def _mark(line: str) -> tuple[float, int] | None:
    try:
        at, position = line.split()
        return float(at), int(position)
    except ValueError:  # its end is not written yet
        return None
