"""Single crashes of what takes over in stages are compared with the old release's; a loop takes it
back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from starlette.testclient import TestClient
from unit.api.plane import SimPlane, body

from volery.api.app import create_app
from volery.model.ports import RESTARTS
from volery.model.state import Phase, Rollout

CANARY: dict[str, object] = {"strategy": "canary", "steps": ["50%"]}
GATES = [{"when": "before_step", "command": ["./free.sh"], "on_failure": "hold"}]
APPROVED = CANARY | {"approve": True, "at_most": "10s", "on_inconclusive": "promote"}
HELD: dict[str, dict[str, object]] = {
    "canary before its last step": APPROVED,
    "canary before its first step": CANARY | {"gates": GATES},
    "canary that gets copies": CANARY | {"mirror": "100%", "at_most": "1h"},
    "blue-green before its switch": {"strategy": "blue-green", "approve": True},
    "blue-green that is watched": {"strategy": "blue-green", "watch": "1h"},
}


def waiting(deploy: dict[str, object] = APPROVED) -> SimPlane:
    """Instances of a new release beside four old ones are there, and something is waited for."""
    plane = SimPlane()
    plane.outside.replies = lambda key, call: "no"
    api, sent = TestClient(create_app(plane)), body()
    sent["application"]["services"]["shop"]["needs"] = {}
    sent["application"]["services"]["catalog"] |= {"scale": 4, "deploy": deploy}
    assert api.post("/v1/apply", json=sent).status_code == 202
    plane.run(10)
    plane.sources.version = "bbbbbbbb"
    assert api.post("/v1/apply", json=sent | {"services": ["catalog"]}).status_code == 202
    plane.run(30)
    assert canary(plane).phase in (Phase.PAUSED, Phase.ANALYSING)
    return plane


def canary(plane: SimPlane) -> Rollout:
    return plane.operations.world.rollouts["catalog-r2"]


@pytest.mark.parametrize(
    ("pause", "phase"), [(70.0, Phase.PAUSED), (50.0, Phase.ROLLED_BACK), (2.0, Phase.ROLLED_BACK)]
)
def test_only_a_loop_is_a_reason_of_its_own(pause: float, phase: Phase) -> None:
    plane = waiting()
    for _ in range(4):
        if "catalog-bbbbbbbb-1" in plane.engine.processes:
            plane.engine.exit("catalog-bbbbbbbb-1", 1)
        plane.run(pause)
    plane.run(10)
    assert canary(plane).phase is phase
    if phase is Phase.ROLLED_BACK:
        assert canary(plane).reason.startswith("catalog-bbbbbbbb-1 crashed after it was ready")


@pytest.mark.parametrize("held", HELD)
def test_one_crash_is_none_wherever_it_waits(held: str) -> None:
    plane = waiting(HELD[held])
    before = canary(plane)
    for _ in range(2):
        plane.engine.exit("catalog-bbbbbbbb-1", 1)
        plane.run(70)
    now = canary(plane)
    assert (now.phase, now.step, now.weight) == (before.phase, before.step, before.weight)
    plane.engine.exit("catalog-bbbbbbbb-1", 1)
    plane.run(10)
    plane.engine.exit("catalog-bbbbbbbb-1", 1)
    plane.run(10)
    assert canary(plane).phase is Phase.ROLLED_BACK


def test_how_it_ended_is_told_also_where_it_goes_back_before_that_is_known() -> None:
    plane = waiting()
    for identity in [key for key in plane.engine.processes if "bbbbbbbb" in key]:
        plane.engine.exit(identity, 7)
        process = plane.engine.processes[identity]
        process.seen = replace(process.seen, exit=None, detail=RESTARTS)
    while plane.controller.tick():
        pass
    gone = canary(plane)
    assert gone.phase is Phase.ROLLING_BACK
    assert gone.reason == f"no instance of catalog@bbbbbbbb is ready: {RESTARTS}"
    for process in plane.engine.processes.values():
        if process.seen.exits:
            process.seen = replace(process.seen, exit=process.seen.exits[-1])
    plane.run(20)
    assert canary(plane).phase is Phase.ROLLED_BACK
    assert (
        canary(plane).reason
        == "no instance of catalog@bbbbbbbb is ready: exit code 7; it starts again"
    )
    assert "exit code 7" in plane.operations.world.releases["catalog@bbbbbbbb"].reason
