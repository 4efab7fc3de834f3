"""Can what an instance keeps its data in still be written? Looked at from outside, writing nothing.

A volume is in *trouble* when its folder is gone, is another folder than the one the instance was
started on (what it has open is then no longer what the next one would find), or refuses to be
written: its file system became read-only, its owner or its flags were changed. A full one is not:
that passes. Looks only; a file system may be slow to answer, so it is not for the event loop.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from volery.model.errors import VoleryError

Key = TypeVar("Key", bound=Hashable)
Answer = TypeVar("Answer")
ANSWER_SECONDS = 2.0
"""How long a file system may take to say what it is asked."""


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


def _trouble(kept: Kept) -> str:
    path = Path(kept.path)
    try:
        found = identity_of(path)
    except FileNotFoundError:
        return "is gone"
    except OSError as error:
        return f"cannot be looked at: {error.strerror}"
    if kept.identity and found != kept.identity:
        return "is not the folder any more that it was at the start"
    return _refusal(path)


class Looks:
    """Looks at volumes. A file system that does not answer is not waited for: it would hold up
    everybody. It is asked again when it has answered."""

    def __init__(self) -> None:
        self._asking: dict[object, threading.Thread] = {}

    def troubles(self, volumes: Mapping[str, Kept]) -> dict[str, str]:
        """What is wrong with each of these, by the same key; "" if nothing is."""
        return self._ask({key: partial(_trouble, kept) for key, kept in volumes.items()})

    def require_writable(self, path: Path) -> None:
        """Whether an instance may be started on this volume, which need not exist yet.

        Raises:
            VoleryError: it could not write there, or that cannot be said.
        """
        look: dict[Path, Callable[[], VoleryError | None]] = {path: partial(_refused, path)}
        answers = self._ask(look)
        if path not in answers:
            raise VoleryError(
                f"its volume {path} cannot be looked at: its file system does not answer",
                hint="it is tried again by itself",
            )
        if refused := answers[path]:
            raise refused

    def _ask(self, looks: Mapping[Key, Callable[[], Answer]]) -> dict[Key, Answer]:
        """The answers of those that have one soon, each in a thread of its own."""
        answers: dict[Key, Answer] = {}

        def ask(key: Key) -> None:
            answers[key] = looks[key]()

        hanging = {key: thread for key, thread in self._asking.items() if thread.is_alive()}
        begun: dict[object, threading.Thread] = {
            key: threading.Thread(target=ask, args=(key,), daemon=True)
            for key in looks
            if key not in hanging
        }
        self._asking = {**hanging, **begun}
        for thread in begun.values():
            thread.start()
        deadline = time.monotonic() + ANSWER_SECONDS
        for thread in begun.values():
            thread.join(max(0.0, deadline - time.monotonic()))
        return answers.copy()


def _refused(path: Path) -> VoleryError | None:
    there, remedy = path, "writable"
    try:
        while not there.exists() and there != there.parent:
            there = there.parent
        why = _refusal(there)
    except OSError as error:
        why, remedy = f"cannot be looked at: {error.strerror}", "one that this user may enter"
    hint = f"make {there} {remedy}; it is tried again by itself"
    return VoleryError(f"its volume {path} {why}", hint=hint) if why else None


def _refusal(path: Path) -> str:
    if os.access(path, os.W_OK | os.X_OK, effective_ids=True):
        return ""
    try:
        read_only = bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError as error:
        return f"cannot be looked at: {error.strerror}"
    return "is read-only" if read_only else "may not be written"
