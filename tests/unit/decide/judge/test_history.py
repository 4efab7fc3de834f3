"""What is remembered of stable traffic: rates, over-dispersion, edges; bounded, sceptical."""

from __future__ import annotations

import random

import pytest
from pydantic import TypeAdapter
from unit.decide.judge.traffic import known

from volery.decide.judge import History, empty, remember, requests_per_second
from volery.decide.judge.history import (
    DOUBT_PHI,
    DOUBT_WEIGHT,
    PRIOR_PHI,
    PRIOR_WEIGHT,
    over_dispersion,
)
from volery.model.evidence import Arm


def phi(history: History, frozen: bool = False) -> float:
    return over_dispersion(history.errors, PRIOR_PHI, PRIOR_WEIGHT, frozen)


def stable(seed: int, clump: int, parts: int, seconds: int = 900, rate: float = 1.0) -> History:
    """Failures in clumps of a fixed size, `rate` clumps a second in all, by instance."""
    source, history = random.Random(seed), empty()
    for _ in range(seconds):
        failures = [0] * parts
        for _ in range(sum(source.random() < rate / 20 for _ in range(20))):
            failures[source.randrange(parts)] += clump
        history = remember(history, [Arm(100, k, {}, 1.0) for k in failures], 1.0)
    return history


def test_nothing_known_is_taken_to_be_a_little_clumped() -> None:
    assert phi(empty()) > PRIOR_PHI
    doubt = over_dispersion(empty().errors, DOUBT_PHI, DOUBT_WEIGHT, False)
    assert doubt > phi(empty())
    assert requests_per_second(empty()) is None


@pytest.mark.parametrize("clump", [1, 4])
@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_over_dispersion_is_the_size_of_the_clumps(clump: int, parts: int) -> None:
    found = [phi(stable(seed, clump, parts)) for seed in range(6)]
    assert clump * 0.7 < sum(found) / 6 < clump * 1.8


def test_a_burst_that_hits_all_alike_is_no_over_dispersion_unless_the_control_is_frozen() -> None:
    history = empty()
    for second in range(900):
        failures = 10 if second % 300 < 60 else 0
        history = remember(history, [Arm(100, failures, {}, 1.0)] * 3, 1.0)
    assert phi(history) < 1
    assert phi(history, frozen=True) > 10


def after_trouble(seconds: int, then: int, clump: int = 1, *, everything: bool = False) -> History:
    """200 requests a second on four instances; 20 minutes with failures in clumps, trouble of one
    instance or of all, and so many seconds since."""
    source, history = random.Random(5), empty()
    for second in range(1200 + seconds + then):
        failures = [clump * (source.random() < 0.05 / clump) for _ in range(4)]
        if 1200 <= second < 1200 + seconds:
            failures = [50] * 4 if everything else [50, *failures[1:]]
        parts = [
            Arm(50, k, {40: 200} if not index else {}, 1.0) for index, k in enumerate(failures)
        ]
        history = remember(history, parts, 1.0)
    return history


@pytest.mark.parametrize("seconds", [3, 20, 60])
def test_one_instance_that_was_ill_does_not_make_all_failures_clumped(seconds: int) -> None:
    calm = phi(after_trouble(0, 600))
    assert phi(after_trouble(seconds, 60)) < 15
    assert phi(after_trouble(seconds, 3600)) < 1.5 * calm


@pytest.mark.parametrize("seconds", [3, 20, 60])
def test_an_outage_of_all_does_not_hide_how_clumped_failures_are(seconds: int) -> None:
    usual = phi(after_trouble(0, 600, clump=8))
    assert 0.7 * usual < phi(after_trouble(seconds, 60, clump=8, everything=True)) < 1.5 * usual


def test_what_is_always_clumped_is_known_to_be() -> None:
    assert phi(stable(1, 20, 4)) > 12


def test_a_lull_does_not_make_the_traffic_small() -> None:
    history = stable(1, 1, 1)
    for seconds in (20, 600, 86400):
        idle = history
        for _ in range(seconds // 20):
            idle = remember(idle, [Arm()], 20.0)
        assert 80 < (requests_per_second(idle) or 0) <= 100
    rare = empty()
    for second in range(3600):
        rare = remember(rare, [Arm(int(second % 20 == 0))], 1.0)
    assert requests_per_second(rare) == pytest.approx(0.05, rel=0.3)


def test_rates_follow_and_forget() -> None:
    history = empty()
    for failures in (0, 5):
        for _ in range(600):
            history = remember(history, [Arm(100, failures, {}, 1.0)], 1.0)
    assert history.errors.rate.per() == pytest.approx(0.05, rel=0.05)
    assert requests_per_second(history) == pytest.approx(100)


def test_edges_are_what_few_requests_reach() -> None:
    history = known()
    total = sum(history.latency.values())
    for level, edge in history.edges.items():
        above = sum(n for bucket, n in history.latency.items() if bucket >= edge)
        assert above / total <= 1.2 * (1 - level)
    assert list(history.edges) == sorted(history.edges)


def test_levels_that_cannot_be_told_are_left_out() -> None:
    history = remember(empty(), [Arm(100, 0, {40: 60, 48: 40}, 1.0)], 1.0)
    assert set(history.edges) <= {0.5, 0.75, 0.9, 0.95}


def test_memory_is_bounded_and_survives_json() -> None:
    source, history = random.Random(3), empty()
    for _ in range(400):
        parts = source.randrange(1, 9)
        latency = {source.randrange(-80, 200): 1 for _ in range(20)}
        history = remember(history, [Arm(20, 1, latency, 1.0)] * parts, 1.0)
    adapter = TypeAdapter(History)
    stored = adapter.dump_json(history)
    assert adapter.validate_json(stored) == history
    assert len(stored) < 20_000


def test_a_tick_without_requests_adds_nothing_but_time() -> None:
    history = known(seconds=30)
    after = remember(history, [Arm()], 1.0)
    assert (after.errors, after.latency, after.edges) == (
        history.errors,
        history.latency,
        history.edges,
    )
    assert after.seconds == history.seconds + 1
