"""Releases that must not reach users: exit 3, the reason in place, the old one serves."""

from __future__ import annotations

from typing import Any

import pytest

from acceptance.project import Project

HEALTH = {"ready": "/healthz", "every": "200ms", "startup": "30s"}
BAD: list[tuple[str, dict[str, Any], str, str]] = [
    ("fails its build", {"build": "sh -c 'echo no compiler; exit 2'"}, "good", "no compiler"),
    ("fails its tests", {"test": "sh -c 'echo 1 failed; exit 1'"}, "good", "1 failed"),
    ("crashes at its start", {}, "crash", "cannot find the config"),
    ("never gets ready", {"health": HEALTH | {"startup": "6s"}}, "never-ready", "503"),
]


@pytest.mark.parametrize("strategy", ["rolling", "blue-green"])
@pytest.mark.parametrize(("why", "change", "mode", "words"), BAD, ids=[row[0] for row in BAD])
def test_a_bad_release_is_refused(
    project: Project, why: str, change: dict[str, Any], mode: str, words: str, strategy: str
) -> None:
    project.service("catalog", deploy={"strategy": strategy}, health=HEALTH)
    project.ok("up")
    good = project.status()["services"]["catalog"]["release"]
    project.manifest["services"]["catalog"] |= change
    project.service("catalog", version="2", mode=mode)

    result = project.volery("deploy", "catalog")
    assert result.code == 3, result.text
    assert words in result.text, "the reason is shown in place"
    assert project.version("catalog") == "1"
    status = project.status()["services"]["catalog"]
    assert status["release"] == good and status["state"] == "healthy"

    releases = project.ok("--output", "json", "releases", "catalog").json["releases"]
    assert releases[0]["state"] == ("failed" if "build" in why else "refused")
    assert releases[0]["reason"]
    rollout = project.ok("--output", "json", "rollout", "catalog").json
    assert rollout["phase"] == "rolled_back" and rollout["reason"]

    block = project.manifest["services"]["catalog"]
    kept = {key: value for key, value in block.items() if key not in change}
    project.manifest["services"]["catalog"] = kept | {"health": HEALTH}
    project.service("catalog", version="3")
    project.ok("deploy", "catalog")
    assert project.version("catalog") == "3"


def test_a_refused_release_does_not_come_back_by_down_and_up(project: Project) -> None:
    project.service("catalog")
    project.ok("up")
    project.service("catalog", version="2", mode="crash")
    assert project.volery("deploy", "catalog").code == 3
    project.ok("down")
    planned = project.ok("plan").out
    assert "[1] start catalog" in planned and "was refused: " in planned
    result = project.volery("up")
    assert result.code == 3 and "was refused: " in result.err, result.text
    assert project.version("catalog") == "1"


def test_a_first_release_that_fails_is_exit_1(project: Project) -> None:
    project.service("catalog", mode="crash")
    project.service("shop", needs=["catalog"])
    result = project.volery("up")
    assert result.code == 1
    assert "exit code 7" in result.text and "cannot find the config" in result.text
    project.service("catalog")
    project.ok("up")
    assert project.version("shop") == "1"


def test_a_group_is_aborted_together(project: Project) -> None:
    project.service("catalog")
    project.service("shop", needs=["catalog"])
    project.ok("up")
    project.service("catalog", version="2")
    project.service("shop", version="2", mode="crash")
    result = project.volery("deploy", "catalog", "shop")
    assert result.code == 3, result.text
    assert project.version("catalog") == "1" and project.version("shop") == "1"
    states = {s["state"] for s in project.status()["services"].values()}
    assert states == {"healthy"}
