"""Who meets a canary: by share, on purpose, for good, with copies, and beside a baseline."""

from __future__ import annotations

import re

from acceptance.canaries import (
    answer,
    bird,
    deployed,
    flock,
    lost,
    reached,
    rollout,
    serves_alone,
    service,
    users,
    version,
)
from acceptance.project import Project, until


def test_on_purpose_and_the_same_user_always_the_same(project: Project) -> None:
    deploy = {"steps": ["40%"], "override": {"header": "x-try"}, "sticky": {"cookie": "flock"}}
    flock(project, deploy=deploy)
    assert version(project, headers={"x-try": "canary"}) == "1", "nothing is tried now"
    assert answer(project)["cookie"] is None
    bird(project, "2")
    project.ok("deploy", "web", "--detach")
    reached(project, "analysing")

    assert {version(project, headers={"x-try": "canary"}) for _ in range(8)} == {"2"}
    assert len({version(project, headers={"x-try": "something"}) for _ in range(40)}) == 2
    met = {}
    for _ in range(40):
        first = answer(project)
        name, _, value = first["cookie"].partition(";")[0].partition("=")
        assert name == "flock"
        met[value] = first["version"]
    assert set(met.values()) == {"1", "2"}
    for value, which in met.items():
        assert version(project, headers={"cookie": f"flock={value}"}) == which
    project.ok("abort", "web")
    for value in met:
        assert version(project, headers={"cookie": f"flock={value}"}) == "1"


def test_a_baseline_of_the_same_age_runs_beside_it_and_goes_again(project: Project) -> None:
    flock(project, deploy={"steps": ["20%"], "baseline": True})
    live = project.status()["services"]["web"]["release"]
    with users(project) as running:
        bird(project, "2")
        deploy = project.start("--output", "json", "deploy", "web")
        reached(project, "analysing")
        found = {group["track"]: group for group in rollout(project)["groups"]}
        assert set(found) == {"stable", "canary", "baseline"}
        assert (found["baseline"]["release"], found["baseline"]["ready"]) == (live, 1)
        assert [found[t]["weight"] for t in ("stable", "canary", "baseline")] == [60, 20, 20]
        tracks = [item["track"] for item in project.status()["services"]["web"]["instances"]]
        assert sorted(tracks) == ["baseline", "canary", "stable", "stable"]
        words = project.ok("rollout", "web").out
        assert re.search(rf"baseline +{live} +20 % of requests", words)
        project.ok("promote", "web", "--full")
        out, err = deploy.communicate(timeout=300)
        assert deploy.returncode == 0, out + err
    assert running.report.lost == 0, running.report.render(samples=20)
    until(lambda: "baseline" not in tracks_of(project), "the baseline goes")
    serves_alone(project, "2")


def tracks_of(project: Project) -> set[str]:
    return {item["track"] for item in project.status()["services"]["web"]["instances"]}


def test_copies_reach_it_and_users_notice_nothing(project: Project) -> None:
    """A canary that fails every copy and answers slowly: seen, and taken back before any user."""
    flock(project, deploy={"steps": ["50%"], "mirror": "60%"})
    with users(project) as running:
        bird(project, "2", fail=1, slow=0.4)
        back, story = deployed(project, 3)
    report = running.report
    assert report.lost == 0 and set(report.versions) == {"1"}, report.render(samples=20)
    assert "step 1/3, 0 % of requests" in story
    assert (back["step"], back["verdict"]) == (1, "abort")
    assert "fails its requests" in back["reason"] or "errors" in back["reason"]
    serves_alone(project, "1")


def pair(project: Project) -> None:
    """A shop that asks a catalog, and passes on where a request came in."""
    for name in ("catalog", "shop"):
        bird(project, "1", name)
    steps = {"steps": ["50%"], "on_inconclusive": "rollback"}
    service(project, "catalog", "/catalog", deploy=steps, scale=1)
    service(project, "shop", "/shop", deploy=steps, scale=1, needs=["catalog"])
    project.ok("up")


def test_two_services_are_promoted_together(project: Project) -> None:
    pair(project)
    with users(project, rate=150, path="/shop/call/catalog") as running:
        for name in ("catalog", "shop"):
            bird(project, "2", name)
        deploy = project.start("--output", "json", "deploy", "catalog", "shop")
        reached(project, "analysing", service="shop")
        met = {(a["version"], a["need"]) for a in calls(project)}
        assert ("2", "1") not in met, "who comes in through the one canary meets the other"
        assert ("2", "2") in met
        out, err = deploy.communicate(timeout=300)
        assert deploy.returncode == 0, out + err
    assert running.report.lost == 0, running.report.render(samples=20)
    for name in ("catalog", "shop"):
        serves_alone(project, "2", name, f"/{name}")


def calls(project: Project) -> list[dict[str, str]]:
    return [answer(project, "/shop/call/catalog") for _ in range(40)]


def test_one_bad_service_takes_both_back(project: Project) -> None:
    pair(project)
    with users(project, path="/shop/call/catalog") as running:
        bird(project, "2", "catalog")
        bird(project, "2", "shop", fail=1)
        result = project.volery("--output", "json", "deploy", "catalog", "shop")
        assert result.code == 3, result.text
    found = {item["service"]: item for item in result.json["rollouts"]}
    assert {item["phase"] for item in found.values()} == {"rolled_back"}
    assert "shop failed" in found["catalog"]["reason"]
    assert lost(running.report) == {}, running.report.render(samples=20)
    for name in ("catalog", "shop"):
        serves_alone(project, "1", name, f"/{name}")
