"""A return ends although the old release cannot have all the instances it should have."""

from __future__ import annotations

import pytest
from simulation.adapters import Behaviour
from starlette.testclient import TestClient
from unit.api.plane import SimPlane, body

from volery.api.app import create_app
from volery.model.state import Phase, Rollout


class Crashing:
    """`shop` with two ready instances; every further one crashes at its start."""

    def __init__(self, strategy: str = "rolling") -> None:
        self.plane = SimPlane()
        self.api = TestClient(create_app(self.plane))
        self.api.post("/v1/apply", json=self.body(strategy))
        self.plane.run()
        self.plane.engine.behaviour = lambda release: Behaviour("crash")
        assert self.post("scale", instances=3) == 202
        self.plane.run(3)

    def body(self, strategy: str) -> dict[str, object]:
        found = body()
        found["application"]["services"]["shop"]["deploy"]["strategy"] = strategy
        return found

    def post(self, verb: str, **more: object) -> int:
        return self.api.post(f"/v1/services/shop/{verb}", json=more).status_code

    def rollout(self) -> Rollout:
        found = [r for r in self.plane.operations.world.rollouts.values() if r.service == "shop"]
        return found[-1]

    def ready(self) -> int:
        world = self.plane.operations.world
        return sum(map(world.ready, world.instances_of("shop")))


@pytest.mark.parametrize("strategy", ["rolling", "recreate"])
def test_a_restart_that_cannot_succeed_gives_the_service_free(strategy: str) -> None:
    shop = Crashing(strategy)
    assert shop.ready() == 2
    assert shop.post("restart") == 202
    shop.plane.run(12)
    assert shop.rollout().phase is Phase.ROLLED_BACK
    assert "ended while starting" in shop.rollout().reason
    assert shop.post("scale", instances=2) == 202


def test_rolling_keeps_those_that_serve() -> None:
    shop = Crashing()
    shop.post("restart")
    for _ in range(100):
        shop.plane.run(0.1)
        assert shop.ready() >= 2


def test_what_cannot_help_is_not_advised() -> None:
    shop = Crashing()
    shop.plane.engine.behaviour = lambda release: Behaviour(start_seconds=5.0)
    shop.post("restart")
    shop.plane.run(0.2)
    assert (
        "volery abort shop"
        in shop.api.post("/v1/services/shop/scale", json={"instances": 2}).json()["error"]["hint"]
    )
    assert shop.post("abort") == 202
    for verb in ("scale", "abort"):
        refused = shop.api.post(
            f"/v1/services/shop/{verb}", json={"instances": 2} if verb == "scale" else {}
        )
        assert refused.status_code == 409
        hint = refused.json()["error"]["hint"]
        assert "abort" not in hint and "volery rollout shop --watch" in hint


@pytest.mark.parametrize(("before", "asked"), [("recreate", None), ("rolling", "recreate")])
def test_an_abort_while_the_old_one_leaves_runs_no_copy_beside_it(
    before: str, asked: str | None
) -> None:
    plane = SimPlane()
    api = TestClient(create_app(plane))
    sent = body()
    sent["application"]["services"]["shop"] |= {"scale": 1, "deploy": {"strategy": before}}
    api.post("/v1/apply", json=sent)
    plane.run()
    plane.sources.version = "bbbbbbbb"
    sent |= {"services": ["shop"], "strategy": asked}
    assert api.post("/v1/apply", json=sent).status_code == 202

    def there() -> list[str]:
        return [item.intent for item in plane.operations.world.instances_of("shop")]

    while there() == ["run"]:
        plane.run(0.1)
    assert api.post("/v1/services/shop/abort", json={}).status_code == 202
    for _ in range(100):
        assert len(there()) <= 1
        plane.run(0.1)
    (item,) = plane.operations.world.instances_of("shop")
    assert plane.operations.world.ready(item) and item.release == "shop@aaaaaaaa"
