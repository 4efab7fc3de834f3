"""The wealth that bets against a release: exact where it can be, monotone, still without data."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import poisson

from volery.decide.judge.bets import ODDS, Bets, Counts, factors, kept, place, surprise, wealth

EXPOSURES = ((1, 19), (2, 198), (10, 190), (50, 950), (20, 80), (10, 10), (200, 200), (1, 1))
RATES = (1e-5, 1e-3, 0.01, 0.1)
TOLERATED = ((1.1, 0.001), (1.0, 0.0005), (1.1, 0.0))
exposure = st.integers(1, 2000).map(float)
events = st.integers(0, 200).map(float)


def likely(mean: float) -> list[tuple[int, float]]:
    """The counts that may happen, with their chances."""
    width = 6 * math.sqrt(mean) + 8
    ks = range(max(0, int(mean - width)), int(mean + width) + 1)
    return list(zip(ks, poisson.pmf(ks, mean).tolist(), strict=True))


@pytest.mark.parametrize(("n", "n_control"), EXPOSURES)
@pytest.mark.parametrize("rate", RATES)
def test_no_bet_gains_on_a_release_just_tolerated(n: int, n_control: int, rate: float) -> None:
    """The exact expectation of each factor under independent (Poisson) events is at most 1."""
    for rho, delta in TOLERATED:
        mean, mean_control = n * (rho * rate + delta), n_control * rate
        expected = [0.0] * len(ODDS)
        for (k, p), (j, q) in itertools.product(likely(mean), likely(mean_control)):
            chance = p * q
            counts = Counts(n, k, n_control, j)
            for index, factor in enumerate(factors(counts, rho, delta, 1.0)):
                expected[index] += chance * factor
        assert max(expected) <= 1 + 1e-6


@given(exposure, events, exposure, events)
def test_one_more_failure_never_exonerates(n: float, k: float, m: float, j: float) -> None:
    """More failures of the release, of as many in both arms, are more evidence against it."""
    less = factors(Counts(n, k, m, j + 1), 1.1, 0.001, 1.5)
    more = factors(Counts(n, k + 1, m, j), 1.1, 0.001, 1.5)
    assert all(b >= a for a, b in zip(less, more, strict=True))


@given(exposure, events, exposure, events)
def test_both_arms_are_treated_alike(n: float, k: float, m: float, j: float) -> None:
    """With nothing tolerated, exchanging the arms turns the surprise around."""
    more, variance, _ = surprise(Counts(n, k, m, j), 1.0, 0.0, 1.0)
    less, same, _ = surprise(Counts(m, j, n, k), 1.0, 0.0, 1.0)
    assert more == pytest.approx(-less, abs=1e-9)
    assert variance == pytest.approx(same)


@given(st.permutations([(0, 1), (1, 0), (3, 2), (0, 0), (5, 0), (1, 7)]))
def test_the_order_of_ticks_does_not_matter_to_what_was_bet_at_the_start(
    ticks: list[tuple[int, int]],
) -> None:
    bets, reference = Bets(), Bets()
    for k, j in ticks:
        bets = place(bets, Counts(10, k, 190, j), 1.1, 0.001, 1.5, 1.0)
    for k, j in sorted(ticks):
        reference = place(reference, Counts(10, k, 190, j), 1.1, 0.001, 1.5, 1.0)
    assert bets.early == pytest.approx(reference.early)


@given(st.floats(0, 1e5), events)
def test_an_arm_without_requests_moves_nothing(n: float, k: float) -> None:
    assert place(Bets(), Counts(n, k, 0.0, 0.0), 1.1, 0.001, 1.5, 1.0) == Bets()
    assert place(Bets(), Counts(0.0, 0.0, n, k), 1.1, 0.001, 1.5, 1.0) == Bets()


def test_wealth_starts_at_one_and_is_kept_in_all() -> None:
    assert wealth(Bets()) == pytest.approx(1)
    assert kept(0) + sum(Bets().early) == pytest.approx(1)


@given(st.lists(st.tuples(exposure, events, exposure, events), max_size=30))
def test_wealth_stays_finite_and_is_never_negative(
    ticks: list[tuple[float, float, float, float]],
) -> None:
    bets = Bets()
    for tick in ticks:
        bets = place(bets, Counts(*tick), 1.1, 0.001, 1.0, 1.0)
    assert all(0 <= w < math.inf for w in (*bets.early, *bets.late))


@pytest.mark.parametrize("stalled", [10, 100, 1000])
def test_a_stall_counts_with_its_square_and_not_exponentially(stalled: int) -> None:
    """All requests of a second failing, with the clumps known: the factor of independent requests
    would be beyond e to the 100th for a thousand."""
    counts = Counts(stalled, stalled, 19 * stalled, 0)
    more, variance, _ = surprise(counts, 1.1, 0.001, 4.0)
    assert max(factors(counts, 1.1, 0.001, 4.0)) <= 2 + more**2 / variance


def test_a_late_failure_is_found_although_the_early_bets_are_lost() -> None:
    bets = Bets()
    for _ in range(1800):
        bets = place(bets, Counts(50, 0, 950, 1), 1.1, 0.001, 1.5, 1.0)
    assert wealth(bets) < 1
    for _ in range(20):
        bets = place(bets, Counts(50, 3, 950, 1), 1.1, 0.001, 1.5, 1.0)
    assert wealth(bets) > 1000
