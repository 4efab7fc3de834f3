"""The main job as a user types it: up, deploy, rollback, scale, restart, down."""

from __future__ import annotations

import json
import os
import signal

from acceptance.project import Project, until


def test_from_source_to_users_and_back(project: Project) -> None:
    project.service("catalog", scale=2)
    project.service("shop", needs=["catalog"])
    up = project.ok("up")
    assert f"http://127.0.0.1:{project.port}" in up.out
    assert project.get("/catalog/x/y")[1].count('"path": "/x/y"') == 1
    status, body = project.get("/shop/call/catalog")
    assert status == 200 and json.loads(body)["service"] == "catalog"

    before = project.status()
    assert before["app"] == "trial" and before["environment"] == "dev"
    assert before["gateway"] == {
        "url": f"http://127.0.0.1:{project.port}",
        "state": "ready",
        "port": project.port,
    }
    catalog = before["services"]["catalog"]
    assert catalog["state"] == "healthy" and catalog["desired"] == 2
    assert [item["state"] for item in catalog["instances"]] == ["ready", "ready"]
    assert {item["track"] for item in catalog["instances"]} == {"stable"}

    again = project.ok("up")
    assert "shifting" not in again.text
    after = project.status()
    pids = [item["pid"] for item in catalog["instances"]]
    assert [item["pid"] for item in after["services"]["catalog"]["instances"]] == pids

    project.service("catalog", version="2")
    deployed = project.ok("--output", "json", "deploy", "catalog").json
    assert deployed["phase"] == "done" and deployed["weight"] == 100
    assert deployed["from"] == catalog["release"] != deployed["to"]
    assert set(deployed["seconds"]) == {"build", "test", "start", "shift"}
    assert project.version("catalog") == "2"

    releases = project.ok("--output", "json", "releases", "catalog").json
    assert releases["service"] == "catalog"
    assert [item["state"] for item in releases["releases"]] == ["live", "kept"]
    back = project.ok("--output", "json", "rollback", "catalog").json
    assert back["to"] == catalog["release"]
    assert project.version("catalog") == "1"

    project.ok("scale", "catalog", "3")
    assert len(project.status()["services"]["catalog"]["instances"]) == 3
    project.ok("scale", "catalog", "1")
    pid = project.status()["services"]["catalog"]["instances"][0]["pid"]
    project.ok("restart", "catalog")
    assert project.status()["services"]["catalog"]["instances"][0]["pid"] != pid

    project.ok("down")
    assert project.volery("status").code == 7
    project.ok("up")
    assert project.version("catalog") == "2", "up brings what the manifest's source says"


def test_unchanged_source_is_not_built_again(project: Project) -> None:
    mark = project.folder / "built"
    build = [f"sh -c 'echo x >> {mark}'"]
    project.service("catalog", build=build)
    project.ok("up")
    unchanged = project.ok("deploy", "catalog")
    assert "unchanged" in unchanged.out
    project.service("catalog", version="2")
    project.ok("deploy", "catalog")
    project.ok("rollback", "catalog")
    assert mark.read_text() == "x\nx\n"


def test_blue_green_keeps_the_old_group_warm(project: Project) -> None:
    project.service("catalog", deploy={"strategy": "blue-green"})
    project.ok("up")
    old = project.status()["services"]["catalog"]["instances"][0]
    project.service("catalog", version="2")
    project.ok("deploy", "catalog")
    assert project.version("catalog") == "2"
    tracks = {
        item["track"]: item["pid"] for item in project.status()["services"]["catalog"]["instances"]
    }
    assert tracks["blue"] == old["pid"], "the old group still runs"
    states = project.ok("--output", "json", "releases", "catalog").json["releases"]
    assert [item["state"] for item in states] == ["live", "warm"]
    project.ok("rollback", "catalog")
    assert project.version("catalog") == "1"
    live = [
        item
        for item in project.status()["services"]["catalog"]["instances"]
        if item["track"] == "stable"
    ]
    assert live[0]["pid"] == old["pid"], "a weight change, no new process"


def test_recreate_never_runs_both(project: Project) -> None:
    project.service("catalog", deploy={"strategy": "recreate"})
    project.ok("up")
    project.service("catalog", version="2")
    project.ok("deploy", "catalog")
    assert project.version("catalog") == "2"
    events = project.ok("--output", "json", "events", "catalog").out.splitlines()
    kinds = [json.loads(line)["kind"] for line in events]
    assert kinds.index("instance.gone") < kinds.index("instance.started", 3)


def test_a_service_that_left_the_manifest_is_removed(project: Project) -> None:
    project.service("catalog")
    project.service("old")
    project.ok("up")
    del project.manifest["services"]["old"]
    project.manifest["gateway"]["routes"].pop()
    project.write()
    project.ok("up")
    until(lambda: list(project.status()["services"]) == ["catalog"], "old is removed")
    assert project.get("/old/")[0] == 404


def test_logs_and_events(project: Project) -> None:
    project.service("catalog")
    project.ok("up")
    project.get("/catalog/print?hello-there")
    found = until(
        lambda: [
            line for line in project.ok("logs", "catalog").out.splitlines() if "hello-there" in line
        ]
    )
    assert found[0].startswith("catalog-")
    assert "listening" in project.ok("logs", "catalog", "--since", "10m").out
    lines = project.ok("--output", "json", "events").out.splitlines()
    events = [json.loads(line) for line in lines]
    assert {"environment.up", "rollout.started", "instance.ready", "rollout.done"} <= {
        event["kind"] for event in events
    }
    assert all(set(event) >= {"at", "kind", "service", "text", "cause"} for event in events)


def test_plan_says_what_would_change(project: Project) -> None:
    project.service("catalog")
    project.service("shop", needs=["catalog"])
    first = project.ok("plan").out
    assert first.index("start catalog") < first.index("start shop")
    project.ok("up")
    assert "nothing to do" in project.ok("plan").out
    project.service("catalog", version="2")
    steps = project.ok("--output", "json", "plan").json["steps"]
    assert [step["verb"] for step in steps] == ["replace", "keep"]
    assert "its source changed" in steps[0]["because"]
    assert "callers shop" in steps[0]["blast_radius"]


def test_going_back_after_down_and_up(project: Project) -> None:
    project.service("catalog")
    project.ok("up")
    project.ok("down")
    project.service("catalog", version="2")
    project.ok("up")
    states = project.ok("--output", "json", "releases", "catalog").json["releases"]
    assert [item["state"] for item in states] == ["live", "kept"]
    project.ok("rollback", "catalog")
    assert project.version("catalog") == "1"


def test_a_warm_instance_that_once_crashed_can_be_gone_back_to(project: Project) -> None:
    project.service("catalog", deploy={"strategy": "blue-green"})
    project.ok("up")
    warm = project.status()["services"]["catalog"]["instances"][0]["pid"]
    project.service("catalog", version="2")
    project.ok("deploy", "catalog")
    os.kill(warm, signal.SIGKILL)
    until(
        lambda: [
            item
            for item in project.status()["services"]["catalog"]["instances"]
            if item["restarts"] == 1 and item["state"] == "ready"
        ],
        "it is restarted",
    )
    project.ok("rollback", "catalog")
    assert project.version("catalog") == "1"


def test_a_broken_manifest_locks_nobody_out(project: Project) -> None:
    project.service("catalog")
    project.ok("up")
    project.service("catalog", version="2")
    project.ok("deploy", "catalog")
    project.manifest["services"]["catalog"]["scael"] = 2
    project.write()
    assert project.volery("check").code == 2
    assert project.status()["services"]["catalog"]["state"] == "healthy"
    project.ok("rollback", "catalog")
    assert project.version("catalog") == "1"
    project.ok("down")
