"""Canaries that are deployed together take their last step together."""

from __future__ import annotations

from typing import Any

import pytest
from simulation.adapters import Behaviour
from simulation.outside import Reply, SimOutside
from starlette.testclient import TestClient
from unit.api.plane import SimPlane, body

from volery.api.app import create_app
from volery.model.ports import OutsideCall
from volery.model.state import Phase, Rollout

CANARY = {"strategy": "canary", "steps": ["10%", "50%"], "at_most": "5s"}


class Two:
    """`catalog` and `shop`, up; their canaries go on without evidence."""

    def __init__(self, *, needs: bool) -> None:
        self.plane = SimPlane()
        self.api = TestClient(create_app(self.plane))
        outside = self.plane.controller.ports.outside
        assert isinstance(outside, SimOutside)
        outside.replies = self.reply
        self.says: Reply = "yes"
        self.sent = body()
        services: dict[str, Any] = self.sent["application"]["services"]
        for service in services.values():
            service["deploy"] = CANARY | {"on_inconclusive": "promote"}
        gate = {"when": "before_start", "url": "http://gate.example", "on_failure": "hold"}
        services["shop"]["deploy"]["gates"] = [gate]
        if not needs:
            services["shop"]["needs"] = {}
        self.apply()
        self.plane.run()
        self.says = "no"
        self.plane.sources.version = "bbbbbbbb"

    def reply(self, key: str, call: OutsideCall) -> Reply:
        return self.says

    def apply(self, **more: object) -> None:
        assert self.api.post("/v1/apply", json=self.sent | more).status_code == 202

    def rollout(self, service: str) -> Rollout:
        return self.plane.operations.world.rollouts[f"{service}-r2"]


@pytest.mark.parametrize("services", [["catalog", "shop"], None])
def test_none_takes_its_last_step_while_a_gate_keeps_another_from_its_first(
    services: list[str] | None,
) -> None:
    two = Two(needs=False)
    two.apply(services=services)
    two.plane.run(60)
    assert two.rollout("shop").paused_for == "gate"
    waits = two.rollout("catalog")
    assert (waits.step, waits.reason) == (2, "waits for shop")
    two.says = "yes"
    assert two.api.post("/v1/services/shop/resume", json={}).status_code == 202
    two.plane.run(60)
    assert {two.rollout(name).phase for name in ("catalog", "shop")} == {Phase.DONE}


@pytest.mark.parametrize("full", [False, True])
def test_promote_answers_with_whom_it_waits_for_all_the_same(full: bool) -> None:
    two = Two(needs=False)
    two.sent["application"]["services"]["catalog"]["deploy"] |= {"at_most": "10m"}
    two.apply(services=["catalog", "shop"])
    two.plane.run(20)
    assert two.rollout("catalog").step == 1
    for step, said in ((1, ""), (2, "waits for shop")):
        two.plane.run(20)
        assert two.rollout("catalog").step == step
        answer = two.api.post("/v1/services/catalog/promote", json={"full": full and step == 2})
        assert answer.status_code == 202
        found = two.api.get("/v1/services/catalog/rollout").json()
        assert found["reason"] == said
    two.plane.run(20)
    assert two.rollout("catalog").reason == "waits for shop"


def test_nobody_waits_for_one_that_waits_for_it() -> None:
    two = Two(needs=True)
    two.apply(services=["catalog", "shop"])
    two.plane.run(60)
    assert two.rollout("shop").paused_for == "gate"
    assert two.rollout("catalog").phase is Phase.DONE


def test_all_blame_the_one_that_failed_and_not_each_other() -> None:
    plane = SimPlane()
    api, sent = TestClient(create_app(plane)), body()
    names = ["one", "three", "two"]
    sent["application"]["services"] = {name: {"run": ["serve"]} for name in names}
    sent["application"]["gateway"]["routes"] = []
    assert api.post("/v1/apply", json=sent).status_code == 202
    plane.run()
    bad = "two@bbbbbbbb"
    plane.engine.behaviour = lambda release: Behaviour("crash" if release == bad else "good")
    plane.sources.version = "bbbbbbbb"
    assert api.post("/v1/apply", json=sent | {"services": names}).status_code == 202
    plane.run(60)
    rollouts = plane.operations.world.rollouts
    assert "while starting" in rollouts["two-r2"].reason
    told = {rollouts[f"{name}-r2"].reason for name in ("one", "three")}
    assert told == {f"two failed: {rollouts['two-r2'].reason}"}
