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


def down(baseline: bool, *, back_after: float | None = None) -> SimPlane:
    """All instances of the old release crash again and again; its successor has begun."""
    plane = SimPlane()
    api, sent = TestClient(create_app(plane)), body()
    deploy = {"strategy": "canary", "at_most": "10m", "baseline": baseline}
    sent["application"]["services"]["shop"]["needs"] = {}
    sent["application"]["services"]["catalog"] |= {"scale": 10, "deploy": deploy}
    assert api.post("/v1/apply", json=sent).status_code == 202
    plane.run(20)
    healthy_at = float("inf") if back_after is None else plane.line.time + 40 + back_after

    def behaviour(release: str) -> Behaviour:
        bad = release == OLD and plane.line.time < healthy_at
        return Behaviour("crash" if bad else "good")

    plane.engine.behaviour = behaviour
    for identity in [key for key in plane.engine.processes if key.startswith("catalog")]:
        plane.engine.exit(identity, 1)
    plane.run(40)
    plane.sources.version = "bbbbbbbb"
    assert api.post("/v1/apply", json=sent | {"services": ["catalog"]}).status_code == 202
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
