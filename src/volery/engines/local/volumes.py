"""Can what an instance keeps its data in still be written? Looked at from outside, writing nothing.

A volume is in *trouble* when its folder is gone, is another folder than the one the instance was
started on (what it has open is then no longer what the next one would find), or refuses to be
written: its file system became read-only, its owner or its flags were changed. A full one is not:
that passes. Looks only; a file system may be slow to answer, so it is not for the event loop.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from volery.model.errors import VoleryError


@dataclass(frozen=True)
class Kept:
    """The volume of a running instance: where it is, and which folder it was at the start."""

    path: str
    identity: str


def identity_of(path: Path) -> str:
    """What tells a folder from every other one of this machine.

    Raises:
        OSError: there is none, or it cannot be looked at.
    """
    seen = path.stat()
    return f"{seen.st_dev}:{seen.st_ino}"


def troubles(volumes: Mapping[str, Kept]) -> dict[str, str]:
    """What is wrong with each of these, by the same key; "" if nothing is."""
    return {key: _trouble(Path(kept.path), kept.identity) for key, kept in volumes.items()}


def _trouble(path: Path, identity: str) -> str:
    try:
        found = identity_of(path)
    except FileNotFoundError:
        return "is gone"
    except OSError as error:
        return f"cannot be looked at: {error.strerror}"
    if identity and found != identity:
        return "is not the folder any more that it was at the start"
    return _refusal(path)


def require_writable(path: Path) -> None:
    """Whether an instance may be started on this volume, which need not exist yet.

    Raises:
        VoleryError: it could not write there.
    """
    there, remedy = path, "writable"
    try:
        while not there.exists() and there != there.parent:
            there = there.parent
        why = _refusal(there)
    except OSError as error:
        why, remedy = f"cannot be looked at: {error.strerror}", "one that this user may enter"
    if why:
        raise VoleryError(
            f"its volume {path} {why}", hint=f"make {there} {remedy}; it is tried again by itself"
        )


def _refusal(path: Path) -> str:
    if os.access(path, os.W_OK | os.X_OK, effective_ids=True):
        return ""
    try:
        read_only = bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError as error:
        return f"cannot be looked at: {error.strerror}"
    return "is read-only" if read_only else "may not be written"
