"""The source of a service: its digest, and a clean copy of it.

The digest covers paths, contents, link targets and the executable bit; not times, owners or other
rights. Equal digests mean equal sources. A copy is verified: a source that changes meanwhile is
read again, and refused if it never holds still. What belongs to the source is decided by
`tree` and `ignore`. Paths are bytes there: file names need not be UTF-8.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from volery.build.tree import Changed, Entry, Limits, Stopped, Walk, reading, shown, stamp_of
from volery.model.errors import VoleryError

CHUNK_BYTES = 2**20
ATTEMPTS = 4
SKIPPED_SHOWN = 20
FORMAT = b"volery source 1\0"
Result = TypeVar("Result")


@dataclass(frozen=True)
class Copied:
    """A finished copy."""

    digest: str
    skipped: tuple[str, ...]
    """Paths that are no source, and why: `run.sock: a socket`."""


@dataclass(frozen=True)
class Source:
    """A folder of source. `without` are folders and files that are never part of it, wherever.

    `stopped` is asked often; when it says yes, `Stopped` is raised.
    """

    folder: Path
    limits: Limits = field(default_factory=Limits)
    without: tuple[Path, ...] = ()
    stopped: Callable[[], bool] = field(default=lambda: False)

    def digest(self) -> str:
        """The digest, without copying anything.

        Raises:
            VoleryError: INVALID if it is no source (missing, too large, a link leading out);
                FAILED if it cannot be read or keeps changing.
        """
        return self._steady(lambda: self._read(self._walk().entries(), None))

    def copy(self, into: Path) -> Copied:
        """Copy it to `into`, which must not exist; nothing is left there if that fails.

        Raises:
            VoleryError: as `digest`, and FAILED if the copy cannot be written.
        """
        return self._steady(lambda: self._copy_once(into))

    def _walk(self) -> Walk:
        return Walk(self.folder, self.limits, self.without, self.stopped)

    def _copy_once(self, into: Path) -> Copied:
        walk = self._walk()
        entries = walk.entries()
        with _writing(into):
            into.mkdir(mode=0o755)
        try:
            digest = self._read(entries, into)
            if self._walk().entries() != entries:
                raise Changed(b"the list of its files")
        except BaseException:
            shutil.rmtree(into)
            raise
        return Copied(digest, tuple(walk.skipped[:SKIPPED_SHOWN]))

    def _steady(self, read: Callable[[], Result]) -> Result:
        for _ in range(ATTEMPTS):
            try:
                return read()
            except Changed as change:
                changed = shown(change.args[0])
        raise VoleryError(
            f"the source keeps changing while it is read: {changed}",
            hint="wait for what writes there, or add it to .gitignore or .voleryignore",
            where=shown(os.fsencode(self.folder)),
        )

    def _read(self, entries: list[Entry], into: Path | None) -> str:
        total = hashlib.sha256(FORMAT)
        for entry in entries:
            if self.stopped():
                raise Stopped
            total.update(entry.path + b"\0" + entry.kind.encode() + b"\0")
            copy = into / os.fsdecode(entry.path) if into else None
            if entry.kind == "file":
                total.update(b"x" if entry.executable else b"-")
                total.update(self._read_file(entry, copy))
            elif entry.kind == "link":
                total.update(entry.target + b"\0")
            if copy and entry.kind != "file":
                with _writing(copy):
                    _make(entry, copy)
        return total.hexdigest()

    def _read_file(self, entry: Entry, copy: Path | None) -> bytes:
        """The digest of a file's content, which is written to `copy` on the way."""
        content = hashlib.sha256()
        with self._open(entry) as source, _sink(entry, copy) as write:
            while chunk := os.read(source, CHUNK_BYTES):
                content.update(chunk)
                write(chunk)
                if self.stopped():
                    raise Stopped
            if stamp_of(os.fstat(source)) != entry.stamp:
                raise Changed(entry.path)
        return content.digest()

    @contextmanager
    def _open(self, entry: Entry) -> Iterator[int]:
        path = self.folder / os.fsdecode(entry.path)
        with reading(path, entry.path):
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if stamp_of(os.fstat(descriptor)) != entry.stamp:
                raise Changed(entry.path)
            with reading(path, entry.path):
                yield descriptor
        finally:
            os.close(descriptor)


def digest(folder: Path) -> str:
    """The digest of a source folder, without copying anything."""
    return Source(folder).digest()


def snapshot(folder: Path, into: Path) -> str:
    """Make a clean copy of a source folder; returns its digest."""
    return Source(folder).copy(into).digest


def _make(entry: Entry, copy: Path) -> None:
    if entry.kind == "link":
        copy.symlink_to(os.fsdecode(entry.target))
    else:
        copy.mkdir()
        copy.chmod(0o755)


@contextmanager
def _sink(entry: Entry, copy: Path | None) -> Iterator[Callable[[bytes], object]]:
    """Where the content of a file goes: to `copy`, made with the same time, or nowhere."""
    if copy is None:
        yield lambda chunk: None
        return
    with _writing(copy):
        descriptor = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)

    def write(chunk: bytes) -> None:
        with _writing(copy):
            while chunk:
                chunk = chunk[os.write(descriptor, chunk) :]

    try:
        yield write
        with _writing(copy):
            os.fchmod(descriptor, 0o755 if entry.executable else 0o644)
            os.utime(descriptor, ns=(entry.stamp[2], entry.stamp[2]))
    finally:
        os.close(descriptor)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise VoleryError(
            f"cannot write the copy of the source: {error.strerror}",
            hint="free some space and check the rights of the folder, then try again",
            where=shown(os.fsencode(path)),
        ) from error
