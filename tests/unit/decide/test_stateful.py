"""Places, roles in routes, and what must wait for the primary: small worlds, one row each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from unit.decide.worlds import application, instance, seen, slot

from volery.decide.by_role import replicas_of
from volery.decide.group import Conditions, reconcile
from volery.decide.routes import traffic_config
from volery.decide.stateful import Decided, Given, by_hand, role_watches, steward, wishes
from volery.decide.stateful.choice import choose
from volery.decide.stateful.handover import TRANSITIONS
from volery.decide.stateful.steward import begin
from volery.decide.world import World
from volery.model.errors import VoleryError
from volery.model.ports import Answer, Observation
from volery.model.state import (
    EnvironmentState,
    Instance,
    Phase,
    Release,
    Rollout,
    ServiceState,
    Slot,
    SlotName,
)
from volery.model.tenure import Handover, Step, Tenure

STATE = {"volume": "data", "role": "role", "switchover": "promote"}
WELL: Mapping[int, str | None] = {0: "primary 9", 1: "replica 9", 2: "replica 8"}


def database(roles: Mapping[int, str | None], scale: int = 3, **state: Any) -> World:
    """`db` with these places; None: its role is unknown. And `web`, which needs it."""
    body = {"protocol": "tcp", "scale": scale, "state": STATE | state}
    app = application(web={"needs": ["db"]}, db=body)
    release = Release("db@1", "db", "1", app.services["db"], 0.0, state="live")
    items, there = {}, {}
    for number, said in roles.items():
        item = instance(f"db-{number}", "db", release.id)
        items[item.id], there[item.id] = item, _said(item, number, said)
    services = {
        "db": ServiceState("db", app.services["db"], scale, {"a": slot("db@1", scale), "b": None}),
        "web": ServiceState("web", app.services["web"], 1, {"a": slot("web@1"), "b": None}),
    }
    return World(
        EnvironmentState(app, "dev", "/src"),
        services,
        items,
        {"db@1": release},
        {},
        there,
        tenures={"db": Tenure("db", "db-0", 4, 0.0)},
    )


def _said(item: Instance, number: int, said: str | None) -> Observation:
    if said is None:
        return seen(item.id, 20000 + number, role="replica", unsure_since=0.0)
    role, _, position = said.partition(" ")
    return seen(item.id, 20000 + number, role=role, position=int(position), asked_at=99.0)


def starts_and_drains(world: World) -> list[tuple[str, str]]:
    given = Conditions(now=100.0, drained=lambda _: False, age=lambda _: 0.0)
    _, operations = reconcile(world, world.services["db"], given)
    return [(operation.verb, operation.instance.id) for operation in operations]


HEARD = "others are heard of"


def decided(
    world: World, age: float = 0.0, heard: float = 60.0, furthest: int = 0, room: bool = True
) -> Decided:
    def aged(key: object) -> float:
        return heard if HEARD in str(key) else age

    given = Given(100.0, 100.0, aged, lambda _: True, furthest, room)
    conditions = Conditions(now=100.0, drained=lambda _: False, age=lambda _: 0.0)
    service, operations = reconcile(world, world.services["db"], conditions)
    found = steward(world, service, operations, given)
    assert found is not None
    return found


def scaled(world: World, count: int) -> World:
    service = world.services["db"]
    service = replace(service, scale=count, slots={"a": slot("db@1", count), "b": None})
    return replace(world, services={**world.services, "db": service})


@pytest.mark.parametrize(
    ("roles", "scale", "wanted"),
    [
        ({}, 3, [("start", "db-0")]),
        ({0: "primary 1"}, 3, [("start", "db-1")]),
        ({0: "primary 1", 2: "replica 1"}, 3, [("start", "db-1")]),
        ({1: "replica 1", 2: "replica 1"}, 3, [("start", "db-0")]),
        (WELL, 3, []),
        (WELL, 4, [("start", "db-3")]),
        (WELL, 1, [("drain", "db-2")]),
        (
            {0: "primary 1", 2: "replica 1", 3: "replica 1"},
            2,
            [("drain", "db-3"), ("start", "db-1")],
        ),
    ],
)
def test_places_are_filled_and_given_up_one_at_a_time(
    roles: Mapping[int, str | None], scale: int, wanted: list[tuple[str, str]]
) -> None:
    assert starts_and_drains(scaled(database(roles), scale)) == wanted


def test_the_next_place_waits_until_the_one_before_is_in_sync() -> None:
    world = database({0: "primary 1", 1: "syncing 0"})
    coming = replace(world.instances["db-1"], proven=False)
    assert starts_and_drains(replace(world, instances={**world.instances, "db-1": coming})) == []


def test_the_primary_does_not_wait_for_one_that_gets_in_sync_with_it() -> None:
    world = database({1: "syncing 7"})
    coming = replace(world.instances["db-1"], proven=False)
    world = replace(world, instances={"db-1": coming})
    assert starts_and_drains(world) == [("start", "db-0")]


def test_no_place_is_filled_while_anything_of_its_former_holder_is_left() -> None:
    world = database({0: "primary 1", 1: "replica 1"})
    left = {**world.observed, "db-2": seen("db-2", 20002, "exited")}
    assert starts_and_drains(replace(world, observed=left)) == []


@pytest.mark.parametrize(
    ("roles", "primaries", "replicas"),
    [
        (WELL, ["db-0"], ["db-1", "db-2"]),
        ({0: "primary 9", 1: "syncing 3", 2: None}, ["db-0"], ["db-0"]),
        ({0: "primary 9", 1: "primary 99", 2: "replica 9"}, ["db-0"], ["db-2"]),
        ({0: "replica 9", 1: "replica 9", 2: "replica 9"}, [], ["db-1", "db-2"]),
    ],
)
def test_requests_go_where_the_role_is(
    roles: Mapping[int, str | None], primaries: list[str], replicas: list[str]
) -> None:
    routed = traffic_config(database(roles), lambda *_: 1).services
    for name, wanted in (("db", primaries), (replicas_of("db"), replicas)):
        groups = routed[name].slots.values()
        assert [item.instance for group in groups for item in group.endpoints] == wanted


def test_a_primary_that_is_not_sure_stays_where_it_is() -> None:
    world = database(WELL)
    unsure = replace(world.observed["db-0"], unsure_since=99.9)
    world = replace(world, observed={**world.observed, "db-0": unsure})
    groups = traffic_config(world, lambda *_: 1).services["db"].slots.values()
    assert [item.instance for group in groups for item in group.endpoints] == ["db-0"]


def test_callers_and_the_service_itself_have_edges_to_the_roles() -> None:
    config = traffic_config(database(WELL), lambda *_: 1)
    edges = {(edge.caller, edge.need) for edge in config.edges}
    assert edges == {("db", "db"), ("web", "db"), ("web", replicas_of("db"))}


def test_whoever_claims_to_be_the_primary_is_killed() -> None:
    found = decided(database({0: "primary 9", 1: "primary 99", 2: "replica 9"}))
    killed = [item.instance for item in found.operations if item.verb == "stop"]
    assert [(item.id, item.fenced) for item in killed] == [("db-1", True)]
    assert found.tenure.primary == "db-0" and found.tenure.changing is None


def test_the_primary_is_given_up_only_after_its_time() -> None:
    world = database({0: None, 1: "replica 9", 2: "replica 8"})
    late = replace(world.observed["db-0"], unsure_since=98.5)
    early = replace(world, observed={**world.observed, "db-0": late})
    assert decided(early).tenure.changing is None
    change = decided(world).tenure.changing
    assert change is not None and change.step is Step.FENCE and change.term == 5


def test_while_nobody_could_be_heard_the_primary_is_not_to_blame() -> None:
    world = database({0: None, 1: "replica 9", 2: "replica 8"})
    assert decided(world, heard=0.1).tenure.changing is None
    assert decided(world, heard=3.0).tenure.changing is not None


def test_a_primary_that_is_back_without_its_data_is_killed_at_once() -> None:
    emptied = database({0: "primary 1", 1: "syncing 9", 2: "syncing 8"})
    change = decided(emptied, furthest=9).tenure.changing
    assert change is not None and change.step is Step.FENCE
    assert change.because == "its data went back from position 9 to 1"
    assert decided(emptied, furthest=1).tenure.changing is None


def spoilt(world: World, *identities: str) -> World:
    """With volumes that cannot be written."""
    bad = {key: replace(world.observed[key], volume="is read-only") for key in identities}
    return replace(world, observed={**world.observed, **bad})


def test_a_primary_that_cannot_write_is_replaced_after_its_time() -> None:
    world = spoilt(database(WELL), "db-0")
    assert decided(world, age=1.9).tenure.changing is None
    change = decided(world, age=2.0).tenure.changing
    assert change is not None and change.because == "its volume is read-only"


def test_where_nobody_can_write_nobody_is_replaced_and_that_is_said_once() -> None:
    world = spoilt(database(WELL), "db-0", "db-1", "db-2")
    found = decided(world, age=60.0)
    assert found.tenure.changing is None and "no replica is in sync" in found.tenure.waits
    assert [note.kind for note in found.notes] == ["state.waits"]
    again = decided(replace(world, tenures={"db": found.tenure}), age=60.0)
    assert not again.notes and again.tenure == found.tenure
    over = decided(replace(database(WELL), tenures={"db": found.tenure}))
    assert over.tenure.waits == ""


def after_the_death(world: World) -> Decided:
    """Well after it was found that db-0 is dead."""
    change = Handover(1, "failover", Step.CATCH_UP, "db-0", 5, "it ended", 0.0)
    tenure = replace(world.tenures["db"], handover=change, numbers=1)
    late = {
        key: replace(item, asked_at=100.0) for key, item in world.observed.items() if key != "db-0"
    }
    return decided(replace(world, observed=late, tenures={"db": tenure}), age=60.0)


@pytest.mark.parametrize(
    ("bad", "successor", "waits"),
    [
        ([], "db-1", ""),
        (["db-2"], "db-1", ""),
        (["db-1"], "", "db-1 has more (9) than db-2 (8) and its volume is read-only"),
        (["db-1", "db-2"], "", "no replica is in sync"),
    ],
)
def test_who_cannot_write_is_not_promoted_and_who_knows_more_is_waited_for(
    bad: list[str], successor: str, waits: str
) -> None:
    change = after_the_death(spoilt(database(WELL), *bad)).tenure.changing
    assert change is not None and (change.successor, change.waits) == (successor, waits)


def test_a_replica_that_cannot_write_gets_no_requests() -> None:
    routed = traffic_config(spoilt(database(WELL), "db-0", "db-1"), lambda *_: 1).services
    for name, wanted in (("db", ["db-0"]), (replicas_of("db"), ["db-2"])):
        groups = routed[name].slots.values()
        assert [item.instance for group in groups for item in group.endpoints] == wanted


@pytest.mark.parametrize(("role", "emptied"), [(None, True), ("primary 1", False)])
def test_it_may_begin_without_data_until_there_is_a_primary(
    role: str | None, emptied: bool
) -> None:
    world = database({0: role})
    deleted = {"db": replace(world.tenures["db"], emptied=True)}
    assert decided(replace(world, tenures=deleted)).tenure.emptied is emptied


def test_nobody_takes_over_where_nobody_is_in_sync() -> None:
    found = decided(database({0: None, 1: "syncing 9", 2: None}))
    assert found.tenure.changing is None and "no replica is in sync" in found.tenure.waits


@pytest.mark.parametrize(
    ("third", "successor"),
    [("syncing 3", "db-1"), ("syncing 9", None), ("replica 9", "db-2")],
)
def test_nobody_is_promoted_while_somebody_has_more(third: str, successor: str | None) -> None:
    """It acknowledged what it has: a database counts replicas before they are asked for a role."""
    world = database({0: "primary 9", 1: "replica 8", 2: third})
    there = {**world.observed, "db-0": seen("db-0", 20000, "exited")}
    world = replace(world, observed=there)
    tenure = begin(world.tenures["db"], "failover", "it ended", 0.0)
    assert tenure.changing is not None
    given = Given(100.0, 100.0, lambda _: 1.0, lambda _: True)
    handover = replace(tenure.changing, step=Step.CATCH_UP)
    found = choose(world, world.services["db"], tenure, handover, given, failover=2.0)
    assert (found.successor and found.successor.id) == successor
    if successor is None:
        assert found.waits == "db-2 has more (9) than db-1 (8) and is not in sync yet"


def test_a_former_primary_that_may_come_back_still_may_while_others_are_waited_for() -> None:
    world = database({0: "replica 9", 1: None, 2: "syncing 3"})
    tenure = begin(world.tenures["db"], "failover", "it ended", 0.0)
    assert tenure.changing is not None
    given = Given(100.0, 100.0, lambda _: 1.0, lambda _: True)
    handover = replace(tenure.changing, step=Step.CATCH_UP, returns=True)
    found = choose(world, world.services["db"], tenure, handover, given, failover=2.0)
    assert found.waits == "db-1 may know more and is not known now" and found.returns


def test_the_primary_is_switched_over_before_it_is_drained() -> None:
    world = scaled(database({0: "replica 9", 1: "replica 9", 2: "primary 9"}), 2)
    world = replace(world, tenures={"db": Tenure("db", "db-2", 4, 0.0)})
    found = decided(world)
    change = found.tenure.changing
    assert change is not None and change.kind == "switchover" and change.out == "db-2"


def test_a_switchover_that_the_guard_has_no_room_for_does_not_begin() -> None:
    """Later nobody holds it back: the primary takes no writes."""
    world = scaled(database({0: "replica 9", 1: "replica 9", 2: "primary 9"}), 2)
    world = replace(world, tenures={"db": Tenure("db", "db-2", 4, 0.0)})
    found = decided(world, room=False)
    assert found.tenure.changing is None and "disturbed" in found.tenure.waits
    tenure = by_hand(world, world.services["db"], "sam", None, 100.0)
    world = replace(world, tenures={"db": tenure})
    held, begun = (decided(world, room=room).tenure.changing for room in (False, True))
    assert held is not None and held.step is Step.BACKUP and "disturbed" in held.waits
    assert begun is not None and begun.step is Step.DEMOTE


def test_the_last_copy_beside_the_primary_stays() -> None:
    world = scaled(database({0: "primary 9", 1: "syncing 1", 2: "replica 9"}), 2)
    found = decided(world)
    assert not found.operations and "last copy" in found.tenure.waits


def test_by_hand_only_to_whom_is_in_sync() -> None:
    world = database({0: "primary 9", 1: "replica 9", 2: "syncing 1"})
    service = world.services["db"]
    for nobody in ("db-0", "db-2", "db-9"):
        with pytest.raises(VoleryError):
            by_hand(world, service, "sam", nobody, 100.0)
    change = by_hand(world, service, "sam", "db-1", 100.0).changing
    assert change is not None and change.step is Step.BACKUP and change.to == "db-1"


def test_what_is_waited_for_is_asked_often_and_run() -> None:
    world = database(WELL, demote="demote")
    assert not role_watches(world)["db"].often and wishes(world) == []
    tenure = by_hand(world, world.services["db"], "sam", None, 100.0)
    assert tenure.handover is not None
    demoting = replace(tenure, handover=replace(tenure.handover, step=Step.DEMOTE))
    world = replace(world, tenures={"db": demoting})
    assert role_watches(world)["db"].often
    [(where, key, command)] = wishes(world)
    assert (where, key, command.argv) == ("db-0", "demote-1", ("demote",))


@pytest.mark.parametrize(
    ("to", "seconds", "step"),
    [
        ("", 0.0, Step.WITHDRAW),
        ("db-1", 0.0, Step.WITHDRAW),
        ("db-2", 1.9, Step.DEMOTE),
        ("db-2", 2.0, Step.WITHDRAW),
    ],
)
def test_a_demoted_primary_waits_a_moment_for_the_one_asked_for(
    to: str, seconds: float, step: Step
) -> None:
    """db-1 has all that the primary has, db-2 has not."""
    world = database(WELL, demote="demote")
    tenure = by_hand(world, world.services["db"], "sam", to or None, 100.0)
    assert tenure.handover is not None
    demoting = replace(tenure, handover=replace(tenure.handover, step=Step.DEMOTE))
    told = replace(world.observed["db-0"], commands={"demote-1": Answer("yes", at=98.0)})
    world = replace(world, tenures={"db": demoting}, observed={**world.observed, "db-0": told})
    change = decided(world, age=seconds).tenure.changing
    assert change is not None and change.step is step


ALONE: Mapping[int, str | None] = {0: "primary 9", 1: "syncing 9"}


def demoting(roles: Mapping[int, str | None], answer: str, step: Step = Step.DEMOTE) -> World:
    """In the middle of a switchover, with what the demote command said."""
    world = database(roles, len(roles), demote="demote")
    change = Handover(1, "switchover", step, "db-0", 5, "asked for", 0.0, by="sam")
    tenure = replace(world.tenures["db"], handover=change, numbers=1)
    said = {"demote-1": Answer(answer, "text", at=98.0)}  # type: ignore[arg-type]
    told = replace(world.observed["db-0"], commands=said)
    return replace(world, tenures={"db": tenure}, observed={**world.observed, "db-0": told})


@pytest.mark.parametrize(
    ("roles", "answer", "age", "step"),
    [
        (ALONE, "yes", 29.0, Step.DEMOTE),
        (ALONE, "yes", 30.0, Step.WITHDRAW),
        (WELL, "broken", 0.0, Step.WITHDRAW),
        (WELL, "no", 0.0, Step.ABANDONED),
        ({0: None, 1: "syncing 9"}, "yes", 60.0, Step.WITHDRAW),
        ({0: None, 1: "replica 9"}, "yes", 60.0, Step.ABANDONED),
    ],
)
def test_a_primary_that_was_demoted_for_nothing_is_started_again(
    roles: Mapping[int, str | None], answer: str, age: float, step: Step
) -> None:
    change = decided(demoting(roles, answer), age).tenure.handover
    assert change is not None and change.step is step
    assert bool(change.reason) is (step is not Step.DEMOTE)


@pytest.mark.parametrize("others", ["replica", "syncing"])
def test_a_primary_that_loses_its_data_while_it_is_demoted_is_lost(others: str) -> None:
    """Its command may hang for half a minute, in which it would take writes."""
    world = demoting({0: "primary 1", 1: f"{others} 9", 2: f"{others} 8"}, "waiting")
    assert decided(world, furthest=1).tenure.changing is not None
    change = decided(world, furthest=9).tenure.handover
    assert change is not None and change.step is Step.ABANDONED
    assert change.reason == "db-0 is lost: its data went back from position 9 to 1"


def test_a_switchover_that_is_given_up_stops_the_primary_and_promotes_nobody() -> None:
    world = demoting(WELL, "yes", Step.WITHDRAW)
    handover = world.tenures["db"].handover
    assert handover is not None
    tenure = replace(world.tenures["db"], handover=replace(handover, reason="nobody is in sync"))
    world = replace(world, tenures={"db": tenure})
    [drain] = decided(world).operations
    assert (drain.verb, drain.instance.id) == ("drain", "db-0")
    assert drain.because == "given up: nobody is in sync"
    gone = {key: seen for key, seen in world.observed.items() if key != "db-0"}
    stopping = replace(tenure, handover=replace(handover, step=Step.STOP, reason="nobody is"))
    found = decided(replace(world, observed=gone, tenures={"db": stopping})).tenure
    assert found.handover is not None and found.handover.step is Step.ABANDONED
    assert (found.primary, found.term) == ("db-0", 4)


def test_every_handover_comes_to_an_end() -> None:
    ends = {step for step, after in TRANSITIONS.items() if not after}
    assert ends == {Step.DONE, Step.ABANDONED} and set(TRANSITIONS) == set(Step)
    assert all(Step.ABANDONED in after for step, after in TRANSITIONS.items() if step not in ends)


# --- the backup before an update ------------------------------------------------------------------


def updated(roles: Mapping[int, str | None], waits: str = "", **state: Any) -> World:
    """`db` in the middle of its rollout to another release."""
    world = database(roles, len(roles), **state)
    service = world.services["db"]
    slots: dict[SlotName, Slot | None] = {
        "a": slot("db@1", 0),
        "b": slot("db@2", len(roles), 0),
    }
    rollout = Rollout(
        *("db-r2", "db", "db@2", "rolling", "b", "db-r2", 0.0, 0.0),
        from_release="db@1",
        phase=Phase.SHIFTING,
    )
    return replace(
        world,
        services={**world.services, "db": replace(service, slots=slots)},
        rollouts={rollout.id: rollout},
        tenures={"db": replace(world.tenures["db"], waits=waits)},
    )


def drained(world: World) -> list[str]:
    return [item.instance.id for item in decided(world, 60.0).operations if item.verb == "drain"]


LOST = "db-0 is lost: its role is unknown; without `switchover` nobody can take over"


def test_an_update_waits_for_the_backup_of_the_primary() -> None:
    found = decided(updated({0: "primary 9"}, backup="backup"))
    assert not found.operations and found.tenure.waits.startswith("backup of db-0 runs")


@pytest.mark.parametrize("switchover", ["promote", None])
def test_an_update_does_not_wait_for_a_backup_of_a_primary_that_is_lost(
    switchover: str | None,
) -> None:
    assert drained(updated({0: None}, backup="backup", switchover=switchover)) == ["db-0"]


def test_a_primary_that_is_back_is_backed_up_first() -> None:
    assert not drained(updated({0: "primary 9"}, LOST, backup="backup", switchover=None))


# --- switchovers that are given up ----------------------------------------------------------------


def failing(world: World, before: int, within: str) -> Decided:
    """What follows when Volery's own switchover is given up now, after so many before it."""
    change = Handover(1, "switchover", Step.DEMOTE, "db-0", 5, "another release", 0.0)
    tenure = Tenure("db", "db-0", 4, 0.0, change, 1, given_up=before, given_up_in=within)
    said = {"demote-1": Answer("no", "text", at=98.0)}
    told = replace(world.observed["db-0"], commands=said)
    there = {**world.observed, "db-0": told}
    return decided(replace(world, tenures={"db": tenure}, observed=there))


@pytest.mark.parametrize(
    ("before", "within", "times", "pause", "aborts"),
    [
        (0, "", "once", 15.0, False),
        (1, "db-r2", "2 times", 30.0, False),
        (2, "db-r2", "3 times", 60.0, True),
        (9, "db-r1", "once", 15.0, False),
    ],
)
def test_a_switchover_that_fails_again_and_again_sends_its_update_back(
    before: int, within: str, times: str, pause: float, aborts: bool
) -> None:
    world = updated({0: "primary 9", 1: "replica 9"}, demote="demote")
    found = failing(world, before, within)
    said = f"the switchover of db-0 was given up {times}: demote of db-0 failed: text"
    assert found.failed == (said,) and found.abort == (said if aborts else "")
    assert found.tenure.not_before == 100.0 + pause


def test_outside_of_a_rollout_it_is_tried_again_ever_more_seldom() -> None:
    world = scaled(database({0: "primary 9", 1: "replica 9"}, 2, demote="demote"), 2)
    found = failing(world, 20, "")
    assert not found.abort and found.tenure.not_before == 100.0 + 1800.0
    leaking = replace(world.instances["db-0"], condemned="it leaks")
    world = replace(
        world,
        tenures={"db": found.tenure},
        instances={**world.instances, "db-0": leaking},
        observed=dict(database({0: "primary 9", 1: "replica 9"}).observed),
    )
    again = decided(world).tenure
    assert again.changing is None and "given up" in again.waits
    over = replace(world, tenures={"db": replace(found.tenure, not_before=99.0)})
    assert decided(over).tenure.changing is not None
