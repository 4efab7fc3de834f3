"""Acting by hand at inconvenient moments, as a user types it."""

from __future__ import annotations

import re

from acceptance.project import Project, until


def test_rollback_in_the_middle_of_a_deploy(project: Project) -> None:
    project.service("web")
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
    assert missing.code == 1 and first in missing.err
    assert project.volery("logs", "nothing").code == 7
