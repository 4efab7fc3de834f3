"""One artifact on disk: what building one exact source gave.

    <home>/artifacts/<service>/<digest>/
        source/           the clean copy, until it was built; a build starts from a fresh copy of it
        src/              where it is built and run (a path that never changes: virtual
                          environments hold absolute ones)
        build.log, test-<key>.log
        built.json        written durably once `src` is complete: it is never built again
        tested-<key>.json once these tests passed with this environment

Whatever lacks `built.json` is half done and worth nothing but its `source`. A built `src` is read
only as far as rights go: what serves is what was built. Tests run in a copy of it.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from volery.build.tree import Stopped
from volery.model.application import Service
from volery.model.errors import VoleryError
from volery.supervise.shim.files import write_durably

DIGITS = 32
"""Of the digest in paths: enough against collisions, short enough for `#!` lines and sockets."""
WRITABLE = 0o222


def artifact_digest(source_digest: str, build: Sequence[Sequence[str]]) -> str:
    """The name of what building this source with these commands gives."""
    content = json.dumps(["volery artifact 1", source_digest, [list(words) for words in build]])
    return sha256(content.encode()).hexdigest()[:DIGITS]


def tests_key(spec: Service) -> str:
    """Names what passing the tests proves: these commands, with this environment."""
    content = json.dumps([[list(words) for words in spec.test], sorted(spec.env.items())])
    return sha256(content.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Artifact:
    """The folder of one artifact."""

    service: str
    digest: str
    path: Path

    @property
    def source(self) -> Path:
        """The clean copy of the source, while it is not built."""
        return self.path / "source"

    @property
    def src(self) -> Path:
        """Where it is built and run."""
        return self.path / "src"

    @property
    def built(self) -> bool:
        """Whether it is complete."""
        return self._marker.exists() and self.src.is_dir()

    @property
    def _marker(self) -> Path:
        return self.path / "built.json"

    @property
    def present(self) -> bool:
        """Whether it is complete or can still be built."""
        return self.built or self.source.is_dir()

    def tested(self, spec: Service) -> bool:
        """Whether it passed these tests."""
        return (self.path / f"tested-{tests_key(spec)}.json").exists()

    def log(self, stage: str, spec: Service) -> Path:
        """Where the output of the latest `build` or `test` is."""
        return self.path / ("build.log" if stage == "build" else f"test-{tests_key(spec)}.log")

    def start_afresh(self, stopped: Callable[[], bool]) -> None:
        """Make `src` a new copy of `source`, whatever was there."""
        if self._marker.exists():  # of a `src` that is gone: it promises nothing of the next one
            self._marker.unlink()
            _sync_folder(self.path)
        remove_tree(self.src)
        _copy(self.source, self.src, stopped, "the source to build it")

    def copy_to(self, folder: Path, stopped: Callable[[], bool]) -> None:
        """Make `folder` a copy of the built `src` that can be written."""
        _copy(self.src, folder, stopped, "what was built to test it")
        thaw(folder)

    def mark_built(self, seconds: float) -> None:
        """From now on it is complete, also after a power cut."""
        freeze(self.src)  # what may fail comes before the promise
        self.sync()
        write_durably(str(self._marker), {"seconds": seconds})
        remove_tree(self.source)

    def mark_tested(self, spec: Service, seconds: float) -> None:
        """From now on it passed these tests."""
        name = f"tested-{tests_key(spec)}.json"
        write_durably(str(self.path / name), {"seconds": seconds})

    def note(self, name: str, lines: Sequence[str]) -> None:
        """Keep a remark beside it."""
        (self.path / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))

    def replace_by(self, new: Artifact) -> None:
        """Take what is in `new`, at once; what was here is worth nothing."""
        remove_tree(self.path)
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new.path.rename(self.path)
        _sync_folder(self.path.parent)

    def sync(self) -> None:
        """Put everything below on disk: a name or marker that follows must not outlive it."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.syncfs(descriptor) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), str(self.path))
        finally:
            os.close(descriptor)

    def touch(self) -> None:
        """Note that it was asked for now: what was not for longest goes first."""
        os.utime(self.path)


def _copy(tree: Path, to: Path, stopped: Callable[[], bool], what: str) -> None:
    def copy(source: str, to: str) -> None:
        if stopped():
            raise Stopped
        if stat.S_ISREG(os.lstat(source).st_mode):  # a build may leave a socket or a pipe
            shutil.copy2(source, to, follow_symlinks=False)

    try:
        shutil.copytree(tree, to, symlinks=True, copy_function=copy)
    except OSError as error:
        why = str(error.args[0][0][2]) if isinstance(error, shutil.Error) else error.strerror
        raise VoleryError(f"cannot copy {what}: {why}") from error


def freeze(tree: Path) -> None:
    """Take away the right to write. Files that also have another name elsewhere (package caches
    link them) keep it: the other name is not ours."""
    for path, status in _inside(tree):
        if not stat.S_ISREG(status.st_mode) or status.st_nlink == 1:
            _chmod(path, stat.S_IMODE(status.st_mode) & ~WRITABLE)


def thaw(tree: Path) -> None:
    """Give the owner the right to write back."""
    for path, status in _inside(tree):
        if not stat.S_ISREG(status.st_mode) or status.st_nlink == 1:
            _chmod(path, stat.S_IMODE(status.st_mode) | stat.S_IWUSR)


def remove_tree(tree: Path) -> None:
    """Delete a folder, also a read-only one, if it is there."""
    if not tree.exists():
        return
    for path, status in _inside(tree):
        if stat.S_ISDIR(status.st_mode):
            _chmod(path, stat.S_IRWXU)
    shutil.rmtree(tree)


def _chmod(path: Path, mode: int) -> None:
    """Change the rights, unless it belongs to somebody else: a build in a container leaves such."""
    with suppress(PermissionError):
        path.chmod(mode)


def _inside(tree: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """The tree itself and every file and folder in it, each folder before what it holds."""
    pending = [tree]
    while pending:
        path = pending.pop()
        status = path.lstat()
        if stat.S_ISDIR(status.st_mode):
            yield path, status
            pending += path.iterdir()
        elif stat.S_ISREG(status.st_mode):
            yield path, status


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
