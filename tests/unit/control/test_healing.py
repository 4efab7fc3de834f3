"""What automation does about the ill while it may not, or while nobody here is to blame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from unit.decide.worlds import application, running

from volery.control.draft import Draft
from volery.control.healing import Healer
from volery.control.sick import Evidence
from volery.control.watch import Ages
from volery.decide.routes import traffic_config
from volery.decide.world import World
from volery.model.guard import Brake, GuardState
from volery.model.healing import Ailment, Kind
from volery.model.ports import Change, DocumentKind, Exit
from volery.model.state import Instance, Phase, Rollout
from volery.store.memory import MemoryStore

NOW = 1000.0
DOCUMENTS: dict[DocumentKind, str] = {
    "service": "services",
    "instance": "instances",
    "release": "releases",
    "rollout": "rollouts",
}
FOREVER = Brake("shop", 0.0, 1e6, "5 automatic actions did not help")


@dataclass
class Clinic:
    """A healer and its store; what is observed is what a test says."""

    world: World
    store: MemoryStore = field(default_factory=MemoryStore)
    healer: Healer = field(default_factory=lambda: Healer(Ages(), Evidence()))
    clock: float = 0.0
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        changes = [Change("environment", "environment", self.world.environment)]
        for kind, attribute in DOCUMENTS.items():
            items = getattr(self.world, attribute)
            changes += [Change(kind, key, item) for key, item in items.items()]
        self.store.commit(changes, [])

    def brake(self, *brakes: Brake) -> None:
        self.store.commit([Change("guard", "guard", GuardState(brakes=brakes))], [])

    def look(self, *found: Ailment, seconds: float = 1.0) -> World:
        self.clock += seconds
        draft = Draft(self.store, NOW + self.clock, self.world.observed)
        self.healer.drive(draft, {"shop": found}, self.clock)
        draft.commit()
        self.said = [event.kind for event in self.store.events(limit=1000)]
        return draft.world

    def see(self, identity: str, **changes: Any) -> None:
        seen = replace(self.world.observed[identity], **changes)
        self.world = replace(self.world, observed={**self.world.observed, identity: seen})

    def catalog(self, *, down: bool) -> None:
        self.see("catalog-1-1", state="unready" if down else "ready")

    def crashes(self, count: int) -> None:
        """So often it ends from here on, one second after the other, the last time just now."""
        before = self.world.observed["shop-1-1"].exits
        at = NOW + self.clock
        more = [Exit(code=1, at=at - number) for number in reversed(range(count))]
        self.see("shop-1-1", exits=(*before, *more))


def ill(kind: Kind = "errors", identity: str = "shop-1-1") -> Ailment:
    return Ailment(identity, kind, "50 of 100 failed")


def resting(world: World) -> Sequence[str]:
    groups = traffic_config(world, lambda *_: 21000).services["shop"].slots.values()
    return [item.instance for group in groups for item in group.endpoints if item.draining]


def shop() -> Clinic:
    return Clinic(running(application(shop={"scale": 3})))


# --- while a brake is on --------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["shop", "*"])
@pytest.mark.parametrize("kind", ["errors", "slow", "hung", "not_alive"])
def test_what_users_feel_is_taken_out_of_rotation_although_a_brake_is_on(
    scope: str, kind: Kind
) -> None:
    clinic = shop()
    clinic.brake(replace(FOREVER, scope=scope))
    for _ in range(3):
        world = clinic.look(ill(kind))
        assert resting(world) == ["shop-1-1"]
        assert not world.instances["shop-1-1"].condemned and not world.heals
    assert clinic.said.count("heal.withheld") == 1
    assert resting(clinic.look()) == ["shop-1-1"], "what gets no requests does nothing wrong"


def test_without_the_brake_it_serves_again_and_is_healed_when_it_is_found_again() -> None:
    clinic = shop()
    clinic.brake(FOREVER)
    clinic.look(ill())
    clinic.brake()
    world = clinic.look()
    assert not resting(world) and not world.heals
    world = clinic.look(ill())
    assert resting(world) == ["shop-1-1"] and world.instances["shop-1-1"].condemned
    assert [heal.instance for heal in world.heals.values()] == ["shop-1-1"]


@pytest.mark.parametrize("kind", ["old", "leaking", "unready"])
def test_what_users_do_not_feel_stays_in_rotation(kind: Kind) -> None:
    clinic = shop()
    clinic.brake(FOREVER)
    assert not resting(clinic.look(ill(kind)))


def test_what_has_a_role_stays_in_rotation() -> None:
    """Nobody else may be the primary as long as nothing is healed."""
    state = {"volume": "d", "role": "./role", "switchover": "./switchover"}
    clinic = Clinic(running(application(shop={"scale": 3, "protocol": "tcp", "state": state})))
    clinic.brake(FOREVER)
    found: Instance = clinic.look(ill(identity="shop-0")).instances["shop-0"]
    assert not found.withheld


# --- while a need is down -------------------------------------------------------------------------


def deployed_just_now(*, down: bool) -> Clinic:
    """`shop` was deployed and crashes again and again; `catalog` may be down meanwhile."""
    needs = {"catalog": {"importance": "critical"}}
    world = running(application(shop={"scale": 2, "needs": needs}, catalog={}))
    old = replace(world.releases["shop@1"], id="shop@0", state="kept")
    done = [
        Rollout(
            *(f"shop-r{number}", "shop", f"shop@{number - 1}", "rolling", "a", "g", 0.0, 0.0),
            from_release="shop@0" if number == 2 else None,
            phase=Phase.DONE,
            finished_at=NOW - 300 + number,
        )
        for number in (1, 2)
    ]
    world = replace(
        world,
        releases=dict(world.releases) | {old.id: old},
        rollouts={item.id: item for item in done},
    )
    clinic = Clinic(world)
    clinic.catalog(down=down)
    return clinic


def taken_back(world: World) -> list[str]:
    return [r.to_release for r in world.rollouts.values() if r.cause == "heal"]


def test_crashes_while_a_need_is_down_are_not_held_against_the_deploy() -> None:
    clinic = deployed_just_now(down=True)
    clinic.crashes(3)
    assert not taken_back(clinic.look())
    assert "service.crash_loop" in clinic.said
    clinic.catalog(down=False)
    for _ in range(29):
        clinic.crashes(3)
        assert not taken_back(clinic.look()), "it has time to recover"
    clinic.crashes(0)
    assert not taken_back(clinic.look(seconds=30)), "what it did before does not count either"


def test_crashes_long_after_a_need_was_down_are_its_own() -> None:
    clinic = deployed_just_now(down=True)
    clinic.look()
    clinic.catalog(down=False)
    clinic.look()
    clinic.look(seconds=60)
    clinic.crashes(3)
    assert taken_back(clinic.look()) == ["shop@0"]


def test_a_release_that_is_taken_back_counts_for_the_brake() -> None:
    clinic = deployed_just_now(down=False)
    clinic.look()
    clinic.look(seconds=40)
    clinic.crashes(3)
    world = clinic.look()
    assert taken_back(world) == ["shop@0"]
    (failure,) = world.guard.failures
    assert failure.kind == "rollback" and "shop@1 crashed 3 times" in failure.text
