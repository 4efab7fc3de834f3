"""Walking over a folder of source: what is in it, and what is left out.

The result is a sorted list of entries with enough in it to notice that one of them changes.
Nothing is read but names, kinds, sizes, times and the ignore files. Links must be relative and
stay inside. Sockets, pipes and devices are no source and are skipped, as git does.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from volery.build.ignore import Rules, ignored, never_source, read_rules, rules_above
from volery.model.errors import Code, VoleryError


@dataclass(frozen=True)
class Limits:
    """How large a source may be."""

    files: int = 200_000
    bytes: int = 4 * 2**30
    depth: int = 200


@dataclass(frozen=True)
class Entry:
    """One file, link or folder; `path` is relative to the source."""

    path: bytes
    kind: Literal["file", "link", "folder"]
    executable: bool = False
    target: bytes = b""
    stamp: tuple[int, int, int] = (0, 0, 0)
    """Inode, size and time of the last change: differing means that it changed."""


class Stopped(Exception):
    """Somebody asked to stop."""


class Changed(Exception):
    """Something changed while it was read; the argument is its path."""


class Walk:
    """One walk over a source: collects entries, rules on the way down, sizes, and what it skips."""

    def __init__(
        self,
        folder: Path,
        limits: Limits = Limits(),
        without: tuple[Path, ...] = (),
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._root = folder
        self._top = os.path.realpath(folder)
        self._limits = limits
        self._without = set(_identities(without))
        self._stopped = stopped
        self._sizes: Counter[bytes] = Counter()
        self._counts: Counter[bytes] = Counter()
        self._files = 0
        self._bytes = 0
        self._entries: list[Entry] = []
        self.skipped: list[str] = []

    def entries(self) -> list[Entry]:
        """Everything that belongs to the source, sorted by path."""
        if not self._root.is_dir():
            raise VoleryError(
                f"no source folder {shown(os.fsencode(self._root))}",
                code=Code.INVALID,
                hint="`source` is a folder relative to the manifest",
                where=shown(os.fsencode(self._root)),
            )
        with reading(self._root, b"."):
            chain, prefix = rules_above(Path(self._top))
        pending: list[tuple[bytes, tuple[Rules, ...]]] = [(b"", chain)]
        while pending:
            path, chain = pending.pop()
            pending += self._folder(path, chain, prefix)
        return sorted(self._entries, key=lambda entry: entry.path)

    def _folder(
        self, path: bytes, chain: tuple[Rules, ...], prefix: bytes
    ) -> list[tuple[bytes, tuple[Rules, ...]]]:
        """Note what is in one folder; returns the folders in it, each with its rules."""
        place = self._root / os.fsdecode(path)
        base = path + b"/" if path else b""
        with reading(place, path):
            rules = read_rules(place, prefix + base)
            found = list(os.scandir(place))
        if rules:
            chain = (*chain, rules)
        below = []
        for item in found:
            inside = base + os.fsencode(item.name)
            with reading(place / item.name, inside):
                status = item.stat(follow_symlinks=False)
            is_folder = stat.S_ISDIR(status.st_mode)
            if never_source(os.fsencode(item.name)) or ignored(chain, prefix + inside, is_folder):
                continue
            with reading(place / item.name, inside):
                if self._is_apart(place / item.name, status):
                    continue
            self._note(inside, status)
            if is_folder:
                below.append((inside, chain))
        return below

    def _is_apart(self, path: Path, status: os.stat_result) -> bool:
        venv = stat.S_ISDIR(status.st_mode) and (path / "pyvenv.cfg").is_file()
        return venv or (status.st_dev, status.st_ino) in self._without

    def _note(self, path: bytes, status: os.stat_result) -> None:
        if self._stopped():
            raise Stopped
        mode = status.st_mode
        if stat.S_ISREG(mode):
            self._count(path, status.st_size)
            self._entries.append(Entry(path, "file", bool(mode & 0o100), stamp=stamp_of(status)))
        elif stat.S_ISLNK(mode):
            self._count(path, 0)
            self._entries.append(Entry(path, "link", target=self._target(path)))
        elif stat.S_ISDIR(mode):
            self._count(path, 0)
            self._entries.append(Entry(path, "folder"))
        else:
            kind = {stat.S_IFSOCK: "a socket", stat.S_IFIFO: "a pipe"}
            said = kind.get(stat.S_IFMT(mode), "a device")
            self.skipped.append(f"{shown(path)}: {said}")

    def _count(self, path: bytes, size: int) -> None:
        top = path.partition(b"/")[0]
        self._counts[top] += 1
        self._sizes[top] += size
        self._files += 1
        self._bytes += size
        if path.count(b"/") >= self._limits.depth:
            self._refuse(f"folders nested deeper than {self._limits.depth}", self._counts)
        if self._files > self._limits.files:
            self._refuse(f"more than {self._limits.files} files", self._counts)
        if self._bytes > self._limits.bytes:
            self._refuse(f"more than {self._limits.bytes / 2**20:g} MiB", self._sizes)

    def _refuse(self, problem: str, counted: Counter[bytes]) -> None:
        largest = shown(counted.most_common(1)[0][0])
        raise VoleryError(
            f"the source has {problem}, most of them in {largest}",
            code=Code.INVALID,
            hint="add what is no source to .gitignore or .voleryignore",
            where=shown(os.fsencode(self._root)),
        )

    def _target(self, path: bytes) -> bytes:
        link = self._root / os.fsdecode(path)
        with reading(link, path):
            target = link.readlink()
        end = os.path.realpath(link)
        if target.is_absolute() or not (end + "/").startswith(self._top.rstrip("/") + "/"):
            raise VoleryError(
                f"{shown(path)} is a link out of the source, to {shown(os.fsencode(target))}",
                code=Code.INVALID,
                hint="copy what it points to, or add the link to .gitignore or .voleryignore",
                where=shown(os.fsencode(self._root)),
            )
        return os.fsencode(target)


@contextmanager
def reading(path: Path, inside: bytes) -> Iterator[None]:
    """What cannot be read is told; what is suddenly gone or something else has changed."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Changed(inside) from error
    except OSError as error:
        if path.is_symlink():
            raise Changed(inside) from error
        raise VoleryError(
            f"cannot read {shown(inside) or '.'}: {error.strerror}",
            hint="give the user who runs Volery the right to read it, or add it to .gitignore",
            where=shown(os.fsencode(path)),
        ) from error


def stamp_of(status: os.stat_result) -> tuple[int, int, int]:
    """What differs once a file was changed or replaced."""
    return status.st_ino, status.st_size, status.st_mtime_ns


def _identities(paths: Iterable[Path]) -> Iterator[tuple[int, int]]:
    """Of those that are there."""
    for path in paths:
        with suppress(OSError, ValueError):
            status = path.stat()
            yield status.st_dev, status.st_ino


def shown(path: bytes) -> str:
    """A path as text that can be shown anywhere: no control characters, no broken encoding."""
    text = path.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
