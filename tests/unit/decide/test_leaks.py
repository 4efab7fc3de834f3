"""Memory on its way to the limit, and what only looks like it."""

from __future__ import annotations

import random

from volery.decide.leaks import leaking, trend

MIB = 2**20


def steady(
    start: float, slope: float, count: int = 40, noise: float = 0.0
) -> list[tuple[float, float]]:
    line = random.Random(1)
    return [(t, start + slope * t + line.gauss(0, noise)) for t in map(float, range(count))]


def test_a_leak_near_its_limit_is_found_with_the_time_that_is_left() -> None:
    found = leaking("web-1-1", steady(180 * MIB, MIB), 256 * MIB, horizon=60)
    assert found is not None
    assert found.kind == "leaking"
    assert round(found.evidence["seconds_left"]) == 37


def test_a_leak_far_from_its_limit_can_wait() -> None:
    assert leaking("a", steady(10 * MIB, MIB), 256 * MIB, horizon=60) is None
    assert leaking("a", steady(200 * MIB, 0.1 * MIB), 256 * MIB, horizon=60) is None


def test_a_full_cache_is_no_leak() -> None:
    assert trend(steady(240 * MIB, 0.0, noise=MIB)) == 0.0


def test_collections_of_garbage_hide_no_leak_and_are_none() -> None:
    sawtooth = [(float(t), (200 + t % 10) * MIB) for t in range(60)]
    assert leaking("a", sawtooth, 256 * MIB, horizon=60) is None
    climbing = [(float(t), (180 + t + 4 * (t % 5)) * MIB) for t in range(50)]
    assert leaking("a", climbing, 256 * MIB, horizon=60) is not None


def test_few_measurements_prove_nothing() -> None:
    assert trend(steady(0, MIB, count=5)) == 0.0
    assert trend([]) == 0.0
