"""Files that are whole or unchanged after a crash, and locks that end with their holder."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from volery.model.errors import Code, VoleryError

POLL_SECONDS = 0.02


def replace_file(path: Path, content: bytes) -> None:
    """Write a private file so that a reader, or a crash, sees the old content or the new one."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    try:
        descriptor = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.rename(path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise VoleryError(
            f"cannot write {path.name}: {error.strerror}",
            hint="check free space and the rights of the folder",
            where=str(path),
        ) from error
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, so that a rename survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def hold(path: Path, seconds: float, problem: str) -> int:
    """Take the lock file; closing the returned descriptor, or dying, gives it back.

    Raises:
        VoleryError: CONFLICT with `problem` if somebody else keeps it longer than `seconds`.
    """
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise VoleryError(
            f"cannot open {path.name}: {error.strerror}",
            hint="check free space and the rights of the folder",
            where=str(path),
        ) from error
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                raise VoleryError(
                    problem, code=Code.CONFLICT, hint="end it, then try again", where=str(path)
                ) from None
        time.sleep(POLL_SECONDS)
