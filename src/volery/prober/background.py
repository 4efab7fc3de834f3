"""A probe that runs beside other work, in a thread of its own.

    with probing(plan) as running:
        running.wait_for(20)     # requests are flowing
        deploy_something()
    assert running.report.lost == 0

Leaving the block stops the probe and waits for the requests in flight.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress

from volery.model.errors import VoleryError
from volery.prober.plan import ProbePlan
from volery.prober.report import ProbeReport
from volery.prober.run import run
from volery.prober.tally import Tally


class Running:
    """A probe under way."""

    def __init__(self, plan: ProbePlan) -> None:
        self._plan = plan.checked()
        self._tallies = tuple(Tally(stream) for stream in self._plan.streams)
        self._done: Future[ProbeReport] = Future()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="prober", daemon=True)

    @property
    def answered(self) -> int:
        """The fewest right answers that any stream has had so far."""
        return min(tally.answered for tally in self._tallies)

    @property
    def failed(self) -> int:
        """Requests lost so far."""
        return sum(tally.lost for tally in self._tallies)

    @property
    def report(self) -> ProbeReport:
        """What it found, once it has ended; waits for that."""
        return self._done.result()

    def wait_for(self, answers: int, timeout: float = 30.0) -> None:
        """Wait until every stream has had at least this many right answers from now on.

        Raises:
            VoleryError: that did not happen in time, or the probe ended before.
        """
        goal = [tally.answered + answers for tally in self._tallies]
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if all(t.answered >= g for t, g in zip(self._tallies, goal, strict=True)):
                return
            if self._done.done():
                break
            time.sleep(0.01)
        raise VoleryError(
            f"the probe did not get {answers} more answers on every stream",
            hint="see the causes in its report",
            where="probe",
        )

    def start(self) -> None:
        """Send the first request."""
        self._loop = asyncio.new_event_loop()
        self._thread.start()

    def stop(self) -> None:
        """Send no more, and wait for what is in flight."""
        with suppress(RuntimeError):  # the probe has ended, and its loop is closed
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                self._done.set_result(runner.run(run(self._plan, self._tallies, self._stop)))
        except BaseException as error:  # noqa: BLE001 - told to whoever asks for the report
            self._done.set_exception(error)


@contextmanager
def probing(plan: ProbePlan) -> Iterator[Running]:
    """Run a probe for as long as the block lasts, or as the plan says if that is shorter.

    Raises:
        VoleryError: the plan is out of bounds, or would leave this machine.
    """
    running = Running(plan)
    running.start()
    try:
        yield running
    finally:
        running.stop()
