"""The guard, the brake, production's questions and the volumes' trash, as a user types them."""

from __future__ import annotations

import os
import pty
from pathlib import Path
from typing import Any

from acceptance.project import Project, until


def kinds(project: Project, kind: str) -> list[str]:
    lines = project.ok("events", "--limit", "1000").out.splitlines()
    return [line for line in lines if kind in line]


def with_state(project: Project, **more: Any) -> None:
    project.service("web", scale=2)
    project.service("store", state={"volume": "data"}, **more)


def in_production(project: Project) -> None:
    project.manifest["environments"] = {"live": {}}
    project.write()


def volume(project: Project, environment: str = "dev") -> Path:
    (found,) = (project.home / "trial" / environment / "volumes" / "store").iterdir()
    return found


def test_automation_is_stopped_and_released_by_hand(project: Project) -> None:
    project.service("web", scale=2)
    project.ok("up")
    first = project.ok("--output", "json", "guard").json
    assert first["limit"] == 1 and first["brakes"] == [] and first["waiting"] == []
    assert first["services"]["web"] == {"ready": 2, "needed": 2, "floor": 1}

    said = project.ok("guard", "stop", "web", "--for", "30m")
    assert "stands still until" in said.out
    found = project.status()["services"]["web"]
    assert found["braked"].startswith("stopped by ") and found["waiting"] == []
    assert "the automation of web stands still" in project.ok("status").out
    assert "the automation of web goes on" in project.ok("resume", "web").out
    again = project.volery("resume", "web")
    assert again.code == 1 and "no rollout under way" in again.err

    project.ok("guard", "stop", "--all")
    one = project.volery("guard", "release", "web")
    assert one.code == 1 and "--all" in one.err
    project.ok("restart", "web")  # a person's command is never stopped
    project.ok("guard", "release", "--all")
    assert project.status()["guard"]["brakes"] == []
    assert len(kinds(project, "guard.braked")) == 2 and len(kinds(project, "guard.released")) == 2

    assert project.volery("guard", "stop").code == 2
    assert project.volery("guard", "stop", "wep").code == 2
    assert project.volery("guard", "stop", "web", "--for", "soon").code == 2


def test_deploys_that_are_refused_leave_the_healing_of_what_serves_alone(project: Project) -> None:
    project.manifest["environments"] = {"dev": {"guard": {"brake": {"failures": 2}}}}
    project.service("web")
    project.ok("up")
    for version in ("2", "3"):
        project.service("web", version, "never-ready")
        project.manifest["services"]["web"]["health"]["startup"] = "1s"
        project.write()
        assert project.volery("deploy", "web").code == 3
    assert project.version("web") == "1"
    assert project.status()["guard"]["brakes"] == [] and not kinds(project, "guard.braked")
    project.ok("guard", "stop", "web")
    project.service("web", "4")
    project.manifest["services"]["web"]["health"]["startup"] = "30s"
    project.write()
    project.ok("deploy", "web")  # a brake never stops a person
    assert project.version("web") == "4"
    project.ok("guard", "release", "web")


def test_who_waits_is_shown_with_what_would_release_it(project: Project) -> None:
    for name in ("one", "two"):
        project.service(name, deploy={"strategy": "recreate"})
    project.ok("up")
    for name in ("one", "two"):
        project.service(name, "2", deploy={"strategy": "recreate"})
    project.ok("deploy", "one", "two")
    assert project.version("one") == project.version("two") == "2"
    (waits,) = kinds(project, "guard.waits")
    assert "1 of at most 1 instances are disturbed" in waits and "released when" in waits
    assert project.ok("--output", "json", "guard").json["waiting"] == []


def test_production_asks_before_it_destroys(project: Project) -> None:
    with_state(project)
    in_production(project)
    project.ok("up")
    for words in (("down",), ("down", "--volumes"), ("scale", "web", "0"), ("restart", "store")):
        refused = project.volery(*words)
        assert refused.code == 6, refused.text
        assert "--yes" in refused.err and "in live" in refused.err, refused.text
    assert "web: 2 ready instances" in project.volery("down").err
    project.ok("scale", "web", "3")
    project.ok("restart", "web")
    del project.manifest["services"]["store"]
    project.manifest["gateway"]["routes"].pop()
    project.write()
    gone = project.volery("up")
    assert gone.code == 6 and "store" in gone.err and "its volumes are kept" in gone.err
    assert project.status()["services"]["store"]["state"] == "healthy"
    project.ok("up", "--yes")
    assert "store" not in project.status()["services"]
    project.ok("down", "--yes")


def test_on_a_terminal_the_name_is_typed(project: Project) -> None:
    project.service("web")
    in_production(project)
    project.ok("up")
    assert typed(project, "y\n", "down") == 6
    assert project.status()["services"]["web"]["state"] == "healthy"
    assert typed(project, "live\n", "down") == 0


def typed(project: Project, text: str, *words: str) -> int:
    """The exit code of a command on a terminal on which somebody types."""
    ours, its = pty.openpty()
    process = project.start(*words, stdin=its)
    os.write(ours, text.encode())
    process.communicate(timeout=300)
    os.close(its)
    os.close(ours)
    return process.returncode


def test_other_environments_do_not_ask(project: Project) -> None:
    project.service("web")
    project.manifest["environments"] = {"live": {"production": False}}
    project.write()
    project.ok("up")
    project.ok("scale", "web", "0")
    project.ok("down")


def test_deleted_volumes_come_back(project: Project) -> None:
    with_state(project)
    project.ok("up")
    (volume(project) / "kept").write_text("precious")
    said = project.ok("down", "--volumes", "--yes")
    assert "can be restored for 24h" in said.out
    (gone,) = project.ok("--output", "json", "volumes").json["volumes"]
    assert gone["state"] == "deleted" and gone["bytes"] == 8 and gone["expires_at"]
    name = gone["name"].partition("@")[0]
    assert project.volery("volumes", "restore", "store/none").code == 2

    project.ok("up")
    taken = project.volery("volumes", "restore", name)
    assert taken.code == 1 and "there already" in taken.err
    project.ok("down", "--volumes", "--yes")
    several = project.volery("volumes", "restore", name)
    assert several.code == 2 and gone["name"] in several.err
    project.ok("volumes", "restore", gone["name"])
    project.ok("up")
    assert (volume(project) / "kept").read_text() == "precious"

    refused = project.volery("volumes", "purge")
    assert refused.code == 6 and "--yes" in refused.err
    project.ok("volumes", "purge", "--yes")
    (left,) = project.ok("--output", "json", "volumes").json["volumes"]
    assert left["state"] == "live"
    told = [line.split() for line in project.ok("events", "store").out.splitlines()]
    assert [words[1] for words in told if "volume" in words and "asked" in words] == [
        "volume.deleted",
        "volume.deleted",
        "volume.restored",
        "volume.purged",
    ]
    why = project.ok("events", "--why", "store").out
    assert "volume store/data-0 is back: asked for by" in why


def test_the_trash_is_emptied_in_time(project: Project) -> None:
    with_state(project)
    project.manifest["environments"] = {"dev": {"volumes": {"keep": "1s"}}}
    project.write()
    project.ok("up")
    project.ok("down", "--volumes", "--yes")
    until(lambda: project.ok("--output", "json", "volumes").json["volumes"] == [], "emptied")
    project.manifest["environments"] = {"dev": {"volumes": {"keep": "0s"}}}
    project.write()
    project.ok("up")
    assert "for good" in project.ok("down", "--volumes", "--yes").out
    assert project.ok("--output", "json", "volumes").json["volumes"] == []
