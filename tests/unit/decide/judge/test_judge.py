"""The judge as a whole: what it says of good, bad, cold, silent and broken releases."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from unit.decide.judge.traffic import GOOD, Release, arm, known, ticks

from volery.decide.judge import (
    History,
    Policy,
    State,
    begin,
    beside,
    detects,
    empty,
    enough,
    evidence,
    in_force,
    judge,
    look,
    policy_of,
    remember,
    replay,
    step,
)
from volery.decide.judge.state import Alarms
from volery.model.application import SteadyState
from volery.model.deploy import Deploy
from volery.model.evidence import Arm, Judgement

HISTORY = known()
PATIENT = Policy(min_dwell_seconds=1e9)
"""Never promotes."""
STEPS = (0.01, 0.05, 0.25, 0.5)
counts = st.builds(
    Arm,
    requests=st.integers(0, 300),
    failures=st.integers(0, 50),
    latency=st.dictionaries(st.integers(-80, 200), st.integers(0, 50), max_size=12),
    instance_seconds=st.floats(0, 5),
    exits=st.integers(0, 3),
    saturated_seconds=st.floats(0, 5),
    unready_seconds=st.floats(0, 5),
    again=st.integers(0, 3),
)


def until_decided(
    policy: Policy,
    looks: Iterable[tuple[Arm, Arm]],
    weight: float = 0.05,
    next_weight: float = 0.25,
    history: History = HISTORY,
    limit: int = 600,
) -> tuple[int, Judgement]:
    """When the judge decided (in ticks), and what."""
    state, said = begin(policy, history, next_weight), Judgement("continue", "")
    for second, (canary, control) in enumerate(islice(looks, limit), 1):
        state = look(policy, state, canary, control, 1.0)
        said = judge(policy, state, weight, next_weight, second)
        if said.verdict != "continue":
            return second, said
    return limit, said


@pytest.mark.parametrize(
    ("release", "seconds"),
    [
        (Release(errors=1.0), 2),
        (Release(errors=0.5), 5),
        (Release(errors=0.1), 20),
        (Release(slower=2.0), 20),
        (Release(tail=2.0), 240),
    ],
)
def test_a_bad_release_is_taken_back_in_seconds(release: Release, seconds: int) -> None:
    """At 200 requests a second and 5 %: by the seed, so this is about ticks, not about speed."""
    taken = []
    for seed in range(5):
        took, said = until_decided(PATIENT, ticks(seed, 10, 190, release))
        assert said.verdict == "abort"
        taken.append(took)
    assert sorted(taken)[2] <= seconds


def test_a_good_release_goes_through_four_steps_in_ninety_seconds() -> None:
    for seed in range(5):
        policy, total = Policy(), 0
        state = begin(policy, HISTORY, STEPS[1])
        for index, weight in enumerate(STEPS):
            next_weight = (*STEPS[1:], 1.0)[index]
            state = step(state, next_weight)
            canary = round(200 * weight)
            for second, arms in enumerate(ticks(seed, canary, 200 - canary, GOOD), 1):
                state = look(policy, state, *arms, 1.0)
                said = judge(policy, state, weight, next_weight, second)
                assert said.verdict in ("continue", "promote")
                if said.verdict == "promote":
                    total += second
                    break
        assert total <= 90


def test_a_step_is_never_shorter_than_its_dwell() -> None:
    took, said = until_decided(Policy(min_dwell_seconds=25.0), ticks(1, 100, 100, GOOD), 0.5, 0.51)
    assert (took, said.verdict) == (25, "promote")


def test_evidence_of_another_step_does_not_promote() -> None:
    policy = Policy()
    state = begin(policy, HISTORY, 0.25)
    for canary, control in islice(ticks(1, 100, 100, GOOD), 60):
        state = look(policy, state, canary, control, 1.0)
    assert judge(policy, state, 0.5, 0.25, 60).verdict == "promote"
    assert judge(policy, state, 0.5, 1.0, 60).verdict == "continue"
    assert judge(policy, step(state, 1.0), 0.5, 1.0, 60).verdict == "continue"


def test_a_new_step_keeps_what_speaks_against_the_release() -> None:
    policy = Policy()
    state = begin(policy, HISTORY, 0.05)
    for canary, control in islice(ticks(1, 10, 190, Release(errors=0.03)), 8):
        state = look(policy, state, canary, control, 1.0)
    assert evidence(step(state, 0.25)) == evidence(state) > 1


@settings(max_examples=60)
@given(st.lists(st.tuples(counts, counts), max_size=8))
def test_the_state_survives_json_and_stays_bounded(looks: list[tuple[Arm, Arm]]) -> None:
    policy = Policy(error_limit=0.01, latency_limits={"p99": 300.0})
    state = begin(policy, HISTORY, 0.25)
    for canary, control in looks:
        state = look(policy, state, canary, control, 1.0)
    adapter = TypeAdapter(State)
    stored = adapter.dump_json(state)
    assert adapter.validate_json(stored) == state
    assert len(stored) < 25_000
    assert math.isfinite(evidence(state)) and evidence(state) >= 0
    TypeAdapter(Judgement).dump_json(judge(policy, state, 0.05, 0.25, 1.0))


@settings(max_examples=60)
@given(st.lists(st.tuples(counts, counts), min_size=1, max_size=5))
def test_no_data_changes_nothing(looks: list[tuple[Arm, Arm]]) -> None:
    policy = Policy(error_limit=0.01, latency_limits={"p99": 300.0})
    state = begin(policy, HISTORY, 0.25)
    for canary, control in looks:
        state = look(policy, state, canary, control, 1.0)
    after = look(policy, state, Arm(), Arm(), 1.0)
    assert replace(after, age=0.0) == replace(state, age=0.0)


@settings(max_examples=60)
@given(counts, counts, st.integers(1, 20))
def test_more_failures_are_never_better(canary: Arm, control: Arm, more: int) -> None:
    policy = Policy()
    state = begin(policy, HISTORY, 0.25)
    worse = replace(canary, failures=canary.failures + more, requests=canary.requests + 50)
    same = replace(canary, requests=canary.requests + 50)
    control = replace(control, requests=control.requests + 50)
    before = look(policy, state, same, control, 1.0)
    after = look(policy, state, worse, control, 1.0)
    assert after.counters["errors"].trust.early <= before.counters["errors"].trust.early
    assert after.alarms.failing >= before.alarms.failing


@pytest.mark.parametrize(
    "arm",
    [
        Arm(requests=-1),
        Arm(failures=-1),
        Arm(latency={40: -1}),
        Arm(instance_seconds=math.nan),
        Arm(saturated_seconds=math.inf),
        Arm(unready_seconds=-1.0),
        Arm(again=-1),
    ],
)
def test_nonsense_is_refused(arm: Arm) -> None:
    policy, state = Policy(), begin(Policy(), HISTORY)
    with pytest.raises(ValueError, match="nonsense"):
        look(policy, state, arm, Arm(), 1.0)
    with pytest.raises(ValueError, match="nonsense"):
        look(policy, state, Arm(), arm, 1.0)


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf])
def test_a_tick_without_length_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="nonsense"):
        look(Policy(), begin(Policy(), HISTORY), Arm(), Arm(), seconds)


def test_requests_that_wait_to_be_looked_at_speak_for_no_step_that_comes_after() -> None:
    state, control = begin(Policy(), HISTORY, 0.05), Arm(500, 0, {43: 500}, 5.0)
    for _ in range(4):
        state = look(Policy(), state, Arm(1, 1, {60: 1}, 0.5), control, 0.5)
    assert state.waiting[0].requests == 4
    state = in_force(step(state, 0.25))
    assert state.alarms.failed.k == 4, "the alarms have seen them"
    for _ in range(10):
        state = look(Policy(), state, Arm(1, 0, {43: 1}, 0.5), control, 0.5)
    errors = state.counters["errors"]
    assert (errors.n, errors.k, errors.n_control) == (10, 0, 5000)


def test_a_canary_without_requests_is_never_promoted_and_never_blamed() -> None:
    took, said = until_decided(Policy(), ((Arm(), Arm(200, 0, {40: 200}, 1.0)) for _ in range(900)))
    assert (took, said.verdict) == (600, "continue")
    assert "no request reached the new release" in said.reason
    assert all(line.state == "missing" for line in said.lines)


def test_a_crash_loop_is_taken_back_at_once_unless_the_old_release_crashes_too() -> None:
    crashing = Arm(10, 0, {40: 10}, 1.0, exits=1, again=1)
    calm = Arm(190, 0, {40: 190}, 3.0)
    took, said = until_decided(PATIENT, ((crashing, calm) for _ in range(9)))
    assert said.verdict == "abort" and took <= 4
    assert "crash" in said.reason
    both = replace(calm, exits=3)
    took, said = until_decided(PATIENT, ((crashing, both) for _ in range(60)), limit=60)
    assert said.verdict == "continue"


def crash_verdicts(new: int, old: int, ends: Callable[[random.Random], list[list[float]]]) -> int:
    """How often of 20 the release was taken back whose instances, and the old one's after them, end
    at these seconds."""
    back = 0
    for seed in range(20):
        at, state = ends(random.Random(seed)), begin(Policy(warm_up_seconds=20.0), HISTORY)
        for half in range(100):
            due = [sum(half <= 2 * one < half + 1 for one in times) for times in at]
            before = [sum(2 * one < half for one in times) for times in at]
            again = [
                ends + (times == 1) if ends and times else 0
                for ends, times in zip(due, before, strict=True)
            ]
            canary = Arm(10, 0, {43: 10}, new / 2, sum(due[:new]), again=sum(again[:new]))
            control = Arm(10, 0, {43: 10}, old / 2, sum(due[new:]))
            state = look(Policy(warm_up_seconds=20.0), state, canary, control, 0.5)
            if judge(Policy(), state, 0.5, 1.0, half / 2).verdict == "abort":
                back += 1
                break
    return back


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("spread", [3.0, 20.0])
@pytest.mark.parametrize(("new", "old"), [(4, 4), (10, 10), (5, 10)])
def test_instances_of_both_that_end_for_the_same_cause_are_no_crash(
    new: int, old: int, spread: float, times: int
) -> None:
    """Their database is away: each ends once, or again and again, within so many seconds."""

    def ends(source: random.Random) -> list[list[float]]:
        first = [10 + source.uniform(0, spread) for _ in range(new + old)]
        return [[one + 5 * n for n in range(times)] for one in first]

    assert crash_verdicts(new, old, ends) <= 1


@pytest.mark.parametrize(("new", "old"), [(1, 9), (5, 5), (10, 10)])
def test_one_instance_that_ends_again_and_again_is_found(new: int, old: int) -> None:
    loop = [[10.0, 15.0, 20.0], *([[]] * (new + old - 1))]
    assert crash_verdicts(new, old, lambda _: loop) == 20


def test_an_instance_always_at_its_limit_is_found() -> None:
    full = Arm(10, 0, {40: 10}, 1.0, saturated_seconds=1.0)
    calm = Arm(190, 0, {40: 190}, 9.0, saturated_seconds=0.1)
    _, said = until_decided(PATIENT, ((full, calm) for _ in range(200)))
    assert said.verdict == "abort" and "at a limit" in said.reason


@pytest.mark.parametrize(
    ("seconds", "limit", "verdict"), [(30, 300, "continue"), (300, 120, "abort")]
)
def test_a_cold_release_may_be_busy_while_it_warms_up(
    seconds: int, limit: int, verdict: str
) -> None:
    policy = replace(PATIENT, warm_up_seconds=20.0)
    calm = Arm(190, 0, {40: 190}, 9.0)
    looks = (
        (Arm(10, 0, {40: 10}, 1.0, saturated_seconds=float(second < seconds)), calm)
        for second in range(300)
    )
    assert until_decided(policy, looks, limit=limit)[1].verdict == verdict


@pytest.mark.parametrize(
    ("share", "control", "verdict"),
    [(0.5, 0.0, "abort"), (0.2, 0.0, "abort"), (0.2, 0.2, "continue"), (0.03, 0.0, "continue")],
)
def test_an_instance_that_fails_its_probes_now_and_then(
    share: float, control: float, verdict: str
) -> None:
    """One in five probes, five seconds each: never ill enough to be taken for dead."""

    def seconds() -> Iterator[tuple[Arm, Arm]]:
        for second in range(900):
            ill, both = (part > 0 and second / 5 % (1 / part) < 1 for part in (share, control))
            canary = Arm(10, 0, {40: 10}, 1.0, unready_seconds=1.0 * ill)
            yield canary, Arm(190, 0, {40: 190}, 9.0, unready_seconds=9.0 * both)

    _, said = until_decided(PATIENT, seconds(), limit=900)
    assert said.verdict == verdict
    assert verdict == "continue" or "failed probes" in said.reason


def test_a_judgement_from_before_probes_were_compared_goes_on() -> None:
    state = begin(Policy(), HISTORY)
    older = replace(state, counters={k: c for k, c in state.counters.items() if k != "probes"})
    arms = (Arm(10, 0, {40: 10}, 1.0), Arm(190, 0, {40: 190}, 9.0))
    assert judge(Policy(), older, 0.05, 0.25, 1.0).lines
    assert look(Policy(), older, *arms, 1.0).against == look(Policy(), state, *arms, 1.0).against


def test_trouble_that_both_have_is_nobodys_fault() -> None:
    """A burst of failures in both arms moves no evidence against the release."""
    history = known(release=Release(errors=0.001))
    arms = (Arm(10, 3, {40: 10}, 1.0), Arm(190, 57, {40: 190}, 3.0))
    state = begin(Policy(), history)
    for _ in range(120):
        state = look(Policy(), state, *arms, 1.0)
        assert judge(Policy(), state, 0.05, 1.0, 1.0).verdict == "continue"
    assert evidence(state) < 2


def test_a_broken_promise_of_both_is_shared_and_of_one_is_its_fault() -> None:
    policy = policy_of(SteadyState.model_validate({"errors": "< 1%"}), Deploy(), same_age=True)
    both = (Arm(100, 5, {40: 100}, 1.0), Arm(100, 5, {40: 100}, 1.0))
    _, said = until_decided(policy, (both for _ in range(60)), 0.5, 1.0, limit=60)
    assert (said.verdict, said.shared) == ("continue", True)
    assert "not blamed" in said.reason
    loose = replace(policy, rho=1.1, delta=0.1)
    one = (Arm(100, 5, {40: 100}, 1.0), Arm(100, 0, {40: 100}, 1.0))
    _, said = until_decided(loose, (one for _ in range(60)), 0.5, 1.0, limit=60)
    assert said.verdict == "abort" and "promise" in said.reason


@pytest.mark.parametrize(("canary", "control"), [(2, 38), (10, 190)])
@pytest.mark.parametrize("outage", [20, 60])
def test_once_trouble_of_both_is_over_the_promise_holds_nothing_up(
    canary: int, control: int, outage: int
) -> None:
    policy = Policy(error_limit=0.01)
    state, source = begin(policy, known(rate=min(control, 100)), 0.25), random.Random(3)
    down, said = Release(errors=0.5), []
    for second in range(20 + outage + 60):
        release = down if 20 <= second < 20 + outage else GOOD
        both = arm(source, canary, release), arm(source, control, release)
        state = look(policy, state, *both, 1.0)
        said.append(judge(policy, state, 0.05, 0.25, second))
    assert said[19].verdict in ("continue", "promote") and not said[19].shared
    assert said[19 + outage].shared and "not blamed" in said[19 + outage].reason
    assert "promise" not in said[-1].reason, said[-1].reason


def test_who_breaks_the_promise_after_trouble_of_both_is_taken_back() -> None:
    policy = Policy(error_limit=0.01, rho=1.1, delta=0.1)
    state, source = begin(policy, known(rate=190), 0.25), random.Random(3)
    for second in range(300):
        new, old = (0.5, 0.5) if second < 30 else (0.05, 0.001)
        both = arm(source, 10, Release(errors=new)), arm(source, 190, Release(errors=old))
        state = look(policy, state, *both, 1.0)
        said = judge(policy, state, 0.05, 0.25, second)
        assert said.verdict != "promote"
        if said.verdict == "abort":
            break
    assert said.verdict == "abort" and "promise" in said.reason and second > 30


def test_a_promise_that_both_go_on_to_break_holds_for_as_long() -> None:
    """Also one that is broken by little."""
    policy = Policy(error_limit=0.01)
    state, source = begin(policy, known(rate=100), 0.25), random.Random(3)
    release = Release(errors=0.02)
    for second in range(1200):
        both = arm(source, 10, release), arm(source, 90, release)
        state = look(policy, state, *both, 1.0)
        assert second < 600 or judge(policy, state, 0.1, 0.25, second).shared


def beside_a_baseline(
    new: Release, baseline: Release, old: Release, seconds: int = 600, cold: int = 0
) -> list[Judgement]:
    """What is said second by second, until something else than to go on; for the first `cold`
    seconds the two young groups fail 3 %, for warming up."""
    policy, source, said = Policy(same_age=True), random.Random(5), []
    state = begin(policy, known(rate=200), 0.25)
    for second in range(seconds):
        young = [replace(one, errors=0.03) if second < cold else one for one in (new, baseline)]
        canary, control = [arm(source, 10, one) for one in young]
        state = look(policy, state, canary, control, 1.0)
        state = beside(policy, state, canary, arm(source, 180, old))
        said.append(judge(policy, state, 0.5, 0.25, second))
        if said[-1].verdict != "continue":
            break
    return said


@pytest.mark.parametrize(
    ("new", "baseline"), [(0.3, 0.5), (0.5, 0.5), (0.3, 0.3), (1.0, 1.0), (0.05, 0.05)]
)
def test_a_baseline_that_fails_vouches_for_nobody_the_old_group_is_better_than(
    new: float, baseline: float
) -> None:
    *_, said = beside_a_baseline(Release(errors=new), Release(errors=baseline), GOOD)
    assert said.verdict == "continue" and "does not vouch for it" in said.reason
    *_, said = beside_a_baseline(
        Release(errors=new), Release(errors=baseline), Release(errors=baseline)
    )
    assert said.verdict == "promote", "what all have is nobody's fault"


@pytest.mark.parametrize(
    ("new", "baseline", "cold"),
    [
        (Release(slower=2.0), Release(slower=2.0), 0),
        (Release(slower=2.0), Release(slower=2.0), 20),
        (GOOD, Release(errors=0.3), 0),
        (GOOD, GOOD, 0),
    ],
    ids=["cold, thus slow", "fails a little while it is cold", "only the baseline fails", "good"],
)
def test_a_baseline_excuses_what_is_young(new: Release, baseline: Release, cold: int) -> None:
    *_, said = beside_a_baseline(new, baseline, GOOD, seconds=200, cold=cold)
    assert said.verdict == "promote", said.reason


def test_a_broken_latency_promise_is_found() -> None:
    wanted = SteadyState.model_validate({"latency": {"p99": "< 300ms"}})
    policy = replace(policy_of(wanted, Deploy(), same_age=True), shift=40)
    looks = ticks(1, 100, 100, Release(slower=1.6))
    _, said = until_decided(policy, looks, 0.5, 1.0)
    assert said.verdict == "abort" and "promise 300 ms" in said.reason


def test_a_split_that_is_off_is_inconclusive() -> None:
    looks = ticks(1, 100, 100, GOOD)
    _, said = until_decided(PATIENT, looks, weight=0.05)
    assert said.verdict == "inconclusive"
    assert "50 %" in said.reason and "5.0 %" in said.reason


def test_requests_of_ours_come_on_top_of_the_split() -> None:
    ours = Deploy.model_validate({"synthetic": [{"path": "/", "rate": 5}]})
    policy = replace(PATIENT, unsplit=policy_of(None, ours, same_age=False).unsplit)
    _, said = until_decided(policy, ticks(1, 100, 100, GOOD), weight=0.05)
    assert said.verdict == "continue"
    assert not policy_of(None, Deploy(), same_age=False).unsplit


def test_a_cold_release_is_allowed_for_but_a_broken_one_is_not() -> None:
    policy = policy_of(None, Deploy(), same_age=False)
    assert policy.warm_up_seconds == Deploy().warm_up
    _, dead = until_decided(policy, ticks(1, 10, 190, Release(errors=1.0)))
    assert dead.verdict == "abort"
    for seed in range(3):
        state = begin(policy, HISTORY, 0.25)
        for second in range(240):
            cold = 2.0 ** (-second / 20)
            release = Release(errors=0.001 + 0.01 * cold, slower=1.5**cold)
            canary, control = next(ticks(1000 * seed + second, 10, 190, release))
            state = look(policy, state, canary, control, 1.0)
            assert judge(policy, state, 0.05, 0.25, 0).verdict == "continue"


def test_without_a_history_latency_is_learned_on_the_way() -> None:
    _, said = until_decided(PATIENT, ticks(1, 10, 190, Release(slower=2.0)), history=empty())
    assert said.verdict == "abort" and "p" in said.reason
    took, said = until_decided(Policy(), ticks(1, 10, 190, GOOD), history=empty())
    assert said.verdict == "promote" and took < 120


def test_a_service_without_latencies_is_judged_by_its_errors() -> None:
    looks = [(Arm(20, 0, {}, 1.0), Arm(180, 0, {}, 1.0))] * 90
    took, said = until_decided(Policy(), looks, history=empty())
    assert said.verdict == "promote" and took < 60


def test_forecasts_are_what_happens_on_average() -> None:
    policy = Policy()
    said = enough(policy, HISTORY, None, 0.05, 0.25)
    took = [until_decided(policy, ticks(seed, 10, 190, GOOD))[0] for seed in range(8)]
    assert said is not None and 0.4 < said / (sum(took) / 8) < 2.5
    caught = detects(policy, HISTORY, None, 0.05, 0.1)
    bad = Release(errors=0.101)
    took = [until_decided(policy, ticks(seed, 10, 190, bad))[0] for seed in range(8)]
    assert caught is not None and 0.4 < caught / (sum(took) / 8) < 2.5


def test_forecasts_grow_with_what_is_asked() -> None:
    policy = Policy()
    assert enough(policy, empty(), None, 0.05, 0.25) is None
    assert detects(policy, empty(), None, 0.05, 0.1) is None
    late = [detects(policy, HISTORY, 200.0, 0.05, excess) for excess in (1.0, 0.5, 0.1, 0.02)]
    assert late == sorted(late, key=lambda seconds: seconds or math.inf)
    slow = [enough(policy, HISTORY, rate, 0.05, 0.25) or math.inf for rate in (1e4, 100.0, 10.0)]
    assert slow == sorted(slow)


def test_a_replay_says_the_same_again_and_what_another_policy_had_said() -> None:
    looks = [(*arms, 1.0) for arms in islice(ticks(5, 10, 190, Release(errors=0.05)), 60)]
    state, said = replay(Policy(), HISTORY, looks, 0.05, 0.25)
    again = replay(Policy(), HISTORY, looks, 0.05, 0.25)
    assert (state, said) == again
    assert any(judgement.verdict == "abort" for judgement in said)
    _, loose = replay(Policy(delta=0.2), HISTORY, looks, 0.05, 0.25)
    assert not any(judgement.verdict == "abort" for judgement in loose)


def test_after_a_switch_the_release_is_judged_against_the_recent_past() -> None:
    """Blue-green: what ran before the switch is replayed as the control, all requests are new."""
    policy = Policy(frozen_control=True)
    _, said = until_decided(policy, ticks(1, 60, 60, Release(errors=0.2)), 1.0, 1.0)
    assert said.verdict == "abort"
    took, said = until_decided(policy, ticks(1, 60, 60, GOOD), 1.0, 1.0)
    assert said.verdict == "promote" and took < 200


@pytest.mark.parametrize(
    ("delta", "failures", "before", "suspicious"),
    [
        (0.001, 3, 0, True),
        (0.001, 0, 0, False),
        (0.1, 3, 0, True),  # it breaks the promise, if nothing else
        (0.1, 3, 3, False),  # so did the one before
    ],
)
def test_what_speaks_against_a_release_is_told_before_it_takes_it_back(
    delta: float, failures: int, before: int, suspicious: bool
) -> None:
    wanted = SteadyState.model_validate({"errors": "< 1%"})
    policy = policy_of(wanted, Deploy(warm_up=0.0), same_age=False)
    policy = replace(policy, frozen_control=True, delta=delta)
    canary, control = (Arm(100, k, {40: 100}, 1.0) for k in (failures, before))
    history = empty()
    for _ in range(120):
        history = remember(history, [control], 1.0)
    state, said = begin(policy, history, 1.0), []
    for second in range(60):
        state = look(policy, state, canary, control, 1.0)
        said.append(judge(policy, state, 1.0, 1.0, second))
    told = [one.verdict for one in said if one.suspicious]
    assert told[:1] == (["continue"] if suspicious else [])


def test_ups_and_downs_of_the_past_are_no_fault_of_a_release_after_the_switch() -> None:
    """A service that has bad minutes: against the frozen past they are expected, and so a bad
    minute after the switch does not take the release back, as it would if they were unknown."""
    history = empty()
    for second in range(900):
        failures = 3 if second % 120 < 30 else 0
        history = remember(history, [Arm(100, failures, {40: 100}, 1.0)], 1.0)
    calm, bad_minute = Arm(100, 0, {40: 100}, 1.0), Arm(100, 3, {40: 100}, 1.0)
    verdicts = {}
    for frozen in (True, False):
        policy = Policy(frozen_control=frozen, min_dwell_seconds=1e9)
        looks = ((bad_minute, calm) for _ in range(30))
        verdicts[frozen] = until_decided(policy, looks, 1.0, 1.0, history)[1].verdict
    assert verdicts == {True: "continue", False: "abort"}


def test_a_slower_clock_says_the_same() -> None:
    """All latencies of everything eight times longer: the same evidence, as shares are compared."""

    def slower(arm: Arm) -> Arm:
        return replace(arm, latency={bucket + 24: n for bucket, n in arm.latency.items()})

    policy, found = Policy(slack_ms=0.0), []
    for change in (lambda arm: arm, slower):
        state = begin(policy, empty(), 0.25)
        for canary, control in islice(ticks(1, 10, 190, Release(slower=1.3)), 60):
            state = look(policy, state, change(canary), change(control), 1.0)
        found.append(evidence(state))
    assert found[0] == pytest.approx(found[1]) and found[0] != 1


def test_a_release_that_never_answers_is_taken_back_at_once_also_while_it_may_be_cold() -> None:
    policy = policy_of(None, Deploy(), same_age=False)
    took, said = until_decided(policy, ticks(1, 5, 95, Release(errors=1.0)))
    assert (took, said.verdict) == (2, "abort")
    assert said.reason.startswith("the new release fails its requests: all 10 since its first one")


def test_one_that_answered_once_is_not_stillborn() -> None:
    policy = policy_of(None, Deploy(), same_age=False)
    state = begin(policy, HISTORY, 0.25)
    state = look(policy, state, Arm(7, 6), Arm(95, 0), 0.5)
    state = look(policy, state, Arm(4, 4), Arm(95, 0), 0.5)
    assert state.alarms.first == -1
    assert judge(policy, state, 0.05, 0.25, 1.0).verdict == "continue"


@pytest.mark.parametrize(("rate", "outage"), [(0.2, 60), (0.5, 60), (1.0, 30)])
def test_a_release_that_began_in_an_outage_of_both_is_not_dead_when_it_is_over(
    rate: float, outage: int
) -> None:
    policy = policy_of(None, Deploy(), same_age=False)
    for seed in range(30):
        source, state = random.Random(seed), begin(policy, HISTORY, 0.25)
        for half in range(2 * outage + 60):
            out, n = half < 2 * outage, int(source.random() < rate / 2)
            canary = Arm(n, n if out else 0, {43: n} if n else {}, 0.5)
            control = Arm(10, 10 if out else 0, {43: 10}, 1.5)
            state = look(policy, state, canary, control, 0.5)
            assert judge(policy, state, 0.05, 0.25, half / 2).verdict != "abort"


@pytest.mark.parametrize(("first", "needed"), [(5, 8), (38, 150_000), (-1, 8)])
def test_alarms_that_an_earlier_version_wrote_are_read_and_call_nobody_dead(
    first: float, needed: float
) -> None:
    """It kept how many requests had to fail where this one keeps how unlikely that must be."""
    alarms = TypeAdapter(Alarms).validate_python([0.0, 8.2, 0.0, 0.3, first, needed])
    state = replace(begin(Policy(), HISTORY), alarms=alarms)
    assert judge(Policy(), state, 0.05, 0.25, 1.0).verdict == "continue"
    state = look(Policy(), state, Arm(1, 1), Arm(95), 0.5)
    assert judge(Policy(), state, 0.05, 0.25, 1.0).verdict == "continue"


def test_where_the_old_release_fails_as_well_nobody_is_stillborn() -> None:
    policy = policy_of(None, Deploy(), same_age=False)
    state = begin(policy, HISTORY, 0.25)
    for _ in range(20):
        state = look(policy, state, Arm(5, 5), Arm(95, 93), 0.5)
        assert judge(policy, state, 0.05, 0.25, 1.0).verdict == "continue"
