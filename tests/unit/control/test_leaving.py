"""A service that left the manifest stays while somebody calls it, and a route waits for who it
leads to: whatever is renamed, split or refused, users and callers always have somebody."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient
from unit.api.plane import SimPlane, body

from volery.api.app import create_app

Json = dict[str, Any]


class Birds:
    """shop, which users reach and which calls catalog."""

    def __init__(self) -> None:
        self.plane = SimPlane()
        self.api = TestClient(create_app(self.plane))
        self.wanted = body()
        self.apply()
        self.plane.run(8)

    @property
    def manifest(self) -> Json:
        return self.wanted["application"]  # type: ignore[no-any-return]

    @property
    def services(self) -> Json:
        return self.manifest["services"]  # type: ignore[no-any-return]

    def rename(self, old: str, new: str) -> None:
        self.services[new] = self.services.pop(old)
        for route in self.manifest["gateway"]["routes"]:
            route["service"] = new if route["service"] == old else route["service"]
        for service in self.services.values():
            if old in service["needs"]:
                service["needs"][new] = service["needs"].pop(old)

    def apply(self, only: str = "") -> Json:
        wish = self.wanted | ({"services": [only]} if only else {})
        answer = self.api.post("/v1/apply", json=copy.deepcopy(wish))
        assert answer.status_code == 202, answer.text
        return answer.json()  # type: ignore[no-any-return]

    def looks(self, seconds: float = 60.0) -> Iterator[float]:
        end = self.plane.line.time + seconds
        while self.plane.line.time < end:
            yield self.plane.line.time
            self.plane.run(0.2)

    def answers(self, path: str = "/") -> str:
        """Which service answers users there; "" if none can."""
        config = self.plane.controller._router.config(self.plane.operations.world)
        assert config.gateway is not None
        found = {route.path: route.service for route in config.gateway.routes}
        name = found.get(path, found.get("/", ""))
        return name if name and self.serves(name) else ""

    def serves(self, name: str) -> bool:
        config = self.plane.controller._router.config(self.plane.operations.world)
        groups = config.services[name].slots.values() if name in config.services else ()
        return any(not end.draining for group in groups for end in group.endpoints)

    def runs(self, release: str) -> bool:
        items = self.plane.operations.world.instances.values()
        return any(item.release == release and item.intent != "stop" for item in items)

    def phase(self, service: str) -> str:
        rollout = self.api.get(f"/v1/services/{service}/rollout").json()
        return str(rollout["phase"])

    def there(self) -> set[str]:
        return set(self.plane.operations.world.services)


@pytest.fixture
def birds() -> Birds:
    return Birds()


@pytest.mark.parametrize("trouble", ["", "build", "tests"])
def test_a_routed_service_that_is_renamed_answers_until_its_successor_does(
    birds: Birds, trouble: str
) -> None:
    birds.rename("shop", "front")
    birds.plane.bad["front@aaaaaaaa"] = trouble
    birds.apply()
    for _ in birds.looks():
        assert birds.answers(), (birds.plane.line.time, birds.there())
    assert birds.answers() == ("shop" if trouble else "front")
    assert ("shop" in birds.there()) == bool(trouble)
    assert birds.serves("catalog")


def test_a_part_that_is_split_out_is_answered_by_the_whole_until_then(birds: Birds) -> None:
    birds.services["api"] = copy.deepcopy(birds.services["catalog"])
    birds.manifest["gateway"]["routes"].append({"path": "/api", "service": "api"})
    birds.apply()
    assert birds.answers("/api") == "shop"
    for _ in birds.looks():
        assert birds.answers("/api") and birds.answers("/") == "shop"
    assert birds.answers("/api") == "api"
    told = [
        item.text for item in birds.plane.store.events(0, 10**6) if item.kind == "gateway.routed"
    ]
    assert told == ["users reach api from now on"]


def test_what_serves_keeps_its_route_when_it_falls_ill_later(birds: Birds) -> None:
    birds.services["api"] = copy.deepcopy(birds.services["catalog"])
    birds.manifest["gateway"]["routes"].append({"path": "/api", "service": "api"})
    birds.apply()
    birds.plane.run(20)
    for item in birds.plane.operations.world.instances_of("api"):
        birds.plane.engine.exit(item.id, 1)
    birds.plane.run(0.01)
    assert birds.answers("/api") == ""


@pytest.mark.parametrize("trouble", ["", "tests"])
@pytest.mark.parametrize("renamed", [False, True])
def test_a_need_that_left_is_there_for_as_long_as_a_release_that_calls_it(
    birds: Birds, trouble: str, renamed: bool
) -> None:
    if renamed:
        birds.rename("catalog", "wares")
    else:
        birds.services["shop"]["needs"] = {}
        del birds.services["catalog"]
    birds.plane.sources.versions = {"shop": "bbbbbbbb"}
    birds.plane.bad["shop@bbbbbbbb"] = trouble
    birds.apply()
    for _ in birds.looks():
        if birds.runs("shop@aaaaaaaa"):
            assert birds.serves("catalog")
    assert birds.runs("shop@aaaaaaaa") == bool(trouble)
    assert ("catalog" in birds.there()) == bool(trouble)


def test_a_need_that_left_is_healed_while_it_is_called(birds: Birds) -> None:
    birds.services["shop"]["needs"] = {}
    del birds.services["catalog"]
    birds.plane.sources.versions = {"shop": "bbbbbbbb"}
    birds.plane.bad["shop@bbbbbbbb"] = "tests"
    birds.apply()
    birds.plane.run(20)
    (item,) = birds.plane.operations.world.instances_of("catalog")
    birds.plane.engine.exit(item.id, 1)
    birds.plane.run(20)
    assert birds.serves("catalog")
    birds.plane.bad.clear()
    birds.plane.sources.versions = {"shop": "cccccccc"}
    birds.apply()
    birds.plane.run(60)
    assert birds.there() == {"shop"}


def test_who_is_called_by_nobody_leaves_last(birds: Birds) -> None:
    birds.services["worker"] = copy.deepcopy(birds.services["catalog"])
    birds.apply()
    birds.plane.run(20)
    birds.rename("worker", "mover")
    birds.apply()
    for _ in birds.looks():
        assert birds.serves("worker") or birds.serves("mover")
    assert "worker" not in birds.there()


def test_a_deploy_leaves_the_gateway_of_others_alone(birds: Birds) -> None:
    older = copy.deepcopy(birds.wanted)
    birds.services["pay"] = copy.deepcopy(birds.services["catalog"])
    birds.manifest["gateway"]["routes"].append({"path": "/pay", "service": "pay"})
    birds.manifest["gateway"]["port"] = 8090
    birds.apply()
    birds.plane.run(20)
    birds.wanted = older
    birds.plane.sources.versions = {"catalog": "bbbbbbbb"}
    birds.apply(only="catalog")
    birds.plane.run(20)
    assert birds.answers("/pay") == "pay"
    config = birds.plane.controller._router.config(birds.plane.operations.world)
    assert config.gateway is not None and config.gateway.port == 8090


def test_the_rollout_of_a_service_that_left_and_stays_turns_round(birds: Birds) -> None:
    """Nobody could let it go on any more, and what was deployed with it is not to blame."""
    birds.services["pay"] = copy.deepcopy(birds.services["catalog"])
    birds.services["catalog"]["deploy"] |= {"strategy": "canary", "approve": True}
    birds.apply()
    birds.plane.run(20)
    birds.plane.sources.versions = {"catalog": "bbbbbbbb", "pay": "bbbbbbbb"}
    wish = birds.wanted | {"services": ["catalog", "pay"]}
    assert birds.api.post("/v1/apply", json=copy.deepcopy(wish)).status_code == 202
    birds.plane.run(20)
    assert birds.runs("catalog@bbbbbbbb") and birds.phase("pay") == "done"
    birds.services["shop"]["needs"] = {}
    del birds.services["catalog"]
    birds.plane.sources.versions["shop"] = "bbbbbbbb"
    birds.plane.bad["shop@bbbbbbbb"] = "tests"
    birds.apply()
    birds.plane.run(60)
    rollouts = birds.plane.operations.world.rollouts
    assert [item.phase for item in rollouts.values() if item.service == "catalog"][
        -1
    ] == "rolled_back"
    assert birds.serves("catalog") and not birds.runs("catalog@bbbbbbbb")
    assert birds.runs("pay@bbbbbbbb") and not birds.runs("pay@aaaaaaaa")
