"""A service with state gets roles when it runs already."""

from __future__ import annotations

import pytest
import unit.api.plane
from simulation.databases import DatabaseEngine
from starlette.testclient import TestClient
from unit.api.plane import SimPlane

from volery.api.app import create_app
from volery.decide.routes import traffic_config
from volery.model.application import Application


class Engine(DatabaseEngine):
    """Only what is told its role has one."""

    def _begin(self, identity: str) -> None:
        if "VOLERY_ROLE" in self.processes[identity].spec.environment:
            super()._begin(identity)


def test_the_first_place_is_the_first_primary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit.api.plane, "SimEngine", Engine)
    plane = SimPlane()
    api = TestClient(create_app(plane))

    def up(version: str, **state: str) -> None:
        plane.sources.version = version
        store = {"run": "serve", "protocol": "tcp", "state": {"volume": "data"} | state}
        store["health"] = {"startup": "5s"}
        manifest = Application.model_validate({"app": "birds", "services": {"store": store}})
        sent = {
            "application": manifest.model_dump(mode="json"),
            "environment": "dev",
            "root": "/src",
        }
        assert api.post("/v1/apply", json=sent).status_code == 202
        plane.run(15)

    up("aaaaaaaa")
    up("bbbbbbbb", role="role", switchover="promote")
    world = plane.operations.world
    assert [(r.to_release, r.phase) for r in world.rollouts.values()] == [
        ("store@aaaaaaaa", "done"),
        ("store@bbbbbbbb", "done"),
    ]
    assert world.tenures["store"].primary == "store-0"
    groups = traffic_config(world, plane.traffic.edge_port).services["store"].slots.values()
    assert [item.instance for group in groups for item in group.endpoints] == ["store-0"]
