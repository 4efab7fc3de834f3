"""Counts what happens while a probe runs; `report()` freezes it. Decides nothing."""

from __future__ import annotations

from collections import Counter

from volery.prober.latency import Histogram
from volery.prober.outcome import Failure
from volery.prober.plan import Stream
from volery.prober.report import Sample, StreamReport

SAMPLES_PER_CAUSE = 3
SAMPLES = 30


class Tally:
    """The counters of one stream."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.latencies = Histogram()
        self.in_flight = 0
        self.answered = 0
        self.retried = 0
        self.retired = 0
        self.late = 0.0
        self.lost = 0
        self._causes: Counter[str] = Counter()
        self._versions: Counter[str] = Counter()
        self._samples: list[Sample] = []

    def ok(self, latency: float, version: str | None) -> None:
        """Count a right and complete answer."""
        self.answered += 1
        self.latencies.add(latency)
        if version is not None:
            self._versions[version] += 1

    def failed(self, due: float, failure: Failure) -> None:
        """Count a failure, and keep the first ones of each cause."""
        self.lost += 1
        self._causes[failure.cause] += 1
        if self._causes[failure.cause] <= SAMPLES_PER_CAUSE and len(self._samples) < SAMPLES:
            sample = Sample(round(due, 3), self.stream.label, failure.cause, failure.detail)
            self._samples.append(sample)

    def report(self) -> StreamReport:
        """What was counted until now."""
        return StreamReport(
            name=self.stream.label,
            kind=self.stream.kind.value,
            url=self.stream.url,
            rate=self.stream.rate,
            sent=self.answered + self.lost,
            ok=self.answered,
            failed=self.lost,
            retried=self.retried,
            retired=self.retired,
            causes=dict(self._causes.most_common()),
            latency=self.latencies.summary(),
            late=round(self.late, 6),
            versions=dict(self._versions.most_common()),
            samples=tuple(self._samples),
        )
