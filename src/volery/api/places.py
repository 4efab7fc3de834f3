"""Where the instances of a service write, those that are there and those that are gone.

Only folders are looked at, so that it answers with and without a control plane. Which of them are
meant: those that are there, or, where none is, those of the release that was there last. `since`
adds what is gone and wrote since then; `previous` means only what is gone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from volery.engines.local import archive
from volery.model.errors import Code, VoleryError

NAMED_AT_MOST = 12


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


Find = Callable[[], list[Place]]


def there(home: Path, service: str, query: LogQuery) -> list[Place]:
    """Of the instances that are there, those meant."""
    if query.previous:
        return []
    number = re.compile(rf"{re.escape(service)}-[0-9a-f]+-[0-9]+")
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
    if query.previous or present:
        return kept if query.previous else []
    return _last_release(kept) if query.instance is None else kept[-1:]


def _last_release(kept: list[Place]) -> list[Place]:
    """The newest folder of each instance of the release that wrote last."""
    if not kept:
        return []
    release = kept[-1].instance.rpartition("-")[0]
    newest = {item.instance: item for item in kept if item.instance.startswith(f"{release}-")}
    return list(newest.values())


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
