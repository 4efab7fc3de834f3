"""One that claims to be the primary out of turn: killed at once, started again ever later."""

from __future__ import annotations

from dataclasses import replace

import pytest
from unit.decide.test_stateful import WELL, database, decided
from unit.decide.worlds import slot

from volery.decide import claims
from volery.decide.group import Conditions, reconcile
from volery.decide.world import World
from volery.model.state import Rollout, Slot, SlotName
from volery.model.tenure import Claim

LIE = {0: "primary 9", 1: "primary 9", 2: "replica 8"}
CLAIM = Claim("a", "db@1", since=50.0, times=3, not_before=103.0, text="it lies")


def claimed(world: World, claim: Claim = CLAIM, identity: str = "db-1") -> World:
    tenure = replace(world.tenures["db"], claims={identity: claim})
    return replace(world, tenures={"db": tenure})


def without(world: World, identity: str) -> World:
    gone = {key: item for key, item in world.instances.items() if key != identity}
    seen = {key: item for key, item in world.observed.items() if key != identity}
    return replace(world, instances=gone, observed=seen)


def started(world: World, now: float = 100.0) -> list[str]:
    given = Conditions(now=now, drained=lambda _: False, age=lambda _: 0.0)
    _, operations = reconcile(world, world.services["db"], given)
    return [item.instance.id for item in operations if item.verb == "start"]


def test_each_kill_is_at_once_and_each_start_after_it_later() -> None:
    world, pauses, told = database(LIE), [], []
    for _ in range(12):
        found = decided(world)
        assert [(item.verb, item.instance.id) for item in found.operations] == [("stop", "db-1")]
        assert found.operations[0].instance.fenced
        claim = found.tenure.claims["db-1"]
        pauses.append(claim.not_before - 100.0)
        told.append(len(found.notes))
        assert len(found.failed) == (claim.times > 1), "the first kill may have helped"
        world = claimed(world, claim)
    assert pauses[0] == 0 and 0.5 <= pauses[1] <= 1
    assert pauses[1:7] == sorted(pauses[1:7]) and 30 <= pauses[-1] <= 60
    assert told == [1, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0]


def test_its_place_waits_and_no_other_one_does() -> None:
    world = claimed(without(database(WELL), "db-1"))
    assert started(world) == []
    assert started(without(world, "db-2")) == ["db-2"]
    assert started(world, now=103.0) == ["db-1"]
    assert started(world, now=20.0) == ["db-1"], "the wall clock was set back"


def test_another_group_takes_its_place_at_once() -> None:
    world = claimed(without(database(WELL), "db-1"))
    service = world.services["db"]
    slots: dict[SlotName, Slot | None] = {"a": slot("db@1", 2), "b": slot("db@1", 1)}
    world = replace(world, services={"db": replace(service, slots=slots)})
    assert started(world) == ["db-1"]


@pytest.mark.parametrize(
    ("said", "age", "kept"),
    [("replica 9", 29.0, True), ("replica 9", 30.0, False), (None, 60.0, True)],
)
def test_it_is_forgotten_after_a_while_as_a_replica(
    said: str | None, age: float, kept: bool
) -> None:
    found = decided(claimed(database({**WELL, 1: said})), age=age, heard=0.0)
    assert ("db-1" in found.tenure.claims) is kept


def test_it_is_forgotten_with_its_group_and_as_the_primary_by_record() -> None:
    assert not decided(claimed(database(WELL), replace(CLAIM, slot="b"))).tenure.claims
    assert not decided(claimed(database(WELL), identity="db-0")).tenure.claims
    assert not decided(claimed(database(WELL), identity="db-7")).tenure.claims


def test_another_release_begins_a_count_of_its_own() -> None:
    found = decided(claimed(database(LIE), replace(CLAIM, release="db@0")))
    assert found.tenure.claims["db-1"].times == 1


def test_what_is_said_tells_what_to_do() -> None:
    found = decided(decided_again(database(LIE)))
    text = claims.said("db-1", found.tenure.claims["db-1"])
    assert "db-1 was killed 2 times since 1970-" in text
    assert "its role command says primary, though db-0 is (term 4)" in text
    assert "docs/how-to/keep-data.md" in text


def decided_again(world: World) -> World:
    return replace(world, tenures={"db": decided(world).tenure})


def test_only_who_is_not_honest_now_is_in_trouble() -> None:
    assert not claims.open_claims(claimed(database(WELL)), "db")
    assert list(claims.open_claims(claimed(database(LIE)), "db")) == ["db-1"]
    assert list(claims.open_claims(claimed(without(database(WELL), "db-1")), "db")) == ["db-1"]


@pytest.mark.parametrize(
    ("claim", "bad"),
    [
        (replace(CLAIM, slot="b", release="db@2", times=2), True),
        (replace(CLAIM, slot="b", release="db@2", times=1), False),
        (replace(CLAIM, slot="b", release="db@0", times=9), False),
        (replace(CLAIM, slot="a", release="db@2", times=9), False),
    ],
)
def test_a_release_that_claims_twice_is_a_bad_one(claim: Claim, bad: bool) -> None:
    rollout = Rollout("db-r1", "db", "db@2", "rolling", "b", "g", 0.0, 0.0, from_release="db@1")
    failure = claims.failure(claimed(database(WELL), claim), rollout)
    assert bool(failure) is bad and ("db-1 was killed" in failure) is bad
