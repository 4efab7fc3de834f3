"""Watches the health of one process by asking it again and again, one question at a time.

While it starts it is asked often, so that it gets requests as soon as it can; then every
`health.every`. `failures` wrong answers in a row make it unready, or not alive; one right answer
makes that good again. It is asked whether it lives only once it has been ready: before that, the
time it may take to start is the limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from volery.engines.probes import Answer, Target, ask
from volery.model.application import Health, Probe

# While it starts, pauses grow with the time it has taken: ready is noticed a tenth late at most.
FIRST_PAUSE, LONGEST_PAUSE, GROWTH = 0.01, 0.25, 1.1


class HealthWatch:
    """What is known of the health of one process; `changed` is called when it differs."""

    def __init__(self, health: Health, target: Target, changed: Callable[[], None]) -> None:
        self.ready = False
        self.been_ready = False
        self.alive = True
        self.detail = ""
        self.asked = asyncio.Event()
        """Set once the first answer is there."""
        self._health = health
        self._target = target
        self._changed = changed
        self._unready = _Streak(health.failures)
        self._dead = _Streak(health.failures)

    async def run(self) -> None:
        """Until cancelled."""
        pause = FIRST_PAUSE
        while True:
            before = (self.ready, self.alive, self.detail)
            answer = await self._ask(self._health.ready)
            self._note_ready(answer)
            self.asked.set()
            if self._health.live is not None and self.been_ready:
                same = self._health.live == self._health.ready
                self._note_alive(answer if same else await self._ask(self._health.live))
            if before != (self.ready, self.alive, self.detail):
                self._changed()
            await asyncio.sleep(self._health.every if self.been_ready else pause)
            pause = min(LONGEST_PAUSE, pause * GROWTH)

    async def _ask(self, probe: Probe | None) -> Answer:
        return await ask(probe, self._target, self._health.timeout)

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
