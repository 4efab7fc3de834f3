"""How often the judge is wrong, over more than 10,000 simulated rollouts looked at every second."""

from __future__ import annotations

import numpy as np
import pytest
from unit.decide.judge.twin import Judges
from unit.decide.judge.world import CONFIGS, ENVIRONMENTS, Regression, World, remembered, tick

from volery.decide.judge import Policy
from volery.decide.judge.policy import error_margin

RUNS, SECONDS, HISTORY_SECONDS = 2500, 240, 180
POLICY = Policy()
CONFIG = CONFIGS["B"]


def watched(world: World, next_weight: float, seconds: int) -> tuple[float, float]:
    """The shares of runs that were ever taken back, and that were ever vouched for."""
    world.hurry(POLICY)
    judges = Judges(POLICY, remembered(world, world.edges, HISTORY_SECONDS))
    judges.step(next_weight)
    aborted = trusted = np.zeros(world.runs, dtype=np.bool_)
    for age in range(seconds):
        canary, slice_, rest = world.second(age)
        judges.look(tick(POLICY, age, world.edges, canary, [slice_, rest]))
        aborted = aborted | judges.aborts()
        trusted = trusted | (judges.confidence() >= 1 / POLICY.beta)
    return float(aborted.mean()), float(trusted.mean())


@pytest.mark.parametrize("environment", ["clean", "bursts", "clumped", "real"])
def test_a_good_release_is_hardly_ever_taken_back(environment: str) -> None:
    """Far less than alpha, also where requests depend on each other."""
    world = World(CONFIG, ENVIRONMENTS[environment], runs=RUNS, seed=21)
    aborted, _ = watched(world, 0.25, SECONDS)
    assert aborted <= POLICY.alpha / 2


def test_a_release_just_tolerated_is_taken_back_with_alpha_at_most() -> None:
    more = (POLICY.rho - 1) * CONFIG.errors + POLICY.delta
    world = World(CONFIG, ENVIRONMENTS["clean"], Regression(errors=more), RUNS, seed=22)
    aborted, _ = watched(world, 0.25, SECONDS)
    assert aborted <= POLICY.alpha


@pytest.mark.parametrize("environment", ["clean", "clumped"])
@pytest.mark.parametrize("next_weight", [0.25, 1.0])
def test_a_release_just_at_the_margin_is_vouched_for_with_beta_at_most(
    environment: str, next_weight: float
) -> None:
    more = (POLICY.promote_rho - 1) * CONFIG.errors + error_margin(POLICY, next_weight)
    world = World(CONFIG, ENVIRONMENTS[environment], Regression(errors=more), 1000, seed=23)
    _, trusted = watched(world, next_weight, 200)
    assert trusted <= POLICY.beta
