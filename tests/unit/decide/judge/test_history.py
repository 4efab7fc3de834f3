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
