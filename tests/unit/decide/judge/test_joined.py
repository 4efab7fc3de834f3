"""Later steps start more instances: they are cold too, and that excuses no more than it takes."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from unit.decide.judge.traffic import GOOD, Release, arm, known

from volery.decide import judge
from volery.decide.judge.look import together
from volery.decide.judge.policy import coldness
from volery.decide.judge.state import State
from volery.model.evidence import Arm

WARM_UP = 20.0
POLICY = judge.Policy(warm_up_seconds=WARM_UP)
SCALE, EVERY, RATE = 6, 20, 100
SECOND_FROM = 90


def answered(source: random.Random, requests: int, ages: list[float], release: Release) -> Arm:
    """What instances of these ages answer: some times slower than `GOOD` at first, or for good."""
    whole = Arm()
    for index, age in enumerate(ages):
        share = requests // len(ages) + (index < requests % len(ages))
        cold = 1 + (release.slower - 1) * 2 ** (-age / WARM_UP)
        whole = together(whole, arm(source, share, replace(release, slower=cold)))
    return whole


def rolling(seed: int, release: Release, for_good: bool = False) -> int | None:
    """When one was taken back that starts its instances one after another; None if it was not."""
    source, state = random.Random(seed), judge.begin(POLICY, known(seed, RATE))
    there = 0
    for second in range(EVERY * SCALE):
        ready = min(SCALE - 1, 1 + second // EVERY)
        if ready > there:
            state = judge.joined(POLICY, judge.step(state, 1.0), (ready - there) / ready)
            there = ready
        ages = [0.0 if for_good else float(second - EVERY * index) for index in range(ready)]
        share = ready / SCALE
        state = judge.look(
            POLICY,
            state,
            answered(source, round(RATE * share), ages, release),
            arm(source, round(RATE * (1 - share))),
            1.0,
        )
        if judge.decide(POLICY, state, share, 1.0, 0.0).verdict == "abort":
            return second
    return None


def canary(seed: int, second: Release) -> int | None:
    """When one was taken back in the step that starts its second instance, like `second`."""
    source, state = random.Random(seed), judge.begin(POLICY, known(seed), 0.5)
    for at in range(SECOND_FROM + 60):
        if at == SECOND_FROM:
            state = judge.joined(POLICY, judge.step(state, 1.0), 0.5)
        fresh = at >= SECOND_FROM
        ages = [200.0, float(at - SECOND_FROM)] if fresh else [200.0]
        weight = 0.5 if fresh else 0.25
        new = answered(source, round(200 * weight), ages, second if fresh else GOOD)
        state = judge.look(POLICY, state, new, arm(source, round(200 * (1 - weight))), 1.0)
        if judge.decide(POLICY, state, weight, 1.0, 60.0).verdict == "abort":
            return at
    return None


@pytest.mark.parametrize("seed", range(4))
def test_a_healthy_release_whose_later_instances_are_cold_goes_on(seed: int) -> None:
    assert canary(seed, replace(GOOD, slower=2.2)) is None
    assert rolling(seed, replace(GOOD, slower=2.2)) is None


@pytest.mark.parametrize("seed", range(4))
def test_a_bad_one_is_found_all_the_same(seed: int) -> None:
    failing = canary(seed, replace(GOOD, errors=GOOD.errors + 0.1))
    assert failing is not None and SECOND_FROM <= failing < SECOND_FROM + 30
    assert rolling(seed, replace(GOOD, slower=2.2), for_good=True) is not None


def cold(state: State) -> float:
    return coldness(POLICY, state.age)


@pytest.mark.parametrize(
    ("age", "share", "left"), [(0, 0.5, 1), (20, 0.5, 0.75), (999, 0.25, 0.25)]
)
def test_it_is_as_cold_as_its_instances_are_on_average(
    age: float, share: float, left: float
) -> None:
    state = replace(judge.begin(POLICY, judge.empty()), age=age)
    joined = judge.joined(POLICY, state, share)
    assert math.isclose(cold(joined), left)
    assert judge.joined(POLICY, joined, 0.0) is joined
    assert cold(judge.joined(POLICY, joined, 1.0)) == 1.0


def test_where_nothing_is_allowed_nothing_begins_anew() -> None:
    policy = replace(POLICY, warm_up_seconds=0.0)
    state = judge.begin(policy, judge.empty())
    assert judge.joined(policy, state, 1.0) is state
