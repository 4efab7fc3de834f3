"""Keeps going what is wished, by key, and remembers the newest answer: the `Outside` port.

One task for each key. A gate is asked once; a metric is measured again and again, never twice at
the same time; synthetic requests flow. A call that is no longer wished is cancelled with all it
started. Nothing is remembered on disk: after a restart whoever wishes asks again.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from volery.calls import Calls
from volery.model.errors import VoleryError
from volery.model.ports import Answer, GateCall, MetricCall, OutsideCall, SyntheticCall
from volery.outside.gates import ask_gate
from volery.outside.metrics import measure, pause
from volery.outside.synthetic import FINISH_SECONDS, Count, send
from volery.outside.wording import secrets_of, shown

WAITING = Answer("waiting")
WITHHELD = "(what it said is not shown: the secrets that may be in it cannot be read)"


@dataclass(eq=False)
class _Going:
    """One key: its newest call, its task, and how to tell its newest answer."""

    key: str
    call: OutsideCall
    answer: Callable[[], Answer] = lambda: WAITING
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class OutsideWorld:
    """Asks real commands, servers and services.

    Args:
        wake: called when `observe` has news.
        calls: how other people's servers are asked.
        hidden: values never to be shown in an answer's text.
        source: of the jitter between two measurements.
    """

    def __init__(
        self,
        wake: Callable[[], None],
        calls: Calls,
        *,
        hidden: Callable[[], Iterable[str]] = tuple,
        source: random.Random | None = None,
    ) -> None:
        self._wake = wake
        self._calls = calls
        self._hidden = hidden
        self._source = source or random.Random()  # noqa: S311 - jitter, not cryptography
        self._going: dict[str, _Going] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Nothing to prepare: there is nothing left of an earlier process."""

    async def close(self) -> None:
        """Cancel everything, and return when nothing of it runs any more."""
        self.wish({})
        while self._tasks:
            await asyncio.wait(self._tasks)

    def wish(self, calls: Mapping[str, OutsideCall]) -> None:
        """Keep exactly these going, by key."""
        for key, going in list(self._going.items()):
            if not _goes_on(going.call, calls.get(key)):
                self._drop(key)
        for key, call in calls.items():
            if key not in self._going:
                self._begin(key, call)
            else:
                self._renew(self._going[key], call)

    def observe(self) -> Mapping[str, Answer]:
        """By key, the newest answer to each call that is wished."""
        return {key: going.answer() for key, going in self._going.items()}

    # --- one key ----------------------------------------------------------------------------------

    def _begin(self, key: str, call: OutsideCall) -> None:
        going = self._going[key] = _Going(key, call)
        match call:
            case GateCall():
                work = self._ask(going, call)
            case MetricCall():
                work = self._measure(going, call)
            case SyntheticCall():
                work = self._send(going, call)
        going.task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(going.task)
        going.task.add_done_callback(lambda task: self._ended(going, task))

    @staticmethod
    def _renew(going: _Going, call: OutsideCall) -> None:
        if going.call != call:
            going.call = call
            going.changed.set()

    def _drop(self, key: str) -> None:
        going = self._going.pop(key)
        if going.task:
            going.task.cancel()

    async def _ask(self, going: _Going, call: GateCall) -> None:
        self._tell(going, await ask_gate(going.key, call, self._calls))

    async def _measure(self, going: _Going, call: MetricCall) -> None:
        broken, clock = 0, asyncio.get_running_loop().time
        while True:
            started = clock()
            answer = await measure(call, self._calls)
            self._tell(going, answer)
            broken = broken + 1 if answer.state == "broken" else 0
            next_at = started + pause(call.metric.every, broken, self._source)
            await asyncio.sleep(max(0.0, next_at - clock()))
            assert isinstance(going.call, MetricCall)
            call = going.call

    async def _send(self, going: _Going, call: SyntheticCall) -> None:
        count = Count(lambda: self._news(going))
        going.answer = count.answer
        while True:
            going.changed.clear()
            await _sending(going, call, count)
            assert isinstance(going.call, SyntheticCall)
            call = going.call

    # --- bookkeeping ------------------------------------------------------------------------------

    def _tell(self, going: _Going, answer: Answer) -> None:
        try:
            text = shown(answer.text, (*self._hidden(), *_secrets(going.call)))
        except VoleryError:
            text = WITHHELD
        told = replace(answer, text=text, at=time.monotonic())
        going.answer = lambda: told
        self._news(going)

    def _news(self, going: _Going) -> None:
        if self._going.get(going.key) is going:
            self._wake()

    def _ended(self, going: _Going, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, VoleryError):
            self._tell(going, Answer("broken", error.message))
        elif error is not None:  # a defect of ours: it must neither hang the rollout nor be hidden
            self._tell(going, Answer("broken", f"internal error: {error!r}"))
            context = {"message": f"asking {going.key} failed", "exception": error}
            task.get_loop().call_exception_handler(context)


def _goes_on(before: OutsideCall, now: OutsideCall | None) -> bool:
    """Whether it is the same question, so that its answers still count."""
    if isinstance(before, MetricCall) and isinstance(now, MetricCall):
        asked = [
            (call.metric, call.subject.service, call.subject.release, call.subject.track)
            for call in (before, now)
        ]
        return asked[0] == asked[1]
    return type(before) is type(now)


async def _sending(going: _Going, call: SyntheticCall, count: Count) -> None:
    """Send until the call changes; cancelled, wait for what is in flight, but for nothing more."""
    stop = asyncio.Event()
    sending = asyncio.ensure_future(send(going.key, call, count, stop))
    changed = asyncio.ensure_future(going.changed.wait())
    try:
        await asyncio.wait({sending, changed}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        changed.cancel()
        stop.set()
        await asyncio.wait([sending], timeout=FINISH_SECONDS)
        sending.cancel()
        await asyncio.wait([sending])
    sending.result()


def _secrets(call: OutsideCall) -> Iterable[str]:
    """Passwords in the URLs of a call."""
    match call:
        case GateCall():
            return secrets_of(call.gate.url or "")
        case MetricCall():
            return secrets_of(call.metric.prometheus or "")
        case SyntheticCall():
            return ()
