"""Acting by hand at inconvenient moments, as a user types it."""

from __future__ import annotations

import re

from acceptance.project import Project, until


def test_rollback_in_the_middle_of_a_deploy(project: Project) -> None:
    health = {"ready": "/healthz", "every": "200ms", "startup": "2m"}
    project.service("web", health=health)
    project.ok("up")
    first = project.status()["services"]["web"]["release"]
    project.service("web", version="2", mode="never-ready")
    project.ok("deploy", "web", "--detach")
    until(
        lambda: project.ok("--output", "json", "rollout", "web").json["phase"] == "starting",
        "the deploy starts instances",
    )
    back = project.ok("rollback", "web")
    assert f"-> {first} serves" in back.out
    found = project.ok("--output", "json", "rollout", "web").json
    assert (found["phase"], found["from"]) == ("rolled_back", first)
    assert found["reason"].startswith("rollback asked for by ")
    assert project.version("web") == "1"


def test_logs_of_what_is_gone_with_and_without_a_control_plane(project: Project) -> None:
    project.service("web")
    project.ok("up")
    first = project.status()["services"]["web"]["instances"][0]["id"]
    project.service("web", version="2")
    project.ok("deploy", "web")
    assert "listening 1" not in project.ok("logs", "web").out
    assert f"{first} | listening 1" in project.ok("logs", "web", "--previous").out
    both = project.ok("logs", "web", "--since", "10m", "-t").out.splitlines()
    assert [line[-11:] for line in both] == ["listening 1", "listening 2"]
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z  web-", line) for line in both)

    project.ok("down")
    left = project.ok("logs", "web")
    assert left.out.endswith("| listening 2\n") and "no control plane runs" in left.err
    assert "listening 1" in project.ok("logs", "web", "--instance", first).out
    missing = project.volery("logs", "web", "--instance", "web-00000000-1")
    assert missing.code == 2 and first in missing.err
    assert project.volery("logs", "nothing").code == 7


def test_an_instance_that_crashes_at_its_start(project: Project) -> None:
    first = "case $VOLERY_INSTANCE in *-1) exec python3 server.py;; esac"
    project.service("web", run=["sh", "-c", f"{first}; echo no config for me; exit 3"])
    project.ok("up")
    failed = project.volery("scale", "web", "2", "--timeout", "60s")
    assert failed.code == 1 and "1 of 2 ready" in failed.err and "exit code 3" in failed.err
    assert "| no config for me" in failed.err
    assert "ended while starting: exit code 3" in project.ok("status", "web").out
    logs = project.ok("logs", "web").out
    assert " (crashed) | no config for me" in logs and "-1 | listening" in logs
    restarted = project.volery("restart", "web")
    assert restarted.code == 3, restarted.text
    project.ok("scale", "web", "1")
    assert project.version("web") == "1"
