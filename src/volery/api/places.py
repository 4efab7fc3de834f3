"""Where the instances of a service write, those that are there and those that are gone.

Only folders are looked at, so that it answers with and without a control plane. Which of them are
meant: those that are there, or, where none is, those of the release that was there last. `since`
adds what is gone and wrote since then; `previous` means only what is gone. The latest that crashed
a short while ago are always among them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from volery.build.release import DIGITS
from volery.engines.local import archive
from volery.model.errors import Code, VoleryError
from volery.supervise.process import Supervised

NAMED_AT_MOST = 12
CRASHED_AT_MOST = 3
LATELY_SECONDS = 600.0


@dataclass(frozen=True)
class LogQuery:
    """Which lines: of which instance (all if none), since when (Unix seconds), how many of each, of
    those that are gone only, and whether to go on with what is written from now on."""

    instance: str | None = None
    since: float | None = None
    lines: int | None = None
    follow: bool = False
    previous: bool = False


@dataclass(frozen=True)
class Place:
    """The folder in which one instance writes or wrote its log."""

    instance: str
    folder: Path
    gone: bool = False
    crashed: bool = False
    """It is gone, and nobody asked it to end."""


Find = Callable[[], list[Place]]


def there(home: Path, service: str, query: LogQuery) -> list[Place]:
    """Of the instances that are there, those meant."""
    if query.previous:
        return []
    # `web-131626b9-1`, or with state `orders-db-0`.
    number = re.compile(rf"{re.escape(service)}-(?:[0-9a-f]{{{DIGITS}}}-)?[0-9]+")
    found = sorted((home / "instances").glob(f"{service}-*"))
    return [
        Place(path.name, path)
        for path in found
        if number.fullmatch(path.name) and query.instance in (None, path.name)
    ]


def gone(home: Path, service: str, query: LogQuery) -> list[Place]:
    """Of the instances that are gone, those meant, oldest first.

    Raises:
        VoleryError: NOT_FOUND, the instance asked for was never there or is forgotten.
    """
    kept = [
        Place(name, path, gone=True)
        for name, path in archive.kept(home, service)
        if query.instance in (None, name)
    ]
    present = there(home, service, query)
    if query.instance is not None and not kept and not present:
        raise _unknown(home, service, query.instance)
    if query.since is not None:
        return [item for item in kept if _written(item.folder) >= query.since]
    if query.previous:
        return kept
    if present:
        return _crashed_lately(kept) if query.instance is None else []
    return _last_release(kept) if query.instance is None else kept[-1:]


def _last_release(kept: list[Place]) -> list[Place]:
    """The newest folder of each instance of the release that wrote last."""
    if not kept:
        return []
    release = kept[-1].instance.rpartition("-")[0]
    newest = {item.instance: item for item in kept if item.instance.startswith(f"{release}-")}
    return list(newest.values())


def _crashed_lately(kept: list[Place]) -> list[Place]:
    """Those that ended by themselves a short while ago: why nothing comes up is in their logs."""
    late = [item for item in kept if _written(item.folder) >= time.time() - LATELY_SECONDS]
    found = [replace(item, crashed=True) for item in late if _ended_unasked(item.folder)]
    return found[-CRASHED_AT_MOST:]


def _ended_unasked(folder: Path) -> bool:
    status = Supervised(folder).status()
    return status is not None and not status.stop and bool(status.exits)


def _written(folder: Path) -> float:
    try:
        return (folder / "log").stat().st_mtime
    except OSError:
        return 0.0


def _unknown(home: Path, service: str, instance: str) -> VoleryError:
    present = [place.instance for place in there(home, service, LogQuery())]
    kept = [name for name, _ in reversed(archive.kept(home, service))]
    known = list(dict.fromkeys([*present, *kept]))[:NAMED_AT_MOST]
    return VoleryError(
        f"no instance {instance} of {service}",
        code=Code.NOT_FOUND,
        hint=f"known: {', '.join(known) or 'none'}",
    )
