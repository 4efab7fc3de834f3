"""A cold start excuses failures only as long as the release is slow."""

from __future__ import annotations

from itertools import islice

from unit.decide.judge.traffic import GOOD, Release, known, ticks

from volery.decide.judge import Policy, State, begin, empty, look, step
from volery.decide.judge.settled import REQUESTS, excused, is_settled

POLICY = Policy(warm_up_seconds=20.0)
HISTORY = known()


def seen(release: Release, seconds: int, seed: int = 1) -> State:
    state = begin(POLICY, HISTORY, 0.25)
    for canary, control in islice(ticks(seed, 10, 190, release), seconds):
        state = look(POLICY, state, canary, control, 1.0)
    return state


def test_what_is_as_quick_as_the_old_release_is_warm() -> None:
    assert sum(is_settled(POLICY, seen(GOOD, 20, seed)) for seed in range(20)) >= 17
    assert excused(POLICY, seen(GOOD, 20), 0.5) == 0
    assert excused(POLICY, seen(GOOD, 20), 0.0) == 0


def test_what_is_slow_may_be_cold() -> None:
    for seed in range(20):
        assert not is_settled(POLICY, seen(Release(slower=1.5), 20, seed))
    assert excused(POLICY, seen(Release(slower=1.5), 20), 0.5) == 0.5


def test_few_requests_say_nothing() -> None:
    assert not is_settled(POLICY, seen(GOOD, 3))
    state = seen(GOOD, 20)
    assert is_settled(POLICY, state)
    assert not is_settled(POLICY, step(state, 0.5))
    assert not is_settled(POLICY, begin(POLICY, empty(), 0.25))


def failing_from_the_start(release: Release, seed: int) -> tuple[float, float]:
    """The evidence just before and just after it can be told whether the release is warm."""
    state, before = begin(POLICY, HISTORY, 0.25), 1.0
    for canary, control in ticks(seed, 10, 190, release):
        state, before = look(POLICY, state, canary, control, 1.0), state.against
        if state.firm is None:
            return before, state.against
    raise AssertionError


def test_the_first_failures_of_a_release_that_is_warm_had_no_excuse() -> None:
    found = [failing_from_the_start(Release(errors=0.2), seed) for seed in range(20)]
    assert sum(after > 8 * before for before, after in found) >= 5


def test_those_of_one_that_is_slow_keep_theirs() -> None:
    for seed in range(20):
        before, after = failing_from_the_start(Release(errors=0.1, slower=2.0), seed)
        assert after < 8 * before + 1


def test_until_then_both_are_bet_on_and_a_step_ends_it() -> None:
    state = seen(GOOD, REQUESTS // 10)
    assert state.firm is not None
    assert step(state, 0.5).firm is None
    assert begin(Policy(), HISTORY, 0.25).firm is None
