from __future__ import annotations

import re
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from unit.traffic.configs import edge, gateway, service

from volery.model.needs import Need, Retry
from volery.model.ports import GatewayRoute
from volery.traffic.routes import edge_routes, gateway_routes


def plain(message: Any) -> dict[str, Any]:
    found: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True)
    return found


def edge_action(protocol: str = "http", upgrade: bool = False, **policy: Any) -> dict[str, Any]:
    routes = plain(edge_routes(edge("web", **policy), {"web": service(protocol=protocol)}))
    found = routes["virtual_hosts"][0]["routes"]
    return action_for("GET", found[:1] if upgrade else found, upgrade)


def action_for(method: str, routes: list[dict[str, Any]], upgrade: bool = False) -> dict[str, Any]:
    """What is done with a request of this method: its first route that fits."""
    for route in routes:
        conditions = {item["name"]: item for item in route["match"].get("headers", [])}
        wanted = conditions.pop(":method", {}).get("string_match", {}).get("safe_regex", {})
        if re.fullmatch(wanted.get("regex", ".*"), method) and (upgrade or not conditions):
            found: dict[str, Any] = route["route"]
            return found
    raise AssertionError(f"no route for {method}")


def test_the_longest_path_is_tried_first_and_a_named_host_before_any() -> None:
    routes = (
        GatewayRoute("/", "web"),
        GatewayRoute("/api", "api"),
        GatewayRoute("/api", "other", host="Shop.example"),
        GatewayRoute("/api/v2/", "api"),
        GatewayRoute("/", "other", host="*.example"),
        GatewayRoute("/", "api", host="m.example"),
    )
    services = {name: service() for name in ("web", "api", "other")}
    hosts = plain(gateway_routes(gateway(*routes), services))["virtual_hosts"]
    table = {
        host["name"]: [
            (
                next(iter(route["match"].values())),
                route["route"]["weighted_clusters"]["clusters"][0]["name"],
            )
            for route in host["routes"]
            if "route" in route and not {"headers", "runtime_fraction"} & route["match"].keys()
        ]
        for host in hosts
    }
    assert table == {
        "*": [("/api/v2", "api~a"), ("/api", "api~a"), ("/", "web~a")],
        "*.example": [("/api/v2", "api~a"), ("/api", "api~a"), ("/", "other~a"), ("/", "web~a")],
        "m.example": [
            ("/api/v2", "api~a"),
            ("/api", "api~a"),
            ("/", "api~a"),
            ("/", "other~a"),
            ("/", "web~a"),
        ],
        "shop.example": [
            ("/api/v2", "api~a"),
            ("/api", "other~a"),
            ("/api", "api~a"),
            ("/", "other~a"),
            ("/", "web~a"),
        ],
    }


def test_every_host_ends_in_a_404_that_helps() -> None:
    found = plain(gateway_routes(gateway(), {}))["virtual_hosts"]
    last = found[0]["routes"][-1]
    assert last["direct_response"]["status"] == 404
    assert "gateway.routes" in last["direct_response"]["body"]["inline_string"]


@pytest.mark.parametrize(
    ("strip", "path", "seen"),
    [
        ("/api/catalog", "/api/catalog/x", "/x"),
        ("/api/catalog", "/api/catalog", "/"),
        ("/api/catalog/", "/api/catalog/x/", "/x/"),
        ("/api", "/api/catalog/x", "/catalog/x"),
        ("/a+b", "/a+b/c", "/c"),
        ("/käse", "/k%C3%A4se/c", "/c"),
        ("/", "/x", "/x"),
        (None, "/x", "/x"),
    ],
)
def test_strip_removes_whole_segments(strip: str | None, path: str, seen: str) -> None:
    routes = gateway_routes(
        gateway(GatewayRoute("/", "web", strip=strip)), {"web": service(protocol="http2")}
    )
    rewrite = plain(routes)["virtual_hosts"][0]["routes"][0]["route"].get("regex_rewrite")
    if rewrite:
        path = re.sub(rewrite["pattern"]["regex"], rewrite["substitution"], path)
    assert path == seen


def test_a_service_nobody_knows_or_that_speaks_tcp_is_answered_with_503() -> None:
    routes = (GatewayRoute("/db", "db"), GatewayRoute("/", "gone"))
    found = plain(gateway_routes(gateway(*routes), {"db": service(protocol="tcp")}))
    answers = [route["direct_response"] for route in found["virtual_hosts"][0]["routes"]]
    assert [answer["status"] for answer in answers] == [503, 503, 404]
    assert "speaks tcp" in answers[0]["body"]["inline_string"]


@pytest.mark.parametrize(
    ("protocol", "policy", "whole", "first_byte", "idle"),
    [
        ("http", {}, "0s", "15s", "300s"),
        ("http2", {"timeout": 0.8}, "0.800s", None, "300s"),
        ("http", {"timeout": 600.0}, "600s", None, "600s"),
        ("http", {"retry": Retry(attempts=2, per_try=400.0)}, "0s", "400s", "800.025s"),
        ("grpc", {}, "0s", None, "3600s"),
        ("grpc", {"timeout": 0.8}, "0s", "0.800s", "3600s"),
    ],
)
def test_time_limits(
    protocol: str, policy: dict[str, Any], whole: str, first_byte: str | None, idle: str
) -> None:
    action = edge_action(protocol, **policy)
    assert action["timeout"] == whole
    assert action["retry_policy"].get("per_try_timeout") == first_byte
    assert action["idle_timeout"] == idle


def test_an_upgraded_connection_has_no_limit_but_idleness() -> None:
    action = edge_action(upgrade=True)
    assert action["timeout"] == "0s"
    assert "per_try_timeout" not in action["retry_policy"]
    assert action["idle_timeout"] == "3600s"


SAFE = "connect-failure,refused-stream,reset-before-request"


@pytest.mark.parametrize(
    ("retry", "protocol", "conditions", "retries", "per_try"),
    [
        (None, "http", f"{SAFE},reset", 2, "15s"),
        (Retry(attempts=1), "http", SAFE, 2, "15s"),
        (Retry(attempts=3, budget=0), "http", SAFE, 2, "15s"),
        (Retry(attempts=2), "http", f"{SAFE},reset", 1, "15s"),
        (Retry(attempts=4, per_try=0.3, on=("5xx",)), "http", f"{SAFE},5xx", 3, "0.300s"),
        (Retry(attempts=2, on=("reset", "timeout")), "http", f"{SAFE},reset", 1, "7.500s"),
        (None, "grpc", SAFE, 2, None),
        (Retry(on=("5xx",)), "grpc", SAFE, 2, None),
        (
            Retry(on=("5xx",), methods="all"),
            "grpc",
            f"{SAFE},5xx,internal,unavailable",
            2,
            None,
        ),
    ],
)
def test_retries(
    retry: Retry | None, protocol: str, conditions: str, retries: int, per_try: str | None
) -> None:
    found = edge_action(protocol, retry=retry)["retry_policy"]
    assert found["retry_on"] == conditions
    assert found["num_retries"] == retries
    assert found.get("per_try_timeout") == per_try
    assert found["retry_host_predicate"][0]["name"].endswith("previous_hosts")


@pytest.mark.parametrize(
    ("method", "methods", "repeated"),
    [
        ("GET", "idempotent", True),
        ("HEAD", "idempotent", True),
        ("PUT", "idempotent", True),
        ("DELETE", "idempotent", True),
        ("POST", "idempotent", False),
        ("PATCH", "idempotent", False),
        ("GETTER", "idempotent", False),
        ("POST", "all", True),
    ],
)
def test_only_what_may_be_repeated_is(method: str, methods: Any, repeated: bool) -> None:
    policy = edge("web", retry=Retry(methods=methods))
    routes = plain(edge_routes(policy, {"web": service()}))["virtual_hosts"][0]["routes"]
    retried = action_for(method, routes)["retry_policy"]["retry_on"].split(",")
    assert ("reset" in retried) == repeated
    users = plain(gateway_routes(gateway(GatewayRoute("/", "web")), {"web": service()}))
    if methods == "idempotent":
        found = action_for(method, users["virtual_hosts"][0]["routes"])
        assert ("reset" in found["retry_policy"]["retry_on"].split(",")) == repeated


def test_retry_after_is_obeyed() -> None:
    found = edge_action()["retry_policy"]["rate_limited_retry_back_off"]
    assert found["reset_headers"] == [{"name": "retry-after"}]


def test_keep_trying_waits_apart_from_all_others_until_its_time_is_over() -> None:
    action = edge_action(when_unavailable="keep_trying")
    assert (action["idle_timeout"], action["priority"]) == ("30s", "HIGH")
    assert action["timeout"] == "0s", "an answer that has begun may last"
    assert action["retry_policy"]["num_retries"] >= 10_000
    assert "gateway-error" in action["retry_policy"]["retry_on"]
    assert edge_action(when_unavailable="keep_trying", timeout=2.0)["timeout"] == "2s"
    stream = edge_action("grpc", when_unavailable="keep_trying", timeout=2.0)
    assert (stream["timeout"], stream["retry_policy"]["num_retries"]) == ("0s", 4)


def test_only_who_fails_fast_has_a_breaker() -> None:
    def hosts(**policy: Any) -> dict[str, Any]:
        found = plain(edge_routes(edge("web", **policy), {"web": service()}))["virtual_hosts"]
        filters: dict[str, Any] = found[0].get("typed_per_filter_config", {})
        return filters

    assert list(hosts()) == ["volery.breaker"]
    assert not hosts(when_unavailable="keep_trying")


def test_backoff_is_the_policys() -> None:
    retry = Retry.model_validate({"attempts": 3, "backoff": "25ms..250ms"})
    found = edge_action(retry=retry)["retry_policy"]["retry_back_off"]
    assert found == {"base_interval": "0.025s", "max_interval": "0.250s"}


def test_a_need_without_policy_is_a_need() -> None:
    assert edge_action() == edge_action(**Need().model_dump(exclude_defaults=True))
