"""Instances that fall ill, with real processes and a real Envoy: out of rotation, replaced, proved.

How fast things go is measured by `benchmarks`; here it only matters that they happen, and why.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from acceptance.project import Project, until
from acceptance.services import environment_of, install, route
from acceptance.sick import HEALTH, SICK, become, events, heal_events, instances, ready, spent
from volery.prober import Kind, ProbePlan, Running, Stream, probing


def web(project: Project, **block: Any) -> None:
    body: dict[str, Any] = {"scale": 3, "health": HEALTH} | block
    install(project, "web", SICK, **body)
    route(project, "web", "/")
    project.ok("up")


@pytest.fixture
def busy(project: Project) -> Iterator[Running]:
    """Three ready instances under load, none of which may be slow for being young."""
    web(project, deploy={"warm_up": "0s"})
    with load(project) as running:
        running.wait_for(100)
        yield running


def load(project: Project, rate: float = 60.0) -> Any:
    stream = Stream(Kind.HTTP1, f"http://127.0.0.1:{project.port}/", rate)
    return probing(ProbePlan((stream,), 120.0))


def helped(project: Project, ailment: str) -> dict[str, Any]:
    """Wait for the heal's verdict; its event."""
    found = until(lambda: heal_events(project, "heal.helped", ailment), f"{ailment} is healed")
    return dict(found[0])


def replaced(project: Project, victim: str) -> None:
    until(
        lambda: (
            victim not in [item["id"] for item in instances(project)] and len(ready(project)) == 3
        ),
        f"{victim} is replaced",
    )


def test_one_that_is_killed_comes_back_and_it_is_told(project: Project) -> None:
    web(project)
    victim = instances(project)[0]
    os.kill(victim["pid"], signal.SIGKILL)
    until(lambda: events_of(project, "instance.restarted"), "the restart is told")
    (event,) = events_of(project, "instance.restarted")
    assert event["cause"] == "killed by SIGKILL"
    assert event["data"]["ended_at"]
    assert helped(project, "exited")["data"]["done"] == "its shim starts it again"
    assert sorted(ready(project)) == sorted(item["id"] for item in instances(project))


def test_one_that_hangs_leaves_the_rotation_and_is_killed(project: Project, busy: Running) -> None:
    victim = instances(project)[0]
    os.kill(victim["pid"], signal.SIGSTOP)
    replaced(project, victim["id"])
    (begun,) = heal_events(project, "heal.started", "hung")
    assert begun["instance"] == victim["id"]
    stopping = [
        item for item in events_of(project, "instance.stopping") if item["instance"] == victim["id"]
    ]
    assert "never answer" in stopping[0]["cause"] or "nothing is in flight" in stopping[0]["cause"]
    helped(project, "hung")


def test_one_that_hangs_unasked_is_found_by_the_requests_it_does_not_answer(
    project: Project,
) -> None:
    """Without a path to ask for, a connection is all that is tried, and the kernel accepts it."""
    install(project, "web", SICK, scale=3, health={"every": "200ms", "startup": "30s"})
    project.service("caller", needs={"web": {"timeout": "1s"}})
    project.ok("up")
    edge = environment_of(instances(project, "caller")[0]["pid"])["WEB_URL"]
    victim = instances(project)[0]
    with probing(ProbePlan((Stream(Kind.HTTP1, edge + "/", 90.0),), 120.0)) as running:
        running.wait_for(100)
        began = time.monotonic()
        os.kill(victim["pid"], signal.SIGSTOP)
        until(lambda: begun_heals(project), "it is found")
        print(f"found after {spent(began):.1f} s")
        replaced(project, victim["id"])
    assert victim["id"] in {item["instance"] for item in begun_heals(project)}


def begun_heals(project: Project) -> list[dict[str, Any]]:
    """Whichever is first: its requests have failed, or what waits to be accepted is too much."""
    return [
        event
        for ailment in ("errors", "hung")
        for event in heal_events(project, "heal.started", ailment)
    ]


@pytest.mark.parametrize(("mode", "ailment"), [("errors", "errors"), ("slow", "slow")])
def test_one_that_is_worse_than_its_siblings_is_replaced_on_evidence(
    project: Project, busy: Running, mode: str, ailment: str
) -> None:
    victim = instances(project)[1]
    become(victim["address"], mode)
    replaced(project, victim["id"])
    (begun,) = heal_events(project, "heal.started", ailment)
    assert begun["instance"] == victim["id"]
    assert begun["data"]["evidence"]["odds"] >= 1e6
    helped(project, ailment)


def test_one_that_leaks_is_replaced_before_it_reaches_its_limit(project: Project) -> None:
    web(project, resources={"memory": "384Mi"})
    victim = instances(project)[2]
    become(victim["address"], "leak")
    replaced(project, victim["id"])
    assert heal_events(project, "heal.started", "leaking")[0]["instance"] == victim["id"]
    assert not events_of(project, "instance.restarted"), "it was not killed for its memory"


def test_old_ones_are_replaced_one_at_a_time(project: Project) -> None:
    web(project, max_age="8s", scale=2)
    helped(project, "old")
    begun = heal_events(project, "heal.started", "old")
    ended = heal_events(project, "heal.helped", "old")
    assert len(begun) <= len(ended) + 1


def test_a_release_that_crashes_right_after_its_deploy_is_taken_back(project: Project) -> None:
    web(project, scale=2)
    before = project.status()["services"]["web"]["release"]
    install(project, "web", SICK, version="2", warmup=15)
    project.ok("deploy", "web")
    until(
        lambda: (
            project.status()["services"]["web"]["release"] == before
            and project.status()["services"]["web"]["rollout"] is None
        ),
        "the release before it is back",
    )
    listed = project.ok("--output", "json", "releases", "web").json["releases"]
    bad = next(item for item in listed if item["release"] != before)
    assert bad["state"] == "refused"
    assert "crashed" in bad["reason"]
    told = project.ok("events", "--why", "web").out
    assert "heal from" in told
    assert "crashed" in told


def test_a_need_that_is_down_takes_no_caller_with_it(project: Project) -> None:
    install(project, "store", SICK, health={"ready": "/healthz", "every": "200ms"})
    install(
        project,
        "web",
        SICK,
        scale=2,
        needs={"store": {"importance": "critical"}},
        health=HEALTH | {"every": "200ms", "unready": "2s"},
    )
    route(project, "web", "/")
    project.ok("up")
    pids = sorted(item["pid"] for item in instances(project))
    become(instances(project, "store")[0]["address"], "unready")
    lacking = until(lambda: project.status()["services"]["web"]["needs_down"], "the need is down")
    assert lacking[0]["importance"] == "critical"
    assert project.status()["services"]["web"]["state"] == "down"
    until(lambda: not ready(project), "its callers are not ready")
    become(instances(project, "store")[0]["address"], "well")
    until(lambda: project.status()["services"]["web"]["state"] == "healthy", "all is well again")
    assert sorted(item["pid"] for item in instances(project)) == pids, "nobody was restarted"
    assert not [item for item in events(project, "web") if item["kind"] == "heal.started"]


def test_why_tells_what_was_seen_decided_and_done(project: Project) -> None:
    web(project)
    os.kill(instances(project)[0]["pid"], signal.SIGSTOP)
    until(lambda: heal_events(project, "heal.watching", "hung"), "it is replaced")
    found = project.ok("--output", "json", "events", "--why", "web").json
    chapter = next(item for item in found["chapters"] if item["about"] == "heal")
    parts = [line["part"] for line in chapter["sentences"]]
    assert parts[:2] == ["seen", "decided"]
    assert "done" in parts
    text = project.ok("events", "--why", "web").out
    assert "it accepts and never answers" in text
    project.ok("down")
    assert "never answers" in project.ok("events", "--why", "web").out


def events_of(project: Project, kind: str) -> list[dict[str, Any]]:
    return [item for item in events(project) if item["kind"] == kind]


def test_ends_that_no_control_plane_saw_are_told_one_by_one(project: Project) -> None:
    web(project, scale=1)
    victim = instances(project)[0]
    processes = project.status()["processes"]
    shims = {Path(psutil.Process(pid).cmdline()[-2]).name: pid for pid in processes["shims"]}
    os.kill(shims["control"], signal.SIGKILL)
    os.kill(processes["control_plane"], signal.SIGKILL)
    shim = psutil.Process(shims[victim["id"]])
    killed: set[int] = set()
    while len(killed) < 3:
        (child,) = until(shim.children, "the shim starts it again")
        if child.pid not in killed and child.status() != psutil.STATUS_ZOMBIE:
            os.kill(child.pid, signal.SIGKILL)
            killed.add(child.pid)
            until(lambda: {item.pid for item in shim.children()} - killed, "it is back")
    project.ok("up")
    told = until(lambda: events_of(project, "instance.restarted"), "it is told")
    assert [item["data"]["restarts"] for item in told] == [1, 2, 3]
    assert len({item["data"]["ended_at"] for item in told}) == 3
    assert {item["cause"] for item in told} == {"killed by SIGKILL"}
