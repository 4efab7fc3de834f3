"""What is inherited of a caller, and the folder of the manifest, are of whoever deployed that
service: a deploy of one service changes nothing of what others start with."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from starlette.testclient import TestClient
from unit.api.plane import SimPlane, body

from volery.api.app import create_app
from volery.model.ports import GateCall, OutsideCall

GATE = {"when": "before_start", "command": ["./free.sh"]}


class Birds:
    """Brought up by Ann; Bob's shell has another PATH, and his checkout is elsewhere."""

    def __init__(self) -> None:
        self.plane = SimPlane()
        self.gates: dict[str, GateCall] = {}
        self.plane.outside.replies = self._note
        self.api = TestClient(create_app(self.plane))
        self.apply("ann")
        self.plane.run(8)

    def _note(self, key: str, call: OutsideCall) -> Any:
        assert isinstance(call, GateCall)
        self.gates[key.partition("-r")[0]] = call
        return "yes"

    def apply(self, who: str, *only: str, **more: Any) -> None:
        wish = body(root=f"/{who}", base_env={"PATH": f"/{who}/bin"}, **more)
        for service in wish["application"]["services"].values():
            service["deploy"]["gates"] = [copy.deepcopy(GATE)]
        answer = self.api.post("/v1/apply", json=wish | ({"services": only} if only else {}))
        assert answer.status_code == 202, answer.text

    def change(self, *services: str) -> None:
        for name in services:
            self.plane.sources.versions[name] = "bbbbbbbb"

    def paths(self, service: str) -> set[str]:
        """PATH of what would be started now, and is."""
        world = self.plane.operations.world
        found = world.instances_of(service)
        return {self.plane.controller._spec_of(world, item).environment["PATH"] for item in found}


@pytest.fixture
def birds() -> Birds:
    return Birds()


def begins_with(paths: set[str], who: str) -> bool:
    return all(path.split(":")[0] == f"/{who}/bin" for path in paths) and bool(paths)


def test_a_deploy_of_one_service_changes_nothing_of_what_others_start_with(birds: Birds) -> None:
    birds.change("shop")
    birds.apply("bob", "shop")
    birds.plane.run(20)
    assert begins_with(birds.paths("shop"), "bob")
    (item,) = birds.plane.operations.world.instances_of("catalog")
    birds.plane.engine.exit(item.id, 1)
    birds.plane.run(20)
    assert begins_with(birds.paths("catalog"), "ann")


def test_what_serves_starts_as_before_where_a_deploy_of_it_fails(birds: Birds) -> None:
    birds.change("shop")
    birds.plane.bad["shop@bbbbbbbb"] = "build"
    birds.apply("bob", "shop")
    birds.plane.run(20)
    assert begins_with(birds.paths("shop"), "ann")


def test_up_is_about_all_also_where_nothing_changed(birds: Birds) -> None:
    birds.apply("bob")
    assert begins_with(birds.paths("shop"), "bob")
    assert begins_with(birds.paths("catalog"), "bob")


def test_who_says_nothing_takes_what_there_was(birds: Birds) -> None:
    birds.apply("bob", "shop")
    wish = body(services=["catalog"])
    assert birds.api.post("/v1/apply", json=wish).status_code == 202
    assert begins_with(birds.paths("catalog"), "ann")


def test_a_gate_is_asked_where_the_manifest_that_names_it_is(birds: Birds) -> None:
    birds.gates.clear()
    birds.change("shop", "catalog")
    birds.apply("bob", "catalog")
    birds.apply("cid", "shop")
    birds.plane.run(30)
    seen = {name: (call.directory, call.environment["PATH"]) for name, call in birds.gates.items()}
    assert seen == {"catalog": ("/bob", "/bob/bin"), "shop": ("/cid", "/cid/bin")}
