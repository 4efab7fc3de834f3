"""What is deployed while a rollout runs: the newest wish is what serves at the end."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from simulation.adapters import Behaviour
from starlette.testclient import TestClient
from unit.api.plane import SimPlane, body

from volery.api.app import create_app
from volery.model.state import Instance, Phase, Rollout, SlotName

A, B, C = "catalog@aaaaaaaa", "catalog@bbbbbbbb", "catalog@cccccccc"


class Shop:
    """`catalog@aaaaaaaa` serves, on simulated time."""

    def __init__(self) -> None:
        self.plane = SimPlane()
        self.api = TestClient(create_app(self.plane))
        self.deploy("aaaaaaaa", services=None)
        self.plane.run()

    def deploy(
        self, version: str, *, catalog: Mapping[str, object] | None = None, **more: object
    ) -> list[str]:
        """Returns the rollouts it is to be followed by. `catalog` is more of its manifest."""
        self.plane.sources.version = version
        sent = body(**({"services": ["catalog"]} | more))
        sent["application"]["services"]["catalog"] |= catalog or {}
        answer = self.api.post("/v1/apply", json=sent)
        assert answer.status_code == 202, answer.json()
        found: list[str] = answer.json()["rollouts"]
        return found

    def act(self, verb: str, **more: object) -> None:
        answer = self.api.post(f"/v1/services/catalog/{verb}", json=more)
        assert answer.status_code == 202, answer.json()

    def until_phase(self, phase: Phase) -> None:
        for _ in range(400):
            if self.newest().phase is phase:
                return
            self.plane.run(0.1)
        raise AssertionError("never")

    def spoil(self, release: str = "") -> None:
        """From now on only instances of this release never get ready."""
        self.plane.engine.behaviour = lambda one: Behaviour(
            "never-ready" if one == release else "good"
        )

    def rollout(self, number: int) -> Rollout:
        return self.plane.operations.world.rollouts[f"catalog-r{number}"]

    def newest(self) -> Rollout:
        found = self.plane.operations.world.newest_rollout_of("catalog")
        assert found is not None
        return found

    def told(self) -> list[tuple[str, Phase]]:
        """Where each rollout went to, and how it ended."""
        found = self.plane.operations.world.rollouts.values()
        mine = [item for item in found if item.service == "catalog"]
        mine.sort(key=lambda item: int(item.id.rpartition("r")[2]))
        return [(item.to_release, item.phase) for item in mine]

    def instances(self) -> list[Instance]:
        return list(self.plane.operations.world.instances_of("catalog"))

    def count(self, slot: SlotName) -> int:
        """How many instances a group should have."""
        group = self.plane.operations.world.services["catalog"].slots[slot]
        return group.count if group else 0

    def ready(self) -> int:
        """How many instances can serve."""
        world = self.plane.operations.world
        return sum(world.ready(item) for item in self.instances())

    def live(self) -> str:
        service = self.plane.operations.world.services["catalog"]
        assert service.live is not None and service.live.weight == 100
        return service.live.release


@pytest.fixture
def shop() -> Shop:
    return Shop()


DONE, BACK = Phase.DONE, Phase.ROLLED_BACK


@pytest.mark.parametrize(
    ("strategy", "phase"),
    [
        ("canary", Phase.BUILDING),
        ("canary", Phase.STARTING),
        ("canary", Phase.ANALYSING),
        ("rolling", Phase.STARTING),
        ("rolling", Phase.SHIFTING),
    ],
)
@pytest.mark.parametrize("services", [["catalog"], None])
def test_a_revert_turns_the_deploy_under_way_round(
    shop: Shop, strategy: str, phase: Phase, services: list[str] | None
) -> None:
    before = shop.instances()
    shop.deploy("bbbbbbbb", strategy=strategy)
    shop.until_phase(phase)
    followed = shop.deploy("aaaaaaaa", services=services)
    assert "catalog-r3" in followed and "catalog-r2" not in followed
    turned = shop.rollout(2)
    assert turned.phase in (Phase.ROLLING_BACK, BACK) and turned.superseded_by == "catalog-r3"
    shop.plane.run(20)
    assert shop.told() == [(A, DONE), (B, BACK), (A, DONE)]
    assert shop.live() == A
    if phase is not Phase.SHIFTING:  # nothing of what serves was taken away before
        assert [item.id for item in shop.instances()] == [item.id for item in before]
    assert shop.plane.operations.world.releases[B].state != "refused"


def test_a_revert_by_release_is_the_same(shop: Shop) -> None:
    shop.deploy("bbbbbbbb", strategy="canary")
    shop.until_phase(Phase.ANALYSING)
    assert shop.deploy("bbbbbbbb", release=A) == ["catalog-r3"]
    shop.plane.run(20)
    assert shop.live() == A and shop.rollout(3).phase is DONE


def test_said_twice_it_is_turned_round_once(shop: Shop) -> None:
    shop.deploy("bbbbbbbb", strategy="canary")
    shop.until_phase(Phase.ANALYSING)
    assert shop.deploy("aaaaaaaa") == shop.deploy("aaaaaaaa") == ["catalog-r3"]


def test_what_was_aborted_by_hand_comes_again_when_it_is_asked_for_again(shop: Shop) -> None:
    shop.deploy("bbbbbbbb")
    shop.until_phase(Phase.SHIFTING)
    shop.act("abort", by="ann")
    assert shop.newest().phase is Phase.ROLLING_BACK
    assert shop.deploy("bbbbbbbb") == ["catalog-r3"]
    shop.plane.run(30)
    assert shop.told() == [(A, DONE), (B, BACK), (B, DONE)]
    assert shop.live() == B


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("strategy", ["blue-green", "rolling", "recreate"])
def test_what_is_just_taken_back_for_what_it_did_is_refused_or_comes_again_by_force(
    shop: Shop, strategy: str, force: bool
) -> None:
    shop.spoil(B)
    shop.deploy("bbbbbbbb", strategy=strategy)
    shop.until_phase(Phase.ROLLING_BACK)
    if not force:
        sent = body(services=["catalog"])
        answer = shop.api.post("/v1/apply", json=sent)
        assert answer.status_code == 403 and answer.json()["error"]["code"] == "refused"
        assert (
            "catalog@bbbbbbbb was refused: catalog-bbbbbbbb-1 was not ready"
            in answer.json()["error"]["message"]
        )
        assert shop.deploy("bbbbbbbb", services=None) == ["catalog-r2", "shop-r2"]
        return
    shop.spoil()
    assert shop.deploy("bbbbbbbb", force=True, strategy=strategy) == ["catalog-r3"]
    shop.plane.run(40)
    assert shop.told() == [(A, DONE), (B, BACK), (B, DONE)]
    assert shop.live() == B and shop.plane.operations.world.releases[B].state == "live"


def test_what_served_once_and_is_found_bad_as_a_deploy_is_remembered(shop: Shop) -> None:
    canary = {"deploy": {"strategy": "canary", "steps": ["50%"], "warm": "1s", "at_most": "3s"}}
    canary["deploy"]["on_inconclusive"] = "promote"
    shop.deploy("bbbbbbbb", catalog=canary)
    shop.plane.run(60)
    shop.spoil(A)
    shop.deploy("aaaaaaaa", catalog=canary)
    shop.plane.run(60)
    assert shop.told()[-1] == (A, Phase.ROLLED_BACK)
    world = shop.plane.operations.world
    assert world.releases[A].state == "refused" and "not ready" in world.releases[A].reason
    again = shop.api.post("/v1/apply", json=body(services=["catalog"]))
    assert again.status_code == 403 and "was refused" in again.json()["error"]["message"]


@pytest.mark.parametrize("said_no_by", ["build", "tests", "gate"])
def test_what_served_once_can_come_back_whatever_a_deploy_of_it_was_refused_for_before_it_served(
    shop: Shop, said_no_by: str
) -> None:
    """Going back asks neither tests nor gates, so they take no way back away."""
    warm: dict[str, object] = {"strategy": "canary", "steps": ["50%"], "warm": "1s"}
    warm |= {"at_most": "3s", "on_inconclusive": "promote"}
    catalog = {"test": ["pytest"], "deploy": warm}
    shop.deploy("cccccccc", catalog=catalog, skip_tests=True)
    shop.plane.run(60)
    shop.deploy("bbbbbbbb", catalog=catalog)
    shop.plane.run(60)
    assert shop.told()[1:] == [(C, DONE), (B, DONE)]
    if said_no_by == "gate":
        gates = [{"when": "before_step", "command": ["./free.sh"]}]
        catalog["deploy"] = warm | {"gates": gates}
        shop.plane.outside.replies = lambda key, call: "no"
    else:
        shop.plane.bad[C] = said_no_by
    shop.deploy("cccccccc", catalog=catalog)
    shop.plane.run(20)
    assert shop.told()[-1] == (C, BACK) and shop.rollout(4).verdict == "abort"
    assert shop.plane.operations.world.releases[C].state == "kept"
    shop.act("rollback")
    shop.plane.run(30)
    assert shop.live() == C


def test_what_cannot_come_back_at_once_may_come_later(shop: Shop) -> None:
    shop.deploy("bbbbbbbb", catalog={"deploy": {"strategy": "rolling"}})
    shop.plane.run(60)
    shop.spoil(A)
    shop.act("rollback")
    shop.plane.run(60)
    assert shop.told()[-1] == (A, Phase.ROLLED_BACK)
    assert shop.plane.operations.world.releases[A].state == "kept"


def test_what_serves_is_done_when_the_one_that_was_aborted_is_gone(shop: Shop) -> None:
    shop.deploy("bbbbbbbb")
    shop.until_phase(Phase.SHIFTING)
    shop.act("abort", by="ann")
    assert shop.deploy("aaaaaaaa") == ["catalog-r3"]
    shop.plane.run(30)
    assert shop.told() == [(A, DONE), (B, BACK), (A, DONE)]


def test_what_is_rolled_back_from_comes_again_behind_the_rollback(shop: Shop) -> None:
    shop.deploy("bbbbbbbb")
    shop.plane.run(20)
    shop.act("rollback", by="ann")
    shop.until_phase(Phase.STARTING)
    assert shop.deploy("bbbbbbbb") == ["catalog-r4"]
    shop.plane.run(40)
    assert shop.told() == [(A, DONE), (B, DONE), (A, DONE), (B, DONE)]
    assert shop.live() == B


def test_a_deploy_is_newer_than_the_way_further_back(shop: Shop) -> None:
    shop.deploy("bbbbbbbb")
    shop.plane.run(20)
    shop.deploy("cccccccc")
    shop.until_phase(Phase.SHIFTING)
    shop.act("rollback", to="aaaa", by="ann")
    assert shop.deploy("cccccccc") == ["catalog-r4"]
    shop.plane.run(40)
    assert shop.told()[2:] == [(C, BACK), (C, DONE)]
    events = shop.api.get("/v1/events").json()["events"]
    assert not [item["text"] for item in events if item["kind"] == "rollout.undo_failed"]


@pytest.mark.parametrize("phase", [Phase.BUILDING, Phase.ANALYSING])
def test_what_nobody_waits_for_any_more_is_not_built(shop: Shop, phase: Phase) -> None:
    """It would keep its place, and its failure would be that of the next deploy."""
    shop.plane.bad[B] = "build" if phase is Phase.BUILDING else ""
    shop.deploy("bbbbbbbb", strategy="canary")
    shop.until_phase(phase)
    shop.act("abort", by="ann")
    shop.plane.run(10)
    assert not shop.plane.builder.builds
    shop.plane.bad.clear()
    shop.deploy("bbbbbbbb", strategy="rolling")
    shop.plane.run(20)
    assert shop.told() == [(A, DONE), (B, BACK), (B, DONE)]


def test_a_superseded_build_makes_room_for_the_newest(shop: Shop) -> None:
    shop.deploy("bbbbbbbb")
    shop.until_phase(Phase.BUILDING)
    shop.plane.run(0.1)
    assert list(shop.plane.builder.builds) == [B]
    shop.deploy("cccccccc")
    shop.plane.run(0.1)
    assert list(shop.plane.builder.builds) == [C]


APPROVED = {"test": ["pytest"], "deploy": {"strategy": "canary", "approve": True}}


def test_tests_that_were_skipped_once_are_made_up_for(shop: Shop) -> None:
    shop.plane.bad[B] = "tests"
    shop.deploy("bbbbbbbb", catalog=APPROVED, skip_tests=True)
    shop.until_phase(Phase.ANALYSING)
    shop.act("abort", by="ann")
    shop.plane.run(30)
    shop.deploy("bbbbbbbb", catalog=APPROVED)
    shop.plane.run(5)
    assert (shop.rollout(3).phase, shop.rollout(3).reason) == (BACK, "test failed")
    assert shop.plane.operations.world.releases[B].state == "refused"


def test_what_passed_its_tests_is_not_tested_again(shop: Shop) -> None:
    shop.deploy("bbbbbbbb", catalog=APPROVED)
    shop.until_phase(Phase.ANALYSING)
    shop.act("abort", by="ann")
    shop.plane.run(30)
    shop.plane.bad[B] = "tests"
    shop.deploy("bbbbbbbb", catalog=APPROVED)
    shop.until_phase(Phase.ANALYSING)


def test_what_is_live_starts_again_without_the_tests_it_skipped(shop: Shop) -> None:
    shop.plane.bad[B] = "tests"
    shop.deploy("bbbbbbbb", catalog={"test": ["pytest"]}, skip_tests=True)
    shop.plane.run(30)
    assert shop.live() == B
    assert shop.api.post("/v1/down", json={}).status_code == 202
    shop.plane.run(30)
    shop.deploy("bbbbbbbb", catalog={"test": ["pytest"]}, services=None)
    shop.plane.run(30)
    assert shop.live() == B and len(shop.instances()) == 1


def test_up_in_the_middle_of_down_leaves_nothing_of_what_was_on_its_way(shop: Shop) -> None:
    shop.deploy("bbbbbbbb", strategy="canary")
    shop.until_phase(Phase.ANALYSING)
    assert shop.api.post("/v1/down", json={}).status_code == 202
    shop.plane.run(0.2)
    shop.deploy("aaaaaaaa", services=None)
    shop.plane.run(30)
    assert shop.live() == A
    assert [item.release for item in shop.instances()] == [A]


def go_down(shop: Shop) -> None:
    assert shop.api.post("/v1/down", json={}).status_code == 202
    shop.plane.run(30)
    assert shop.api.get("/v1/gone").json()["gone"]


@pytest.mark.parametrize("strategy", ["canary", "blue-green"])
def test_what_was_undecided_at_down_is_judged_anew_beside_what_served(
    shop: Shop, strategy: str
) -> None:
    deploy = {"deploy": {"strategy": strategy, "approve": True}}
    shop.deploy("bbbbbbbb", catalog=deploy)
    shop.until_phase(Phase.ANALYSING if strategy == "canary" else Phase.PAUSED)
    go_down(shop)
    assert "catalog-r4" in shop.deploy("bbbbbbbb", catalog=deploy, services=None)
    shop.until_phase(Phase.ANALYSING if strategy == "canary" else Phase.PAUSED)
    assert shop.rollout(4).from_release == A and shop.rollout(4).weight < 100
    assert {item.release for item in shop.instances()} == {A, B}
    shop.act("promote", full=True)
    shop.plane.run(60)
    assert shop.live() == B
    assert shop.told() == [(A, DONE), (B, Phase.FAILED), (A, DONE), (B, DONE)]


def test_what_served_does_not_come_back_where_what_it_needs_has_left(shop: Shop) -> None:
    sent = body(services=["shop"])
    services = sent["application"]["services"]
    services["shop"] |= {"needs": {}, "deploy": {"strategy": "blue-green", "approve": True}}
    shop.plane.sources.version = "bbbbbbbb"
    assert shop.api.post("/v1/apply", json=sent).status_code == 202
    shop.plane.run(10)
    assert shop.plane.operations.world.rollouts["shop-r2"].phase is Phase.PAUSED
    go_down(shop)
    del services["catalog"], sent["services"]
    sent["application"]["gateway"] = {"routes": []}
    assert shop.api.post("/v1/apply", json=sent).status_code == 202
    shop.plane.run(30)
    live = shop.plane.operations.world.services["shop"].live
    assert live is not None and live.release == "shop@bbbbbbbb"


def test_what_was_undecided_starts_at_once_for_who_insists_or_does_not_judge(shop: Shop) -> None:
    judged = {"deploy": {"strategy": "canary", "approve": True}}
    for more, force in ((judged, True), ({}, False)):
        shop.deploy("bbbbbbbb", catalog=judged)
        shop.until_phase(Phase.ANALYSING)
        go_down(shop)
        shop.deploy("bbbbbbbb", catalog=more, services=None, force=force)
        shop.plane.run(30)
        assert shop.live() == B
        shop.deploy("aaaaaaaa")
        shop.plane.run(60)
        assert shop.live() == A


def test_a_deploy_while_the_last_old_instances_leave_keeps_the_size_set_by_hand(shop: Shop) -> None:
    shop.act("scale", instances=6)
    shop.plane.run(10)
    shop.deploy("bbbbbbbb")
    while shop.count("a"):
        shop.plane.run(0.05)
    assert shop.newest().phase is Phase.SHIFTING
    shop.deploy("cccccccc")
    for _ in range(300):
        assert shop.ready() >= 6
        shop.plane.run(0.1)
    assert shop.told() == [(A, DONE), (B, BACK), (C, DONE)]


@pytest.mark.parametrize("leaves", ["later", "on its way back"])
def test_a_release_does_not_go_back_because_another_service_leaves(shop: Shop, leaves: str) -> None:
    """Unless the group had failed before."""
    sent = body(services=["catalog", "shop"])
    deploy = {"strategy": "blue-green", "approve": True}
    sent["application"]["services"]["shop"]["deploy"] = deploy
    shop.plane.sources.version = "bbbbbbbb"
    assert shop.api.post("/v1/apply", json=sent).status_code == 202
    shop.plane.run(12)
    assert shop.plane.operations.world.rollouts["shop-r2"].paused_for == "approval"
    if leaves == "on its way back":
        assert shop.api.post("/v1/services/shop/abort", json={}).status_code == 202
    left = body()
    del left["application"]["services"]["shop"]
    left["application"]["gateway"]["routes"] = [{"path": "/", "service": "catalog"}]
    assert shop.api.post("/v1/apply", json=left).status_code == 202
    shop.plane.run(20)
    assert "shop" not in shop.plane.operations.world.services
    if leaves == "later":
        assert shop.told() == [(A, DONE), (B, DONE)]
        return
    assert shop.told() == [(A, DONE), (B, DONE), (A, DONE)]
    events = shop.plane.store.events(0, 10**6)
    begun = [item.cause for item in events if item.kind == "rollout.started"]
    assert begun[-1] == "rollback by failure of shop", "nothing begins without saying so"


def test_a_restart_is_not_turned_round_for_something_newer(shop: Shop) -> None:
    shop.act("restart")
    shop.until_phase(Phase.STARTING)
    shop.deploy("bbbbbbbb")
    shop.plane.run(20)
    assert shop.told() == [(A, Phase.DONE), (A, Phase.DONE), (B, Phase.DONE)]
