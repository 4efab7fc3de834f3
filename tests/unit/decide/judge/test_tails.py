"""Counting in latency buckets, against the obvious way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from volery.decide.judge.tails import above, edges, quantiles

histograms = st.dictionaries(st.integers(-80, 200), st.integers(1, 500), min_size=1, max_size=40)


@given(histograms, st.lists(st.integers(-90, 210), min_size=1, max_size=8).map(sorted))
def test_above_counts_what_reaches_a_bucket(histogram: dict[int, int], at: list[int]) -> None:
    assert above(histogram, at) == [
        sum(n for bucket, n in histogram.items() if bucket >= edge) for edge in at
    ]


@given(histograms, st.lists(st.floats(0.01, 0.999), min_size=1, max_size=6).map(sorted))
def test_a_quantile_has_its_share_below(histogram: dict[int, int], levels: list[float]) -> None:
    total = sum(histogram.values())
    for level, bucket in zip(levels, quantiles(histogram, levels), strict=True):
        assert bucket is not None
        assert sum(n for b, n in histogram.items() if b < bucket) <= level * total + 1e-6
        assert sum(n for b, n in histogram.items() if b <= bucket) >= level * total - 1e-6


@given(histograms)
def test_an_edge_is_reached_by_its_share_at_most(histogram: dict[int, int]) -> None:
    levels = (0.5, 0.9, 0.99)
    total = sum(histogram.values())
    found = edges({bucket: float(n) for bucket, n in histogram.items()}, levels)
    for level, edge in found.items():
        assert (1 - level) * total >= 3
        assert sum(n for b, n in histogram.items() if b >= edge) <= (1 - level) * total + 1e-6
    assert len(set(found.values())) == len(found)


def test_nothing_has_no_quantiles() -> None:
    assert quantiles({}, (0.5, 0.99)) == [None, None]
