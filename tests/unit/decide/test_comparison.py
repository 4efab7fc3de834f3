"""When two releases are compared, with what, and what is kept of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.decide.worlds import canary_world, instance, only, seen

from volery.decide import judge
from volery.decide.comparison import (
    TICK_SECONDS_MAX,
    Comparison,
    arms_of,
    begin,
    grown,
    in_step,
    is_compared,
    is_stable,
    judgement,
    looked,
    mixed,
    next_weight,
    old_group,
    share,
    stable_parts,
)
from volery.decide.evidence import Tick
from volery.decide.world import World
from volery.model.evidence import Arm
from volery.model.state import BASELINE, Phase, Rollout, ServiceState, Slot, SlotName, Track

OLD = Arm(requests=90, latency={8: 90})
NEW = Arm(requests=10, latency={8: 10})


def both(found: World) -> tuple[Rollout, ServiceState]:
    return only(found), found.services["catalog"]


def begun(found: World, recent: tuple[Arm, ...] = ()) -> Comparison:
    return begin(*both(found), judge.empty(), recent)


COMPARED = {Phase.SHIFTING, Phase.ANALYSING, Phase.PAUSED}


@pytest.mark.parametrize("phase", Phase)
def test_a_canary_is_compared_while_it_has_requests_and_may_go_on(phase: Phase) -> None:
    assert is_compared(*both(canary_world(phase))) == (phase in COMPARED)


@pytest.mark.parametrize(
    ("weight", "mirror", "compared"), [(0, 0, False), (0, 5, True), (5, 0, True)]
)
def test_copies_of_requests_are_enough_to_compare(
    weight: float, mirror: float, compared: bool
) -> None:
    rollout, service = both(canary_world())
    new = Slot("catalog@2", Track.CANARY, 1, weight, mirror)
    service = replace(service, slots=dict(service.slots) | {"b": new})
    assert is_compared(rollout, service) == compared


@pytest.mark.parametrize(
    ("strategy", "watch", "cause", "compared"),
    [
        ("blue-green", "10s", "deploy", True),
        ("blue-green", "10s", "up", True),
        ("blue-green", "0s", "deploy", False),
        ("blue-green", "10s", "rollback", False),
        ("canary", "10s", "rollback", False),
        ("rolling", "10s", "deploy", True),
        ("rolling", "10s", "restart", False),
        ("recreate", "10s", "deploy", False),
    ],
)
def test_what_nobody_asked_to_be_judged_is_not(
    strategy: str, watch: str, cause: str, compared: bool
) -> None:
    found = canary_world(Phase.SHIFTING, cause, strategy=strategy, watch=watch)
    assert is_compared(*both(found)) == compared


@pytest.mark.parametrize(
    ("step", "mirror", "asks"),
    [(1, "0%", 0.5), (2, "0%", 1.0), (3, "0%", 1.0), (1, "20%", 0.1), (2, "20%", 0.5)],
)
def test_a_step_asks_for_the_next_ones_share(step: int, mirror: str, asks: float) -> None:
    rollout, service = both(canary_world(mirror=mirror))
    steps = 3 if mirror == "0%" else 4
    assert next_weight(replace(rollout, step=step, steps=steps), service) == asks


def test_what_it_is_compared_with() -> None:
    plain, beside = begun(canary_world()), begun(canary_world(baseline=True))
    assert (plain.policy.same_age, beside.policy.same_age) == (False, True)
    assert plain.policy.warm_up_seconds > 0 == beside.policy.warm_up_seconds
    blue = begun(canary_world(strategy="blue-green"), (OLD, OLD))
    assert blue.policy.frozen_control and blue.frozen == (OLD, OLD)
    assert not plain.policy.frozen_control and plain.frozen == ()


def test_the_old_release_of_before_the_switch_is_replayed_from_its_last_tick_back() -> None:
    found = canary_world(strategy="blue-green")
    recent = tuple(replace(OLD, requests=n) for n in (1, 2, 3))
    comparison, tick = begun(found, recent), Tick(1.0, {"b": NEW, "a": Arm(requests=77)})
    rollout = only(found)

    def controls(rollout: Rollout) -> list[int]:
        taken = (replace(comparison, looks=1, ticks=n) for n in range(5))
        return [arms_of(found, rollout, tick, one)[1].requests for one in taken]

    assert controls(rollout) == [3, 2, 1, 3, 2]
    for waits in (replace(rollout, phase=Phase.PAUSED), replace(rollout, passed=1)):
        assert controls(waits) == [3, 2, 1, 0, 0], "for a person or a gate, and that for days"


def test_a_baseline_that_gets_requests_is_the_control() -> None:
    found = canary_world(baseline=True)
    service = found.services["catalog"]
    beside = Slot("catalog@1", Track.BASELINE, 1, 10)
    service = replace(service, slots=dict(service.slots) | {BASELINE: beside})
    with_it = replace(found, services={"catalog": service})
    tick = Tick(1.0, {"a": OLD, "b": NEW, BASELINE: Arm(requests=11)})
    assert arms_of(with_it, only(with_it), tick, begun(with_it))[1].requests == 11
    assert arms_of(found, only(found), tick, begun(found))[1] == OLD


def test_where_a_baseline_is_compared_with_the_old_group_is_looked_at_too() -> None:
    found, failing = canary_world(baseline=True), replace(NEW, failures=5)
    rollout, service = both(found)
    comparison, plain = begun(found), begun(canary_world())
    for _ in range(60):
        tick = Tick(1.0, {"a": OLD, "b": failing, BASELINE: failing})
        old = old_group(rollout, tick, comparison)
        assert old == Arm(OLD.requests, OLD.failures), "of latency it is not asked"
        comparison = looked(comparison, rollout, (failing, failing), 1.0, old)
    assert "does not vouch for it" in judgement(comparison, rollout, service).reason
    assert old_group(rollout, tick, plain) == Arm()


def test_in_the_first_tick_only_its_own_instances_count() -> None:
    """The last requests of the release that was in this slot before are not the new one's."""
    found = canary_world()
    mixed = replace(NEW, requests=30, failures=20)
    tick = Tick(1.0, {"a": OLD, "b": mixed}, {"catalog-2-1": Arm(requests=10, failures=1)})
    first, _ = arms_of(found, only(found), tick, begun(found))
    assert (first.requests, first.failures, first.latency) == (10, 1, {})
    later, _ = arms_of(found, only(found), tick, replace(begun(found), looks=1))
    assert later == mixed


def test_another_step_is_told_to_the_judge_once() -> None:
    found = canary_world()
    rollout, service = both(found)
    comparison = replace(begun(found), in_step=33.0)
    assert in_step(comparison, rollout, service) is comparison
    onward = in_step(comparison, replace(rollout, step=2), service)
    assert (onward.step, onward.in_step, onward.state.next_weight) == (2, 0.0, 1.0)


def test_what_was_seen_before_the_shares_are_in_force_vouches_for_no_step() -> None:
    """While a step's instances start, the requests are still those of the step before."""
    found = canary_world(warm_up="0s")
    rollout, service = both(found)
    shifting = replace(rollout, step=2, phase=Phase.SHIFTING)
    onward = replace(rollout, step=2, phase=Phase.ANALYSING)
    comparison = in_step(begun(found), shifting, service)
    for _ in range(200):
        comparison = looked(in_step(comparison, shifting, service), shifting, (NEW, OLD), 1.0)
    assert comparison.state.counters["errors"].n == 2000
    for look in range(1, 12):
        comparison = looked(in_step(comparison, onward, service), onward, (NEW, OLD), 1.0)
        assert comparison.state.counters["errors"].n == 10 * look
        assert comparison.begins == (look == 1)
    assert judgement(comparison, onward, service).verdict == "continue"
    held = replace(onward, phase=Phase.PAUSED)
    paused = looked(in_step(comparison, held, service), held, (NEW, OLD), 1.0)
    again = looked(in_step(paused, onward, service), onward, (NEW, OLD), 1.0)
    assert again.state.counters["errors"].n == 130 and not again.begins


def test_what_was_seen_while_the_share_still_grew_vouches_for_no_step() -> None:
    found = canary_world(warm_up="0s", ramp="60s")
    rollout, service = both(found)
    comparison = begun(found)
    for look, weight in enumerate([2.0] * 100 + [10.0] * 12):
        at = replace(rollout, weight=weight)
        comparison = looked(in_step(comparison, at, service), at, (NEW, OLD), 1.0)
        assert comparison.begins == (look == 100)
        assert comparison.in_step == max(0, look - 99)
        if comparison.in_step < 10:
            assert judgement(comparison, at, service).verdict == "continue"
    assert comparison.state.counters["errors"].n == 12 * NEW.requests


def test_what_speaks_against_a_release_before_the_shares_are_in_force_stays() -> None:
    found = canary_world(warm_up="0s")
    rollout, service = both(found)
    comparison, bad = begun(found), replace(NEW, failures=3)
    for phase in [Phase.SHIFTING] * 4 + [Phase.ANALYSING]:
        at = replace(rollout, phase=phase)
        comparison = looked(in_step(comparison, at, service), at, (bad, OLD), 1.0)
    straight = looked(begun(found), rollout, (bad, OLD), 1.0)
    assert comparison.state.peak > straight.state.peak
    assert judgement(comparison, rollout, service).verdict == "abort"


@pytest.mark.parametrize(
    ("deploy", "unsplit"),
    [
        ({}, False),
        ({"synthetic": [{"path": "/"}]}, True),
        ({"override": {"header": "x-go"}}, True),
    ],
)
def test_what_comes_on_top_of_the_shares_is_told_to_the_judge_for_good(
    deploy: dict[str, Any], unsplit: bool
) -> None:
    before, found = begun(canary_world()), canary_world(**deploy)
    told = mixed(before, found, found.services["catalog"])
    assert (before.policy.unsplit, told.policy.unsplit) == (False, unsplit)
    later = canary_world()
    assert mixed(told, later, later.services["catalog"]) is told


def with_second(found: World, state: str) -> World:
    """The canary's second instance is there as well."""
    item = instance("catalog-2-2", "catalog", "catalog@2", "b")
    return replace(
        found,
        instances=dict(found.instances) | {item.id: item},
        observed=dict(found.observed) | {item.id: seen(item.id, 20998, state)},
    )


def test_the_judge_is_told_of_more_instances_than_ever_once_they_are_ready() -> None:
    found = canary_world()
    comparison = grown(begun(found), found, only(found))
    assert (comparison.ready, comparison.fresh) == (1, 1.0)
    old = replace(comparison, state=replace(comparison.state, age=999.0))
    for state in ("starting", "unready"):
        assert grown(old, with_second(found, state), only(found)).state is old.state
    more = grown(old, with_second(found, "ready"), only(found))
    assert (more.ready, more.fresh) == (2, 0.5)
    assert more.state.age == pytest.approx(20.0)
    fewer = grown(more, found, only(found))
    again = grown(fewer, with_second(found, "ready"), only(found))
    assert (again.ready, again.fresh, again.state) == (2, 0.0, more.state)


@given(st.lists(st.tuples(st.sampled_from(sorted(COMPARED)), st.floats(0.1, 60)), max_size=20))
def test_only_a_step_in_force_gets_older_and_never_by_a_gap(
    ticks: list[tuple[Phase, float]],
) -> None:
    rollout, _ = both(canary_world())
    comparison = begun(canary_world())
    for phase, seconds in ticks:
        comparison = looked(comparison, replace(rollout, phase=phase), (NEW, OLD), seconds)
    counted = [min(s, TICK_SECONDS_MAX) for phase, s in ticks if phase is Phase.ANALYSING]
    assert comparison.looks == len(ticks)
    assert comparison.in_step == pytest.approx(sum(counted))


def test_a_good_release_passes_its_step_and_a_failing_one_goes_back() -> None:
    found = canary_world(warm_up="0s")
    rollout, service = both(found)
    for failures, verdict in ((0, "promote"), (9, "abort")):
        comparison = begun(found)
        for _ in range(200):
            new = replace(NEW, failures=failures)
            comparison = looked(comparison, rollout, (new, OLD), 1.0)
            said = judgement(comparison, rollout, service)
            if said.verdict != "continue":
                break
        assert said.verdict == verdict and said.lines


def test_nothing_seen_is_no_reason_for_anything() -> None:
    found = canary_world()
    comparison = begun(found)
    for _ in range(100):
        comparison = looked(comparison, only(found), (Arm(), Arm()), 1.0)
    assert judgement(comparison, *both(found)).verdict == "continue"


def test_a_share_is_of_requests_or_of_copies() -> None:
    rollout, service = both(canary_world())
    assert share(rollout, service) == 0.1
    old = Slot("catalog@1", Track.STABLE, 1, 100)
    copied: dict[SlotName, Slot | None] = {"a": old, "b": Slot("catalog@2", Track.CANARY, 1, 0, 20)}
    assert share(rollout, replace(service, slots=copied)) == pytest.approx(20 / 120)


def test_a_share_is_of_what_is_compared() -> None:
    rollout, service = both(canary_world(baseline=True))
    slots: dict[SlotName, Slot | None] = {
        "a": Slot("catalog@1", Track.STABLE, 2, 90),
        "b": Slot("catalog@2", Track.CANARY, 1, 5),
        BASELINE: Slot("catalog@1", Track.BASELINE, 1, 5),
    }
    assert share(rollout, replace(service, slots=slots)) == 0.5


def test_copies_are_compared_with_an_allowance_and_in_whole_milliseconds() -> None:
    found = begun(canary_world(baseline=True, mirror="20%"))
    assert found.policy.warm_up_seconds > 0 and not found.policy.same_age
    assert found.policy.slack_ms > 1


def test_the_live_release_is_learned_from_instance_by_instance() -> None:
    found = canary_world()
    service = found.services["catalog"]
    each = {f"catalog-1-{n}": Arm(requests=n) for n in (1, 2, 3)} | {"catalog-2-1": NEW}
    whole = Arm(requests=6, latency={8: 6})
    parts = stable_parts(found, service, Tick(1.0, {"a": whole, "b": NEW}, each))
    assert sorted(part.requests for part in parts) == [1, 2, 3]
    assert [part.latency for part in parts if part.latency] == [whole.latency]


def test_an_instance_on_its_way_out_and_unknown_ones_leave_the_whole() -> None:
    found = canary_world()
    leaving = replace(instance("catalog-1-1", "catalog", "catalog@1"), intent="drain")
    found = replace(found, instances={leaving.id: leaving})
    tick = Tick(1.0, {"a": OLD}, {leaving.id: Arm(requests=5)})
    assert stable_parts(found, found.services["catalog"], tick) == [OLD]
    quiet = Tick(1.0, {"a": OLD}, {"catalog-1-2": Arm()})
    assert stable_parts(canary_world(), found.services["catalog"], quiet) == [OLD]


@pytest.mark.parametrize(
    ("phase", "strategy", "weight", "stable"),
    [
        (Phase.BUILDING, "canary", 0, True),
        (Phase.TESTING, "rolling", 0, True),
        (Phase.STARTING, "canary", 0, True),
        (Phase.STARTING, "canary", 5, False),
        (Phase.STARTING, "rolling", 0, False),
        (Phase.ANALYSING, "canary", 10, False),
        (Phase.ROLLING_BACK, "canary", 0, False),
    ],
)
def test_traffic_is_learned_from_while_the_live_release_alone_has_it(
    phase: Phase, strategy: str, weight: float, stable: bool
) -> None:
    rollout, service = both(canary_world(phase, strategy=strategy))
    new = Slot("catalog@2", Track.CANARY, 1, weight)
    service = replace(service, slots=dict(service.slots) | {"b": new})
    assert is_stable(rollout, service) == stable
    assert is_stable(None, service)
