"""The remedy for a release that is down does not wait for a comparison with it."""

from __future__ import annotations

import pytest
from simulation.adapters import Behaviour
from starlette.testclient import TestClient
from unit.api.plane import SimPlane, body

from volery.api.app import create_app
from volery.decide.staged import UNOPPOSED
from volery.model.state import Phase, Rollout

OLD, NEW = "catalog@aaaaaaaa", "catalog@bbbbbbbb"


def deploy(
    plane: SimPlane, version: str, *, strategy: str = "canary", baseline: bool = False
) -> None:
    """Bring `catalog` to another version, or everything to the first one."""
    sent = body() if version == "aaaaaaaa" else body(services=["catalog"])
    said = {"strategy": strategy, "at_most": "10m", "watch": "5m", "baseline": baseline}
    sent["application"]["services"]["shop"]["needs"] = {}
    sent["application"]["services"]["catalog"] |= {"scale": 10, "deploy": said}
    plane.sources.version = version
    assert TestClient(create_app(plane)).post("/v1/apply", json=sent).status_code == 202


def down(baseline: bool, *, strategy: str = "canary", back_after: float | None = None) -> SimPlane:
    """All instances of the old release crash again and again; its successor has begun."""
    plane = SimPlane()
    deploy(plane, "aaaaaaaa", strategy=strategy, baseline=baseline)
    plane.run(20)
    healthy_at = float("inf") if back_after is None else plane.line.time + 40 + back_after

    def behaviour(release: str) -> Behaviour:
        bad = release == OLD and plane.line.time < healthy_at
        return Behaviour("crash" if bad else "good")

    plane.engine.behaviour = behaviour
    for identity in [key for key in plane.engine.processes if key.startswith("catalog")]:
        plane.engine.exit(identity, 1)
    plane.run(40)
    deploy(plane, "bbbbbbbb", strategy=strategy, baseline=baseline)
    return plane


def canary(plane: SimPlane) -> Rollout:
    (found,) = (r for r in plane.operations.world.rollouts.values() if r.to_release == NEW)
    return found


@pytest.mark.parametrize("baseline", [False, True])
def test_it_is_whole_at_once_and_serves_within_a_minute(baseline: bool) -> None:
    plane = down(baseline)
    plane.run(25)
    there = plane.operations.world.instances_of("catalog")
    assert sum(map(plane.operations.world.ready, there)) == 10
    plane.run(45)
    assert canary(plane).phase is Phase.DONE
    texts = [event.text for event in plane.store.events(limit=10_000)]
    assert f"catalog: shifting {NEW}: {UNOPPOSED}" in texts


def test_an_old_release_that_comes_back_is_compared_with_again() -> None:
    plane = down(baseline=False, back_after=20.0)
    plane.run(120)
    assert canary(plane).phase is Phase.ANALYSING and 1 < canary(plane).step < 5
    assert UNOPPOSED not in canary(plane).reason


@pytest.mark.parametrize("strategy", ["canary", "blue-green"])
def test_what_alone_serves_is_not_taken_away_for_what_has_still_to_be_built(strategy: str) -> None:
    plane = down(False, strategy=strategy)
    plane.run(25)
    plane.builder.takes = 60, 60
    deploy(plane, "cccccccc", strategy=strategy)
    for _ in range(1_500):
        plane.run(0.1)
        there = plane.operations.world.instances_of("catalog")
        assert sum(map(plane.operations.world.ready, there)) == 10
        if any(item.release == "catalog@cccccccc" for item in there):
            break
    assert canary(plane).phase is Phase.DONE


def test_after_an_abort_somebody_serves_until_the_next_one_is_built() -> None:
    plane = down(False)
    plane.run(25)
    act = TestClient(create_app(plane)).post("/v1/services/catalog/abort", json={})
    assert act.status_code == 202
    plane.builder.takes = 60, 60
    deploy(plane, "cccccccc")
    for _ in range(550):
        plane.run(0.1)
        there = plane.operations.world.instances_of("catalog")
        assert any(map(plane.operations.world.ready, there))
    plane.run(60)
    there = plane.operations.world.instances_of("catalog", "b")
    assert {item.release for item in there} == {"catalog@cccccccc"}


def test_one_that_alone_serves_for_a_moment_gives_way_when_the_old_release_is_back() -> None:
    plane = SimPlane()
    deploy(plane, "aaaaaaaa")
    plane.run(20)
    deploy(plane, "bbbbbbbb")
    while canary(plane).phase is not Phase.ANALYSING:
        plane.run(0.1)
    for identity in [key for key in plane.engine.processes if key.startswith("catalog-aaaaaaaa")]:
        plane.engine.exit(identity, 1)
    plane.run(0.1)
    plane.builder.takes = 60, 60
    deploy(plane, "cccccccc")
    assert canary(plane).phase is Phase.ANALYSING
    plane.run(20)
    assert canary(plane).phase is Phase.ROLLED_BACK
    assert canary(plane).superseded_by == "catalog-r3" and canary(plane).verdict is None
