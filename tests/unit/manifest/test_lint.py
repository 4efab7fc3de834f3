"""Policies that contradict each other are found; the contract's own example has none."""

from __future__ import annotations

from typing import Any

import pytest

from volery.manifest.lint import INACTIVE, Finding, lint, unset_secrets
from volery.model.application import Application
from volery.model.fields import WRITTEN

RETRY = {"attempts": 3, "per_try": "100ms", "backoff": "10ms..20ms", "on": ["5xx"]}


def findings(severity: str, services: dict[str, Any], **rest: Any) -> list[str]:
    for service in services.values():
        service.setdefault("run", "app")
    application = Application.model_validate(
        {"app": "shop", "services": services} | rest, context=WRITTEN
    )
    return [
        f"{finding.path}: {finding.message}"
        for finding in lint(application)
        if finding.severity == severity
    ]


def warnings(**services: Any) -> list[str]:
    return findings("warning", {name.replace("_", "-"): service for name, service in
                                services.items()})  # fmt: skip


def test_several_writers_and_nobody_says_who_is_first() -> None:
    store = {"protocol": "tcp", "state": {"volume": "data"}}
    said = (
        "services.db.state: 3 instances write a volume each, and without `role` nothing tells "
        "which of them is the primary; use scale: 1, or say role"
    )
    assert warnings(db=store | {"scale": 3}) == [said]
    assert warnings(db=store | {"scale": {"min": 1, "max": 3}}) == [said]
    assert warnings(db=store | {"scale": 1}) == []
    assert warnings(db=store | {"scale": 3, "state": {"volume": "data", "role": "./r"}}) == []


def test_secrets_that_are_not_set_are_named() -> None:
    application = Application.model_validate(
        {
            "app": "shop",
            "services": {
                "web": {"run": "x", "secrets": ["A", "B"]},
                "api": {"run": "x", "secrets": ["B"]},
            },
        }
    )
    found = [f"{item.path}: {item.message}" for item in unset_secrets(application, {"A"})]
    assert found == [
        "services.web.secrets: B is not set here: volery secret set B",
        "services.api.secrets: B is not set here: volery secret set B",
    ]
    assert not list(unset_secrets(application, {"A", "B"}))


def test_nothing_to_say() -> None:
    assert lint(Application.model_validate({"app": "x", "services": {"a": {"run": "x"}}})) == ()


def test_a_sound_policy() -> None:
    need = {"timeout": "800ms", "retry": RETRY | {"attempts": 2, "per_try": "300ms"}}
    assert warnings(a={"needs": {"b": need}}, b={}) == []


@pytest.mark.parametrize(
    ("need", "says"),
    [
        (
            {"timeout": "300ms", "retry": RETRY},
            "timeout: 300ms is shorter than 3 tries of 100ms with their waits (330ms): the last "
            "tries cannot finish",
        ),
        (
            {"retry": {"attempts": 2, "on": ["reset"]}},
            "retry: without per_try one slow try uses up the whole timeout and is never retried",
        ),
        (
            {"retry": RETRY | {"budget": "0%"}},
            "retry.budget: with a budget of 0% nothing is ever retried",
        ),
        (
            {"retry": RETRY | {"budget": "80%"}},
            "retry.budget: a budget of 80% is hardly one: retries may add that much load while "
            "the callee is already in trouble; 20% is usual",
        ),
        (
            {"importance": "degradable", "when_unavailable": "keep_trying"},
            "when_unavailable: keep_trying makes the caller wait for a need it can do without; "
            "use fail_fast, or importance: critical",
        ),
    ],
)
def test_one_edge(need: dict[str, Any], says: str) -> None:
    assert warnings(a={"needs": {"b": need}}, b={}) == [f"services.a.needs.b.{says}"]


@pytest.mark.parametrize(
    "need",
    [
        {"retry": {"attempts": 2}},
        {"retry": {"attempts": 1, "on": ["5xx"], "budget": "0%"}},
        {"timeout": "330ms", "retry": RETRY},
        {"timeout": "10ms"},
    ],
)
def test_one_edge_that_is_fine(need: dict[str, Any]) -> None:
    assert warnings(a={"needs": {"b": need}}, b={}) == []


def test_retries_of_a_tcp_need() -> None:
    retry = {"attempts": 2}
    assert warnings(a={"needs": {"b": {"retry": retry}}}, b={"protocol": "tcp"}) == [
        "services.a.needs.b.retry: tcp connections are not retried; only http, http2 and grpc "
        "calls are"
    ]


def test_a_caller_that_gives_up_before_its_callee() -> None:
    services = {
        "a": {"needs": {"b": {"timeout": "200ms"}}},
        "b": {"needs": {"c": {"retry": RETRY}}},
        "c": {},
    }
    assert warnings(**services) == [
        "services.a.needs.b.timeout: 200ms is shorter than b may wait for c (330ms): b goes on "
        "after its caller has given up"
    ]
    services["b"] = {"needs": {"c": {"timeout": "150ms", "retry": RETRY | {"attempts": 1}}}}
    assert warnings(**services) == []


def test_retries_at_two_layers_of_one_path() -> None:
    services = {
        "a": {"needs": {"b": {"retry": RETRY}}},
        "b": {"needs": ["c"]},
        "c": {"needs": {"d": {"retry": RETRY}, "a": {"importance": "degradable"}}},
        "d": {},
    }
    found = warnings(**services)
    assert found == [
        "services.a.needs.b.retry: retries at two layers multiply: a -> b -> c -> d can become 9 "
        "calls for one; keep the retry nearest to the failure"
    ]


def test_connect_retries_do_not_multiply() -> None:
    upper = {"a": {"needs": {"b": {"retry": {"attempts": 3, "on": ["connect"]}}}}}
    assert warnings(**upper, b={"needs": {"c": {"retry": RETRY}}}, c={}) == []


def test_retries_at_two_layers_of_which_nobody_says_when() -> None:
    services = {name: {"needs": {need: {"retry": {"attempts": 3}}}} for name, need in ("ab", "bc")}
    assert warnings(**services, c={}) == [
        "services.a.needs.b.retry: retries at two layers multiply with more `on`: a -> b -> c can "
        "become 9 calls for one; keep the retry nearest to the failure"
    ]
    said = "no budget is written: retries may add 20% to the calls"
    assert findings("note", services | {"c": {}}) == [
        f"services.a.needs.b.retry: {said}",
        f"services.b.needs.c.retry: {said}",
    ]


def test_cycles_end() -> None:
    edge = {"importance": "degradable"}
    assert warnings(a={"needs": {"b": edge}}, b={"needs": {"a": edge | {"retry": RETRY}}}) == []


@pytest.mark.parametrize(
    ("service", "says"),
    [
        (
            {"health": {"timeout": "3s"}},
            "health.timeout: 3s is longer than every (1s): probes of a slow instance overlap or "
            "are late",
        ),
        (
            {"health": {"startup": "500ms"}},
            "health.startup: 500ms is shorter than one probe may take (1s): a slow start is never "
            "given a chance",
        ),
        (
            {"protocol": "tcp", "health": {"ready": "/x"}},
            "health: asks for an HTTP path of a service with protocol tcp; use {tcp: true} or a "
            "command",
        ),
        (
            {"deploy": {"strategy": "recreate"}},
            "deploy.strategy: stops the old instances before new ones serve, so every deploy is "
            "an outage; with one instance, too, rolling serves on",
        ),
        (
            {"deploy": {"strategy": "recreate"}, "scale": 2},
            "deploy.strategy: stops the old instances before new ones serve, so every deploy is "
            "an outage; rolling serves on",
        ),
        (
            {"deploy": {"unavailable": 2}, "scale": 2},
            "deploy.unavailable: 2 of 2 instances may be away at once: nothing may serve during a "
            "deploy",
        ),
    ],
)
def test_one_service(service: dict[str, Any], says: str) -> None:
    assert warnings(a=service) == [f"services.a.{says}"]


def test_a_stateful_service_may_be_recreated() -> None:
    assert warnings(a={"deploy": {"strategy": "recreate"}, "state": {"volume": "v"}}) == []


def test_drain_shorter_than_the_slowest_caller() -> None:
    found = warnings(
        a={"needs": {"c": {"timeout": "20s"}}}, b={"needs": {"c": {"timeout": "1s"}}}, c={}
    )
    assert found == [
        "services.c.stop.drain: 15s is shorter than a may wait for an answer (20s): long requests "
        "are cut off when an instance stops"
    ]


def test_what_has_no_effect_yet_is_said_where_it_is_written() -> None:
    services = {
        "a": {
            "needs": {"b": {"when_unavailable": "keep_trying", "importance": "critical"}},
            "scale": {"min": 1, "max": 3},
            "steady_state": {"errors": "< 1%"},
            "deploy": {"strategy": "canary", "steps": ["5%"]},
        },
        "b": {"state": {"volume": "v", "role": "r", "switchover": "s"}},
    }  # fmt: skip
    places = {
        "dev": {},
        "cloud": {"engine": "kubernetes"},
        "box": {"engine": "docker"},
    }
    notes = findings("note", services, environments=places)
    assert all(": not active yet: " in note for note in notes)
    assert [note.split(": ")[0] for note in notes] == [
        "services.a.scale",
        "services.a.steady_state",
        "services.a.needs.b.when_unavailable",
        "services.a.needs.b.importance",
        "services.b.state.role",
        "services.b.state.switchover",
        "environments.cloud.engine",
        "environments.box.engine",
    ]


def test_every_row_of_the_table_can_be_met() -> None:
    """A row whose place is misspelt would never say anything."""
    fields: set[str] = set()
    for model in _models(Application):
        fields |= set(model.model_fields)
    for row in INACTIVE:
        assert {step for step in row.place.split(".") if step != "*"} <= fields


def _models(model: type[Any]) -> list[type[Any]]:
    module = __import__(model.__module__, fromlist=["*"])
    base = module.Model
    return [value for value in vars(module).values() if isinstance(value, type)
            and issubclass(value, base)]  # fmt: skip


def test_findings_are_plain_values() -> None:
    assert Finding("note", ("a",), "b") == Finding("note", ("a",), "b")
