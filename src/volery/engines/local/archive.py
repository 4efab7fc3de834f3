"""The folders of instances that are gone, kept a while for their logs, bounded in number and size.

`home/logs/SERVICE/INSTANCE-TIME/` is the instance's folder as it was, moved in one step, so the
same reader serves both and a crash leaves nothing half done.
"""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from pathlib import Path

KEPT_FOLDERS = 20
KEPT_BYTES = 64 * 1024 * 1024


def keep(home: Path, service: str, instance: str, folder: Path) -> None:
    """Move the folder of an instance that is gone to where its log is kept."""
    target = home / "logs" / service / f"{instance}-{time.time_ns() // 1_000_000}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.rename(target)
    except FileNotFoundError:  # it could not even be made
        return
    except OSError:  # a full disk: better no log than an instance that cannot be forgotten
        shutil.rmtree(folder, ignore_errors=True)


def find(home: Path, instance: str) -> Path | None:
    """The newest folder kept of an instance."""
    found = [path for path in (home / "logs").glob(f"*/{instance}-*") if _of(path) == instance]
    return max(found, key=_when, default=None)


def kept(home: Path, service: str) -> list[tuple[str, Path]]:
    """The instances of a service that are gone and their folders, the one that left last at the
    end; an id that came again is there several times."""
    folders = sorted((home / "logs" / service).glob("*-*"), key=_when)
    return [(_of(folder), folder) for folder in folders]


def prune(home: Path, service: str) -> None:
    """Delete the oldest folders of a service that are too many or too much. Others may be at it at
    the same time."""
    total = 0
    folders = sorted((home / "logs" / service).glob("*-*"), key=_when, reverse=True)
    for number, folder in enumerate(folders):
        with suppress(FileNotFoundError):
            total += sum(file.stat().st_size for file in folder.iterdir())
        if number > 0 and (number >= KEPT_FOLDERS or total > KEPT_BYTES):
            shutil.rmtree(folder, ignore_errors=True)


def _of(folder: Path) -> str:
    return folder.name.rpartition("-")[0]


def _when(folder: Path) -> int:
    last = folder.name.rpartition("-")[2]
    return int(last) if last.isdigit() else 0
