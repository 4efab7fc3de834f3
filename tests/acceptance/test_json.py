"""The JSON of the contract, field by field: names, types, and the words a state may be."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from acceptance.project import Project, until
from acceptance.services import HTTP, install

Check = Callable[[Any], bool]
TRACKS = {"stable", "canary", "baseline", "blue", "green"}
PHASES = {
    *("building", "testing", "starting", "shifting", "analysing", "paused", "promoting"),
    *("rolling_back", "done", "rolled_back", "failed"),
}


def text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def words(value: Any) -> bool:
    return isinstance(value, str)


def whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def moment(value: Any) -> bool:
    form = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"
    return isinstance(value, str) and re.fullmatch(form, value) is not None


def mapping(value: Any) -> bool:
    return isinstance(value, dict)


def like(pattern: str) -> Check:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def one_of(*known: str | None) -> Check:
    return lambda value: value in known


def maybe(check: Check) -> Check:
    return lambda value: value is None or check(value)


def every(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(check(item) for item in value)


def shaped(document: Any, **shape: Check) -> None:
    """The document has at least these fields, each as it should be."""
    assert isinstance(document, dict), document
    for name, check in shape.items():
        key = name.removesuffix("_")
        assert key in document, f"{key} is missing in {document}"
        assert check(document[key]), f"{key} is {document[key]!r}"


RELEASE = like(r"catalog@[0-9a-f]{8}")
ROLLOUT: Mapping[str, Check] = {
    "id": text,
    "from_": maybe(RELEASE),
    "to": RELEASE,
    "strategy": one_of("canary", "blue-green", "rolling", "recreate"),
    "phase": one_of(*PHASES),
    "weight": number,
    "step": whole,
    "steps": whole,
    "verdict": one_of("promote", "continue", "abort", "inconclusive", None),
    "reason": words,
    "evidence": every(mapping),
    "seconds": mapping,
}
SECONDS: Mapping[str, Check] = dict.fromkeys(("build", "test", "start", "shift"), number)


def check_status(project: Project, status: Any) -> None:
    """The whole document of `status`."""
    shaped(
        status,
        app=one_of("trial"),
        environment=one_of("dev"),
        engine=one_of("local"),
        gateway=mapping,
        dashboard=maybe(text),
        processes=mapping,
        services=mapping,
    )
    address = f"http://127.0.0.1:{project.port}"
    shaped(status["gateway"], url=one_of(address), state=one_of("ready"))
    shaped(status["processes"], control_plane=whole, envoy=every(whole), shims=every(whole))
    assert status["processes"]["envoy"] and len(status["processes"]["shims"]) >= 3
    for service in status["services"].values():
        check_service(service, address)


def check_service(service: Any, address: str) -> None:
    shaped(
        service,
        state=one_of("healthy", "degraded", "down", "deploying", "leaving"),
        release=maybe(RELEASE),
        desired=whole,
        url=one_of(f"{address}/catalog"),
        instances=every(mapping),
        rollout=maybe(mapping),
    )
    for instance in service["instances"]:
        shaped(
            instance,
            id=like(r"catalog-[0-9a-f]{8}-\d+"),
            release=RELEASE,
            track=lambda value: value in TRACKS,
            state=one_of("starting", "ready", "unready", "draining", "stopping", "failed"),
            pid=maybe(whole),
            address=maybe(like(r"127\.0\.0\.1:\d+")),
            restarts=whole,
            role=maybe(one_of("primary", "replica", "syncing")),
            started_at=maybe(moment),
        )


def test_status_at_rest_and_while_deploying(project: Project) -> None:
    project.service("catalog", scale=2)
    up = project.ok("up", "--output", "json")
    check_status(project, up.json)
    status = project.status()
    check_status(project, status)
    catalog = status["services"]["catalog"]
    assert catalog["state"] == "healthy" and catalog["rollout"] is None
    for instance in catalog["instances"]:
        os.kill(instance["pid"], 0)
        assert instance["role"] is None and instance["track"] == "stable"
        assert instance["id"].startswith(catalog["release"].replace("@", "-") + "-")
    assert project.ok("status", "catalog", "--output", "json").json == catalog

    install(project, "catalog", HTTP, warmup=6)
    project.manifest["services"]["catalog"] |= {"run": "python3 main.py"}
    project.manifest["services"]["catalog"]["health"] |= {"ready": "/", "startup": "60s"}
    project.write()
    deploy = project.start("deploy", "catalog", "--output", "json")
    busy = until(lambda: _deploying(project), "the deploy is seen")
    check_status(project, busy)
    shaped(busy["services"]["catalog"]["rollout"], **ROLLOUT)
    out, err = deploy.communicate(timeout=300)
    assert deploy.returncode == 0, out + err
    rollout = json.loads(out)
    shaped(rollout, **ROLLOUT)
    shaped(rollout["seconds"], **SECONDS)
    assert rollout["phase"] == "done" and rollout["weight"] == 100
    assert rollout["seconds"]["start"] > 0
    check_status(project, project.status())


def _deploying(project: Project) -> Any:
    status = project.status()
    return status if status["services"]["catalog"]["state"] == "deploying" else None


def test_rollouts_and_releases(project: Project) -> None:
    project.service("catalog", test="true")
    project.ok("up")
    first = project.ok("rollout", "catalog", "--output", "json").json
    shaped(first, **ROLLOUT)
    assert first["from"] is None and first["phase"] == "done"

    project.service("catalog", version="2")
    project.ok("deploy", "catalog")
    project.service("catalog", version="3", mode="crash")
    refused = project.volery("deploy", "catalog", "--output", "json")
    assert refused.code == 3
    shaped(refused.json, **ROLLOUT)
    shaped(refused.json["seconds"], **SECONDS)
    assert refused.json["phase"] == "rolled_back" and refused.json["verdict"] == "abort"
    assert "exit code 7" in refused.json["reason"]

    found = project.ok("releases", "catalog", "--output", "json").json
    shaped(found, service=one_of("catalog"), releases=every(mapping))
    for release in found["releases"]:
        shaped(
            release,
            release=RELEASE,
            state=one_of("live", "warm", "kept", "refused", "failed"),
            created_at=moment,
            by=text,
            reason=words,
        )
    assert [item["state"] for item in found["releases"]] == ["refused", "live", "kept"]
    times = [item["created_at"] for item in found["releases"]]
    assert times == sorted(times, reverse=True), "newest first"


def test_a_deploy_of_several_services(project: Project) -> None:
    project.service("catalog")
    project.service("shop", needs=["catalog"])
    project.ok("up")
    project.service("catalog", version="2")
    project.service("shop", version="2")
    found = project.ok("deploy", "catalog", "shop", "--output", "json").json
    assert list(found) == ["rollouts"] and len(found["rollouts"]) == 2
    assert {item["phase"] for item in found["rollouts"]} == {"done"}
    assert {item["to"].partition("@")[0] for item in found["rollouts"]} == {"catalog", "shop"}
    same = project.ok("deploy", "catalog", "--output", "json").json
    assert same["phase"] == "done" and same["to"].startswith("catalog@")


def test_events_one_object_a_line(project: Project) -> None:
    project.service("catalog")
    project.ok("up")
    project.ok("restart", "catalog")
    lines = project.ok("events", "--output", "json").out.splitlines()
    events = [json.loads(line) for line in lines]
    for event in events:
        shaped(
            event,
            at=moment,
            kind=like(r"[a-z]+\.[a-z_]+"),
            service=maybe(one_of("catalog")),
            release=maybe(RELEASE),
            instance=maybe(like(r"catalog-[0-9a-f]{8}-\d+")),
            text=text,
            cause=maybe(text),
            data=mapping,
        )
    times = [event["at"] for event in events]
    assert times == sorted(times) and len(events) > 5
    only = project.ok("events", "catalog", "--output", "json").out.splitlines()
    assert {json.loads(line)["service"] for line in only} == {"catalog"}


def test_every_other_command_prints_one_document(project: Project) -> None:
    project.service("catalog")
    for early in (("check",), ("plan",), ("version",), ("secret", "list"), ("schema",)):
        assert isinstance(project.ok(*early, "--output", "json").json, dict), early
    project.ok("up")
    for command in (
        *(("plan",), ("doctor",), ("scale", "catalog", "2"), ("restart", "catalog")),
        *(("rollout", "catalog"), ("down",)),
    ):
        assert isinstance(project.ok(*command, "--output", "json").json, dict), command
