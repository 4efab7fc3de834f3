"""When gates are asked: at the moment their answer decides something, not while others go first."""

from __future__ import annotations

from typing import Any

from starlette.testclient import TestClient
from unit.api.plane import SimPlane, body

from volery.api.app import create_app
from volery.model.state import Phase


class Shop:
    """`shop`, which needs `catalog`, is deployed together with it; shop has gates."""

    def __init__(self, **deploy: Any) -> None:
        self.plane = SimPlane()
        self.plane.outside.replies = lambda key, call: "yes"
        self.api = TestClient(create_app(self.plane))
        self.body = body()
        assert self.api.post("/v1/apply", json=self.body).status_code == 202
        self.plane.run()
        for name, service in self.body["application"]["services"].items():
            service["deploy"] |= deploy[name]
        self.plane.sources.version = "bbbbbbbb"
        sent = self.body | {"services": ["shop", "catalog"]}
        answer = self.api.post("/v1/apply", json=sent)
        assert answer.status_code == 202, answer.json()

    def phase(self, service: str) -> Phase:
        return self.plane.operations.world.rollouts[f"{service}-r2"].phase

    def asked(self) -> list[str]:
        return [key.split("/")[1] for key in self.plane.outside.asked]

    def until_phase(self, service: str, phase: Phase) -> None:
        for _ in range(600):
            if self.phase(service) is phase:
                return
            assert not self.asked()
            self.plane.run(0.1)
        raise AssertionError("never")


def test_before_its_start_when_it_is_its_turn() -> None:
    gates = [{"when": "before_start", "command": ["./migrated.sh"]}]
    shop = Shop(catalog={}, shop={"gates": gates})
    shop.until_phase("catalog", Phase.DONE)
    shop.plane.run(30)
    assert shop.phase("shop") is Phase.DONE
    assert shop.asked() == ["before_start"]


def test_before_its_last_step_when_the_others_are_as_far() -> None:
    gates = [{"when": "before_step", "command": ["./free.sh"]}]
    canary = {"strategy": "canary", "steps": ["50%"], "at_most": "10s"}
    quick = canary | {"on_inconclusive": "promote"}
    shop = Shop(catalog=canary | {"at_most": "1h"}, shop=quick | {"gates": gates})
    shop.plane.run(40)
    assert (shop.phase("catalog"), shop.phase("shop")) == (Phase.ANALYSING, Phase.ANALYSING)
    assert shop.asked() == ["before_step:1"]
    assert shop.api.post("/v1/services/catalog/promote", json={}).status_code == 202
    shop.plane.run(60)
    assert shop.phase("shop") is Phase.DONE
    assert shop.asked() == ["before_step:1", "before_step:2"]
