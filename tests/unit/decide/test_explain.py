"""A rollout's decisions can be replayed from its looks, by its own promise or another one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.decide.worlds import canary_world, instance, only, seen

from volery.cli.show.rollout import decision_line
from volery.decide import judge
from volery.decide.comparison import (
    Comparison,
    begin,
    grown,
    in_step,
    judgement,
    looked,
    next_weight,
    own_share,
    share,
)
from volery.decide.explain import Decision, decisions, other_policy, policy_lines, summary
from volery.model.application import SteadyState
from volery.model.evidence import Arm
from volery.model.state import BASELINE, Look, Phase, Rollout, ServiceState, Slot, Track

ROLLOUT = only(canary_world())
OLD = Arm(requests=180, latency={8: 180})


def told(
    failures: int, looks: int = 60, promise: str = "< 50%", warm_up: str = "0s", later: int = 8
) -> tuple[Comparison, list[Look]]:
    """A rollout that was looked at once a second, as the control plane does it; its second
    instance comes with its second step, and all take as long as bucket `later` says then."""
    found = canary_world(warm_up=warm_up, promise={"errors": promise})
    rollout, service = only(found), found.services["catalog"]
    more = instance("catalog-2-2", "catalog", "catalog@2", "b")
    larger = replace(
        found,
        instances=dict(found.instances) | {more.id: more},
        observed=dict(found.observed) | {more.id: seen(more.id, 20998)},
    )
    comparison = begun = begin(rollout, service, judge.empty(), ())
    kept: list[Look] = []
    for number, at in zip(range(1, looks + 1), _steps(rollout), strict=False):
        comparison = in_step(comparison, at, service)
        comparison = grown(comparison, larger if at.step > 1 else found, at)
        new = Arm(requests=20, failures=failures, latency={8 if at.step == 1 else later: 20})
        comparison = looked(comparison, at, (new, OLD), 1.0)
        said = judgement(comparison, at, service)
        kept.append(_look(at, service, comparison, number, (new, OLD), said.verdict))
        if said.verdict == "abort":
            break
    assert comparison.policy == begun.policy
    return comparison, kept


def _steps(rollout: Rollout) -> Iterator[Rollout]:
    """The second step's instances take twelve seconds to start."""
    for second in range(10_000):
        phase = Phase.SHIFTING if 30 <= second < 42 else Phase.ANALYSING
        yield replace(rollout, step=1 if second < 30 else 2, phase=phase)


def _look(
    rollout: Rollout,
    service: ServiceState,
    comparison: Comparison,
    number: int,
    arms: tuple[Arm, Arm],
    verdict: str,
) -> Look:
    return Look(
        rollout.id,
        number,
        100.0 + number,
        1.0,
        rollout.step,
        share(rollout, service),
        next_weight(rollout, service),
        comparison.in_step,
        *arms,
        verdict,  # type: ignore[arg-type]
        comparison.fresh,
        begins=comparison.begins,
        percent=own_share(rollout, service),
    )


def verdicts(found: list[Decision]) -> list[tuple[int, str]]:
    return [(one.step, one.judgement.verdict) for one in found]


@given(st.integers(0, 20), st.sampled_from(["0s", "20s"]))
def test_a_replay_comes_to_what_was_decided(failures: int, warm_up: str) -> None:
    comparison, looks = told(failures, warm_up=warm_up)
    taken = {(look.number, look.verdict) for look in looks}
    for one in decisions(comparison, looks):
        assert (round(one.after), one.judgement.verdict) in taken
        assert one.taken == one.judgement.verdict


def test_a_replay_allows_for_the_instances_that_came_later() -> None:
    comparison, looks = told(failures=0, warm_up="20s", later=15)
    assert [(look.number, look.fresh) for look in looks if look.fresh] == [(1, 1.0), (31, 0.5)]
    (*_, last) = decisions(comparison, looks)
    assert (last.judgement.verdict, last.after) == ("abort", len(looks))
    without = [replace(look, fresh=0.0) for look in looks]
    assert decisions(comparison, without)[-1].after < len(looks)


def test_a_replay_leaves_out_what_was_seen_before_a_step_was_in_force() -> None:
    comparison, looks = told(failures=0, looks=200)
    assert [look.number for look in looks if look.begins] == [1, 43]
    passed = next(
        one for one in decisions(comparison, looks) if verdicts([one]) == [(2, "promote")]
    )
    assert looks[round(passed.after) - 1].verdict == "promote"
    assert looks[round(passed.after) - 2].verdict == "continue"
    before = [replace(look, begins=False) for look in looks]  # as they were written once
    earlier = next(
        one for one in decisions(comparison, before) if verdicts([one]) == [(2, "promote")]
    )
    assert earlier.after < passed.after


def test_a_replay_looks_at_the_old_group_beside_a_baseline() -> None:
    found = canary_world(baseline=True)
    rollout, service = only(found), found.services["catalog"]
    beside = Slot("catalog@1", Track.BASELINE, 1, 10)
    slots = {**service.slots, "b": Slot("catalog@2", Track.CANARY, 1, 10), BASELINE: beside}
    service = replace(service, slots=slots)
    comparison, looks = begin(rollout, service, judge.empty(), ()), []
    bad, old = Arm(20, 10, {8: 20}), Arm(180, 0)
    for number in range(1, 300):
        comparison = looked(in_step(comparison, rollout, service), rollout, (bad, bad), 1.0, old)
        said = judgement(comparison, rollout, service)
        look = _look(rollout, service, comparison, number, (bad, bad), said.verdict)
        looks.append(replace(look, old=old))
    last = decisions(comparison, looks)[-1]
    assert verdicts([last]) == [(1, "continue")]
    assert last.weight == 10, "not the half of what is compared"
    before = [replace(look, old=Arm(), percent=None) for look in looks]  # as they were written once
    last = decisions(comparison, before)[-1]
    assert verdicts([last]) == [(1, "promote")]
    assert last.weight == 50


def test_each_change_of_verdict_and_the_end_are_told_once() -> None:
    comparison, looks = told(failures=0)
    found = decisions(comparison, looks)
    assert verdicts(found)[:3] == [(1, "continue"), (1, "promote"), (2, "continue")]
    assert [one.after for one in found] == sorted(one.after for one in found)
    assert found[-1].after == len(looks)
    assert summary(found, ROLLOUT).startswith("it does not go back: ")


@pytest.mark.parametrize("phase", [Phase.ROLLING_BACK, Phase.ROLLED_BACK, Phase.FAILED])
def test_what_else_took_it_back_is_told(phase: Phase) -> None:
    comparison, looks = told(failures=0, looks=40)
    looks[-1] = replace(looks[-1], verdict="abort")
    found = decisions(comparison, looks)
    assert (found[-1].judgement.verdict, found[-1].taken) == ("continue", "abort")
    back = replace(ROLLOUT, phase=phase, reason="queue 900, limit < 500: 3 of 3 times in a row")
    assert summary(found, back) == (
        f"the comparison alone does not take it back: {found[-1].judgement.reason};"
        " it was taken back: queue 900, limit < 500: 3 of 3 times in a row"
    )


@pytest.mark.parametrize(
    ("taken", "more"), [("continue", ""), ("abort", " (what was done: abort)")]
)
def test_a_line_says_what_was_done_where_that_is_something_else(taken: str, more: str) -> None:
    told = {"after": 2.4, "step": 1, "weight": 5, "verdict": "continue", "reason": "too few"}
    line = decision_line(told | {"taken": taken})
    assert line == f"     2.4s  step 1, 5 %  continue     too few{more}"


def test_it_ends_where_it_would_have_gone_back() -> None:
    comparison, looks = told(failures=10)
    found = decisions(comparison, looks + looks)
    assert found[-1].judgement.verdict == "abort" and found[-1].after == len(looks) < 30
    assert summary(found, ROLLOUT) == (
        f"it goes back after {len(looks):.1f} s of comparing: {found[-1].judgement.reason}"
    )


def test_nothing_was_compared() -> None:
    comparison, _ = told(failures=0)
    assert decisions(comparison, []) == []
    assert summary([], ROLLOUT) == "catalog-r2: nothing was compared"


def test_another_promise_changes_the_promise_alone() -> None:
    comparison, _ = told(failures=0)
    promise = SteadyState.model_validate({"errors": "< 2%", "latency": {"p99": "< 1s"}})
    policy = other_policy(comparison, promise)
    assert (policy.error_limit, policy.latency_limits) == (0.02, {"p99": 1000.0})
    same = replace(policy, error_limit=comparison.policy.error_limit, latency_limits={})
    assert same == comparison.policy


@pytest.mark.parametrize(("limit", "goes_on"), [("< 50%", True), ("< 1%", False)])
def test_a_stricter_promise_would_have_stopped_it(limit: str, goes_on: bool) -> None:
    """Both releases fail 5 %: only a promise can mind."""
    found = canary_world(warm_up="0s", promise={"errors": "< 50%"})
    rollout, service = only(found), found.services["catalog"]
    comparison = begin(rollout, service, judge.empty(), ())
    new, old = Arm(400, 20, {8: 400}), Arm(3600, 180, {8: 3600})
    looks = []
    for number in range(1, 40):
        comparison = looked(comparison, rollout, (new, old), 1.0)
        said = judgement(comparison, rollout, service).verdict
        looks.append(_look(rollout, service, comparison, number, (new, old), said))
    assert decisions(comparison, looks)[-1].judgement.verdict == "promote"
    promise = SteadyState.model_validate({"errors": limit})
    last = decisions(comparison, looks, other_policy(comparison, promise))[-1]
    assert (last.judgement.verdict == "promote") == goes_on
    assert last.taken == "promote", "what was really done stays what it was"


def test_the_policy_in_words() -> None:
    found = canary_world(promise={"errors": "< 1%", "latency": {"p99": "< 300ms"}})
    plain = begin(only(found), found.services["catalog"], judge.empty(), ())
    words = "\n".join(policy_lines(plain.policy))
    for said in ("the old release;", "errors < 1 %", "p99 < 300 ms", "halves every 20 s"):
        assert said in words
    same_age = "\n".join(policy_lines(replace(plain.policy, same_age=True, warm_up_seconds=0)))
    assert "of the same age" in same_age and "halves" not in same_age
    assert "before the switch" in policy_lines(replace(plain.policy, frozen_control=True))[0]
