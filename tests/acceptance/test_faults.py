"""`kill -9` of any process of ours, at any moment: nothing is lost, and no cleanup by hand."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from acceptance.project import Project, processes_of, until
from acceptance.services import HTTP, install, route
from volery.prober import Kind, ProbePlan, Stream, probing
from volery.supervise.ports import reserve

MOMENTS = 4


def web(project: Project, version: str = "1", warmup: float = 0.5, **block: Any) -> None:
    new = "web" not in project.manifest["services"]
    install(project, "web", HTTP, version=version, warmup=warmup, **{"scale": 2} | block)
    if new:
        route(project, "web", "/")


def instances(project: Project) -> list[dict[str, Any]]:
    return list(project.status()["services"]["web"]["instances"])


def healthy(project: Project, count: int = 2) -> bool:
    """Whether all is well: as many instances as wished, all ready, nothing under way."""
    service = project.status()["services"]["web"]
    states = [item["state"] for item in service["instances"]]
    return bool(service["state"] == "healthy" and states == ["ready"] * count)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def shims(project: Project) -> dict[str, int]:
    """Our shims by what they look after: `control`, `envoy`, or an instance's id."""
    found = {}
    for pid in project.status()["processes"]["shims"]:
        folder = Path(psutil.Process(pid).cmdline()[-2])
        found["envoy" if folder.parent.name == "envoy" else folder.name] = pid
    return found


def events(project: Project, kind: str) -> list[dict[str, Any]]:
    lines = project.ok("--output", "json", "events").out.splitlines()
    return [event for event in map(json.loads, lines) if event["kind"] == kind]


def newest(project: Project) -> dict[str, Any]:
    """The service's rollout that was begun last."""
    found: dict[str, Any] = project.ok("--output", "json", "rollout", "web").json
    return found


def test_the_command_is_killed_and_the_deploy_goes_on(project: Project) -> None:
    web(project)
    project.ok("up")
    web(project, "2", warmup=3)
    deploy = project.start("deploy", "web")
    until(lambda: newest(project)["cause"] == "deploy", "it has begun")
    deploy.kill()
    deploy.communicate()
    watched = project.ok("rollout", "web", "--watch", "--output", "json").json
    assert watched["phase"] == "done"
    assert project.get("/")[1].startswith("2 ") and healthy(project)


def test_control_plane_killed_at_rest(project: Project) -> None:
    web(project)
    project.ok("up")
    before = project.status()
    kill(before["processes"]["control_plane"])
    until(lambda: project.volery("--output", "json", "status").code == 0, "it is back")
    after = project.status()
    assert after["processes"]["control_plane"] != before["processes"]["control_plane"]
    assert after["processes"]["envoy"] == before["processes"]["envoy"]
    pids = [item["pid"] for item in before["services"]["web"]["instances"]]
    until(lambda: healthy(project))
    assert [item["pid"] for item in instances(project)] == pids, "adopted, not started again"


def test_an_instance_is_killed(project: Project) -> None:
    web(project)
    project.ok("up")
    victim = instances(project)[0]
    kill(victim["pid"])
    until(lambda: healthy(project) and _restarted(project, victim), "it is started again")
    told = until(lambda: events(project, "instance.restarted"), "it is told")
    assert told[-1]["instance"] == victim["id"] and "SIGKILL" in told[-1]["cause"]


def _restarted(project: Project, victim: dict[str, Any]) -> bool:
    now = next((item for item in instances(project) if item["id"] == victim["id"]), None)
    return now is not None and now["restarts"] == 1 and now["pid"] != victim["pid"]


def test_shims_are_killed(project: Project) -> None:
    web(project)
    project.ok("up")
    before = {item["id"]: item["pid"] for item in instances(project)}
    streams = (Stream(Kind.HTTP1_FRESH, f"http://127.0.0.1:{project.port}/", 20.0),)
    with probing(ProbePlan(streams, 120.0)) as running:
        for name, pid in shims(project).items():
            if name != "envoy":
                kill(pid)
        running.wait_for(20)
    assert running.report.lost == 0, running.report.render()
    until(lambda: project.volery("up").code == 0 and healthy(project), "all is well again")
    for name, pid in before.items():
        same = [item for item in instances(project) if item["id"] == name]
        assert not same or same[0]["pid"] == pid, "no service went along with its shim"
    assert len(_serving(project)) == len(instances(project)), "nothing runs twice"


def _serving(project: Project) -> list[psutil.Process]:
    """The processes of the service itself, wherever they hang."""
    return processes_of(project, "main.py")


def test_envoy_is_killed(project: Project) -> None:
    web(project)
    project.ok("up")
    killed = project.status()["processes"]["envoy"]
    for pid in killed:
        kill(pid)
    until(lambda: _answers(project), "the gateway serves again")
    until(lambda: _another_envoy(project, killed), "the new one is known")
    assert project.get("/")[1].startswith("1 ")
    web(project, "2")
    project.ok("deploy", "web")
    assert project.get("/")[1].startswith("2 "), "the new one follows"


def _another_envoy(project: Project, killed: list[int]) -> bool:
    now = project.status()["processes"]["envoy"]
    return bool(now) and not set(now) & set(killed)


def _answers(project: Project) -> bool:
    try:
        return project.get("/")[0] == 200
    except OSError:
        return False


def test_envoy_is_killed_while_no_control_plane_runs(project: Project) -> None:
    web(project)
    project.ok("up")
    processes = project.status()["processes"]
    kill(shims(project)["control"])
    kill(processes["control_plane"])
    until(lambda: not psutil.pid_exists(processes["control_plane"]), "it is gone")
    for pid in processes["envoy"]:
        kill(pid)
    until(lambda: _answers(project), "the gateway serves the same again")
    project.ok("up")
    assert healthy(project)


def test_envoy_is_killed_while_the_control_plane_hangs(project: Project) -> None:
    web(project)
    project.ok("up")
    processes = project.status()["processes"]
    plane = psutil.Process(processes["control_plane"])
    plane.suspend()
    try:
        for pid in processes["envoy"]:
            kill(pid)
        until(lambda: _answers(project), "the gateway serves the same again")
    finally:
        plane.resume()
        until(lambda: healthy(project) and _answers(project))


def test_an_exit_while_no_control_plane_looks_is_told_afterwards(project: Project) -> None:
    web(project)
    project.ok("up")
    victim = instances(project)[0]
    plane = psutil.Process(project.status()["processes"]["control_plane"])
    plane.suspend()
    try:
        kill(victim["pid"])
        until(lambda: len(_serving(project)) == 2 and _not(project, victim["pid"]), "its shim acts")
    finally:
        plane.resume()
    told = until(lambda: events(project, "instance.restarted"), "it is told")
    assert told[0]["instance"] == victim["id"] and "SIGKILL" in told[0]["cause"]
    until(lambda: healthy(project))


def _not(project: Project, pid: int) -> bool:
    return pid not in {process.pid for process in _serving(project)}


@pytest.mark.parametrize("seed", range(MOMENTS))
def test_anything_killed_at_a_random_moment_of_a_deploy(project: Project, seed: int) -> None:
    pick = random.Random(seed)
    strategy = pick.choice(["rolling", "blue-green"])
    web(project, deploy={"strategy": strategy, "warm": "1s"})
    project.ok("up")
    web(project, "2", warmup=0.3)
    deploy = project.start("deploy", "web")
    try:
        for _ in range(pick.randint(1, 3)):
            time.sleep(pick.uniform(0.0, 1.2))  # the moment is the fault, not a synchronisation
            victims = _ours(project)
            if victims:
                kill(victims[pick.randrange(len(victims))].pid)
    finally:
        deploy.communicate(timeout=300)
    until(lambda: project.volery("up").code == 0 and healthy(project), "it converges")
    version = project.get("/")[1].split()[0]
    assert version == "2", "`up` brings what the source says"
    assert len(_serving(project)) == 2, "no orphan"
    _check_nothing_leaked(project)


def _ours(project: Project) -> list[psutil.Process]:
    """Every process of this environment, in a stable order."""
    found = []
    for process in psutil.process_iter(["cmdline", "create_time"]):
        words = " ".join(process.info["cmdline"] or [])
        inside = str(project.home) in words and "volery.api" not in words
        if inside or "volery.api.daemon " + str(project.home) in words:
            found.append(process)
    found += _serving(project)
    return sorted(found, key=lambda item: (item.create_time(), item.pid))


def _check_nothing_leaked(project: Project) -> None:
    """After `down`: no process, and the ports of the instances are free to be reserved again."""
    ports = [int(item["address"].rpartition(":")[2]) for item in instances(project)]
    project.ok("down")
    assert _ours(project) == []
    for port in ports:
        reservation = reserve(port)
        try:
            assert reservation.port == port, "a lock was left behind"
        finally:
            reservation.close()


def test_two_up_at_once(project: Project) -> None:
    web(project)
    first, second = project.start("up"), project.start("up")
    outputs = [process.communicate(timeout=300) for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], outputs
    assert healthy(project) and len(_serving(project)) == 2


def test_down_during_a_deploy_and_twice(project: Project) -> None:
    web(project)
    project.ok("up")
    web(project, "2", warmup=5)
    deploy = project.start("deploy", "web")
    until(lambda: project.status()["services"]["web"]["rollout"], "it has begun")
    project.ok("down")
    out, err = deploy.communicate(timeout=300)
    assert deploy.returncode not in (0, None) and "Traceback" not in out + err
    assert _ours(project) == []
    again = project.ok("down")
    assert "nothing was running" in again.out
    web(project, "3", warmup=0)
    project.ok("up")
    assert project.get("/")[1].startswith("3 ")
