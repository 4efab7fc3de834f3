"""What is found, what is done about it, and when it helped: one situation a test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from unit.decide.worlds import application, canary_world, instance, only, running, seen

from volery.decide import healing
from volery.decide.ailments import Signs, ailments
from volery.decide.healing import WATCH_SECONDS, begin, choose, step
from volery.decide.outliers import warm_after
from volery.decide.routes import traffic_config
from volery.decide.world import World
from volery.model.healing import Ailment, Heal, Kind
from volery.model.state import Phase

APP = application(catalog={"scale": 3, "health": {"unready": "20s", "failures": 3}})
NOW = 1000.0


def signs(**changes: Any) -> Signs:
    return replace(Signs(NOW, lambda _: 0.0), **changes)


def with_observed(world: World, identity: str, **changes: Any) -> World:
    return replace(
        world,
        observed={**world.observed, identity: replace(world.observed[identity], **changes)},
    )


def found(world: World, given: Signs | None = None) -> list[tuple[str, str]]:
    mine = ailments(world, world.services["catalog"], given or signs())
    return [(item.instance, item.kind) for item in mine]


def ill(kind: Kind, identity: str = "catalog-1-1") -> Ailment:
    return Ailment(identity, kind, "because")


OWN = ill("not_alive", "catalog-0")


# --- what is found --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"hung": True, "state": "unready"}, "hung"),
        ({"alive": False}, "not_alive"),
        ({"unkept": True, "alive": False}, "orphaned"),
    ],
)
def test_what_probes_say(changes: dict[str, Any], kind: str) -> None:
    assert found(with_observed(running(APP), "catalog-1-2", **changes)) == [("catalog-1-2", kind)]


def test_whose_volume_is_bad_is_not_replaced_for_anything_but_its_keeper() -> None:
    world = with_observed(running(APP), "catalog-1-1", alive=False, volume="is gone")
    assert found(world) == []
    world = with_observed(world, "catalog-1-1", unkept=True)
    assert found(world) == [("catalog-1-1", "orphaned")]


def test_one_that_is_unready_is_given_time() -> None:
    world = with_observed(running(APP), "catalog-1-1", state="unready", detail="503")
    assert found(world, signs(unready_for=lambda _: 19.0)) == []
    assert found(world, signs(unready_for=lambda _: 20.0)) == [("catalog-1-1", "unready")]


def test_while_a_need_is_down_only_what_it_cannot_cause_is_an_ailment() -> None:
    world = with_observed(running(APP), "catalog-1-1", alive=False)
    world = with_observed(world, "catalog-1-2", unkept=True)
    leak = {"catalog-1-3": ill("leaking", "catalog-1-3")}
    assert found(world, signs(excuse="store is down", leaks=leak)) == [
        ("catalog-1-2", "orphaned"),
        ("catalog-1-3", "leaking"),
    ]


def test_the_gravest_comes_first() -> None:
    world = with_observed(running(APP), "catalog-1-3", hung=True)
    slow = {"catalog-1-1": ill("slow")}
    assert found(world, signs(comparisons=slow)) == [
        ("catalog-1-3", "hung"),
        ("catalog-1-1", "slow"),
    ]


def test_old_ones_are_not_all_old_at_the_same_time() -> None:
    world = running(application(catalog={"scale": 3, "max_age": "100s"}))
    dues = set()
    for second in range(80, 102):
        dues.add(tuple(item for item, _ in found(world, signs(now=float(second)))))
    assert {len(item) for item in dues} == {0, 1, 2, 3}


def test_the_group_of_a_rollout_is_judged_by_the_rollout() -> None:
    world = with_observed(running(APP), "catalog-1-1", hung=True)
    assert found(world, signs(passed_over="a")) == []


# --- what is done ---------------------------------------------------------------------------------


def begun(world: World, ailment: Ailment, all_found: Sequence[Ailment] = ()) -> tuple[World, Heal]:
    service = world.services["catalog"]
    heal, item = begin(world, service, ailment, all_found or [ailment], NOW)
    instances = {**world.instances, item.id: item}
    return replace(world, instances=instances, heals={**world.heals, heal.id: heal}), heal


def chosen(world: World, *ailments: Ailment) -> Ailment | None:
    return choose(world, world.services["catalog"], ailments, NOW).ailment


def test_one_heal_acts_at_a_time_unless_nothing_serves() -> None:
    world, _ = begun(running(APP), ill("hung"))
    assert chosen(world, ill("hung", "catalog-1-2")) is None
    for identity in list(world.observed):
        world = with_observed(world, identity, state="unready")
    assert chosen(world, ill("hung", "catalog-1-2")) is not None


def test_what_users_feel_gets_no_request_while_others_can_have_it() -> None:
    world, _ = begun(running(APP), ill("errors"))
    group = traffic_config(world, lambda *_: 1).services["catalog"].slots["a"]
    assert [item.instance for item in group.endpoints if item.draining] == ["catalog-1-1"]
    world, _ = begun(running(APP), ill("leaking"))
    group = traffic_config(world, lambda *_: 1).services["catalog"].slots["a"]
    assert not any(item.draining for item in group.endpoints)


def test_a_suspect_rests_but_never_more_than_half() -> None:
    world = with_observed(running(APP), "catalog-1-1", suspect="no answer")
    group = traffic_config(world, lambda *_: 1).services["catalog"].slots["a"]
    assert [item.instance for item in group.endpoints if item.draining] == ["catalog-1-1"]
    world = with_observed(world, "catalog-1-2", suspect="no answer")
    group = traffic_config(world, lambda *_: 1).services["catalog"].slots["a"]
    assert not any(item.draining for item in group.endpoints)


def test_old_age_waits_for_calm() -> None:
    assert chosen(running(APP), ill("old")) is not None
    lacking = with_observed(running(APP), "catalog-1-3", state="unready")
    assert chosen(lacking, ill("old")) is None


@pytest.mark.parametrize(
    ("strategy", "phase", "kind", "mended"),
    [
        ("canary", Phase.STARTING, "errors", True),
        ("canary", Phase.ANALYSING, "errors", True),
        ("canary", Phase.ANALYSING, "slow", True),
        ("canary", Phase.PAUSED, "errors", True),
        ("canary", Phase.ROLLING_BACK, "errors", True),
        ("canary", Phase.PAUSED, "old", False),
        ("blue-green", Phase.ANALYSING, "errors", True),
        ("rolling", Phase.BUILDING, "errors", True),
        ("rolling", Phase.STARTING, "errors", True),
        ("rolling", Phase.PAUSED, "errors", True),
        ("rolling", Phase.SHIFTING, "errors", False),
        ("rolling", Phase.ROLLING_BACK, "slow", False),
        ("rolling", Phase.SHIFTING, "hung", True),
    ],
)
def test_what_serves_beside_a_rollout_is_mended_unless_that_replaces_it(
    strategy: str, phase: Phase, kind: Kind, mended: bool
) -> None:
    world = canary_world(phase, strategy=strategy)
    assert (chosen(world, ill(kind)) is not None) is mended


def test_what_waits_for_a_rollout_to_replace_it_says_so() -> None:
    world = canary_world(Phase.SHIFTING, strategy="rolling")
    choice = choose(world, world.services["catalog"], [ill("old"), ill("errors")], NOW)
    assert choice.waits == f"{only(world).id} replaces its instances"


# --- whether it helped ----------------------------------------------------------------------------


def after(world: World, heal: Heal, in_phase: float = 0.0, *ailments: Ailment) -> Heal:
    return step(heal, world, world.services.get("catalog"), ailments, NOW + 1, in_phase)


def replaced(world: World) -> World:
    instances = {key: item for key, item in world.instances.items() if key != "catalog-1-1"}
    observed = {key: item for key, item in world.observed.items() if key != "catalog-1-1"}
    new = instance("catalog-1-4", "catalog", "catalog@1")
    return replace(
        world,
        instances=instances | {new.id: new},
        observed=observed | {new.id: seen(new.id, 1)},
    )


def test_it_is_watched_once_the_successor_serves_and_then_it_helped() -> None:
    world, heal = begun(running(APP), ill("hung"))
    assert after(world, heal) == heal
    watching = after(replaced(world), heal)
    assert (watching.phase, watching.successor) == ("watching", "catalog-1-4")
    assert after(replaced(world), watching, WATCH_SECONDS - 1) == watching
    assert after(replaced(world), watching, WATCH_SECONDS).verdict == "helped"


def test_what_was_slow_is_watched_until_its_successor_should_be_warm() -> None:
    world, heal = begun(running(APP), ill("slow"))
    watching = after(replaced(world), heal)
    warm = warm_after(world.services["catalog"].config.deploy)
    assert after(replaced(world), watching, warm + WATCH_SECONDS - 1) == watching
    assert after(replaced(world), watching, warm + WATCH_SECONDS).verdict == "helped"


def test_the_same_again_says_that_it_did_not_help_and_the_next_attempt_waits() -> None:
    world, heal = begun(running(APP), ill("hung"))
    world = replaced(world)
    again = ill("hung", "catalog-1-4")
    failed = after(world, after(world, heal), 1.0, again)
    assert failed.verdict == "not_helped"
    assert "catalog-1-4" in failed.why
    world = replace(world, heals={failed.id: failed})
    choice = choose(world, world.services["catalog"], [again], NOW + 1)
    assert choice.ailment is None
    assert "did not help" in choice.waits
    later = choose(world, world.services["catalog"], [again], NOW + 3600)
    assert later.ailment == again


def test_who_had_it_before_does_not_count_against_it() -> None:
    both = [ill("hung"), ill("hung", "catalog-1-2")]
    world, heal = begun(running(APP), both[0], both)
    watching = after(replaced(world), heal)
    assert after(replaced(world), watching, 1.0, both[1]) == watching


def test_waits_grow_and_differ_between_services() -> None:
    world = running(APP)
    heals: dict[str, Heal] = {}
    for number in range(1, 9):
        heal, _ = begin(world, world.services["catalog"], ill("hung"), [], NOW)
        ended = replace(healing.end(heal, "not_helped", "", NOW), id=f"catalog-h{number}")
        heals[ended.id] = ended
    many = replace(world, heals=heals)
    few = replace(world, heals={"catalog-h1": heals["catalog-h1"]})
    soon = NOW + 60
    assert choose(few, few.services["catalog"], [ill("hung")], soon).ailment is not None
    assert choose(many, many.services["catalog"], [ill("hung")], soon).ailment is None


def test_a_successor_that_never_comes_is_a_failure() -> None:
    world, heal = begun(running(APP), ill("hung"))
    assert after(world, heal, 10_000.0).verdict == "not_helped"


def test_what_is_taken_down_meanwhile_matters_no_more() -> None:
    world, heal = begun(running(APP), ill("hung"))
    assert step(heal, world, None, (), NOW, 0.0).verdict == "moot"
    service = world.services["catalog"]
    away = replace(service, slots={"a": None, "b": None})
    assert step(heal, world, away, (), NOW, 0.0).verdict == "moot"


def test_one_that_ended_is_only_watched() -> None:
    world, heal = begun(running(APP), ill("exited"))
    assert not world.instances["catalog-1-1"].condemned
    watching = after(world, heal)
    assert (watching.phase, watching.successor) == ("watching", "catalog-1-1")
    assert after(world, watching, 1.0, ill("exited")).verdict == "not_helped"


# --- those that keep their names ------------------------------------------------------------------


def test_the_successor_of_one_with_state_has_its_name_and_is_judged_all_the_same() -> None:
    world, heal = begun(running(application(catalog={"state": {"volume": "data"}})), OWN)
    gone = replace(world, instances={}, observed={})
    assert after(gone, heal) == heal
    fresh = instance("catalog-0", "catalog", "catalog@1")
    back = replace(gone, instances={fresh.id: fresh}, observed={fresh.id: seen(fresh.id, 1)})
    assert after(with_observed(back, "catalog-0", state="starting"), heal) == heal
    watching = after(back, heal)
    assert (watching.phase, watching.successor) == ("watching", "catalog-0")
    assert after(back, watching, WATCH_SECONDS).verdict == "helped"
    failed = after(back, watching, 1.0, OWN)
    assert failed.verdict == "not_helped"
    back = replace(back, heals={failed.id: failed})
    assert choose(back, back.services["catalog"], [OWN], NOW + 1).waits


def test_one_that_gets_in_sync_for_long_has_been_replaced_all_the_same() -> None:
    state = {"volume": "data", "role": "role", "switchover": "promote"}
    world, heal = begun(running(application(catalog={"state": state})), OWN)
    fresh = instance("catalog-0", "catalog", "catalog@1")
    there = {fresh.id: seen(fresh.id, 1, role="syncing")}
    world = replace(world, instances={fresh.id: fresh}, observed=there)
    assert after(world, heal, 10_000.0).phase == "watching"
