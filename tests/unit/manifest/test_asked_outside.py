"""Gates, custom metrics and synthetic requests in a manifest: mistakes, and what looks wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from volery.manifest.lint import lint
from volery.model.application import Application
from volery.model.deploy import CustomMetric
from volery.model.fields import WRITTEN

Mistakes = Callable[..., list[str]]
HEAD = "app: shop\nservices:\n  a:\n    run: sh\n    deploy:\n"
PROMETHEUS = {"prometheus": "http://127.0.0.1:9090", "limit": "< 5"}
QUERY = {"query": 'sum(x{release="{release}"})'} | PROMETHEUS


@pytest.mark.parametrize(
    ("deploy", "lines"),
    [
        ("gates: [{}]", ["6:15: services.a.deploy.gates[0]: must have exactly one of command, "
                         "url"]),
        ("gates: [{command: sh, url: /x}]", ["6:15: services.a.deploy.gates[0]: must have exactly "
                                             "one of command, url"]),
        ("gates: [{url: /x, when: before_start}]", [
            "6:15: services.a.deploy.gates[0]: a smoke test needs instances: use when: "
            "before_step"]),
        ("gates: [{url: 'http://127.0.0.1:99999/'}]", [
            "6:21: services.a.deploy.gates[0].url: must have a host name, and a port from 1 to "
            "65535 if it has one"]),
        ("gates: [{url: 'http://:80/'}]", [
            "6:21: services.a.deploy.gates[0].url: must have a host name, and a port from 1 to "
            "65535 if it has one"]),
        ("gates: [{command: nope1}, {command: ./gone}, {command: check.sh}]", [
            "6:25: services.a.deploy.gates[0].command: command 'nope1' is not on PATH; install "
            "it, or give its path beside the manifest",
            "6:43: services.a.deploy.gates[1].command: no such file: './gone' beside the manifest",
            "6:62: services.a.deploy.gates[2].command: command 'check.sh' is not on PATH; write "
            "./check.sh to run the file beside the manifest"]),
        ("metrics: {m: {limit: < 1}}", ["6:17: services.a.deploy.metrics.m: must have exactly one "
                                        "of prometheus, command"]),
        ("metrics: {m: {prometheus: 'http://x', limit: < 1}}", [
            "6:17: services.a.deploy.metrics.m: prometheus and query go together"]),
        ("metrics: {m: {command: sh, query: up, limit: < 1}}", [
            "6:17: services.a.deploy.metrics.m: prometheus and query go together"]),
        ("metrics: {m: {prometheus: /p, query: up, limit: < 1}}", [
            "6:17: services.a.deploy.metrics.m: prometheus must be a base URL such as "
            "http://127.0.0.1:9090"]),
        ("metrics: {m: {prometheus: 'http://x?y', query: up, limit: < 1}}", [
            "6:33: services.a.deploy.metrics.m.prometheus: must be a URL such as "
            "http://127.0.0.1:9090, got 'http://x?y'"]),
        ("metrics: {m: {command: nope2, limit: < 1}}", [
            "6:30: services.a.deploy.metrics.m.command: command 'nope2' is not on PATH; install "
            "it, or give its path beside the manifest"]),
        ("synthetic: [{path: /, headers: {Content-Length: '5'}}]", [
            "6:39: services.a.deploy.synthetic[0].headers.Content-Length: 'Content-Length' is set "
            "by whoever sends the request"]),
        ('synthetic: [{path: /, headers: {x: "a\\r\\nb: c"}}]', [
            "6:42: services.a.deploy.synthetic[0].headers.x: must be one line without control "
            "characters, got 'a\\r\\nb: c'"]),
        ("synthetic: [{path: /, rate: 1000}]", [
            "6:35: services.a.deploy.synthetic[0].rate: must be at most 100, got 1000"]),
    ],
)  # fmt: skip
def test_mistakes(mistakes: Mistakes, deploy: str, lines: list[str]) -> None:
    assert mistakes(f"{HEAD}      {deploy}\n", {"check.sh": ""}) == lines


def test_a_command_of_an_override_is_looked_for(mistakes: Mistakes) -> None:
    rest = "environments: {dev: {overrides: {a: {deploy: {gates: [{command: nope}]}}}}}\n"
    assert mistakes(f"app: shop\nservices:\n  a: {{run: sh}}\n{rest}") == [
        "4:65: environments.dev.overrides.a.deploy.gates[0].command: command 'nope' is not on "
        "PATH; install it, or give its path beside the manifest"
    ]


def test_a_command_named_by_the_release_is_not_looked_for(
    application: Callable[..., Application],
) -> None:
    metric = "{command: './{service}-depth', limit: < 5}"
    assert application(f"{HEAD}      metrics: {{m: {metric}}}\n")


def warnings(deploy: dict[str, Any], **service: Any) -> list[str]:
    services = {"a": {"run": "app", "deploy": {"strategy": "canary"} | deploy} | service}
    application = Application.model_validate({"app": "x", "services": services}, context=WRITTEN)
    return [
        f"{finding.path.removeprefix('services.a.deploy.')}: {finding.message}"
        for finding in lint(application)
        if finding.severity == "warning"
    ]


def test_nothing_to_say() -> None:
    deploy = {
        "gates": [{"url": "/smoke"}, {"url": "http://user@x/"}, {"command": "x"}],
        "metrics": {
            "m": QUERY,
            "n": {"command": ["x", "{relase}"], "limit": "> 1", "every": "5s", "timeout": "5s"},
        },
        "synthetic": [{"path": "/"}, {"path": "/", "method": "POST", "body": "x"}],
    }
    assert warnings(deploy) == []
    deploy.pop("synthetic")
    assert warnings(deploy | {"strategy": "blue-green", "watch": "30s"}) == []


@pytest.mark.parametrize(
    ("deploy", "says"),
    [
        (
            {"gates": [{"url": "http://ann:pw@x/"}]},
            "gates[0].url: has a password that everyone sees who reads the manifest; a command "
            "can keep it",
        ),
        (
            {"metrics": {"m": QUERY | {"prometheus": "http://ann:pw@x"}}},
            "metrics.m.prometheus: has a password that everyone sees who reads the manifest; a "
            "command can keep it",
        ),
        (
            {"metrics": {"m": QUERY | {"timeout": "20s"}}},
            "metrics.m.timeout: 20s is longer than every (10s): measurements of a slow source are "
            "late",
        ),
        (
            {"metrics": {"m": QUERY}, "at_most": "20s"},
            "metrics.m.failures: 3 measurements every 10s take longer than a step (at_most: 20s): "
            "it can never take a release back",
        ),
        (
            {"metrics": {"m": QUERY}, "strategy": "blue-green"},
            "metrics.m.failures: 3 measurements every 10s take longer than a switch is watched "
            "(watch: 10s): what they show late takes nothing back",
        ),
        (
            {"metrics": {"m": PROMETHEUS | {"query": 'x{r="{relase}",t="{track}"}'}}},
            "metrics.m.query: {relase} is not filled in, and in PromQL it means nothing; known: "
            "{service}, {release}, {track}",
        ),
        (
            {"metrics": {"m": PROMETHEUS | {"query": 'x{s="{service}"}'}}},
            "metrics.m.query: names neither {release} nor {track}, so the new release is blamed "
            "for what the old one does as well",
        ),
        (
            {"metrics": {"m": QUERY}, "strategy": "rolling"},
            "metrics: are not measured in a rolling deploy; use canary or blue-green",
        ),
        (
            {"gates": [{"command": "true", "when": "after"}], "strategy": "rolling"},
            "gates[0].when: never asked in a rolling deploy, which has no steps; use canary or "
            "blue-green, or when: before_start",
        ),
        (
            {"synthetic": [{"path": "/"}], "strategy": "blue-green"},
            "synthetic: only a canary makes requests of its own",
        ),
        (
            {"synthetic": [{"path": "/", "body": "x"}]},
            "synthetic[0].body: a GET with a body is refused by many servers; use POST",
        ),
    ],
)
def test_what_looks_wrong(deploy: dict[str, Any], says: str) -> None:
    assert warnings(deploy) == [says]


@pytest.mark.parametrize("protocol", ["tcp", "grpc"])
def test_synthetic_requests_of_another_protocol(protocol: str) -> None:
    assert warnings({"synthetic": [{"path": "/"}]}, protocol=protocol) == [
        f"synthetic: are HTTP requests; a service with protocol {protocol} fails them all"
    ]


def test_a_smoke_test_of_a_tcp_service() -> None:
    assert warnings({"gates": [{"url": "/x"}]}, protocol="tcp") == [
        "gates[0].url: asks for an HTTP path of a service with protocol tcp; use a command"
    ]


def test_overrides_are_looked_at() -> None:
    manifest = {
        "app": "x",
        "services": {"a": {"run": "app"}},
        "environments": {"dev": {"overrides": {"a": {"deploy": {"synthetic": [{"path": "/"}]}}}}},
    }
    application = Application.model_validate(manifest, context=WRITTEN)
    assert [f.path for f in lint(application) if f.severity == "warning"] == [
        "environments.dev.overrides.a.deploy.synthetic"
    ]


@pytest.mark.parametrize(
    ("metric", "by_group"),
    [
        ({"command": "x {release}"}, True),
        ({"command": ["x", "--track={track}"]}, True),
        ({"command": "x {service} $VOLERY_RELEASE"}, False),
        ({"command": ["sh", "-c", "echo ${release}"]}, False),
        (QUERY, True),
        (PROMETHEUS | {"query": 'x{track="canary"}'}, False),
    ],
)
def test_whether_the_old_release_is_asked_about(metric: dict[str, Any], by_group: bool) -> None:
    found = CustomMetric.model_validate({"limit": "< 1"} | metric, context=WRITTEN)
    assert found.by_group is by_group
