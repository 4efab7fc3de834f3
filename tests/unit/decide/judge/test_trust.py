"""The trust in a release: exact for independent events, never bought by a failing control."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import poisson

from volery.decide.judge.bets import Counts
from volery.decide.judge.trust import Trust, confidence, gain, nearest, vouch

rates = st.floats(1e-6, 0.5)
sizes = st.floats(0.5, 2000)


@given(rates, rates, sizes, sizes, st.floats(1.0, 2.0), st.floats(0.001, 0.5))
def test_the_nearest_bad_world_is_the_nearest(
    good: float, rate: float, n: float, m: float, rho: float, margin: float
) -> None:
    """Against scipy: the point of the null that loses least against the hoped-for rates."""

    def distance(control: float) -> float:
        bad = rho * control + margin
        return n * (bad - good * math.log(bad)) + m * (control - rate * math.log(control))

    found = nearest(good, rate, Counts(n, 0, m, 0), rho, margin)
    best = minimize_scalar(distance, bounds=(1e-12, 2.0), method="bounded")
    assert distance(found) <= best.fun + 1e-6 * abs(best.fun)


@pytest.mark.parametrize(("n", "m"), [(2, 198), (10, 190), (100, 100), (10, 10)])
@pytest.mark.parametrize("rate", [1e-4, 0.01, 0.3])
@pytest.mark.parametrize("margin", [0.005, 0.1])
def test_a_release_just_too_bad_gains_nothing(n: int, m: int, rate: float, margin: float) -> None:
    """The exact expectation of the likelihood ratio is at most 1 on the edge of the null, also if
    the old release is not as it was (`rate` known, `actual` true)."""
    for actual in (rate / 3, rate, rate * 3):
        mean, mean_control = n * (1.5 * actual + margin), m * actual
        ks, js = (range(int(x + 9 * math.sqrt(x)) + 12) for x in (mean, mean_control))
        grown = [math.exp(gain(Counts(n, k, m, 0), rate, 1.5, margin)) for k in ks]
        per_failure = math.exp(
            gain(Counts(n, 0, m, 1), rate, 1.5, margin)
            - gain(Counts(n, 0, m, 0), rate, 1.5, margin)
        )
        expected = float(poisson.pmf(ks, mean) @ grown) * float(
            poisson.pmf(js, mean_control) @ [per_failure**j for j in js]
        )
        assert expected <= 1 + 1e-6


@given(st.integers(0, 50), st.integers(0, 50))
def test_one_more_failure_never_vouches(k: int, j: int) -> None:
    before = vouch(Trust(), Counts(100, k, 100, j), 0.01, 1.5, 0.02, 1.0, 1.0)
    after = vouch(Trust(), Counts(100, k + 1, 100, j), 0.01, 1.5, 0.02, 1.0, 1.0)
    assert confidence(after) <= confidence(before)


def test_a_failing_control_does_not_vouch_for_anybody() -> None:
    calm = vouch(Trust(), Counts(50, 0, 950, 3), 0.001, 1.5, 0.01, 1.0, 1.0)
    burst = vouch(Trust(), Counts(50, 0, 950, 900), 0.001, 1.5, 0.01, 1.0, 1.0)
    assert confidence(burst) < 1.5 * confidence(calm)


def test_without_requests_nothing_moves() -> None:
    assert vouch(Trust(), Counts(0, 0, 100, 1), 0.001, 1.5, 0.01, 1.0, 1.0) == Trust()
    assert vouch(Trust(), Counts(100, 0, 0, 0), 0.001, 1.5, 0.01, 1.0, 1.0) == Trust()
    assert confidence(Trust()) == pytest.approx(1)
