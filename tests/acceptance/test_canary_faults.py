"""A canary goes on to its right end whatever is killed beside it, and nothing runs twice."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter

import pytest

from acceptance.canaries import (
    bird,
    events,
    flock,
    lost,
    reached,
    releases,
    rollout,
    serves_alone,
    users,
)
from acceptance.project import Project, processes_of, until


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("good", [True, False], ids=["good", "bad"])
def test_the_control_plane_is_killed_in_the_middle(project: Project, good: bool) -> None:
    flock(project, deploy={"steps": ["50%"]})
    with users(project, rate=150) as running:
        bird(project, "2", fail=0 if good else 0.07)
        deploy = project.start("--output", "json", "deploy", "web")
        begun = reached(project, "analysing")
        until(lambda: n(project) > 40, "evidence is there")
        kill(project.status()["processes"]["control_plane"])
        out, err = deploy.communicate(timeout=300)
        assert deploy.returncode == (0 if good else 3), out + err
    ended = json.loads(out)
    assert ended["id"] == begun["id"]
    assert lost(running.report) == {}, running.report.render(samples=20)
    kinds = Counter(event["kind"] for event in events(project, "rollout.") if of(event, begun))
    end = "rollout.done" if good else "rollout.rolled_back"
    assert {kinds[k] for k in ("rollout.started", "rollout.starting", end)} == {1}, kinds
    counted = next(line for line in ended["evidence"] if line["metric"] == "errors")
    assert counted["n"] <= running.report.versions["2"] + running.report.lost, "none counted twice"
    serves_alone(project, "2" if good else "1")
    there = len(processes_of(project, "bird.py"))
    assert there == (4 if good else 2), "the old group is warm, or the new one gone"


def of(event: dict[str, object], item: dict[str, object]) -> bool:
    data = event["data"]
    return isinstance(data, dict) and data.get("rollout") == item["id"]


def n(project: Project) -> int:
    """How many requests of the new release count so far."""
    return next(
        (line["n"] for line in rollout(project)["evidence"] if line["metric"] == "errors"), 0
    )


def test_envoy_is_killed_in_the_middle(project: Project) -> None:
    """Users of that moment see it, and it is held against neither release."""
    flock(project, deploy={"steps": ["50%", "60%"]})
    with users(project) as running:
        bird(project, "2")
        deploy = project.start("--output", "json", "deploy", "web")
        reached(project, "analysing")
        until(lambda: n(project) > 40, "evidence is there")
        for pid in project.status()["processes"]["envoy"]:
            kill(pid)
        reached(project, "analysing", step=2)  # by evidence, of both Envoys
        project.ok("promote", "web", "--full")
        out, err = deploy.communicate(timeout=300)
        assert deploy.returncode == 0, out + err
    report = running.report
    assert set(report.causes) <= {"refused", "reset", "closed_before_answer", "timeout"}
    assert releases(project)[0][0] == "live"
    serves_alone(project, "2")


def test_one_of_its_instances_is_killed(project: Project) -> None:
    """Once may happen to anybody: it is started again, counted, and the canary goes on."""
    flock(project, scale=4, deploy={"steps": ["50%"]})
    with users(project):
        bird(project, "2")
        deploy = project.start("--output", "json", "deploy", "web")
        reached(project, "analysing")
        until(lambda: n(project) > 40, "evidence is there")
        found = project.status()["services"]["web"]["instances"]
        victim = next(item for item in found if item["track"] == "canary")
        kill(victim["pid"])
        until(lambda: said(project, "exits").startswith("exits 1 in "), "it is counted")
        until(lambda: again(project, victim["id"]), "it is started again")
        assert rollout(project)["phase"] == "analysing"
        project.ok("promote", "web", "--full")
        out, err = deploy.communicate(timeout=300)
    assert deploy.returncode == 0, out + err
    serves_alone(project, "2")


def said(project: Project, metric: str) -> str:
    lines = rollout(project)["evidence"]
    return next((str(line["text"]) for line in lines if line["metric"] == metric), "")


def again(project: Project, identity: str) -> bool:
    found = project.status()["services"]["web"]["instances"]
    seen = next(item for item in found if item["id"] == identity)
    return bool(seen["restarts"] == 1 and seen["state"] == "ready")
