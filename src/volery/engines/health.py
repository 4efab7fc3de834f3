"""Watches the health of one process by asking it again and again, one question at a time.

While it starts it is asked often, so that it gets requests as soon as it can; then every
`health.every`. `failures` wrong answers in a row make it unready, or not alive, or, where there was
no answer at all, hung; one right answer makes that good again. It is asked whether it lives only
once it has been ready: before that, the time it may take to start is the limit.

A process that is known to have been ready (a former control plane started it) counts as ready until
as many answers were wrong as that takes.

From the first wrong answer on, or when one is overdue, it is *suspect*: whoever sends requests can
send them elsewhere. A suspect is asked more often, so that it is known soon what to think of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from volery.engines.probes import Answer, Target, ask, stood_still
from volery.model.application import Health, Probe
from volery.model.units import format_duration
from volery.supervise.moments import pause

# While it starts, pauses grow with the time it has taken: ready is noticed a tenth late at most.
FIRST_PAUSE, LONGEST_PAUSE, GROWTH = 0.01, 0.25, 1.1
OVERDUE = 0.5
"""Share of the time it may take to answer after which it is suspect already."""
SUSPECT_PAUSE = 0.25
"""A suspect is asked again after this share of `health.every`."""


class HealthWatch:
    """What is known of the health of one process; `changed` is called when it differs."""

    def __init__(
        self,
        health: Health,
        target: Target,
        changed: Callable[[], None],
        *,
        been_ready: bool = False,
    ) -> None:
        self.ready = self.been_ready = been_ready
        self.alive = True
        self.hung = False
        self.detail = self.suspect = ""
        self.asked = asyncio.Event()
        """Set once the first answer is there."""
        self._health = health
        self._target = target
        self._changed = changed
        self._unready = _Streak(health.failures)
        self._dead = _Streak(health.failures)
        self._silent = _Streak(health.failures)
        self._told = self._known

    async def run(self) -> None:
        """Until cancelled."""
        early = FIRST_PAUSE
        while True:
            answer = await self._ask(self._health.ready)
            self._note_ready(answer)
            self.asked.set()
            if self._health.live is not None and self.been_ready:
                same = self._health.live == self._health.ready
                live = answer if same else await self._ask(self._health.live)
                self._note_alive(live)
                answer = _worse(answer, live)
            self._note_silence(answer)
            self._tell()
            await asyncio.sleep(self._pause() if self.been_ready else early)
            early = min(LONGEST_PAUSE, early * GROWTH)

    @property
    def _known(self) -> tuple[object, ...]:
        return self.ready, self.alive, self.hung, self.detail, self.suspect

    def _pause(self) -> float:
        every = self._health.every
        if self.suspect:
            return every * SUSPECT_PAUSE
        return pause(every)

    async def _ask(self, probe: Probe | None) -> Answer:
        overdue = self._health.timeout * OVERDUE
        due = time.monotonic() + overdue
        alarm = asyncio.get_running_loop().call_later(overdue, self._is_overdue, overdue, due)
        try:
            return await ask(probe, self._target, self._health.timeout)
        finally:
            alarm.cancel()

    def _is_overdue(self, seconds: float, due: float) -> None:
        if self.ready and not self.suspect and not stood_still(due):
            self.suspect = f"a probe was not answered within {format_duration(seconds)}"
            self._tell()

    def _tell(self) -> None:
        """Compared with what was told last: a suspicion that arises and ends within one question
        was told in between."""
        if self._told != self._known:
            self._told = self._known
            self._changed()

    def _note_ready(self, answer: Answer) -> None:
        if answer.ok:
            self._unready.reset()
            self.ready = self.been_ready = True
            self.detail = ""
        elif self._unready.count() or not self.been_ready:
            self.ready = False
            self.detail = answer.text

    def _note_alive(self, answer: Answer) -> None:
        if answer.ok:
            self._dead.reset()
            self.alive = True
        elif self._dead.count():
            self.alive = False
            self.detail = f"liveness: {answer.text}"

    def _note_silence(self, answer: Answer) -> None:
        self.suspect = "" if answer.ok else answer.text
        if not answer.late:
            self._silent.reset()
            self.hung = False
        elif self.been_ready and self._silent.count():
            self.hung = True


def _worse(ready: Answer, live: Answer) -> Answer:
    """Of two answers the one that says more against it: no answer, then a wrong one."""
    return max(ready, live, key=lambda answer: (answer.late, not answer.ok))


class _Streak:
    """Counts failures in a row; true from the one that is too many."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._length = 0

    def count(self) -> bool:
        self._length += 1
        return self._length >= self._limit

    def reset(self) -> None:
        self._length = 0
