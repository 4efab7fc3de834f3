"""Acting by hand at inconvenient moments, as a user types it."""

from __future__ import annotations

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
