"""One instance that cannot be asked for keeps nothing else waiting."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient
from unit.api.plane import SimPlane, body

from volery.api.app import create_app
from volery.model.ports import InstanceSpec


def test_whatever_an_engine_cannot_do_the_others_are_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plane = SimPlane()
    api = TestClient(create_app(plane))
    api.post("/v1/apply", json=body())
    plane.run()
    start = plane.engine.start

    def refusing(spec: InstanceSpec) -> None:
        if spec.id.endswith("-3"):
            raise PermissionError(13, "Permission denied", "/volumes/shop")
        start(spec)

    with monkeypatch.context() as patched:
        patched.setattr(plane.engine, "start", refusing)
        api.post("/v1/services/shop/scale", json={"instances": 4})
        plane.run()
    third, fourth = plane.operations.world.instances_of("shop")[2:]
    assert "Permission denied" in third.unstartable
    assert plane.operations.world.ready(fourth)
    plane.run()
    assert plane.operations.world.ready(third)


@pytest.mark.parametrize("strategy", ["rolling", "canary", "blue-green", "recreate"])
def test_a_first_start_grows_with_its_service(strategy: str) -> None:
    plane = SimPlane()
    api, sent = TestClient(create_app(plane)), body()
    service = sent["application"]["services"]["catalog"]
    service |= {"scale": 2, "deploy": {"strategy": strategy}}
    assert api.post("/v1/apply", json=sent).status_code == 202
    while not plane.operations.world.instances_of("catalog"):
        plane.run(0.1)
    service["scale"] = 4
    assert api.post("/v1/apply", json=sent).status_code == 202
    plane.run(20)
    world = plane.operations.world
    assert not list(world.active_rollouts())
    assert sum(map(world.ready, world.instances_of("catalog"))) == 4
