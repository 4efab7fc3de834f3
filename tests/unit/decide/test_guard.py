"""Who may disturb whom: floors, shares, velocity, ranks, fairness, paced starts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from unit.decide.worlds import application, leaving, running, seen

from volery.decide.group import Operation
from volery.decide.guard import Ruling, admit, wanted_by
from volery.decide.world import World
from volery.model.application import Environment
from volery.model.guard import Brake, Cause, Disturbance
from volery.model.state import Phase, Rollout, ServiceState, Slot, SlotName

NOW = 1000.0


def world(guard: dict[str, Any] | None = None, **services: dict[str, Any]) -> World:
    app = application(**services)
    environment = Environment.model_validate({"guard": guard or {}})
    return running(app.model_copy(update={"environments": {"dev": environment}}))


def drain(found: World, identity: str, cause: Cause = "rollout", **more: Any) -> Operation:
    item = replace(found.instances[identity], intent="drain", since=NOW)
    return Operation("drain", item, "it should go", cause, **more)


def ruled(found: World, *asked: Operation, now: float = NOW, age: float = 0.0) -> Ruling:
    return admit(found, asked, now, lambda _: age)


def passed(found: World, *asked: Operation, **more: Any) -> list[str]:
    return [item.instance.id for item in ruled(found, *asked, **more).passed]


def after(found: World, ruling: Ruling) -> World:
    """The world once what passed was done."""
    items = {item.instance.id: item.instance for item in ruling.passed}
    return replace(found, instances=dict(found.instances) | items, guard=ruling.state)


def rollout(service: str, strategy: str, phase: Phase = Phase.SHIFTING) -> Rollout:
    return Rollout(
        f"{service}-r2", service, f"{service}@2", strategy, "b", f"{service}-r2", 0.0, 0.0,  # type: ignore[arg-type]
        from_release=f"{service}@1", phase=phase,
    )  # fmt: skip


def rolling_out(found: World, service: str, strategy: str, phase: Phase = Phase.SHIFTING) -> World:
    item = rollout(service, strategy, phase)
    return replace(found, rollouts=dict(found.rollouts) | {item.id: item})


def at_work(service: ServiceState, a: Slot | None, b: Slot | None) -> ServiceState:
    """The service with these two groups."""
    slots: dict[SlotName, Slot | None] = {"a": a, "b": b}
    return replace(service, slots=slots)


def test_the_last_ready_instance_stays() -> None:
    found = world(one={"scale": 1})
    ruling = ruled(found, drain(found, "one-1-1"))
    assert ruling.passed == ()
    (waits,) = ruling.news
    assert waits.because == "one would have 0 ready instances and needs 1"
    assert waits.until == "another instance of one becomes ready"


def test_an_owner_s_floor_holds() -> None:
    found = world(one={"scale": 4, "floor": 3})
    assert passed(found, drain(found, "one-1-1")) == ["one-1-1"]
    low = replace(found, observed=dict(found.observed) | {"one-1-2": seen("one-1-2", 1, "unready")})
    assert passed(low, drain(low, "one-1-1")) == []


def test_a_floor_as_large_as_the_size_leaves_room_where_nothing_can_be_added_first() -> None:
    found = world(one={"scale": 3, "floor": 3, "deploy": {"surge": 0, "unavailable": 1}})
    assert passed(found, drain(found, "one-1-1")) == ["one-1-1"]


def test_what_is_not_ready_serves_nobody_and_goes_at_once() -> None:
    found = world(one={"scale": 1})
    low = replace(found, observed={"one-1-1": seen("one-1-1", 1, "unready")})
    assert passed(low, drain(low, "one-1-1")) == ["one-1-1"]


def test_surplus_disturbs_nobody() -> None:
    found = world({"at_once": "0%"}, one={"scale": 3})
    fewer = replace(found, services={"one": replace(found.services["one"], scale=1)})
    ruling = ruled(fewer, drain(fewer, "one-1-1"), drain(fewer, "one-1-2"))
    assert len(ruling.passed) == 2 and ruling.state.disturbed == ()


def test_a_group_without_requests_disturbs_nobody() -> None:
    found = world({"at_once": "0%"}, one={"scale": 2})
    service = found.services["one"]
    slot = service.slots["a"]
    assert slot is not None
    moved = at_work(service, replace(slot, weight=0), replace(slot, weight=100))
    more = replace(found.instances["one-1-1"], id="one-2-1", slot="b")
    there = replace(
        found,
        services={"one": moved},
        instances=dict(found.instances) | {more.id: more},
        observed=dict(found.observed) | {more.id: seen(more.id, 9)},
    )
    asked = [drain(there, "one-1-1"), drain(there, "one-1-2")]
    assert passed(there, *asked) == ["one-1-1", "one-1-2"]


def test_at_most_a_share_is_disturbed_and_the_next_goes_when_it_is_whole_again() -> None:
    found = world({"at_once": "25%"}, one={"scale": 4}, two={"scale": 4})
    asked = [drain(found, f"one-1-{n}") for n in (1, 2)] + [drain(found, "two-1-1")]
    first = ruled(found, *asked)
    assert [item.instance.id for item in first.passed] == ["one-1-1", "one-1-2"]
    (waits,) = first.news
    assert waits.because == "2 of at most 2 instances are disturbed (25% of 8)"
    assert waits.until == "one has all instances again"
    then = after(found, first)
    assert passed(then, drain(then, "two-1-1")) == []
    fewer = replace(then.services["one"], scale=2)
    whole = replace(then, services=dict(then.services) | {"one": fewer})
    assert passed(whole, drain(whole, "two-1-1")) == ["two-1-1"]


def test_it_is_said_once_that_somebody_waits() -> None:
    found = world(one={"scale": 1})
    first = ruled(found, drain(found, "one-1-1"))
    again = ruled(after(found, first), drain(found, "one-1-1"))
    assert again.news == () and again.state == first.state


def test_somebody_may_always_go_when_nobody_else_is_disturbed() -> None:
    found = world({"at_once": "0%", "velocity": {"at_most": 1}}, one={"scale": 3})
    assert passed(found, drain(found, "one-1-1"), drain(found, "one-1-2")) == ["one-1-1"]


def test_a_recreate_goes_as_a_whole_or_not_at_all() -> None:
    found = rolling_out(world(one={"scale": 3}, two={"scale": 3}), "one", "recreate")
    whole = [drain(found, f"one-1-{n}") for n in (1, 2, 3)]
    assert len(passed(found, *whole)) == 3
    busy = (Disturbance("two-1-9", "two", "heal", NOW),)
    low = dict(found.observed) | {"two-1-1": seen("two-1-1", 1, "unready")}
    meanwhile = replace(found, observed=low, guard=replace(found.guard, disturbed=busy))
    assert passed(meanwhile, *whole) == []


def test_who_waits_for_the_shared_budget_is_overtaken_by_nobody_behind() -> None:
    found = world({"at_once": "34%"}, one={"scale": 3}, two={"scale": 3}, three={"scale": 3})
    low = dict(found.observed) | {"three-1-3": seen("three-1-3", 1, "unready")}
    busy = (Disturbance("three-1-9", "three", "heal", NOW),)
    found = replace(found, observed=low, guard=replace(found.guard, disturbed=busy))
    large = rolling_out(found, "one", "recreate")
    first = ruled(large, *[drain(large, f"one-1-{n}") for n in (1, 2, 3)])
    assert first.passed == ()
    then = after(large, first)
    both = [drain(then, f"one-1-{n}") for n in (1, 2, 3)] + [drain(then, "two-1-1")]
    assert passed(then, *both) == []


def test_a_disturbance_that_takes_too_long_holds_nobody_for_ever() -> None:
    found = world({"at_once": "0%"}, one={"scale": 2}, two={"scale": 2})
    then = after(found, ruled(found, drain(found, "one-1-1")))
    assert passed(then, drain(then, "two-1-1")) == []
    assert passed(then, drain(then, "two-1-1"), age=1000.0) == ["two-1-1"]


def test_velocity_holds_what_is_not_urgent() -> None:
    limits = {"at_once": "100%", "velocity": {"at_most": 2, "within": "1m"}}
    found = world(limits, one={"scale": 5})
    asked = [drain(found, f"one-1-{n}") for n in (1, 2, 3)]
    first = ruled(found, *asked)
    assert len(first.passed) == 2 and "within 60s" in first.news[0].because
    then = after(found, first)
    assert passed(then, drain(then, "one-1-3"), now=NOW + 61) == ["one-1-3"]
    harmed = drain(then, "one-1-3", "heal", harms=True)
    assert passed(then, harmed) == ["one-1-3"]
    back = after(found, first)
    assert passed(back, drain(back, "one-1-3"), now=NOW - 5000) == ["one-1-3"], "a clock set back"


@pytest.mark.parametrize("first", ["heal", "person"])
def test_the_urgent_go_first(first: Cause) -> None:
    found = world({"at_once": "0%"}, one={"scale": 2}, two={"scale": 2})
    asked = [drain(found, "one-1-1", "rollout"), drain(found, "two-1-1", first)]
    assert passed(found, *asked) == ["two-1-1"]


def test_waiting_raises_the_rank() -> None:
    found = world({"at_once": "0%"}, one={"scale": 2}, two={"scale": 2})
    first = ruled(found, drain(found, "one-1-1", "chaos"), drain(found, "two-1-1", "person"))
    assert [item.instance.id for item in first.passed] == ["two-1-1"]
    calm = replace(found, guard=replace(first.state, disturbed=()))
    asked = [drain(calm, "one-1-1", "chaos"), drain(calm, "two-1-1", "person")]
    assert passed(calm, *asked) == ["two-1-1"]
    assert passed(calm, *asked, age=200.0) == ["one-1-1"]


def test_a_brake_holds_heals_of_what_serves_well_and_nothing_else() -> None:
    found = world(one={"scale": 3})
    stopped = replace(found.guard, brakes=(Brake("one", NOW, NOW + 60, "5 heals failed"),))
    found = replace(found, guard=stopped)
    (waits,) = ruled(found, drain(found, "one-1-1", "heal")).news
    assert waits.until == "volery guard release one" and "5 heals failed" in waits.because
    assert passed(found, drain(found, "one-1-1", "heal", harms=True)) == ["one-1-1"]
    assert passed(found, drain(found, "one-1-1", "person")) == ["one-1-1"]


def test_a_way_back_needs_no_budget_but_leaves_nobody_without() -> None:
    found = rolling_out(world({"at_once": "0%"}, one={"scale": 2}), "one", "rolling")
    back = rolling_out(found, "one", "rolling", Phase.ROLLING_BACK)
    service = back.services["one"]
    both = at_work(service, service.slots["a"], service.slots["a"])
    back = replace(back, services={"one": both})
    asked = [drain(back, "one-1-1"), drain(back, "one-1-2")]
    assert passed(back, *asked) == ["one-1-1"]


def test_what_leaves_for_good_goes_at_once() -> None:
    gone = leaving(world({"at_once": "0%"}, one={"scale": 2}))
    assert wanted_by(gone, gone.services["one"]) == "leaving"
    asked = [drain(gone, "one-1-1", "leaving"), drain(gone, "one-1-2", "leaving")]
    assert len(passed(gone, *asked)) == 2


def test_a_fence_waits_for_nobody() -> None:
    found = world(guard={"at_once": "10%"}, one={"scale": 3}, two={"scale": 3})
    taken = drain(found, "one-1-1")
    liar = replace(found.instances["two-1-1"], intent="stop", fenced=True)
    fence = Operation("stop", liar, "it claims to be the primary", "heal", harms=True)
    assert passed(found, taken, fence) == ["one-1-1", "two-1-1"]
    softly = Operation("stop", replace(liar, fenced=False), "it should go", "heal", harms=True)
    assert passed(found, softly, taken) == ["two-1-1"]


def test_a_single_instance_with_state_may_leave_a_gap() -> None:
    found = world(one={"state": {"volume": "data"}})
    assert passed(found, drain(found, "one-0")) == ["one-0"]


def start(found: World, service: str, number: int, cause: Cause = "heal") -> Operation:
    item = replace(found.instances[f"{service}-1-1"], id=f"{service}-1-{number}")
    return Operation("start", item, "its group lacks it", cause)


def test_starts_that_no_deploy_asked_for_are_paced_the_neediest_first() -> None:
    found = world({"starts": 2}, one={"scale": 3}, two={"scale": 3})
    gone = dict(found.observed) | {f"two-1-{n}": seen(f"two-1-{n}", 1, "exited") for n in (1, 2, 3)}
    found = replace(found, observed=gone)
    asked = [start(found, "one", 9), *(start(found, "two", n) for n in (7, 8, 9))]
    ruling = ruled(found, *asked)
    assert [item.instance.id for item in ruling.passed] == ["two-1-7", "two-1-8"]
    assert {item.service for item in ruling.news} == {"one", "two"}
    assert len(passed(found, *(replace(item, cause="rollout") for item in asked))) == 4


def test_one_that_never_gets_ready_keeps_nobody_from_starting() -> None:
    found = world({"starts": 1}, one={"scale": 2})
    slow = dict(found.observed) | {"one-1-1": seen("one-1-1", 1, "starting")}
    found = replace(found, observed=slow)
    assert passed(found, start(found, "one", 8)) == []
    assert passed(found, start(found, "one", 8), age=31.0) == ["one-1-8"]
