"""Synthetic requests: real ones through the data plane, where users' are too few to judge by.

Open loop: each is sent when it is due, whatever the others do; one that is due while too many are
in flight is counted as held back and not sent. When they are no longer wanted none is begun any
more, and those in flight are still waited for, so that they are no errors of the service.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections import Counter
from collections.abc import Callable
from typing import Literal

from volery.model.ports import Answer, SyntheticCall
from volery.prober.outcome import Failure
from volery.prober.plan import MAX_SECONDS, Kind, ProbePlan, Stream
from volery.prober.run import run
from volery.prober.tally import Tally

USER_AGENT = "volery-synthetic"
TIMEOUT_SECONDS = 10.0
FINISH_SECONDS = 5.0
"""How long requests in flight are waited for once they are no longer wanted."""
IN_FLIGHT_MAX = 100
HELD_BACK = "client_saturated"


class Count:
    """How the requests of one key went so far, whatever call they belonged to."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._fine = 0
        self._causes: Counter[str] = Counter()
        self._at = 0.0

    def ended(self, cause: str = "") -> None:
        """One request ended; `cause` if it failed."""
        before = self._state
        self._at = time.monotonic()
        if cause:
            self._causes[cause] += 1
        else:
            self._fine += 1
        if self._state != before:
            self._on_change()

    def answer(self) -> Answer:
        """*yes* once one got a right answer, *no* if all answers are wrong, *broken* if nobody
        answers at all."""
        if self._state == "waiting":
            return Answer("waiting")
        held_back = self._causes[HELD_BACK]
        failed = self._causes.total() - held_back
        sent = self._fine + failed
        text = f"{sent} sent, {failed} failed"
        causes = Counter({k: n for k, n in self._causes.items() if k != HELD_BACK})
        if failed:
            text += f", most by {causes.most_common(1)[0][0]}"
        if held_back:
            text += f"; {held_back} held back: {IN_FLIGHT_MAX} are in flight"
        return Answer(self._state, text, float(sent), self._at)

    @property
    def _state(self) -> Literal["waiting", "yes", "no", "broken"]:
        if self._fine:
            return "yes"
        if not self._causes:
            return "waiting"
        return "no" if any(cause.startswith("status_") for cause in self._causes) else "broken"


class _Counted(Tally):
    """The prober's counters of one call, which also count for the key."""

    def __init__(self, stream: Stream, count: Count) -> None:
        super().__init__(stream)
        self._count = count

    def ok(self, latency: float, version: str | None) -> None:
        """A right answer."""
        super().ok(latency, version)
        self._count.ended()

    def failed(self, due: float, failure: Failure) -> None:
        """None, or a wrong one."""
        super().failed(due, failure)
        self._count.ended(failure.cause)


async def send(key: str, call: SyntheticCall, count: Count, stop: asyncio.Event) -> None:
    """Send until `stop`.

    Raises:
        VoleryError: the URL leads away from this machine, or is none.
    """
    stream = stream_of(call)
    while not stop.is_set():
        plan = ProbePlan((stream,), MAX_SECONDS, seed=zlib.crc32(key.encode())).checked()
        await run(plan, (_Counted(stream, count),), stop)


def stream_of(call: SyntheticCall) -> Stream:
    """The requests of a call, as the prober knows them."""
    synthetic = call.synthetic
    headers = {name.lower(): value for name, value in synthetic.headers.items()}
    headers |= {name.lower(): value for name, value in call.headers.items()}
    headers["user-agent"] = USER_AGENT
    return Stream(
        Kind.HTTP1,
        call.base_url.rstrip("/") + synthetic.path,
        synthetic.rate,
        method=synthetic.method,
        payload=synthetic.body.encode(),
        headers=tuple(headers.items()),
        timeout=TIMEOUT_SECONDS,
        connections=4,
        max_in_flight=IN_FLIGHT_MAX,
    )
