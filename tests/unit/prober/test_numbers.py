"""Start times, latencies and the report: the arithmetic of a probe."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volery.prober import Kind, ProbePlan, ProbeReport, Sample, Stream, StreamReport
from volery.prober.latency import Histogram, Latency
from volery.prober.outcome import Failure
from volery.prober.schedule import due_times
from volery.prober.tally import SAMPLES, SAMPLES_PER_CAUSE, Tally

STREAM = Stream(Kind.HTTP1, "http://127.0.0.1:8080/", 100)


def test_constant_arrivals_are_evenly_spaced() -> None:
    times = list(due_times(ProbePlan((STREAM,), 2, "constant"), STREAM))
    assert len(times) == 200
    assert all(late - early == pytest.approx(0.01) for early, late in pairwise(times))


def test_poisson_arrivals_have_the_rate_and_are_irregular() -> None:
    times = list(due_times(ProbePlan((STREAM,), 100), STREAM))
    gaps = [late - early for early, late in pairwise(times)]
    assert len(times) == pytest.approx(10_000, rel=0.05)
    assert sum(gap < 0.005 for gap in gaps) / len(gaps) == pytest.approx(0.393, abs=0.03)


def test_the_seed_decides_the_start_times() -> None:
    first, same, other = (
        list(due_times(ProbePlan((STREAM,), 2, seed=seed), STREAM)) for seed in (1, 1, 2)
    )
    assert first == same != other


@given(st.lists(st.floats(1e-6, 3600), min_size=1, max_size=300), st.floats(0.01, 1))
def test_a_quantile_is_within_a_percent(durations: list[float], fraction: float) -> None:
    histogram = Histogram()
    for duration in durations:
        histogram.add(duration)
    found = histogram.quantile(fraction)
    at_most = [duration for duration in durations if found and duration <= found * (1 + 1e-9)]
    below = [duration for duration in durations if found and duration < found / 1.0101]
    assert len(at_most) >= fraction * len(durations) - 1e-6
    assert len(below) <= fraction * len(durations)
    assert histogram.summary().max == max(durations)


def test_no_answers_have_no_latency() -> None:
    assert Histogram().summary() == Latency()


def test_histograms_add_up() -> None:
    one, two = Histogram(), Histogram()
    one.add(0.001)
    two.add(1.0)
    one.merge(two)
    summary = one.summary()
    assert summary.p50 == pytest.approx(0.001, rel=0.011)
    assert summary.p99 == pytest.approx(1.0, rel=0.011)


def test_a_tally_keeps_the_first_samples_of_each_cause() -> None:
    tally = Tally(STREAM)
    for number in range(50):
        tally.failed(number, Failure("reset", str(number)))
    tally.failed(60, Failure("timeout", "late"))
    report = tally.report()
    assert report.causes == {"reset": 50, "timeout": 1}
    assert report.sent == report.failed == 51
    details = [sample.detail for sample in report.samples]
    assert details == [*map(str, range(SAMPLES_PER_CAUSE)), "late"]
    for number in range(100):
        tally.failed(number, Failure(f"status_{number}"))
    assert len(tally.report().samples) == SAMPLES


def _report() -> ProbeReport:
    sample = Sample(1.5, "api", "status_503", "no healthy upstream")
    streams = (
        StreamReport(
            "api", "http1", "http://127.0.0.1:1/", 10, sent=10, ok=9, failed=1,
            causes={"status_503": 1}, versions={"a@1": 9}, samples=(sample,),
            latency=Latency(0.001, 0.002, 0.003, 0.004),
        ),
        StreamReport("db", "line", "tcp://127.0.0.1:2", 5, sent=5, ok=5, versions={"a@1": 5}),
    )  # fmt: skip
    return ProbeReport(1_700_000_000.5, 10.0, streams)


def test_the_report_adds_up_and_is_json() -> None:
    document = json.loads(json.dumps(_report().as_json()))
    assert document["started_at"] == "2023-11-14T22:13:20.500000Z"
    assert (document["sent"], document["ok"], document["lost"]) == (15, 14, 1)
    assert document["causes"] == {"status_503": 1}
    assert document["versions"] == {"a@1": 14}
    assert document["samples"] == [
        {"at": 1.5, "stream": "api", "cause": "status_503", "detail": "no healthy upstream"}
    ]
    assert document["streams"][0]["latency"] == {
        "p50": 0.001, "p90": 0.002, "p99": 0.003, "max": 0.004
    }  # fmt: skip


def test_the_report_as_a_table() -> None:
    assert _report().render().splitlines() == [
        "stream  sent  ok  lost    p50    p90    p99    max",
        "api       10   9     1  1.0ms  2.0ms  3.0ms  4.0ms",
        "db         5   5     0      -      -      -      -",
        "total     15  14     1      -      -      -      -",
        "lost 1 of 15 requests in 10s",
        "causes: status_503 1",
        "  1.50s api: status_503 no healthy upstream",
        "answered by: a@1 14",
    ]
