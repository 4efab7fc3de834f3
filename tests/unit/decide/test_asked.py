"""What a rollout asks outside, and when."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from unit.decide.worlds import application, instance, running, seen, slot

from volery.decide.asked import calls, streaks
from volery.decide.world import World
from volery.model.ports import Answer, GateCall, MetricCall
from volery.model.state import Phase, Release, Rollout, Track

DEPLOY: dict[str, Any] = {
    "strategy": "canary",
    "gates": [{"url": "/smoke"}],
    "metrics": {
        "each": {"command": "depth {release}", "limit": "< 5"},
        "both": {"command": "depth ${release}", "limit": "< 5"},
    },
}


def canary(phase: Phase, *states: str, protocol: str = "http") -> World:
    """A rollout of `web` whose new group of two has instances in these states."""
    app = application(web={"deploy": DEPLOY, "protocol": protocol})
    world = running(app, {"web": 2})
    new = Release("web@2", "web", "2", app.services["web"], 0.0, state="live")
    rollout = Rollout(
        "web-r1", "web", "web@2", "canary", "b", "web-g2", 0.0, 0.0, "web@1", phase=phase
    )
    service = world.services["web"]
    group = replace(slot("web@2", 2, 0), track=Track.CANARY)
    service = replace(service, slots={**service.slots, "b": group})
    names = [f"web-2-{number}" for number in range(1, len(states) + 1)]
    there = {name: instance(name, "web", "web@2", "b") for name in names}
    looks = {name: seen(name, 9, state) for name, state in zip(names, states, strict=True)}
    return replace(
        world,
        services={"web": service},
        releases={**world.releases, "web@2": new},
        rollouts={"web-r1": rollout},
        instances={**world.instances, **there},
        observed={**world.observed, **looks},
    )


def asked(world: World) -> dict[str, Any]:
    return dict(calls(world, lambda *_: 1))


def test_a_step_is_asked_about_when_all_of_its_group_is_there() -> None:
    for states in ((), ("starting",), ("ready", "starting"), ("ready", "unready")):
        assert asked(canary(Phase.STARTING, *states)) == {}
    (call,) = asked(canary(Phase.STARTING, "ready", "ready", protocol="grpc")).values()
    assert isinstance(call, GateCall)
    assert set(call.subject.instances) == {"web-2-1", "web-2-2"}
    assert call.subject.protocol == "grpc"


def test_the_old_release_is_asked_about_where_the_question_tells_them_apart() -> None:
    found = asked(canary(Phase.ANALYSING, "ready", "ready"))
    metrics = {key: call for key, call in found.items() if isinstance(call, MetricCall)}
    assert {key: call.subject.release for key, call in metrics.items()} == {
        "web-r1/metric/each/new": "web@2",
        "web-r1/metric/each/old": "web@1",
        "web-r1/metric/both/new": "web@2",
    }


def test_a_number_outside_its_limit_counts() -> None:
    world = canary(Phase.ANALYSING, "ready", "ready")
    rollout, deploy = world.rollouts["web-r1"], world.services["web"].config.deploy
    found = streaks(rollout, deploy, {}, {})
    for at in (1.0, 2.0):
        answers = {"web-r1/metric/each/new": Answer("yes", "9", 9.0, at)}
        found = streaks(rollout, deploy, answers, found)
        found = streaks(rollout, deploy, answers, found)
    assert (found["each"].failures, found["each"].good) == (2, False)
