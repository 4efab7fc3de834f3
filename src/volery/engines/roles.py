"""Asks one instance which role it has, again and again, one question at a time.

The answer is the first line of its `role` command: `primary`, `replica` or `syncing`, and after a
space how far its data is. Anything else (nothing in time, another word, an exit that is not 0, more
output than is read) is no answer: the role is then *unknown*, since the question that was put in
vain. Where we stood still ourselves meanwhile it is put once more. Whatever the command does, it is
over at its time limit with all it started.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from volery.engines.probes import Target, stood_still
from volery.model.ports import RoleWatch
from volery.model.tenure import Role
from volery.model.units import format_duration
from volery.supervise.command import run
from volery.supervise.shim.child import expand

OFTEN_SECONDS = 0.1
SELDOM_SECONDS = 1.0
EARLY_SECONDS = 0.25
"""Between two questions until there is a first answer."""
ENOUGH = 2
"""So many questions in vain tell as much as an answer; one may just be slow."""
_ANSWER = re.compile(rb"(primary|replica|syncing)(?: +([0-9]{1,18}))?")


@dataclass(frozen=True)
class Said:
    """What is known of a role; see `Observation`."""

    role: Role | None = None
    position: int | None = None
    asked_at: float | None = None
    unsure_since: float | None = None
    why: str = "not asked yet"
    """Why it is unknown."""


def parsed(head: bytes) -> tuple[Role, int | None] | None:
    """What the first line says, or None if that is nothing we know."""
    line = head.partition(b"\n")[0].strip()
    found = _ANSWER.fullmatch(line)
    if found is None:
        return None
    return cast(Role, found[1].decode()), int(found[2]) if found[2] else None


class RoleAsker:
    """What is known of the role of one process; `changed` is called when it is news."""

    def __init__(
        self, words: Sequence[str], target: Target, seconds: float, changed: Callable[[], None]
    ) -> None:
        self.said = Said(unsure_since=time.monotonic())
        self.asked = asyncio.Event()
        """Set once there is an answer, or enough questions were in vain."""
        self._words = words
        self._target = target
        self._seconds = seconds
        self._changed = changed
        self._watch = RoleWatch(0)
        self._hurry = asyncio.Event()

    def watch(self, watch: RoleWatch) -> None:
        """How to ask from now on; another term or occasion is reason to ask at once."""
        before = self._watch
        if (watch.term, watch.occasion) != (before.term, before.occasion):
            self._hurry.set()
        self._watch = watch

    async def run(self) -> None:
        """Until cancelled."""
        for times in itertools.count(1):
            self._hurry.clear()
            before, self.said = self.said, await self._asked()
            if self.said.role or times >= ENOUGH:
                self.asked.set()
            if self._is_news(before):
                self._changed()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause()):
                    await self._hurry.wait()

    def _pause(self) -> float:
        if self._watch.often:
            return OFTEN_SECONDS
        return SELDOM_SECONDS if self.said.role else EARLY_SECONDS

    def _is_news(self, before: Said) -> bool:
        """A position alone is only where somebody waits for it: it changes all the time."""
        now = self.said
        known = (before.role, before.unsure_since, before.why) != (
            now.role,
            now.unsure_since,
            now.why,
        )
        return known or self._watch.often

    def _noted(self, began: float, head: bytes | None, why: str) -> Said:
        found = parsed(head) if head is not None else None
        if found is not None:
            return Said(found[0], found[1], began, None, "")
        if head is not None:
            why = f"{self._words[0]} said {_shown(head)}"
        said, since = self.said, self.said.unsure_since
        return Said(said.role, said.position, said.asked_at, began if since is None else since, why)

    async def _asked(self) -> Said:
        began = time.monotonic()
        head, why = await self._ask()
        if head is None and stood_still(began + self._seconds):
            began = time.monotonic()
            head, why = await self._ask()
        return self._noted(began, head, why)

    async def _ask(self) -> tuple[bytes | None, str]:
        """The beginning of what it said, or None and why there is no answer."""
        name = self._words[0]
        environment = {**self._target.environment, "VOLERY_TERM": str(self._watch.term)}
        try:
            ran = await run(
                expand(list(self._words), environment),
                self._target.directory,
                environment,
                self._seconds,
                apart=True,
            )
        except OSError as error:
            return None, f"{name} cannot be run: {error.strerror}"
        if ran.code is None:
            return None, f"{name} did not end within {format_duration(self._seconds)}"
        if ran.code != 0:
            return None, f"{name} ended with {ran.code}: {ran.last_line}".removesuffix(": ")
        return ran.head, ""


def _shown(head: bytes) -> str:
    """A first line that is no answer, cut short and made harmless."""
    return repr(head.partition(b"\n")[0][:40].decode(errors="replace"))
