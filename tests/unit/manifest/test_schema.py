"""The JSON Schema: draft-07, complete, and of one mind with the reader."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft7Validator

from volery.manifest.schema import json_schema
from volery.manifest.tree import data
from volery.manifest.yaml12 import compose
from volery.model.application import Application
from volery.model.fields import WRITTEN

SCHEMA = json_schema()
VALIDATOR = Draft7Validator(SCHEMA)

FULL = """\
app: birdhouse
gateway: {port: 8080, host: 0.0.0.0, routes: [{path: /, service: a, strip: /, host: x.org}]}
services:
  a:
    team: web
    source: ./a
    build: [make x, [make, y, 1.10]]
    test: make test
    run: [python, app.py, 5]
    env: {A: x, B: 1.10, C: true, D: no}
    secrets: [KEY]
    needs:
      b:
      c:
        timeout: 800ms
        retry: {attempts: 2, per_try: 300ms, backoff: 25ms..250ms, on: [connect, 5xx], budget: 20%}
        when_unavailable: fail_fast
        importance: degradable
    health: {ready: /healthz, live: {tcp: true}, every: 1s, timeout: 1m30s, failures: 3}
    scale: {min: 2, max: 10, target: {concurrency: 8}}
    resources: {cpu: 0.5, memory: 256Mi, pids: 5, files: 64}
    steady_state: {errors: < 1%, latency: {p99: <= 300ms}}
    deploy:
      strategy: canary
      steps: [1%, 12.5%]
      at_most: 10m
      approve: false
      surge: 1
      baseline: true
      warm_up: 20s
      watch: 5s
      sticky: {cookie: user}
      override: {header: x-try, value: "yes"}
      mirror: 5%
      mirror_methods: safe
      synthetic:
        - {path: /, method: GET, headers: {x-a: b c}, rate: 2.5}
        - {path: "/x?y=1", method: POST, body: "{}"}
      gates:
        - {command: ./check.sh a, timeout: 10s, on_failure: hold}
        - {url: "http://127.0.0.1:9/hook", when: before_start}
        - {url: /smoke, when: after}
      metrics:
        orders: {prometheus: "http://x:9090/p", query: 'x{a="{release}"}', limit: "> 5", every: 1m}
        queue: {command: [./depth, "{track}"], limit: < 1%, timeout: 300ms, failures: 1}
    stop: {drain: 15s, grace: 10s}
  b: {run: x, needs: [c], scale: 2, build: make, health: {ready: {command: x y}}}
  c: {run: x, state: {volume: data, role: ./role.sh, switchover: [./x, y]}, protocol: tcp}
environments:
  dev: {engine: local}
  production: {engine: kubernetes, context: x, overrides: {a: {scale: 6, env: {A: 1}}}}
"""


def full() -> dict[str, Any]:
    root, mistakes = compose(FULL.encode(), "f")
    assert root is not None
    assert not mistakes
    found = data(root)
    assert isinstance(found, dict)
    return found


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for item in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from nodes(item)


def test_it_is_a_draft_07_schema() -> None:
    Draft7Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "http://json-schema.org/draft-07/schema#"
    words = {key for node in nodes(SCHEMA) for key in node}
    assert not words & {"prefixItems", "$defs", "dependentRequired", "unevaluatedProperties"}


def test_every_reference_leads_somewhere() -> None:
    references = {node["$ref"] for node in nodes(SCHEMA) if isinstance(node.get("$ref"), str)}
    assert references
    for reference in references:
        assert reference.removeprefix("#/definitions/") in SCHEMA["definitions"]
    assert all(len(node) == 1 for node in nodes(SCHEMA) if isinstance(node.get("$ref"), str))


def test_every_object_is_closed_and_every_key_described() -> None:
    for name, schema in [*SCHEMA["definitions"].items(), ("root", SCHEMA)]:
        assert schema["additionalProperties"] is False, name
        for key, described in schema["properties"].items():
            target = described.get("$ref", "").removeprefix("#/definitions/")
            said = SCHEMA["definitions"][target] if target else described
            assert said.get("description"), f"{name}.{key}"


def test_defaults_are_written_as_people_write_them() -> None:
    definitions = SCHEMA["definitions"]
    assert definitions["Health"]["properties"]["startup"]["default"] == "30s"
    assert definitions["Retry"]["properties"]["budget"]["default"] == "20%"
    assert definitions["Deploy"]["properties"]["mirror"]["default"] == "0%"
    assert definitions["Deploy"]["properties"]["approve"]["default"] is False
    for node in nodes(definitions):
        if "default" in node and "type" in node and node["type"] != "array":
            VALIDATOR.evolve(schema=node).validate(node["default"])


def test_the_full_manifest_is_valid_for_both() -> None:
    assert list(VALIDATOR.iter_errors(full())) == []
    assert Application.model_validate(full(), context=WRITTEN)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("services.a.scale", 0),
        ("services.a.scale", "2"),
        ("services.a.scael", 1),
        ("services.a.protocol", "htpp"),
        ("services.a.build_timeout", 5),
        ("services.a.test_timeout", "5"),
        ("services.a.resources.memory", "lots"),
        ("services.a.deploy.steps", [1]),
        ("services.a.deploy.gates", {"url": "/x"}),
        ("services.a.deploy.gates", [{"url": "ftp://x"}]),
        ("services.a.deploy.gates", [{"url": "/x", "when": "never"}]),
        ("services.a.deploy.gates", [{"url": "/x", "timeout": "0"}]),
        ("services.a.deploy.gates", [{"url": "/x", "on_failure": "ignore"}]),
        ("services.a.deploy.metrics", [{"command": "x", "limit": "< 1"}]),
        ("services.a.deploy.metrics", {"m": {"command": "x"}}),
        ("services.a.deploy.metrics", {"m": {"command": "x", "limit": "5"}}),
        ("services.a.deploy.metrics", {"M M": {"command": "x", "limit": "< 5"}}),
        ("services.a.deploy.metrics", {"m": {"command": "x", "limit": "< 5", "failures": 0}}),
        ("services.a.deploy.synthetic", [{"path": "x"}]),
        ("services.a.deploy.synthetic", [{"path": "/", "rate": 0}]),
        ("services.a.deploy.synthetic", [{"path": "/", "method": "DELETE"}]),
        ("services.a.deploy.synthetic", [{"path": "/", "headers": {"a b": "c"}}]),
        ("services.a.deploy.synthetic", [{"path": "/", "headers": {"a": "b\r\nc: d"}}]),
        ("services.a.deploy.mirror", "5"),
        ("services.a.deploy.sticky", {"cookie": "a=b"}),
        ("services.a.deploy.metrics", {"m": {"command": "x", "limit": "< nan"}}),
        ("services.a.deploy.metrics", {"m": {"command": "x", "limit": "> inf"}}),
        ("services.a.deploy.at_most", "٣s"),
        ("services.a.deploy.mirror", "1_0%"),
        ("services.a.deploy.mirror", "1e1%"),
        ("services.a.deploy.mirror", "+5%"),
        ("services.a.steady_state.errors", "1%"),
        ("services.a.steady_state.latency.p98", "< 1s"),
        ("services.a.health.ready", 5),
        ("services.a.health.ready", {"tcp": False}),
        ("services.a.needs", [1]),
        ("services.a.needs.B", {}),
        ("services.a.needs.c.retry.on", ["x"]),
        ("services.a.env.A B", "x"),
        ("services.a.env.A", None),
        ("services.a.run", []),
        ("services.a.team", 5),
        ("services.Big", {"run": "x"}),
        ("services.d", {}),
        ("gateway.port", 0),
        ("gateway.routes", [{"path": "/"}]),
        ("environments.dev.engine", "locl"),
        ("environments", {}),
        ("app", "Bird house"),
        ("app", None),
    ],
)
def test_both_refuse_the_same(path: str, value: object) -> None:
    manifest = copy.deepcopy(full())
    place: Any = manifest
    *above, last = path.split(".")
    for step in above:
        place = place[step]
    place[last] = value
    assert not VALIDATOR.is_valid(manifest)
    with pytest.raises(ValueError, match="validation error"):
        Application.model_validate(manifest, context=WRITTEN)


@pytest.mark.parametrize("limit", ["> -5", "> .5", "<= 300ms", ">=99.9%", "< 1 %", "< 1e3"])
def test_both_take_the_same_limits(limit: str) -> None:
    manifest = copy.deepcopy(full())
    manifest["services"]["a"]["deploy"]["metrics"] = {"m": {"command": "x", "limit": limit}}
    VALIDATOR.validate(manifest)
    Application.model_validate(manifest, context=WRITTEN)


def test_services_may_all_be_included() -> None:
    assert VALIDATOR.is_valid({"app": "x", "include": ["a/volery.yaml"]})
    assert not VALIDATOR.is_valid({"app": "x"})
