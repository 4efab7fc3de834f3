"""The exit code of a typical case of each kind, as the contract lists them.

4 (a weakness was found) and 5 (inconclusive) belong to experiments, analysis and waiting, and are
tested with those.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from acceptance.project import Project

DONE, FAILED, WRONG, ROLLED_BACK, REFUSED, NO_CONTROL_PLANE = 0, 1, 2, 3, 6, 7


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """An environment that is up."""
    made = Project(tmp_path_factory.mktemp("running"))
    made.manifest["environments"] = {"dev": {"engine": "local"}, "far": {"engine": "docker"}}
    made.service("web")
    made.service("store", state={"volume": "data"})
    made.ok("up")
    yield made
    made.close()


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """One that was never brought up."""
    made = Project(tmp_path_factory.mktemp("idle"))
    made.service("web")
    return made


RUNNING: list[tuple[int, str]] = [
    (DONE, "check"),
    (DONE, "plan"),
    (DONE, "up"),
    (DONE, "deploy web"),
    (DONE, "status web"),
    (DONE, "rollout web"),
    (DONE, "events web"),
    (DONE, "scale web 1"),
    (DONE, "restart web"),
    (DONE, "secret list"),
    (FAILED, "rollback store"),
    (FAILED, "abort web"),
    (FAILED, "promote web"),
    (WRONG, "deploy"),
    (WRONG, "status nothing"),
    (WRONG, "releases nothing"),
    (WRONG, "deploy nothing"),
    (WRONG, "rollback web --to ffffffff"),
    (WRONG, "deploy web --release ffffffff"),
    (WRONG, "logs web --instance web-ffffffff-9"),
    (WRONG, "frobnicate"),
    (WRONG, "up --fast"),
    (WRONG, "secret"),
    (WRONG, "scale web many"),
    (WRONG, "scale web 5000"),
    (WRONG, "logs web --since yesterday"),
    (WRONG, "--env moon status"),
    (WRONG, "--file broken.yaml check"),
    (WRONG, "--file missing.yaml up"),
    (REFUSED, "down --volumes"),
    (REFUSED, "--env far up"),
]


@pytest.mark.parametrize(("code", "command"), RUNNING, ids=[row[1] for row in RUNNING])
def test_where_everything_runs(running: Project, code: int, command: str) -> None:
    (running.folder / "broken.yaml").write_text("app: trial\nservices: {web: {rnu: x}}\n")
    result = running.volery(*command.split())
    assert result.code == code, result.text
    assert bool(result.err.strip()) or code == DONE, "what is wrong is said"


LOST = [
    *("status", "events", "probe", "rollout web", "releases web", "logs web"),
    *("deploy web", "rollback web", "scale web 2", "restart web"),
    *("abort web", "pause web", "resume web", "promote web"),
]


@pytest.mark.parametrize("command", LOST)
def test_where_nothing_runs(idle: Project, command: str) -> None:
    result = idle.volery("--output", "json", *command.split())
    assert result.code == NO_CONTROL_PLANE, result.text
    assert json.loads(result.err)["error"]["code"] == "no_control_plane"
    assert json.loads(result.err)["error"]["hint"] == "volery up"


BAD = {
    "build": {"build": "sh -c 'exit 2'"},
    "tests": {"test": "sh -c 'exit 2'"},
    "health": {"health": {"ready": "/healthz", "every": "200ms", "startup": "1s"}},
}


@pytest.mark.parametrize("why", BAD)
def test_a_bad_release(project: Project, why: str) -> None:
    project.service("web")
    project.ok("up")
    project.manifest["services"]["web"] |= BAD[why]
    project.service("web", version="2", mode="never-ready" if why == "health" else "good")
    assert project.volery("deploy", "web").code == ROLLED_BACK
    assert project.volery("rollout", "web", "--watch").code == ROLLED_BACK
    assert project.volery("up").code == ROLLED_BACK
    project.ok("down")
    assert project.volery("status").code == NO_CONTROL_PLANE


def test_a_bad_first_release(project: Project) -> None:
    project.service("web", mode="crash")
    assert project.volery("up").code == FAILED
    assert project.volery("rollout", "web", "--watch").code == FAILED


def test_help_names_them_all(tmp_path: Path) -> None:
    said = " ".join(Project(tmp_path).ok("--help").out.split())
    for code in range(8):
        assert f" {code} " in said[said.index("Exit codes:") :]
