"""`rollback` while a rollout runs: that one is turned round, and what was asked for serves."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from starlette.testclient import TestClient
from unit.api.plane import SimPlane, body

from volery.api.app import create_app
from volery.model.state import Phase, Rollout


class Shop:
    """`catalog` through the API, on simulated time."""

    def __init__(self) -> None:
        self.plane = SimPlane()
        self.api = TestClient(create_app(self.plane))
        self.deploy("aaaaaaaa", everything=True)
        self.plane.run()

    def deploy(self, version: str, *, everything: bool = False) -> None:
        self.plane.sources.version = version
        services = None if everything else ["catalog"]
        assert self.api.post("/v1/apply", json=body(services=services)).status_code == 202

    def rollback(self, to: str | None = None) -> dict[str, object]:
        answer = self.api.post("/v1/services/catalog/rollback", json={"to": to, "by": "ann"})
        assert answer.status_code == 202, answer.json()
        found: dict[str, object] = answer.json()
        return found

    def until(self, condition: Callable[[], object]) -> None:
        for _ in range(400):
            if condition():
                return
            self.plane.run(0.1)
        raise AssertionError("never")

    def until_phase(self, phase: Phase) -> None:
        self.until(lambda: self.rollouts()[-1].phase is phase)

    def rollouts(self) -> list[Rollout]:
        found = self.plane.operations.world.rollouts.values()
        return sorted(
            (item for item in found if item.service == "catalog"),
            key=lambda item: int(item.id.rpartition("r")[2]),
        )

    def live(self) -> str:
        service = self.plane.operations.world.services["catalog"]
        assert service.live is not None and service.live.weight == 100
        return service.live.release

    def told(self) -> list[tuple[str, Phase]]:
        """Where each rollout went to, and how it ended."""
        return [(item.to_release, item.phase) for item in self.rollouts()]


@pytest.fixture
def shop() -> Shop:
    return Shop()


DONE, BACK = Phase.DONE, Phase.ROLLED_BACK


@pytest.mark.parametrize("phase", [Phase.BUILDING, Phase.STARTING, Phase.SHIFTING])
def test_turning_round_is_the_way_back(shop: Shop, phase: Phase) -> None:
    shop.deploy("bbbbbbbb")
    shop.until_phase(phase)
    assert shop.rollback() == {"rollouts": ["catalog-r2"], "release": "catalog@aaaaaaaa"}
    shop.plane.run(20)
    assert shop.told() == [("catalog@aaaaaaaa", DONE), ("catalog@bbbbbbbb", BACK)]
    assert shop.live() == "catalog@aaaaaaaa"
    assert shop.rollouts()[-1].reason == "rollback asked for by ann"


@pytest.mark.parametrize("phase", [Phase.BUILDING, Phase.STARTING, Phase.SHIFTING])
def test_further_back_follows_when_the_running_one_has_ended(shop: Shop, phase: Phase) -> None:
    shop.deploy("bbbbbbbb")
    shop.plane.run(20)
    shop.deploy("cccccccc")
    shop.until_phase(phase)
    assert shop.rollback("aaaa") == {"rollouts": ["catalog-r3"], "release": "catalog@aaaaaaaa"}
    shop.until(lambda: len(shop.rollouts()) == 4)
    shop.plane.run(20)
    assert shop.told()[1:] == [
        ("catalog@bbbbbbbb", DONE),
        ("catalog@cccccccc", BACK),
        ("catalog@aaaaaaaa", DONE),
    ]
    assert shop.live() == "catalog@aaaaaaaa"
    last = shop.rollouts()[-1]
    assert (last.cause, last.by, last.group) == ("rollback", "ann", "catalog-r3")
    events = shop.api.get("/v1/events").json()["events"]
    assert any(e["kind"] == "rollout.started" and "catalog-r4" in str(e["data"]) for e in events)


def test_another_wish_while_it_is_being_turned_round(shop: Shop) -> None:
    shop.deploy("bbbbbbbb")
    shop.plane.run(20)
    shop.deploy("cccccccc")
    shop.until_phase(Phase.SHIFTING)
    shop.rollback("aaaa")
    assert shop.rollouts()[-1].phase is Phase.ROLLING_BACK
    assert shop.rollback() == {"rollouts": ["catalog-r3"], "release": "catalog@bbbbbbbb"}
    shop.plane.run(30)
    assert shop.live() == "catalog@bbbbbbbb" and len(shop.rollouts()) == 3


def test_said_twice_it_goes_back_once(shop: Shop) -> None:
    shop.deploy("bbbbbbbb")
    shop.plane.run(20)
    first = shop.rollback()
    shop.until_phase(Phase.STARTING)
    assert shop.rollback() == first == {"rollouts": ["catalog-r3"], "release": "catalog@aaaaaaaa"}
    shop.plane.run(20)
    assert shop.live() == "catalog@aaaaaaaa" and len(shop.rollouts()) == 3


def test_a_restart_is_turned_round_and_the_earlier_release_comes(shop: Shop) -> None:
    shop.deploy("bbbbbbbb")
    shop.plane.run(20)
    shop.api.post("/v1/services/catalog/restart", json={})
    shop.until_phase(Phase.STARTING)
    assert shop.rollback()["release"] == "catalog@aaaaaaaa"
    shop.plane.run(30)
    assert shop.live() == "catalog@aaaaaaaa"


def test_down_meanwhile_leaves_nothing_to_come(shop: Shop) -> None:
    shop.deploy("bbbbbbbb")
    shop.plane.run(20)
    shop.deploy("cccccccc")
    shop.until_phase(Phase.SHIFTING)
    shop.rollback("aaaa")
    shop.api.post("/v1/down", json={})
    shop.plane.run(20)
    assert shop.plane.operations.gone and len(shop.rollouts()) == 3


def test_twice_goes_further_back_and_not_to_and_fro(shop: Shop) -> None:
    for version in ("bbbbbbbb", "cccccccc"):
        shop.deploy(version)
        shop.plane.run(20)
    for earlier in ("catalog@bbbbbbbb", "catalog@aaaaaaaa"):
        assert shop.rollback()["release"] == earlier
        shop.plane.run(20)
        assert shop.live() == earlier
    refused = shop.api.post("/v1/services/catalog/rollback", json={})
    assert refused.status_code == 409 and "--to" in refused.json()["error"]["hint"]
    found = shop.api.get("/v1/services/catalog/releases").json()["releases"]
    assert [item["reason"] for item in found] == ["rolled back by ann"] * 2 + [""]
    shop.deploy("bbbbbbbb")
    shop.plane.run(20)
    shop.deploy("dddddddd")
    shop.plane.run(20)
    assert shop.rollback()["release"] == "catalog@bbbbbbbb", "it was deployed again"


def test_one_that_was_aborted_says_so_and_is_not_gone_back_to(shop: Shop) -> None:
    shop.deploy("bbbbbbbb")
    shop.until_phase(Phase.SHIFTING)
    assert shop.api.post("/v1/services/catalog/abort", json={"by": "ann"}).status_code == 202
    shop.plane.run(20)
    found = shop.api.get("/v1/services/catalog/releases").json()["releases"]
    assert found[0]["state"] == "kept"
    assert found[0]["reason"] == "never served all requests: abort asked for by ann"
    assert shop.api.post("/v1/services/catalog/rollback", json={}).status_code == 409


def test_nothing_to_go_back_to_says_what_to_do() -> None:
    plane = SimPlane()
    api = TestClient(create_app(plane))
    api.post("/v1/apply", json=body())
    refused = api.post("/v1/services/catalog/rollback", json={})
    assert refused.status_code == 409
    error = refused.json()["error"]
    assert "nothing to go back to" in error["message"]
    assert error["hint"] == "volery abort catalog"
    unknown = api.post("/v1/services/catalog/rollback", json={"to": "ffff"})
    assert unknown.status_code == 409
