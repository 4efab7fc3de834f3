"""Those who have a say: gates, metrics from elsewhere, our own requests, and blue-green's watch."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from acceptance.canaries import (
    ITS_OWN,
    bird,
    deployed,
    events,
    flock,
    lost,
    reached,
    releases,
    rollout,
    serves_alone,
    users,
)
from acceptance.project import Project, free_port, until

ONE_STEP = {"steps": ["50%"]}


def script(project: Project, name: str, text: str) -> str:
    """An executable beside the manifest; how the manifest calls it."""
    path = project.folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return f"./{name}"


def answered(path: Path) -> list[str]:
    """The lines that a command has written."""
    return path.read_text().splitlines() if path.exists() else []


def test_gates_are_asked_where_they_stand(project: Project) -> None:
    book = project.folder / "book"
    write = f'echo "$VOLERY_WHEN ${{VOLERY_STEP:-}} $VOLERY_RELEASE" >> {book}'
    gate = script(project, "gate.sh", write)
    points = ("before_start", "before_step", "after")
    gates = [{"when": point, "command": gate} for point in points]
    quick = {"at_most": "2s", "on_inconclusive": "promote"}
    flock(project, deploy=ONE_STEP | quick | {"gates": gates})
    assert [line.split()[0] for line in answered(book)] == ["before_start"]
    book.unlink()
    with users(project) as running:
        bird(project, "2")
        done, _ = deployed(project, 0)
    assert running.report.lost == 0, running.report.render()
    asked = [line.rsplit(" ", 1) for line in answered(book)]
    assert [point.strip() for point, _ in asked] == [
        "before_start",
        "before_step 1",
        "before_step 2",
        "after",
    ]
    assert {release for _, release in asked} == {done["to"]}


def test_a_gate_that_says_no_before_anything_runs(project: Project) -> None:
    said = "echo frozen; test ! -e frozen"
    gate = {"when": "before_start", "command": script(project, "no.sh", said)}
    flock(project, deploy={"gates": [gate]})
    (project.folder / "frozen").touch()
    bird(project, "2")
    back, _ = deployed(project, 3)
    assert "./no.sh said no" in back["reason"] and "frozen" in back["reason"]
    assert releases(project)[0][0] == "kept", "nothing is wrong with the release"
    serves_alone(project, "1")
    (project.folder / "frozen").unlink()
    deploy = project.start("deploy", "web")
    until(lambda: rollout(project)["phase"] == "analysing", "the gate lets it begin")
    project.ok("promote", "web", "--full")
    out, err = deploy.communicate(timeout=300)
    assert deploy.returncode == 0, out + err
    serves_alone(project, "2")


def test_a_hook_that_holds_waits_for_a_person(project: Project) -> None:
    nobody = f"http://127.0.0.1:{free_port()}/told"
    gate = {"when": "before_step", "url": nobody, "on_failure": "hold", "timeout": "2s"}
    flock(project, deploy={"gates": [gate]})
    bird(project, "2")
    result = project.volery("--output", "json", "deploy", "web")
    held = result.json
    assert (result.code, held["phase"], held["paused_for"]) == (5, "paused", "gate")
    assert "let this step pass: volery promote web" in " ".join(result.err.split())
    assert nobody in held["reason"] and "gave no answer" in held["reason"]
    assert held["weight"] == 0
    project.ok("promote", "web", "--full")
    project.ok("rollout", "web", "--watch")
    serves_alone(project, "2")


def test_a_number_from_elsewhere(project: Project) -> None:
    """A command whose number is bad for the new release alone takes it back."""
    count = script(project, "queue.sh", 'case "$1" in canary) echo 900;; *) echo 3;; esac')
    metric = {"command": f"{count} {{track}}", "limit": "< 500", "every": "300ms", "failures": 2}
    flock(project, deploy={"metrics": {"queue": metric}})
    with users(project) as running:
        bird(project, "2")
        back, _ = deployed(project, 3)
    assert running.report.lost == 0, running.report.render(samples=20)
    often = r"queue 900 against 3, limit < 500: \d+ of 2 times in a row"
    assert re.fullmatch(often, back["reason"])
    line = next(line for line in back["evidence"] if line["metric"] == "queue")
    assert (line["state"], line["value"], line["control"], line["limit"]) == ("bad", 900, 3, 500)
    serves_alone(project, "1")


def test_a_prometheus_that_is_down_holds_and_blames_nobody(project: Project) -> None:
    """Neither good nor bad: it waits, says for what, and a person may let it pass."""
    metric = {
        "prometheus": f"http://127.0.0.1:{free_port()}",
        "query": 'sum(errors{release="{release}"})',
        "limit": "< 1",
        "every": "300ms",
        "failures": 1,
    }
    deploy = {"steps": ["50%", "60%"], "metrics": {"orders": metric}, "at_most": "20s"}
    flock(project, deploy=deploy)
    with users(project, rate=150) as running:
        bird(project, "2")
        held, _ = deployed(project, 5)
    assert running.report.lost == 0, running.report.render(samples=20)
    assert held["phase"] == "paused" and "orders is not known" in held["reason"]
    line = next(line for line in held["evidence"] if line["metric"] == "orders")
    assert line["state"] == "missing"
    errors = next(line for line in held["evidence"] if line["metric"] == "errors")
    assert errors["state"] != "bad", "there was nothing else against it"
    project.ok("promote", "web", "--full")
    until(lambda: rollout(project)["phase"] == "done", "it is promoted")
    serves_alone(project, "2")


def test_requests_of_our_own_where_nobody_else_asks(project: Project) -> None:
    ours = {"path": "/deep", "rate": 80}
    flock(project, deploy={"steps": ["50%", "60%"], "synthetic": [ours], "at_most": "80s"})
    bird(project, "2")
    deploy = project.start("--output", "json", "deploy", "web")
    shown = reached(project, "analysing", step=2)  # by evidence: nobody else can have let it pass
    assert shown["passed"] == 1 and shown["weight"] == 60
    line = next(line for line in shown["evidence"] if line["metric"] == "synthetic GET /deep")
    assert line["state"] == "good" and "sent, 0 failed; to the old release" in line["text"]
    assert line["n"] > 0 and line["n_control"] > 0
    project.ok("promote", "web", "--full")
    out, err = deploy.communicate(timeout=300)
    assert deploy.returncode == 0, out + err
    bird(project, "3", fail=0.5)
    back, _ = deployed(project, 3)
    assert "fail" in back["reason"] or "errors" in back["reason"]
    serves_alone(project, "2")


BLUE_GREEN: dict[str, Any] = {"strategy": "blue-green", "watch": "15s"}


def test_a_smoke_test_keeps_a_bad_release_from_the_switch(project: Project) -> None:
    gate = {"when": "before_step", "url": "/smoke"}
    flock(project, deploy=BLUE_GREEN | {"gates": [gate]})
    with users(project) as running:
        bird(project, "2", smokes=True)
        back, _ = deployed(project, 3)
    assert "/smoke said no" in back["reason"] and "500" in back["reason"]
    report = running.report
    assert report.lost == 0 and set(report.versions) == {"1"}, report.render(samples=20)
    serves_alone(project, "1")


def test_blue_green_switches_back_by_itself(project: Project) -> None:
    gate = {"when": "before_step", "url": "/smoke"}
    flock(project, deploy=BLUE_GREEN | {"gates": [gate]})
    before = {item["pid"] for item in project.status()["services"]["web"]["instances"]}
    with users(project) as running:
        bird(project, "2", fail=0.5)
        back, _ = deployed(project, 3)
    report = running.report
    assert (back["verdict"] == "abort" and "fail" in back["reason"]) or "errors" in back["reason"]
    assert lost(report) == {} and report.causes[ITS_OWN] > 0, report.render(samples=20)
    after = {item["pid"] for item in project.status()["services"]["web"]["instances"]}
    assert after == before, "the old group was there all the time"
    assert releases(project)[0][0] == "refused"
    serves_alone(project, "1")


def test_a_blue_green_is_watched_until_a_metric_that_is_out_of_its_limit_has_spoken(
    project: Project,
) -> None:
    count = script(project, "queue.sh", 'case "$1" in green) echo 900;; *) echo 3;; esac')
    metric = {"command": f"{count} {{track}}", "limit": "< 500", "every": "3s", "failures": 3}
    flock(project, deploy=BLUE_GREEN | {"watch": "5s", "metrics": {"queue": metric}})
    with users(project) as running:
        bird(project, "2")
        back, _ = deployed(project, 3)
    assert running.report.lost == 0, running.report.render(samples=20)
    assert back["reason"].startswith("queue 900 against 3, limit < 500"), back["reason"]
    serves_alone(project, "1")


def test_a_good_blue_green_is_watched_and_stays(project: Project) -> None:
    flock(project, deploy=BLUE_GREEN | {"watch": "3s"})
    with users(project) as running:
        bird(project, "2")
        done, _ = deployed(project, 0)
    assert done["evidence"], "what was seen while it was watched"
    assert events(project, "rollout.analysing"), "it was watched"
    assert running.report.lost == 0, running.report.render(samples=20)
    serves_alone(project, "2")
