"""What served before comes back although single instances of it do not."""

from __future__ import annotations

import pytest
from simulation.adapters import Behaviour
from starlette.testclient import TestClient
from unit.api.plane import SimPlane, body

from volery.api.app import create_app
from volery.model.state import Phase, Rollout

OLD, NEW, REMEDY = "catalog@aaaaaaaa", "catalog@bbbbbbbb", "catalog@cccccccc"


class Catalog:
    """A release of `catalog` serves that people want to go back from."""

    def __init__(self, strategy: str = "rolling", scale: int = 4) -> None:
        self.plane = SimPlane()
        self.api = TestClient(create_app(self.plane))
        self.sent = body()
        for service in self.sent["application"]["services"].values():
            service["health"] = {"startup": "10s"}
        deploy = {"strategy": strategy, "watch": "1s"}
        self.sent["application"]["services"]["catalog"] |= {"scale": scale, "deploy": deploy}
        self.apply("aaaaaaaa")
        self.plane.run()

    def apply(self, version: str, *services: str) -> None:
        self.plane.sources.version = version
        sent = self.sent | ({"services": list(services)} if services else {})
        assert self.api.post("/v1/apply", json=sent).status_code == 202

    def roll_back(self) -> None:
        assert self.api.post("/v1/services/catalog/rollback", json={}).status_code == 202

    def starts(self, *kinds: str) -> None:
        """How the old release's next instances behave, one after the other; then all are good."""
        left = list(kinds)

        def behaviour(release: str) -> Behaviour:
            return Behaviour(left.pop(0) if left and release == OLD else "good")

        self.plane.engine.behaviour = behaviour

    def always(self, kind: str, release: str = OLD) -> None:
        self.plane.engine.behaviour = lambda found: Behaviour(kind if found == release else "good")

    def rollout(self) -> Rollout:
        """The newest one of `catalog`."""
        found = self.plane.operations.world.rollouts.values()
        return [item for item in found if item.service == "catalog"][-1]

    def live(self) -> str:
        live = self.plane.operations.world.services["catalog"].live
        assert live is not None
        return live.release

    def weights(self) -> dict[str, float]:
        slots = self.plane.operations.world.services["catalog"].slots
        return {slot.release: slot.weight for slot in slots.values() if slot}

    def ready(self, release: str = "") -> int:
        """How many instances serve, of one release or of all."""
        world = self.plane.operations.world
        there = world.instances_of("catalog")
        return sum(world.ready(item) and release in item.release for item in there)


@pytest.mark.parametrize("how", ["unready", "crashes"])
def test_a_warm_group_takes_over_with_those_that_are_ready(how: str) -> None:
    catalog = Catalog("blue-green", scale=10)
    catalog.apply("bbbbbbbb", "catalog")
    catalog.plane.run(20)
    assert catalog.live() == NEW
    if how == "unready":
        catalog.plane.engine._set("catalog-aaaaaaaa-3", state="unready", detail="probe: timeout")
    else:
        catalog.always("crash")
        catalog.plane.engine.exit("catalog-aaaaaaaa-3", 1)
    catalog.plane.run(0.5)
    catalog.roll_back()
    catalog.plane.run(2)
    assert catalog.weights() == {
        OLD: 90,
        NEW: 10,
    }  # each of the nine has what one of ten would have
    catalog.plane.run(12)
    assert (catalog.rollout().phase, catalog.live()) == (Phase.DONE, OLD)
    assert catalog.weights() == {OLD: 100, NEW: 0}


def test_fewer_than_half_share_the_requests_and_something_newer_need_not_wait() -> None:
    catalog = Catalog("blue-green")
    catalog.apply("bbbbbbbb", "catalog")
    catalog.plane.run(20)
    catalog.always("crash")
    for number in (1, 2, 3):
        catalog.plane.engine.exit(f"catalog-aaaaaaaa-{number}", 1)
    catalog.plane.run(0.5)
    catalog.roll_back()
    catalog.plane.run(25)
    assert catalog.rollout().phase is Phase.SHIFTING and catalog.weights() == {OLD: 25, NEW: 75}
    assert "was not ready within 10s" in catalog.rollout().reason
    catalog.apply("cccccccc", "catalog")
    catalog.plane.run(30)
    assert catalog.live() == "catalog@cccccccc"


def test_what_nearly_serves_is_not_taken_away_for_the_remedy() -> None:
    catalog = Catalog("blue-green", scale=10)
    catalog.sent["application"]["services"]["catalog"]["deploy"]["warm"] = "1s"
    catalog.apply("bbbbbbbb", "catalog")
    catalog.plane.run(20)
    catalog.starts(*["good"] * 10, *["never-ready"] * 1_000)
    catalog.roll_back()
    while catalog.ready(OLD) < 9:
        catalog.plane.run(0.1)
    catalog.plane.engine.exit("catalog-aaaaaaaa-10", 1)
    catalog.plane.run(0.1)
    assert catalog.weights() == {OLD: 90, NEW: 10}
    catalog.plane.builder.takes = 20, 20
    catalog.apply("cccccccc", "catalog")
    for _ in range(1_000):
        catalog.plane.run(0.1)
        if catalog.ready(REMEDY):
            break
        assert catalog.weights().get(NEW, 0) <= 10
    catalog.plane.run(20)
    assert catalog.live() == REMEDY


@pytest.mark.parametrize("strategy", ["rolling", "blue-green"])
@pytest.mark.parametrize("lacking", [1, 3])
def test_the_remedy_does_not_wait_for_ever_for_what_does_not_come_up(
    strategy: str, lacking: int
) -> None:
    catalog = Catalog(strategy)
    catalog.sent["application"]["services"]["catalog"]["deploy"]["warm"] = "1s"
    catalog.apply("bbbbbbbb", "catalog")
    catalog.plane.run(20)
    catalog.starts(*["good"] * (4 - lacking), *["never-ready"] * 1_000)
    catalog.roll_back()
    catalog.apply("cccccccc", "catalog")
    fewest = 4
    for _ in range(1_000):
        catalog.plane.run(0.1)
        assert catalog.ready() >= (4 if lacking == 3 else 3)
        fewest = min(fewest, catalog.ready(NEW))
        if lacking == 1:  # three of four serve: no way leads back to what was bad
            assert catalog.ready(NEW) <= max(1, fewest)
    assert (catalog.rollout().phase, catalog.live()) == (Phase.DONE, REMEDY)


def test_a_person_takes_a_rolling_one_as_it_is() -> None:
    catalog = Catalog()
    catalog.apply("bbbbbbbb", "catalog")
    catalog.plane.run(20)
    catalog.starts("good", "good", *["never-ready"] * 1_000)
    catalog.roll_back()
    catalog.plane.run(60)
    assert catalog.rollout().phase is Phase.SHIFTING
    assert catalog.api.post("/v1/services/catalog/promote", json={}).status_code == 202
    catalog.plane.run(30)
    assert (catalog.rollout().phase, catalog.live()) == (Phase.DONE, OLD)
    assert catalog.ready(NEW) == 0


@pytest.mark.parametrize("strategy", ["rolling", "blue-green"])
@pytest.mark.parametrize("kind", ["crash", "never-ready"])
@pytest.mark.parametrize("which", [1, 3])
def test_one_that_does_not_start_keeps_nobody_back(strategy: str, kind: str, which: int) -> None:
    catalog = Catalog(strategy)
    catalog.sent["application"]["services"]["catalog"]["deploy"]["warm"] = "1s"
    catalog.apply("bbbbbbbb", "catalog")
    catalog.plane.run(20)
    catalog.starts(*["good"] * (which - 1), kind)
    catalog.roll_back()
    for _ in range(400):
        catalog.plane.run(0.1)
        assert catalog.ready() >= 4
    if (strategy, kind, which) == ("rolling", "never-ready", 1):
        assert catalog.rollout().phase is Phase.ROLLED_BACK  # nothing of it served
    else:
        assert (catalog.rollout().phase, catalog.live()) == (Phase.DONE, OLD)


@pytest.mark.parametrize("strategy", ["rolling", "blue-green", "recreate"])
@pytest.mark.parametrize("kind", ["crash", "never-ready"])
def test_one_of_which_nothing_comes_up_is_given_up(strategy: str, kind: str) -> None:
    catalog = Catalog(strategy)
    catalog.sent["application"]["services"]["catalog"]["deploy"]["warm"] = "1s"
    catalog.apply("bbbbbbbb", "catalog")
    catalog.plane.run(20)
    catalog.always(kind)
    catalog.roll_back()
    catalog.plane.run(40)
    assert (catalog.rollout().phase, catalog.live()) == (Phase.ROLLED_BACK, NEW)
    assert catalog.rollout().reason.startswith("catalog-aaaaaaaa-")


def test_a_group_is_undone_although_an_instance_of_what_was_before_is_late() -> None:
    catalog = Catalog()

    def behaviour(release: str) -> Behaviour:
        return Behaviour(
            "never-ready" if release == "shop@bbbbbbbb" else kinds.get(release, "good")
        )

    kinds: dict[str, str] = {}
    catalog.plane.engine.behaviour = behaviour
    catalog.apply("bbbbbbbb", "catalog", "shop")
    while catalog.rollout().cause != "rollback" or catalog.ready(OLD) < 3:
        catalog.plane.run(0.1)
    kinds[OLD] = "never-ready"  # its fourth
    catalog.plane.run(5)
    kinds.clear()
    catalog.plane.run(30)
    found = catalog.plane.operations.world.services
    assert {found[name].live.release for name in found} == {OLD, "shop@aaaaaaaa"}  # type: ignore


def test_healing_goes_back_although_one_instance_does_not_start() -> None:
    catalog = Catalog("blue-green")
    catalog.apply("bbbbbbbb", "catalog")
    catalog.plane.run(20)
    catalog.always("crash")
    catalog.plane.engine.exit("catalog-aaaaaaaa-3", 1)
    for number in (1, 2, 3):
        catalog.plane.engine.exit(f"catalog-bbbbbbbb-{number}", 1)
    catalog.plane.run(40)
    assert catalog.rollout().cause == "heal"
    assert (catalog.rollout().phase, catalog.live()) == (Phase.DONE, OLD)
