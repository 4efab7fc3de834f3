"""What the instances of a service need now, one table row a situation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from unit.decide.worlds import application, instance, running, seen

from volery.decide.group import Conditions, reconcile
from volery.decide.routes import traffic_config
from volery.decide.world import World
from volery.model.application import Application
from volery.model.ports import Exit
from volery.model.state import Phase, Rollout

APP = application(catalog={"scale": 2})


def given(**changes: Any) -> Conditions:
    base = Conditions(now=100.0, drained=lambda _: False, age=lambda _: 0.0)
    return replace(base, **changes)


def verbs(world: World, conditions: Conditions | None = None) -> list[tuple[str, str]]:
    _, operations = reconcile(world, world.services["catalog"], conditions or given())
    return [(operation.verb, operation.instance.id) for operation in operations]


def with_observed(world: World, identity: str, **changes: Any) -> World:
    changed = replace(world.observed[identity], **changes)
    return replace(world, observed={**world.observed, identity: changed})


def with_count(world: World, count: int) -> World:
    service = world.services["catalog"]
    live = service.live
    assert live is not None
    slots = {**service.slots, "a": replace(live, count=count)}
    return replace(world, services={"catalog": replace(service, slots=slots, scale=count)})


def test_all_well() -> None:
    assert verbs(running(APP)) == []


def test_what_is_missing_is_started_with_the_lowest_free_number() -> None:
    world = running(APP, {"catalog": 2})
    instances = {key: item for key, item in world.instances.items() if not key.endswith("-1")}
    assert verbs(replace(world, instances=instances)) == [("start", "catalog-1-1")]


def test_nothing_starts_before_its_edges_are_there() -> None:
    world = with_count(running(APP), 3)
    assert verbs(world, given(may_start=False)) == []


def test_too_many_unready_ones_go_first() -> None:
    world = with_observed(with_count(running(APP), 1), "catalog-1-1", state="unready")
    assert verbs(world) == [("drain", "catalog-1-1")]


def test_what_ended_is_stopped_and_replaced_in_one_go() -> None:
    world = with_observed(running(APP), "catalog-1-2", state="exited", exit=Exit(code=1))
    assert verbs(world) == [("stop", "catalog-1-2"), ("start", "catalog-1-3")]


def condemned(world: World, identity: str, **changes: Any) -> World:
    item = replace(world.instances[identity], condemned="no answer", **changes)
    return replace(world, instances={**world.instances, identity: item})


def test_one_that_is_condemned_is_replaced_before_it_is_removed() -> None:
    world = condemned(running(APP), "catalog-1-1")
    assert verbs(world) == [("start", "catalog-1-3")]


def test_a_stateful_one_that_is_condemned_leaves_first_one_at_a_time() -> None:
    world = running(application(catalog={"scale": 2, "state": {"volume": "data"}}))
    for identity in ("catalog-0", "catalog-1"):
        world = condemned(world, identity)
    assert verbs(world) == [("drain", "catalog-0")]


RECREATED = application(catalog={"scale": 2, "deploy": {"strategy": "recreate"}})


def changing(world: World, strategy: str) -> World:
    """The same, with a rollout under way that goes by this strategy."""
    rollout = Rollout(
        id="catalog-r2",
        service="catalog",
        to_release="catalog@2",
        strategy=strategy,  # type: ignore[arg-type]
        slot="b",
        group="catalog-r2",
        created_at=0.0,
        since=0.0,
        phase=Phase.SHIFTING,
    )
    return replace(world, rollouts={rollout.id: rollout})


def leaving(world: World, identity: str) -> World:
    item = replace(world.instances[identity], intent="stop")
    return replace(world, instances={**world.instances, item.id: item})


def test_one_that_must_not_run_twice_leaves_before_another_one_comes() -> None:
    world = condemned(running(RECREATED), "catalog-1-1")
    assert verbs(world) == [("drain", "catalog-1-1")]
    assert verbs(leaving(world, "catalog-1-1")) == []
    gone = {key: item for key, item in world.instances.items() if key != "catalog-1-1"}
    assert verbs(replace(world, instances=gone)) == [("start", "catalog-1-1")]


def test_one_that_serves_nobody_leaves_first() -> None:
    world = condemned(condemned(running(RECREATED), "catalog-1-1"), "catalog-1-2")
    world = with_observed(world, "catalog-1-2", state="unready")
    assert verbs(world) == [("drain", "catalog-1-2")]


def test_one_that_leaves_keeps_the_room_of_one_not_of_all() -> None:
    world = leaving(running(RECREATED, {"catalog": 3}), "catalog-1-3")
    assert verbs(world) == []
    gone = {key: item for key, item in world.instances.items() if key != "catalog-1-1"}
    assert verbs(with_count(replace(world, instances=gone), 3)) == [("start", "catalog-1-1")]


@pytest.mark.parametrize(
    ("app", "strategy", "waits"),
    [(APP, "recreate", True), (RECREATED, "recreate", True), (RECREATED, "rolling", False)],
)
def test_what_was_asked_for_this_time_says_whether_two_may_run(
    app: Application, strategy: str, waits: bool
) -> None:
    world = leaving(changing(running(app), strategy), "catalog-1-2")
    assert verbs(world) == ([] if waits else [("start", "catalog-1-3")])


def test_one_that_hangs_is_ended_as_soon_as_no_proxy_sends_it_anything() -> None:
    world = condemned(running(APP), "catalog-1-1", hung=True, intent="drain")
    assert ("stop", "catalog-1-1") not in verbs(world, given(routed=lambda _: True))
    assert ("stop", "catalog-1-1") in verbs(world, given(routed=lambda _: False))
    well = condemned(running(APP), "catalog-1-1", intent="drain")
    assert ("stop", "catalog-1-1") not in verbs(well, given(routed=lambda _: False))


def test_draining_ends_when_nothing_is_in_flight_or_at_the_limit() -> None:
    world = running(APP)
    leaving = replace(world.instances["catalog-1-1"], intent="drain")
    world = replace(world, instances={**world.instances, leaving.id: leaving})
    world = with_count(world, 1)
    assert verbs(world) == []
    assert verbs(world, given(drained=lambda _: True)) == [("stop", "catalog-1-1")]
    assert verbs(world, given(age=lambda _: 15.0)) == [("stop", "catalog-1-1")]


def test_an_instance_that_never_gets_ready_is_retried_ever_more_slowly() -> None:
    world = running(APP)
    service = world.services["catalog"]
    waits = []
    for _ in range(4):
        item = replace(instance("catalog-1-9", "catalog", "catalog@1"), proven=False)
        broken = replace(
            world,
            instances={**world.instances, item.id: item},
            observed={**world.observed, item.id: seen(item.id, 1, "exited")},
        )
        service, _ = reconcile(broken, service, given())
        waits.append(round(service.start_not_before - 100.0, 3))
    assert waits[0] == 0.0
    for got, longest in zip(waits[1:], (0.1, 0.2, 0.4), strict=True):
        assert longest / 2 <= got <= longest


@pytest.mark.parametrize(
    ("weights", "ready", "expected"),
    [
        ((100, 0), (True, True), (100, 0)),
        ((95, 5), (True, False), (95, 0)),
        ((0, 100), (True, False), (100, 0)),
        ((100, 0), (False, False), (100, 0)),
    ],
)
def test_no_request_goes_to_a_group_without_a_ready_instance(
    weights: tuple[int, int], ready: tuple[bool, bool], expected: tuple[int, int]
) -> None:
    world = running(APP, {"catalog": 1})
    service = world.services["catalog"]
    live = service.live
    assert live is not None
    slots = {"a": replace(live, weight=weights[0]), "b": replace(live, weight=weights[1])}
    second = instance("catalog-1-2", "catalog", "catalog@1", "b")
    states = ["ready" if each else "starting" for each in ready]
    world = replace(
        world,
        services={"catalog": replace(service, slots=slots)},  # type: ignore[arg-type]
        instances={**world.instances, second.id: second},
        observed={
            "catalog-1-1": seen("catalog-1-1", 1, states[0]),
            second.id: seen(second.id, 2, states[1]),
        },
    )
    groups = traffic_config(world, lambda *_: 1).services["catalog"].slots
    assert (groups["a"].weight, groups["b"].weight) == expected
