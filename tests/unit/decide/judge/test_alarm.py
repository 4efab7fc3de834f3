"""The alarms: fair on clumps of failures, quick on what is broken, silent on what is shared."""

from __future__ import annotations

import math

import pytest

from volery.decide.judge.alarm import (
    CRASHING,
    UNLIKELY,
    crashing,
    failing,
    is_dead,
    limit,
    stakes,
    stillborn,
)


def dead_after(usual: float, phi: float, *, before: float = 0.0) -> int:
    """How many failures in a row say that a release is dead, after so many where all failed."""
    first, missing = stillborn(0.0, UNLIKELY, before, 1.0, phi)
    for sent in range(1, 1000):
        first, missing = stillborn(first, missing, 1, usual, phi)
        if is_dead(first, missing):
            return sent
    return 1000


@pytest.mark.parametrize("usual", [1e-5, 0.001, 0.05, 0.4])
@pytest.mark.parametrize("phi", [1.0, 1.5, 3.0, 7.0, 20.0])
def test_a_release_that_fails_as_usual_gains_nothing(usual: float, phi: float) -> None:
    """The expectation over clumps of geometric size, that come as Poisson events, is exactly 1."""
    up, down = stakes(usual, phi)
    size = (phi + 1) / 2
    again = 1 - 1 / size
    more = range(1, 4000) if again > 0 else ()
    of_one = sum(math.exp(up * (k + 1) + k * math.log(again)) / size for k in more)
    of_one += math.exp(up) / size
    assert usual / size * (of_one - 1) == pytest.approx(down, rel=1e-6)


def test_phi_is_the_over_dispersion_of_such_clumps() -> None:
    for phi in (1.5, 7.0):
        size = (phi + 1) / 2
        chances = [(1 / size) * (1 - 1 / size) ** (k - 1) for k in range(1, 2000)]
        mean = sum(p * k for k, p in enumerate(chances, 1))
        square = sum(p * k * k for k, p in enumerate(chances, 1))
        assert square / mean == pytest.approx(phi)


@pytest.mark.parametrize(("phi", "requests"), [(1.0, 3), (2.3, 10), (7.0, 40)])
def test_a_dead_release_is_noticed_after_a_few_requests(phi: float, requests: int) -> None:
    level, sent = 0.0, 0
    while level < limit(10, 0.0011):
        level, sent = failing(level, 1, 1, 0.0011, phi), sent + 1
    assert sent <= requests


def test_a_release_that_never_answered_is_dead_after_a_few_requests() -> None:
    """Eight at least; more where failures come in clumps; never where everything fails anyway."""
    assert dead_after(0.002, 1.0) == dead_after(0.03, 2.3) == 8
    assert 15 < dead_after(0.03, 7.0) < 30
    assert dead_after(0.49, 7.0) > 60
    assert dead_after(1.0, 2.3) == 1000
    for usual in (1e-9, 0.001, 0.03, 0.2):
        for phi in (0.5, 1.0, 2.3, 7.0, 40.0):
            least, more, most = (
                dead_after(*at) for at in ((usual, phi), (usual * 2, phi), (usual * 2, phi + 1))
            )
            assert least <= more <= most


def test_what_failed_while_everything_did_tells_nothing_afterwards() -> None:
    assert dead_after(0.002, 2.3, before=1000) == dead_after(0.002, 2.3)
    first, missing = stillborn(0.0, UNLIKELY, 12, 0.3, 2.3)
    assert not is_dead(first, missing)
    assert not is_dead(*stillborn(first, missing, 1, 0.002, 2.3))


@pytest.mark.parametrize("phi", [1.0, 2.3, 7.0])
def test_what_is_usual_is_hardly_ever_stillborn(phi: float) -> None:
    """Exactly, for clumps of geometric size: the first fails, and then each after another."""
    for usual in (0.001, 0.01, 0.03, 0.2):
        again = 1 - 2 / (phi + 1)
        needed = dead_after(usual, phi)
        assert usual * (again + (1 - again) * usual) ** (needed - 1) <= 1e-4 * (1 + 1e-9)


def test_what_the_old_release_fails_as_well_is_no_alarm() -> None:
    level = 0.0
    for _ in range(1000):
        level = failing(level, 10, 8, 0.85, 1.5)
    assert level < limit(10, 0.85)


def test_a_single_exit_is_no_alarm_and_a_loop_is() -> None:
    assert crashing(0.0, 1.0, 1, 0.0) < CRASHING
    level = 0.0
    for _ in range(4):
        level = crashing(level, 10.0, 1, 0.0)
    assert level >= CRASHING


def test_exits_a_day_apart_never_add_up() -> None:
    level = 0.0
    for _ in range(100):
        level = crashing(crashing(level, 86400.0, 0, 0.0), 1.0, 1, 0.0)
    assert level < CRASHING
