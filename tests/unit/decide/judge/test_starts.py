"""A release may be twice as cold as the last one was at its start, where that was seen."""

from __future__ import annotations

import random
from functools import cache
from itertools import islice

import pytest
from unit.decide.judge.traffic import GOOD, Release, arm, known, ticks

from volery.decide.judge import History, Policy, begin, decide, empty, expected, look, remember
from volery.decide.judge.history import of_release
from volery.decide.judge.starts import GROWN_UNTIL, UNKNOWN, WAIT_SECONDS, Seen, Start, measured
from volery.model.evidence import Arm

POLICY = Policy(warm_up_seconds=20.0)
SLOW = Release(slower=2.0)
COLD = Release(errors=0.03, slower=1.5)


def seen(requests: int, release: Release = GOOD, seed: int = 1) -> Seen:
    one = arm(random.Random(seed), requests, release)
    return Seen(one.requests, one.failures, one.latency)


@cache
def watched(young: Release, waits: float = 3.0, rate: int = 120) -> History:
    """The history of a first release that is like `young` for 20 seconds and good from then on."""
    source, history = random.Random(1), of_release(empty(), "first", None)
    if waits:
        history = remember(history, [Arm(), Arm()], waits)
    for second in range(80):
        whole = arm(source, rate, young if second < 20 else GOOD)
        half = Arm(rate // 2, whole.failures // 2, {}, 1.0)
        rest = Arm(rate - rate // 2, whole.failures - whole.failures // 2, whole.latency, 1.0)
        history = remember(history, [half, rest], 1.0)
    return history


def test_a_release_that_was_warm_at_once_leaves_little_excuse() -> None:
    start = watched(GOOD).start
    assert start.octaves <= 0.375 and start.errors < 0.03
    policy = expected(POLICY, start)
    assert policy.cold_octaves <= 0.75 and policy.cold_errors < POLICY.cold_errors * 2
    assert policy.warm_up_seconds == POLICY.warm_up_seconds


def test_a_cold_one_is_measured_as_cold_as_it_was() -> None:
    start = watched(COLD).start
    assert 0.5 <= start.octaves <= 1.0
    assert 0.02 <= start.errors <= 0.1
    assert expected(POLICY, start).cold_errors == POLICY.cold_errors
    assert expected(POLICY, start).cold_octaves >= 1.0


def test_the_policy_is_the_most_that_is_allowed() -> None:
    assert expected(POLICY, UNKNOWN) == POLICY
    assert expected(POLICY, Start(0.5, 5.0)) == POLICY


def test_only_a_beginning_that_was_seen_teaches() -> None:
    assert watched(GOOD, waits=WAIT_SECONDS).start == UNKNOWN
    assert watched(GOOD, rate=1200).start == UNKNOWN
    assert watched(GOOD).youth is None and watched(GOOD, waits=WAIT_SECONDS).youth is None


def test_few_requests_teach_nothing() -> None:
    assert measured(seen(39), seen(1000)) == UNKNOWN
    assert measured(seen(1000), seen(39)) == UNKNOWN
    assert measured(Seen(100, 0, {}), seen(1000)) == UNKNOWN


def test_where_the_grown_one_did_worse_nothing_was_learned() -> None:
    """A burst in between must not make the next release's allowance small."""
    assert measured(seen(1000), seen(1000, SLOW)) == UNKNOWN
    assert measured(seen(1000), seen(1000, Release(errors=0.1))) == UNKNOWN


@pytest.mark.parametrize("slower", [1.5, 2.0, 3.0])
def test_what_was_measured_is_no_less_than_what_was(slower: float) -> None:
    for seed in range(10):
        start = measured(seen(200, Release(slower=slower), seed), seen(4000, seed=99))
        assert 2**start.octaves >= slower * 0.95


def test_a_canary_is_measured_beside_the_old_release() -> None:
    for release, least, most in ((GOOD, 0.0, 0.75), (COLD, 0.5, 1.25)):
        state = begin(POLICY, known(), 0.25)
        for second, (canary, control) in enumerate(islice(ticks(3, 10, 190, release), 15)):
            assert (state.start is None) == (second < 10)
            state = look(POLICY, state, canary, control, 1.0)
        assert state.start is not None and least <= state.start.octaves <= most


def test_a_slow_release_is_found_sooner_after_a_warm_one_and_a_cold_one_is_not_blamed() -> None:
    def taken(policy: Policy, seed: int) -> int:
        state = begin(policy, known(), 0.25)
        for second, (canary, control) in enumerate(ticks(seed, 10, 190, SLOW), 1):
            state = look(policy, state, canary, control, 1.0)
            if decide(policy, state, 0.05, 0.25, second).verdict == "abort" or second == 120:
                return second
        raise AssertionError

    warm, cold = (expected(POLICY, watched(young).start) for young in (GOOD, COLD))
    before, after, same = (
        sorted(taken(policy, seed) for seed in range(5))[2] for policy in (POLICY, warm, cold)
    )
    assert after <= before / 2
    assert same >= before - 5


def test_the_youth_takes_as_long_as_it_says() -> None:
    history = of_release(empty(), "first", None)
    history = remember(history, [Arm()], 1.0)
    whole = arm(random.Random(1), 50)
    for _ in range(int(GROWN_UNTIL) - 1):
        history = remember(history, [whole], 1.0)
        assert history.youth is not None
    assert remember(history, [whole], 1.0).youth is None
