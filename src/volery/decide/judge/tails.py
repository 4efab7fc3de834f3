"""Which requests count as slow: bucket edges of the old release's latencies, and counts above them.

A *level* is a quantile of the old release (0.99); its *edge* the bucket that about that share of
its requests stays below. A request in the edge's bucket or above is slow at that level.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import accumulate

from volery.model.evidence import BUCKET_MAX, BUCKET_MIN, Latency

NEEDED_ABOVE = 3.0
"""A level is compared only where so many requests were seen above its edge."""


def edges(histogram: Mapping[int, float], levels: Sequence[float]) -> dict[float, int]:
    """The edge of each level: the lowest bucket that at most `1 - level` of all reach. Levels for
    which too little was seen, or whose edge a lower level has already, are left out."""
    total = sum(histogram.values())
    found: dict[float, int] = {}
    buckets = sorted(histogram, reverse=True)
    for level in sorted(levels):
        if (1 - level) * total < NEEDED_ABOVE:
            break
        edge = _edge(histogram, buckets, (1 - level) * total)
        if edge not in found.values():
            found[level] = edge
    return found


def _edge(histogram: Mapping[int, float], buckets: Sequence[int], most: float) -> int:
    above, edge = 0.0, buckets[0] + 1
    for bucket in buckets:
        above += histogram[bucket]
        if above > most:
            return edge
        edge = bucket
    return edge


def above(latency: Latency, at: Sequence[int]) -> list[int]:
    """How many requests are in each of these (ascending) buckets or above."""
    counts = [0] * (len(at) + 1)
    reached = _reached(tuple(at))
    for bucket, number in latency.items():
        counts[reached[bucket]] += number
    for index in range(len(at) - 1, 0, -1):
        counts[index] += counts[index + 1]
    return counts[1:]


@lru_cache(maxsize=1024)
def _reached(at: tuple[int, ...]) -> Mapping[int, int]:
    """How many of these buckets each bucket reaches: to look that up is quicker than to search."""
    return {bucket: bisect_right(at, bucket) for bucket in range(BUCKET_MIN, BUCKET_MAX + 1)}


def quantiles(histogram: Mapping[int, int], levels: Sequence[float]) -> list[int | None]:
    """The buckets in which ascending quantiles lie; None if nothing was seen."""
    if not histogram:
        return [None] * len(levels)
    buckets = sorted(histogram)
    upto = list(accumulate(histogram[bucket] for bucket in buckets))
    return [
        buckets[min(bisect_right(upto, level * upto[-1]), len(buckets) - 1)] for level in levels
    ]
