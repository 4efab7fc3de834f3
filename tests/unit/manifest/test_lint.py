"""Policies that contradict each other are found; the contract's own example has none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from volery.manifest.finding import Finding
from volery.manifest.lint import INACTIVE, SHELLS, VARIABLE, lint, unset_secrets
from volery.manifest.read import read
from volery.model.application import Application
from volery.model.fields import WRITTEN
from volery.model.form import Model
from volery.supervise.shim import child

RETRY = {"attempts": 3, "per_try": "100ms", "backoff": "10ms..20ms", "on": ["5xx"]}
BIRDHOUSE = Path(__file__).parents[3] / "examples" / "birdhouse" / "volery.yaml"
CIRCLE = (
    "is a circle: what one of them cannot do comes back to itself, and none can be well first; "
    "let one do without the call"
)


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
    assert (
        warnings(
            db=store | {"scale": 3, "state": {"volume": "data", "role": "./r", "switchover": "./s"}}
        )
        == []
    )


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


SHOWN = (
    "$KEY is a secret, and others can see it on a command line; let the program read it from its "
    "environment"
)


def test_a_secret_on_a_command_line_is_said() -> None:
    service = {
        "run": ["serve", "--key=${KEY}", "$KEY"],
        "secrets": ["KEY"],
        "env": {"WHERE": "here"},
        "health": {"ready": {"command": "check $KEY $WHERE $KEYS"}, "live": {"tcp": True}},
        "state": {"volume": "data", "role": "role $KEY"},
    }
    assert warnings(a=service) == [
        f"services.a.run: {SHOWN}",
        f"services.a.health.ready.command: {SHOWN}",
        f"services.a.state.role: {SHOWN}",
    ]


@pytest.mark.parametrize("run", ["sh -c 'serve < $KEY'", ["/bin/bash", "-ec", "$KEY"], "serve KEY"])
def test_what_a_shell_does_with_a_secret_is_its_own(run: object) -> None:
    assert warnings(a={"run": run, "secrets": ["KEY"]}) == []
    assert warnings(a={"run": "serve $OTHER", "secrets": ["KEY"]}) == []


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
            {"retry": {"attempts": 2, "on": ["5xx"]}},
            "retry: without per_try one slow try uses up the whole timeout and is never retried",
        ),
        (
            {"retry": RETRY | {"budget": "0%"}},
            "retry.budget: with a budget of 0% only what never reached the callee is retried",
        ),
        (
            {"retry": RETRY | {"budget": "5%"}},
            "retry.budget: a budget of 5% limits nothing: a service has one for all its callers, "
            "never less than 20%",
        ),
        (
            {"retry": RETRY | {"budget": "80%"}},
            "retry.budget: a budget of 80% is hardly one: retries may add that much load while "
            "the callee is already in trouble; 20% is usual",
        ),
        (
            {"importance": "degradable", "when_unavailable": "keep_trying", "timeout": "2s"},
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


def test_the_timeout_of_a_tcp_need_ends_no_connection() -> None:
    edge, store = {"timeout": "30s"}, {"protocol": "tcp", "needs": {"c": {"timeout": "5s"}}}
    assert warnings(a={"needs": {"b": edge}}, b=store, c={}) == [
        "services.a.needs.b.timeout: has no effect: a tcp connection lasts as long as both ends "
        "want; only keep_trying waits that long for one"
    ]
    waits = edge | {"when_unavailable": "keep_trying"}
    assert warnings(a={"needs": {"b": waits}}, b=store, c={}) == []


def test_the_timeout_of_a_tcp_need_outlasts_no_caller() -> None:
    edge, tries = {"timeout": "5s"}, {"retry": {"attempts": 2, "per_try": "5s"}}
    store: dict[str, object] = {"protocol": "tcp"}
    for further in (edge, tries):
        found = warnings(
            a={"needs": {"b": {"timeout": "1s"}}}, b={"needs": {"c": further}}, c=store
        )
        assert [line for line in found if line.startswith("services.a")] == []
    waits = edge | {"when_unavailable": "keep_trying"}
    assert warnings(a={"needs": {"b": {"timeout": "1s"}}}, b={"needs": {"c": waits}}, c=store) == [
        "services.a.needs.b.timeout: 1s is shorter than b may wait for c (5s): b goes on after its "
        "caller has given up"
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
        "c": {"needs": {"d": {"retry": RETRY}}},
        "d": {},
    }
    found = warnings(**services)
    assert found == [
        "services.a.needs.b.retry: retries at several layers multiply: a -> b -> c -> d may ask d "
        "9 times for one request; keep the retry nearest to the failure"
    ]


def test_retries_of_every_layer_of_a_chain_are_multiplied() -> None:
    edges = zip("abcd", "bcde", strict=True)
    services = {name: {"needs": {need: {"retry": RETRY}}} for name, need in edges}
    assert [said.partition(" for one")[0] for said in warnings(**services, e={})] == [
        "services.a.needs.b.retry: retries at several layers multiply: a -> b -> c -> d -> e may "
        "ask e 81 times",
        "services.b.needs.c.retry: retries at several layers multiply: b -> c -> d -> e may ask e "
        "27 times",
        "services.c.needs.d.retry: retries at several layers multiply: c -> d -> e may ask e 9 "
        "times",
    ]
    services["c"] = {"needs": {"d": {"retry": RETRY | {"on": ["reset"]}}}}
    assert [said.partition(" for one")[0].rpartition(": ")[2] for said in
            warnings(**services, e={})] == [
        "a -> b -> c -> d may ask d 27 times",
        "b -> c -> d may ask d 9 times",
    ]  # fmt: skip


def test_a_timeout_is_compared_with_waits_further_down() -> None:
    services = {
        "a": {"needs": {"b": {"timeout": "1s"}}},
        "b": {"needs": ["c"]},
        "c": {"needs": {"d": {"timeout": "5s"}, "b": {"importance": "degradable"}}},
        "d": {"needs": {"e": {"timeout": "1m"}}},
        "e": {"stop": {"drain": "1m"}},
    }
    said = (
        "services.a.needs.b.timeout: 1s is shorter than c may wait for d (5s, in b -> c -> d): "
        "c goes on after its caller has given up"
    )
    assert said in warnings(**services)
    services["b"] = {"needs": {"c": {"timeout": "900ms"}}}
    assert said not in warnings(**services)


def test_what_is_critical_is_not_given_up_at_once() -> None:
    edge = {"importance": "critical", "retry": {"attempts": 1}}
    said = (
        "services.a.needs.b.retry.attempts: with fail_fast and 1 attempt one cut connection fails "
        "a need that is critical; leave attempts out (3), or keep_trying"
    )
    assert warnings(a={"needs": {"b": edge}}, b={}) == [said]
    assert warnings(a={"needs": {"b": edge}}, b={"protocol": "tcp"}) == []
    assert warnings(a={"needs": {"b": edge | {"importance": "unknown"}}}, b={}) == []


def test_answers_are_not_retried_for_all_methods() -> None:
    assert warnings(a={"needs": {"b": {"retry": RETRY | {"methods": "all"}}}}, b={}) == [
        "services.a.needs.b.retry.methods: methods: all with answers in `on` does a POST again "
        "that may have been done; use idempotent, or be sure that the callee does nothing twice"
    ]
    cut = RETRY | {"methods": "all", "on": ["reset"]}
    assert warnings(a={"needs": {"b": {"retry": cut}}}, b={}) == []


def test_a_circle_is_named_once() -> None:
    loose = {"importance": "degradable"}
    services: dict[str, Any] = {"d": {"needs": ["a"]}, "a": {"needs": ["b"]}, "b": {"needs": ["c"]}}
    assert warnings(**services, c={"needs": {"a": loose}}) == [
        f"services.a.needs.b: a -> b -> c -> a {CIRCLE}"
    ]
    services["c"] = {"needs": {"a": loose | {"when_unavailable": "keep_trying", "timeout": "1s"}}}
    assert not [said for said in warnings(**services) if CIRCLE in said]


def test_birdhouse_is_not_warned_of() -> None:
    assert [str(item) for item in lint(read(BIRDHOUSE)) if item.severity == "warning"] == []


def test_the_edges_of_the_contract_are_not_warned_of() -> None:
    payments = {
        "timeout": "800ms",
        "retry": {
            "attempts": 2,
            "per_try": "300ms",
            "backoff": "25ms..250ms",
            "on": ["connect", "reset", "5xx"],
            "budget": "20%",
        },
        "when_unavailable": "fail_fast",
        "importance": "degradable",
    }
    services = {"storefront": {"needs": {"catalog": {}, "payments": payments}}}
    assert warnings(**services, catalog={}, payments={}) == []


def test_connect_retries_do_not_multiply() -> None:
    upper = {"a": {"needs": {"b": {"retry": {"attempts": 3, "on": ["connect"]}}}}}
    assert warnings(**upper, b={"needs": {"c": {"retry": RETRY}}}, c={}) == []


def test_cut_connections_are_retried_at_every_layer() -> None:
    edge = {"timeout": "3s", "retry": {"attempts": 3}}
    services = {name: {"needs": {need: edge}} for name, need in ("ab", "bc")}
    assert warnings(**services, c={}) == []
    said = "no budget is written: retries may add 20% to the calls"
    layers = (
        "retries at two layers, a -> b -> c, do not multiply: only cut connections are tried again "
        "here; with answers or timeouts in `on` they would"
    )
    assert findings("note", services | {"c": {}}) == [
        f"services.a.needs.b.retry: {said}",
        f"services.a.needs.b.retry: {layers}",
        f"services.b.needs.c.retry: {said}",
    ]


def test_late_tries_multiply_where_no_time_is_written() -> None:
    services: dict[str, Any] = {"a": {"needs": ["b"]}, "b": {"needs": ["c"]}, "c": {"needs": ["d"]}}
    said = (
        "services.a.needs.b: without a timeout late tries are repeated, here and a layer below: "
        "a -> b -> c may ask a c that hangs 9 times for one request; say how long"
    )
    assert findings("note", services | {"d": {}}) == [said]
    services["a"] = {"needs": {"b": {"timeout": "5s"}}}
    assert findings("note", services | {"d": {"protocol": "tcp"}}) == []


def test_the_default_retries_count_as_well() -> None:
    upper = {"a": {"needs": {"b": {"retry": RETRY}}}}
    said = (
        "services.a.needs.b.retry: retries at several layers multiply: a -> b -> c may ask c 9 "
        "times for one request; keep the retry nearest to the failure"
    )
    assert warnings(**upper, b={"needs": ["c"]}, c={}) == [said]
    assert warnings(**upper, b={"needs": {"c": {"retry": {}}}}, c={}) == [said]
    none = {"retry": {"budget": "0%"}}
    assert not [said for said in warnings(**upper, b={"needs": {"c": none}}, c={}) if "9" in said]
    for protocol in ("tcp", "grpc"):
        assert warnings(**upper, b={"needs": ["c"]}, c={"protocol": protocol}) == []


def test_late_tries_have_their_share_of_the_timeout() -> None:
    need = {"timeout": "3s", "retry": {"on": ["timeout", "5xx"]}}
    assert warnings(a={"needs": {"b": need}}, b={}) == []


def test_grpc_calls_are_retried_if_all_methods_are() -> None:
    retry = {"on": ["5xx"], "per_try": "100ms"}
    assert warnings(a={"needs": {"b": {"retry": retry}}}, b={"protocol": "grpc"}) == [
        "services.a.needs.b.retry.on: grpc calls are all POST, so only connections are retried; "
        "say methods: all"
    ]
    retry["methods"] = "all"
    assert warnings(a={"needs": {"b": {"retry": retry}}}, b={"protocol": "grpc"}) == []
    need = {"timeout": "1s", "retry": {"methods": "all", "budget": "20%"}}
    assert findings("note", {"a": {"needs": {"b": need}}, "b": {"protocol": "grpc"}}) == [
        "services.a.needs.b.timeout: a timeout limits each try of a grpc call; only its own "
        "deadline limits them all"
    ]


def test_keep_trying_in_the_graph() -> None:
    waits = {"when_unavailable": "keep_trying", "timeout": "5s"}
    unlimited = {"when_unavailable": "keep_trying"}
    at = "services.a.needs.b.when_unavailable"
    assert warnings(a={"needs": {"b": waits}}, b={}) == []
    assert warnings(a={"needs": {"b": unlimited}}, b={}) == [
        f"{at}: without a timeout calls wait up to 30s; say how long"
    ]
    assert warnings(a={"needs": {"b": waits}}, b={"needs": {"c": waits}}, c={}) == [
        f"{at}: calls wait at two layers: a -> b -> c; those who wait further out hold requests "
        "open for nothing, keep_trying belongs next to what may be away"
    ]
    assert warnings(a={"needs": {"b": {"timeout": "1s"}}}, b={"needs": {"c": waits}}, c={}) == [
        "services.a.needs.b.timeout: 1s is shorter than b may wait for c (5s): b goes on after "
        "its caller has given up"
    ]
    loose = {"importance": "degradable"}
    assert warnings(a={"needs": {"b": waits}}, b={"needs": {"a": loose}}) == [
        f"{at}: a -> b -> a is a circle in which calls wait for themselves; use fail_fast"
    ]


def test_cycles_end() -> None:
    edge = {"importance": "degradable"}
    assert warnings(a={"needs": {"b": edge}}, b={"needs": {"a": edge | {"retry": RETRY}}}) == [
        f"services.a.needs.b: a -> b -> a {CIRCLE}"
    ]


@pytest.mark.parametrize(
    ("service", "says"),
    [
        (
            {"health": {"timeout": "3s"}},
            "health.timeout: 3s is longer than every (1s): a slow instance is asked less "
            "often than that",
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
            {"deploy": {"unavailable": 2}, "scale": 2, "floor": 0},
            "deploy.unavailable: 2 of 2 instances may be away at once: nothing may serve during a "
            "deploy",
        ),
        (
            {"deploy": {"unavailable": 1, "surge": 0}, "scale": 1, "floor": 1},
            "deploy.unavailable: 1 of 1 instances may be away at once: nothing may serve during a "
            "deploy",
        ),
    ],
)
def test_one_service(service: dict[str, Any], says: str) -> None:
    assert warnings(a=service) == [f"services.a.{says}"]


@pytest.mark.parametrize(
    "service",
    [
        {"deploy": {"unavailable": 2}, "scale": 2},
        {"deploy": {"unavailable": 2, "surge": 0}, "scale": 2},
        {"deploy": {"unavailable": 1}, "scale": 1},
    ],
)
def test_one_serves_on_where_nobody_wrote_less(service: dict[str, Any]) -> None:
    assert warnings(a=service) == []


def test_a_stateful_service_may_be_recreated() -> None:
    assert warnings(a={"deploy": {"strategy": "recreate"}, "state": {"volume": "v"}}) == []


@pytest.mark.parametrize(
    ("strategy", "option", "where"),
    [
        ("rolling", {"steps": ["5%"]}, "canary"),
        ("blue-green", {"mirror": "5%"}, "canary"),
        ("recreate", {"sticky": {"cookie": "c"}}, "canary"),
        ("rolling", {"approve": True}, "canary or blue-green"),
        ("rolling", {"on_inconclusive": "promote"}, "canary or blue-green"),
        ("canary", {"watch": "1m"}, "blue-green"),
        ("blue-green", {"unavailable": 1}, "rolling"),
        ("recreate", {"surge": 2}, "canary, blue-green or rolling"),
    ],
)
def test_what_the_strategy_does_not_know(strategy: str, option: dict[str, Any], where: str) -> None:
    (name,) = option
    service = {"deploy": {"strategy": strategy} | option, "state": {"volume": "v"}}
    assert warnings(a=service) == [
        f"services.a.deploy.{name}: has no effect in a {strategy} deploy, only in {where}"
    ]


@pytest.mark.parametrize(
    ("strategy", "option"),
    [
        ("blue-green", {"approve": True, "at_most": "1m", "watch": "1m", "surge": 2}),
        ("canary", {"steps": ["5%"], "mirror": "5%", "warm": "1m", "warm_up": "1m"}),
        ("rolling", {"warm_up": "1m", "surge": 2, "approve": False, "at_most": "10m"}),
    ],
)
def test_what_the_strategy_knows_or_is_so_anyway(strategy: str, option: dict[str, Any]) -> None:
    assert warnings(a={"deploy": {"strategy": strategy} | option, "scale": 2}) == []


def test_ways_to_a_canary_that_its_protocol_does_not_know() -> None:
    deploy = {"strategy": "canary", "mirror": "5%", "sticky": {"header": "x"}}
    for protocol, said in (
        ("http", []),
        ("grpc", ["mirror: has no effect: grpc calls are not copied"]),
        (
            "tcp",
            [
                "mirror: has no effect: tcp connections are not copied",
                "sticky: has no effect: tcp connections go by weight alone",
                "override: has no effect: tcp connections go by weight alone",
            ],
        ),
    ):
        service = {"protocol": protocol, "deploy": deploy | {"override": {"header": "y"}}}
        assert warnings(a=service) == [f"services.a.deploy.{line}" for line in said]


def test_options_of_an_override_count_under_the_strategy_there() -> None:
    services = {"a": {"deploy": {"strategy": "canary"}}}
    at = "environments.live.overrides.a.deploy"
    for deploy, said in (
        ({"approve": True}, []),
        ({"watch": "1m"}, [f"{at}.watch: has no effect in a canary deploy, only in blue-green"]),
        ({"strategy": "rolling"}, []),
        (
            {"strategy": "rolling", "approve": True},
            [f"{at}.approve: has no effect in a rolling deploy, only in canary or blue-green"],
        ),
    ):
        live = {"overrides": {"a": {"deploy": deploy}}}
        assert findings("warning", services, environments={"live": live}) == said


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
        "environments.cloud.engine",
        "environments.box.engine",
    ]


def test_every_row_of_the_table_can_be_met() -> None:
    """A row whose place is misspelt would never say anything."""
    fields = {field for model in _models(Model) for field in model.model_fields}
    for row in INACTIVE:
        assert {step for step in row.place.split(".") if step != "*"} <= fields


def _models(model: type[Model]) -> Iterator[type[Model]]:
    yield model
    for below in model.__subclasses__():
        yield from _models(below)


def test_findings_are_plain_values() -> None:
    assert Finding("note", ("a",), "b") == Finding("note", ("a",), "b")


def test_what_is_filled_in_is_what_the_shim_fills_in() -> None:
    assert (set(SHELLS), VARIABLE) == (child.SHELLS, child._VARIABLE)
