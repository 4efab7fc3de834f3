"""Latencies in a histogram: any number of them in little memory, each within 1 % of its value."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

_GROWTH = math.log(1.01)
_SMALLEST = 1e-6


@dataclass(frozen=True)
class Latency:
    """Seconds from when requests were due until they were answered. None without answers."""

    p50: float | None = None
    p90: float | None = None
    p99: float | None = None
    max: float | None = None


NOTHING = Latency()


class Histogram:
    """Counts durations in buckets whose borders grow by 1 %."""

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self._max = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self._buckets[math.ceil(math.log(max(seconds, _SMALLEST) / _SMALLEST) / _GROWTH)] += 1
        self._max = max(self._max, seconds)

    def merge(self, other: Histogram) -> None:
        """Count all that another one has counted."""
        self._buckets.update(other._buckets)
        self._max = max(self._max, other._max)

    def quantile(self, fraction: float) -> float | None:
        """The duration that this fraction of all does not exceed."""
        rank = math.ceil(fraction * self._buckets.total())
        for bucket in sorted(self._buckets):
            rank -= self._buckets[bucket]
            if rank <= 0:
                return min(_SMALLEST * math.exp(bucket * _GROWTH), self._max)
        return None

    def summary(self) -> Latency:
        """The usual quantiles."""
        if not self._buckets:
            return NOTHING
        return Latency(self.quantile(0.5), self.quantile(0.9), self.quantile(0.99), self._max)
