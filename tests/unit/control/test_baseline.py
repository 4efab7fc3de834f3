"""A baseline that cannot run keeps no canary: it goes on beside the old group and says so."""

from __future__ import annotations

import pytest
from simulation.adapters import Behaviour
from starlette.testclient import TestClient
from unit.api.plane import SimPlane, body

from volery.api.app import create_app
from volery.decide.explain import decisions
from volery.model.state import BASELINE, Phase, Rollout, ServiceState

SCALE = 4


class Canary:
    """A canary of catalog beside a baseline, and users of it."""

    def __init__(self, at_most: str = "8s") -> None:
        self.plane = SimPlane()
        self.api = TestClient(create_app(self.plane))
        self.sent = body()
        services = self.sent["application"]["services"]
        services["shop"]["needs"] = {}
        services["catalog"]["scale"] = SCALE
        services["catalog"]["health"] = {"startup": "5s"}
        services["catalog"]["deploy"] = {
            "strategy": "canary",
            "steps": ["10%", "50%"],
            "baseline": True,
            "at_most": at_most,
            "on_inconclusive": "promote",
        }
        assert self.api.post("/v1/apply", json=self.sent).status_code == 202
        self.plane.traffic.count()
        self.users()
        self.plane.run(10)

    def users(self) -> None:
        for _ in range(3):
            self.plane.traffic.request("catalog")
        self.plane.line.after(0.1, self.users)

    def old_ones_fail(self, kind: str) -> None:
        """Instances of the old release that start from now on fail in this way."""
        self.plane.engine.behaviour = lambda release: Behaviour(
            kind if release == "catalog@aaaaaaaa" else "good"
        )

    def deploy(self) -> None:
        self.plane.sources.version = "bbbbbbbb"
        answer = self.api.post("/v1/apply", json=self.sent | {"services": ["catalog"]})
        assert answer.status_code == 202, answer.text

    @property
    def rollout(self) -> Rollout:
        return self.plane.operations.world.rollouts["catalog-r2"]

    @property
    def service(self) -> ServiceState:
        return self.plane.operations.world.services["catalog"]

    def until(self, phase: Phase, step: int) -> None:
        for _ in range(1200):
            if (self.rollout.phase, self.rollout.step) == (phase, step):
                return
            self.plane.run(0.1)
        raise AssertionError(f"it stays {self.rollout.phase} {self.rollout.reason}")

    def said(self) -> list[str]:
        events = self.plane.store.events(limit=10**6)
        return [event.text for event in events if event.kind == "rollout.no_baseline"]


WHY = {
    "never-ready": "was not ready within 5s",
    "crash": "ended while starting",
}


@pytest.mark.parametrize("kind", WHY)
def test_a_baseline_that_does_not_start_is_given_up(kind: str) -> None:
    canary = Canary()
    canary.old_ones_fail(kind)
    canary.deploy()
    canary.plane.run(2)
    assert canary.rollout.reason.startswith("waits for its baseline") or canary.said()
    canary.until(Phase.ANALYSING, 1)
    (text,) = canary.said()
    assert WHY[kind] in text and canary.rollout.no_baseline in text
    canary.plane.run(2)
    comparison = canary.plane.controller.draft().document("comparison", "catalog-r2")
    assert comparison is not None and not comparison.policy.same_age
    assert comparison.policy.warm_up_seconds > 0
    told = [line.text for line in canary.rollout.evidence if line.metric == "baseline"]
    assert told == [f"no baseline: {canary.rollout.no_baseline}"]
    canary.until(Phase.DONE, 3)
    assert not canary.plane.operations.world.instances_of("catalog", BASELINE)


def test_a_baseline_that_does_not_grow_is_given_up() -> None:
    canary = Canary()
    canary.deploy()
    canary.until(Phase.ANALYSING, 1)
    canary.plane.run(2)
    canary.old_ones_fail("never-ready")
    canary.until(Phase.SHIFTING, 2)
    canary.until(Phase.ANALYSING, 2)
    assert canary.rollout.no_baseline and canary.service.slots[BASELINE].weight == 0  # type: ignore[union-attr]
    canary.until(Phase.DONE, 3)
    comparison = canary.plane.controller.draft().document("comparison", "catalog-r2")
    assert comparison is not None and not comparison.policy.same_age
    looks = canary.plane.store.looks("catalog-r2")
    assert 0 < comparison.beside < len(looks)
    assert looks[comparison.beside].fresh == 1.0, "as cold as it can be beside old instances"
    for one in decisions(comparison, looks):
        assert one.judgement.verdict == one.taken


def test_a_baseline_that_fails_while_evidence_is_gathered_is_given_up() -> None:
    canary = Canary(at_most="10m")
    canary.deploy()
    canary.until(Phase.ANALYSING, 1)
    canary.plane.run(5)
    canary.old_ones_fail("crash")
    (beside,) = canary.plane.operations.world.instances_of("catalog", BASELINE)
    canary.plane.engine.exit(beside.id, 1)
    canary.plane.run(30)
    assert canary.said() and canary.rollout.no_baseline
    canary.until(Phase.ANALYSING, 1)
    canary.plane.run(5)
    comparison = canary.plane.controller.draft().document("comparison", "catalog-r2")
    assert comparison is not None and not comparison.policy.same_age
    looks = canary.plane.store.looks("catalog-r2")
    anew = [look for look in looks if look.begins and look.number > comparison.beside]
    assert [look.step for look in anew] == [1], "evidence for it is gathered anew"
    for one in decisions(comparison, looks):
        assert one.judgement.verdict == one.taken
