"""What people do with a canary: look, let it pass, hold it, take it back, ask why."""

from __future__ import annotations

import json

from acceptance.canaries import (
    Json,
    answer,
    bird,
    deployed,
    events,
    flock,
    reached,
    releases,
    rollout,
    serves_alone,
    service,
    users,
    version,
)
from acceptance.project import Project, until


def test_pause_resume_and_abort(project: Project) -> None:
    flock(project)
    with users(project) as running:
        bird(project, "2")
        deploy = project.start("--output", "json", "deploy", "web")
        reached(project, "analysing")
        project.ok("pause", "web")
        held = rollout(project)
        assert (held["phase"], held["weight"], held["step"]) == ("paused", 20, 1)
        status = project.status()["services"]["web"]
        assert status["state"] == "deploying" and status["rollout"]["id"] == held["id"]
        tracks = sorted(item["track"] for item in status["instances"])
        assert tracks == ["canary", "stable", "stable"]
        assert deploy.poll() is None, "a pause by hand is no end"
        project.ok("resume", "web")
        reached(project, "analysing")
        aborted = project.ok("--output", "json", "abort", "web").json
        out, err = deploy.communicate(timeout=300)
    assert deploy.returncode == 3, out + err
    assert (aborted["phase"], aborted["verdict"]) == ("rolled_back", None)
    assert "abort asked for by" in aborted["reason"]
    assert running.report.lost == 0, running.report.render(samples=20)
    assert releases(project)[0][0] != "refused", "nothing is held against it"
    serves_alone(project, "1")


def test_approval_and_promotion_by_hand_and_back_at_once(project: Project) -> None:
    """`approve` waits for a person; the old group stays warm; configuration goes back too."""
    asks = {"approve": True, "steps": ["50%"], "at_most": "2s", "on_inconclusive": "promote"}
    flock(project, env={"SEED": "millet"}, deploy=asks)
    with users(project) as running:
        before = project.status()["services"]["web"]["instances"]
        project.manifest["services"]["web"]["env"] = {"SEED": "rye"}
        bird(project, "2")
        project.write()
        result = project.volery("--output", "json", "deploy", "web")
        waiting = result.json
        assert (result.code, waiting["phase"], waiting["paused_for"]) == (5, "paused", "approval")
        assert "volery promote web" in waiting["reason"] and waiting["weight"] == 50
        assert "volery resume" not in result.err, "it would only wait again"
        refused = project.volery("resume", "web")
        assert refused.code == 1 and "hint: volery promote web" in refused.err
        project.ok("promote", "web")
        assert project.ok("--output", "json", "rollout", "web", "--watch").json["phase"] == "done"
        assert (version(project), seed(project)) == ("2", "rye")

        bird(project, "3", dead=True)
        project.manifest["services"]["web"]["build"] = "false"
        project.write()
        broken = project.volery("deploy", "web")
        assert broken.code == 3 and "could not be built" in broken.out, broken.text
        # What cannot be built now does not matter to a rollback.
        back = project.ok("--output", "json", "rollback", "web").json
        assert back["phase"] == "done" and back["to"].startswith("web@")
        assert (version(project), seed(project)) == ("1", "millet")
    assert running.report.lost == 0, running.report.render(samples=20)
    after = project.status()["services"]["web"]["instances"]
    live = {item["pid"] for item in after if item["track"] == "stable"}
    assert live == {item["pid"] for item in before}, "the warm group, no new process"


def seed(project: Project) -> str:
    return str(answer(project, "/env")["env"]["SEED"])


def test_promote_lets_a_step_pass_without_evidence(project: Project) -> None:
    flock(project)
    bird(project, "2")
    deploy = project.start("--output", "json", "deploy", "web")
    reached(project, "analysing", step=1)
    project.ok("promote", "web")
    reached(project, "analysing", step=2)
    project.ok("promote", "web", "--full")
    out, err = deploy.communicate(timeout=300)
    assert deploy.returncode == 0, out + err
    serves_alone(project, "2")
    assert [state for state, _ in releases(project)] == ["live", "warm"]


def test_a_newer_release_takes_the_place_of_a_running_canary(project: Project) -> None:
    flock(project, deploy={"steps": ["50%"]})
    with users(project) as running:
        bird(project, "2")
        first = project.start("--output", "json", "deploy", "web")
        old = reached(project, "analysing")
        bird(project, "3")
        second = project.start("--output", "json", "deploy", "web")
        until(lambda: rollout(project)["id"] != old["id"], "the newer one goes on")
        reached(project, "analysing")
        project.ok("promote", "web", "--full")
        out, err = first.communicate(timeout=300)
        newer = json.loads(second.communicate(timeout=300)[0])
    assert first.returncode == 1, out + err
    given_way = json.loads(out)
    assert given_way["phase"] == "rolled_back" and given_way["superseded_by"] == newer["id"]
    assert old["id"] == given_way["id"] and newer["id"] in given_way["reason"]
    assert running.report.lost == 0, running.report.render(samples=20)
    assert newer["from"] == old["from"], "it is compared with what was proven"
    assert [state for state, _ in releases(project)] == ["live", "kept", "warm"]
    serves_alone(project, "3")


def test_why_it_was_decided_and_what_another_promise_would_have_done(project: Project) -> None:
    flock(project, steady_state={"errors": "< 40%"}, deploy={"warm_up": "0s", "steps": ["50%"]})
    with users(project):
        bird(project, "2", fail=0.3)
        back, _ = deployed(project, 3)
    told = project.ok("--output", "json", "rollout", "web", "--explain").json
    assert told["rollout"] == back["id"] and told["looks"] >= len(told["decisions"]) > 0
    last = told["decisions"][-1]
    assert (last["verdict"], last["taken"]) == ("abort", "abort")
    assert last["reason"] == back["reason"], "the replay comes to the same"
    assert last["evidence"] and told["summary"].startswith("it goes back after")
    words = project.ok("rollout", back["id"], "--explain").out
    assert "promise: errors < 40 %" in words and last["reason"] in words
    other = project.ok("rollout", "web", "--with", "errors: < 5%").out
    assert "promise: errors < 5 %" in other and "goes back" in other
    wrong = project.volery("rollout", "web", "--with", "errors: many")
    assert wrong.code == 2 and "errors" in wrong.err
    nobody = project.volery("rollout", "web-r77", "--explain")
    assert nobody.code == 2 and "web-r77" in nobody.err
    entered = [event["kind"] for event in events(project, "rollout.")]
    assert entered[-2:] == ["rollout.rolling_back", "rollout.rolled_back"]
    decided = events(project, "rollout.rolling_back")[-1]
    assert decided["cause"] == back["reason"] and decided["data"]["evidence"]


def test_the_plan_says_how_long_and_how_costly(project: Project) -> None:
    flock(project)
    bird(project, "2")
    quiet = project.ok("plan", "web")
    assert "no requests were seen lately" in quiet.out
    with users(project):
        step = until(lambda: planned(project), "its traffic is known")
    forecast = step["forecast"]
    assert step["strategy"] == "canary" and forecast["requests_per_second"] < 200
    assert [one["weight"] for one in forecast["steps"]] == [0.2, 0.5]
    assert all(one["seconds"] > 0 for one in forecast["steps"])
    costs = [one["requests"] for one in forecast["harms"]]
    assert all(cost > 0 for cost in costs), forecast
    assert "a good release needs" in forecast["text"][0]
    serves_alone(project, "1")


def planned(project: Project) -> Json | None:
    """The plan's step of the service, once its traffic is known: idle seconds count as well."""
    steps: list[Json] = project.ok("--output", "json", "plan", "web").json["steps"]
    (step,) = (item for item in steps if item["service"] == "web")
    return step if (step["forecast"]["requests_per_second"] or 0) > 20 else None


def test_a_deploy_that_is_only_begun_is_watched_later(project: Project) -> None:
    flock(project)
    with users(project):
        bird(project, "2", fail=1)
        begun = project.ok("--output", "json", "deploy", "web", "--detach").json
        watched = project.volery("--output", "json", "rollout", "web", "--watch")
    assert watched.code == 3, watched.text
    assert watched.json["id"] == begun["id"] and watched.json["phase"] == "rolled_back"
    words = project.ok("rollout", "web").out
    assert watched.json["id"] in words and watched.json["reason"] in " ".join(words.split())


def test_without_a_rollout_there_is_nothing_to_act_on(project: Project) -> None:
    flock(project)
    for verb in ("promote", "pause", "resume", "abort"):
        refused = project.volery(verb, "web")
        assert refused.code == 1 and "web" in refused.err, refused.text


def test_steps_that_nobody_wrote_begin_where_they_can_tell_something(project: Project) -> None:
    """With four requests a second, one percent of them is one in 25 seconds."""
    bird(project)
    service(project)
    del project.manifest["services"]["web"]["deploy"]["steps"]
    project.write()
    project.ok("up")
    with users(project, rate=4.0, known=20):
        bird(project, "2")
        assert "left out: 1 %, 5 %, 25 %" in project.ok("plan").out
        deploy = project.start("deploy", "web")
        begun = reached(project, "analysing")
        assert (begun["step"], begun["steps"], begun["weight"]) == (1, 2, 50)
        project.ok("promote", "web", "--full")
        out, err = deploy.communicate(timeout=300)
        assert deploy.returncode == 0, out + err
    serves_alone(project, "2")
