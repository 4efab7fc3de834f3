"""A release gets a little traffic and is promoted or taken back by what its users get."""

from __future__ import annotations

from typing import Any

import pytest

from acceptance.canaries import (
    bird,
    deployed,
    flock,
    lost,
    releases,
    rollout,
    serves_alone,
    users,
)
from acceptance.project import Project

LINE_FIELDS = {"metric", "state", "text", "value", "control", "limit", "n", "n_control"}


def test_a_good_canary_is_promoted_step_by_step(project: Project) -> None:
    promise = {"errors": "< 1%", "latency": {"p99": "< 20s"}}
    flock(project, steady_state=promise, deploy={"steps": ["40%", "50%"]})
    with users(project, rate=150) as running:
        bird(project, "2")
        done, story = deployed(project, 0)
    assert lost(running.report) == {} and running.report.lost == 0, running.report.render()
    assert set(running.report.versions) == {"1", "2"}
    told = ["step 1/3, 40 % of requests", "step 2/3, 50 % of requests", "done web@"]
    places = [story.find(words) for words in told]
    assert -1 not in places and places == sorted(places), story
    assert (done["strategy"], done["phase"], done["verdict"]) == ("canary", "done", "promote")
    assert (done["weight"], done["step"], done["steps"]) == (100, 3, 3)
    assert set(done["seconds"]) == {"build", "test", "start", "shift"}
    lines = {line["metric"]: line for line in done["evidence"]}
    assert {"errors", "p50", "exits", "errors promise", "p99 promise"} <= set(lines)
    assert all(set(line) >= LINE_FIELDS for line in lines.values())
    errors = lines["errors"]
    assert errors["state"] == "good" and errors["confidence"] >= errors["needed"] > 1
    assert (errors["value"], errors["control"]) == (0, 0) and errors["n"] > 0 < errors["n_control"]
    assert [state for state, _ in releases(project)] == ["live", "warm"]
    serves_alone(project, "2")


BAD: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "half of its requests fail": ({"fail": 0.5}, ("errors", "fails its requests")),
    "all of its requests fail": ({"fail": 1}, ("fails its requests", "errors")),
    "it is much slower": ({"slow": 0.15}, ("p50", "p75", "p90", "p95")),
    "it dies again and again": ({"die_at": 12}, ("crash", "exits", "exit code 9", "errors")),
    "it never starts": ({"dead": True}, ("no bird seed", "ended while starting", "crashed")),
}


@pytest.mark.parametrize("which", BAD)
def test_a_bad_canary_is_taken_back_and_remembered(project: Project, which: str) -> None:
    told, words = BAD[which]
    flock(project)
    with users(project) as running:
        bird(project, "2", **told)
        back, story = deployed(project, 3)
    report = running.report
    assert (back["phase"], back["verdict"], back["weight"]) == ("rolled_back", "abort", 0)
    assert any(word in back["reason"] for word in words), back["reason"]
    assert f"because: {back['reason']}" in story
    if "die_at" not in told:
        assert lost(report) == {}, report.render(samples=20)
    assert report.versions["1"] > report.versions.get("2", 0)
    assert releases(project)[0] == ("refused", back["reason"])
    serves_alone(project, "1")


def test_a_refused_release_is_not_deployed_again_unless_forced(project: Project) -> None:
    flock(project)
    with users(project):
        bird(project, "2", fail=1)
        first, _ = deployed(project, 3)
        again = project.volery("deploy", "web")
        assert again.code == 6 and "--force" in again.text and first["reason"] in again.text
        assert rollout(project)["id"] == first["id"], "nothing was begun"
        forced, _ = deployed(project, 3, "--force")
        assert forced["id"] != first["id"] and forced["to"] == first["to"]
        bird(project, "1")
        assert "unchanged" in project.ok("deploy", "web").text
    serves_alone(project, "1")


@pytest.mark.parametrize(
    ("choice", "code", "phase", "serves"),
    [
        ("pause", 5, "paused", "1"),
        ("rollback", 5, "rolled_back", "1"),
        ("promote", 0, "done", "2"),
    ],
)
def test_without_users_the_owner_decides(
    project: Project, choice: str, code: int, phase: str, serves: str
) -> None:
    flock(project, deploy={"on_inconclusive": choice, "at_most": "2s", "steps": ["50%"]})
    bird(project, "2")
    found, story = deployed(project, code)
    assert found["phase"] == phase
    if choice != "promote":
        assert "not enough evidence within 2s" in found["reason"] and found["reason"] in story
        assert found["verdict"] == "inconclusive"
        assert releases(project)[0][0] != "refused", "nothing is known against it"
    if phase == "paused":
        assert project.status()["services"]["web"]["rollout"]["phase"] == "paused"
        project.ok("abort", "web")
    serves_alone(project, serves)
