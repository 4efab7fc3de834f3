from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.extensions.filters.http.adaptive_concurrency.v3 import adaptive_concurrency_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2 as upstream_pb2
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from unit.traffic.configs import config, edge, gateway, group, service

from volery.model.deploy import Override, Sticky
from volery.model.needs import Need, Retry
from volery.model.ports import (
    Edge,
    Endpoint,
    GatewayRoute,
    GroupTraffic,
    ServiceTraffic,
    Split,
    TrafficConfig,
)
from volery.model.state import SLOTS, SlotName
from volery.traffic import bootstrap, breaker, shedding, xds
from volery.traffic.clusters import HTTP_OPTIONS, TCP_WEIGHT_SCALE, budgets
from volery.traffic.split import WHOLE
from volery.traffic.xds import CLUSTERS, ENDPOINTS, LISTENERS, ROUTES, Snapshot, snapshot, stages


def endpoints(state: Snapshot, cluster: str) -> dict[str, str]:
    """Instance -> health of one cluster."""
    found = json_format.MessageToDict(state.types[ENDPOINTS][cluster])
    listed = found["endpoints"][0].get("lbEndpoints", [])
    return {item["endpoint"]["hostname"]: item["healthStatus"] for item in listed}


def weights(state: Snapshot, routes: str) -> Mapping[str, int]:
    found = json_format.MessageToDict(state.types[ROUTES][routes])
    action = found["virtualHosts"][0]["routes"][0].get("route")
    clusters = action["weightedClusters"]["clusters"] if action else []
    return {item["name"]: item["weight"] * 100 // WHOLE for item in clusters}


EDGE = "front~a~web~20100"


def test_a_service_has_two_clusters_and_a_tcp_service_one() -> None:
    state = snapshot(config(web=service(), db=service(protocol="tcp")))
    assert sorted(state.types[CLUSTERS]) == ["db~tcp", "web~a", "web~b"]
    assert sorted(state.types[ENDPOINTS]) == ["db~tcp", "web~a", "web~b"]


def test_each_slot_is_spoken_to_in_its_own_protocol() -> None:
    new = replace(group(10, "web-2"), protocol="grpc")
    state = snapshot(config(web=service(group(90, "web-1"), new)))
    spoken = {}
    for name, cluster in state.types[CLUSTERS].items():
        options = upstream_pb2.HttpProtocolOptions()
        cluster.typed_extension_protocol_options[HTTP_OPTIONS].Unpack(options)
        spoken[name] = options.explicit_http_config.WhichOneof("protocol_config")
    assert spoken == {"web~a": "http_protocol_options", "web~b": "http2_protocol_options"}


def test_what_is_refused_by_a_breaker_does_not_look_like_a_quick_answer() -> None:
    state = snapshot(config(edge("web", timeout=1.0), web=service()))
    (chain,) = json_format.MessageToDict(state.types[LISTENERS][EDGE])["filterChains"]
    filters = [found["name"] for found in chain["filters"][0]["typedConfig"]["httpFilters"]]
    assert filters.index(breaker.FILTER) < filters.index(shedding.FILTER)


@pytest.mark.parametrize(("timeout", "least"), [(0.1, 16), (0.8, 20), (2.0, 50), (30.0, 64)])
def test_some_calls_may_always_be_under_way(timeout: float, least: int) -> None:
    found = shedding.shell(Need(timeout=timeout)).typed_config
    limits = adaptive_concurrency_pb2.AdaptiveConcurrency()
    found.Unpack(limits)
    limits = limits.gradient_controller_config.min_rtt_calc_params
    assert limits.min_concurrency.value == least


def test_a_timeout_of_nothing_from_before_it_was_refused_is_no_limit() -> None:
    policy = Need.model_validate({"timeout": 0.0})
    state = snapshot(config(Edge("front", "a", "web", 20_100, policy), web=service()))
    plain = snapshot(config(edge("web"), web=service()))
    assert state.types[LISTENERS] == plain.types[LISTENERS]


def test_a_draining_endpoint_stays_listed() -> None:
    state = snapshot(config(web=service(group(100, "web-1", "-web-2"))))
    assert endpoints(state, "web~a") == {"web-1": "HEALTHY", "web-2": "DRAINING"}


def test_tcp_endpoints_of_a_slot_without_weight_only_finish() -> None:
    state = snapshot(config(db=service(group(0, "db-1"), group(100, "db-2"), "tcp")))
    assert endpoints(state, "db~tcp") == {"db-1": "DRAINING", "db-2": "HEALTHY"}


@pytest.mark.parametrize(
    ("db", "loads"),
    [
        (service(group(75, "db-1", "db-2", "db-3"), group(25, "db-4"), "tcp"), [25] * 4),
        (service(group(99.99, "db-1"), group(0.01, "db-2"), "tcp"), [99.99, 0.01]),
        (
            service(group(99, "db-1"), group(0.5, "db-2", "db-3"), "tcp", c=group(0.5, "db-4")),
            [99, 0.25, 0.25, 0.5],
        ),
        (service(group(50, "db-1", "-db-2"), group(50, "db-3"), "tcp"), [50, 50, 50]),
    ],
    ids=["sizes", "small", "three", "draining"],
)
def test_tcp_slots_share_by_weight_whatever_their_size(
    db: ServiceTraffic, loads: list[float]
) -> None:
    found = json_format.MessageToDict(snapshot(config(db=db)).types[ENDPOINTS]["db~tcp"])
    listed = [item["loadBalancingWeight"] for item in found["endpoints"][0]["lbEndpoints"]]
    assert listed == [round(load * TCP_WEIGHT_SCALE) for load in loads]


def test_a_budget_belongs_to_the_service_and_the_largest_wins() -> None:
    edges = (
        edge("web", 20_100, retry=Retry(on=("5xx",), budget=0.1)),
        edge("web", 20_101, retry=Retry(on=("reset",), budget=0.3)),
        edge("api", 20_102, retry=Retry(budget=0.05)),
    )
    services = {"web": service(), "api": service()}
    assert budgets(services, edges) == {
        f"circuit_breakers.web~{slot}.default.retry_budget.budget_percent": 30.0 for slot in "ab"
    }
    state = snapshot(config(*edges, **services))
    limits = json_format.MessageToDict(state.types[CLUSTERS]["web~a"])["circuitBreakers"]
    assert limits["thresholds"][0]["retryBudget"]["budgetPercent"] == {"value": 20.0}
    assert state.types[CLUSTERS] == snapshot(config(**services)).types[CLUSTERS]


def test_nothing_to_do_has_no_stages() -> None:
    state = snapshot(config(web=service()))
    assert stages(state, snapshot(config(web=service()))) == ()


def test_a_new_instance_or_a_draining_one_is_one_stage() -> None:
    one, both = config(web=service()), config(web=service(group(100, "web-1", "web-2")))
    drained = config(web=service(group(100, "-web-1", "web-2")))
    assert stages(snapshot(one), snapshot(both)) == (snapshot(both),)
    assert stages(snapshot(both), snapshot(drained)) == (snapshot(drained),)
    assert stages(snapshot(drained), snapshot(one)) != ()


def test_a_switch_with_a_drain_turns_the_routes_first() -> None:
    before = config(edge("web"), web=service(group(100, "web-1"), group(0, "web-2")))
    after = config(edge("web"), web=service(group(0, "-web-1"), group(100, "web-2")))
    path = stages(snapshot(before), snapshot(after))
    assert [weights(stage, EDGE) for stage in path] == [{"web~b": 100}, {"web~b": 100}]
    assert [endpoints(stage, "web~a")["web-1"] for stage in path] == ["HEALTHY", "DRAINING"]


def test_all_three_weights_change_in_one_update_of_the_routes() -> None:
    def wish(a: float, b: float, c: float) -> Snapshot:
        web = service(group(a, "web-1"), group(b, "web-2"), c=group(c, "web-3"), canary="b")
        return snapshot(config(edge("web"), edge("web", 20_101), web=web))

    before, after = wish(99, 0.5, 0.5), wish(90, 5, 5)
    (only,) = stages(before, after)
    changed = [url for url in xds.ORDER if only.types[url] != before.types[url]]
    assert changed == [ROUTES]


def test_the_third_slot_has_a_cluster_only_while_it_is_used() -> None:
    three = config(edge("web"), web=service(group(90, "web-1"), group(0), c=group(10, "web-3")))
    one = config(edge("web"), web=service())
    assert sorted(snapshot(three).types[CLUSTERS]) == ["web~a", "web~b", "web~c"]
    path = stages(snapshot(three), snapshot(one))
    assert [len(stage.types[CLUSTERS]) for stage in path] == [3, 2]
    assert weights(path[0], EDGE) == {"web~a": 100}


def test_a_removed_service_loses_its_clusters_last() -> None:
    before = replace(config(web=service()), gateway=gateway(GatewayRoute("/", "web")))
    after = replace(config(), gateway=gateway())
    path = stages(snapshot(before), snapshot(after))
    assert [len(stage.types[CLUSTERS]) for stage in path] == [2, 0]
    assert weights(path[0], "gateway") == {}


def test_a_need_that_becomes_tcp_keeps_its_listener_and_loses_its_routes() -> None:
    http, tcp = config(edge("web"), web=service()), config(edge("web"), web=service(protocol="tcp"))
    for stage in stages(snapshot(http), snapshot(tcp)):
        if xds.LISTENERS in stage.types and EDGE in stage.types[LISTENERS]:
            wanted = xds.expected(stage, ROUTES)
            assert wanted <= stage.types[ROUTES].keys()
    assert xds.expected(snapshot(tcp), ROUTES) == frozenset()


def test_addresses_are_everything_envoy_listens_on() -> None:
    wish = replace(config(edge("web", 20_105), web=service()), gateway=gateway())
    assert xds.addresses(snapshot(wish)) == {("127.0.0.1", 20_105), ("127.0.0.1", 8080)}


@pytest.mark.parametrize("caller", ["front", "gateway"])
def test_the_fallback_holds_everything_and_asks_nobody(caller: str) -> None:
    edges = (replace(edge("web"), caller=caller), replace(edge("db", 20_101), caller=caller))
    wish = replace(
        config(*edges, web=service(), db=service(protocol="tcp")),
        gateway=gateway(GatewayRoute("/", "web")),
    )
    whole = bootstrap_pb2.Bootstrap.FromString(bootstrap.fallback(snapshot(wish)))
    text = json_format.MessageToJson(whole, indent=None)
    assert '"ads"' not in text and "rds" not in text and "edsClusterConfig" not in text
    assert text.count('"loadAssignment"') == 3
    for routes in ("gateway", f"{caller}~a~web~20100"):
        assert text.count(f'"routeConfig": {{"name": "{routes}"') == 1


def test_what_is_made_of_the_same_stays_the_same_object() -> None:
    inside = edge("api", 20_100)
    compiler = xds.Compiler()
    before = compiler.snapshot(config(inside, web=service(), api=service()))
    web = service(group(100, "web-1", "web-2"))
    after = compiler.snapshot(config(inside, web=web, api=service()))
    for url in xds.ORDER:
        for name, message in after.types[url].items():
            assert (message is before.types[url][name]) == (not name.startswith("web~"))


# --- properties -----------------------------------------------------------------------------------

NAMES = st.sampled_from(["web", "api", "db"])
PROTOCOLS: tuple[Any, ...] = ("http", "http2", "grpc", "tcp")


@st.composite
def groups(draw: st.DrawFn, name: str, slot: str) -> GroupTraffic:
    count = draw(st.integers(0, 3))
    listed = tuple(
        Endpoint(f"{name}-{slot}-{index}", f"127.0.0.1:{9000 + index}", draw(st.booleans()))
        for index in range(count)
    )
    return GroupTraffic(draw(st.sampled_from([0, 0.5, 5, 100])), listed)


@st.composite
def services(draw: st.DrawFn, name: str) -> ServiceTraffic:
    slots: dict[SlotName, GroupTraffic] = {
        slot: draw(groups(name, slot)) for slot in SLOTS if slot != "c" or draw(st.booleans())
    }
    split = Split(
        draw(st.sampled_from([None, "a", "b"])),
        draw(st.sampled_from([None, Sticky(cookie="who"), Sticky(header="x-user")])),
        draw(st.sampled_from([None, Override(cookie="go"), Override(header="x-go")])),
        draw(st.sampled_from([0, 10])),
    )
    return ServiceTraffic(draw(st.sampled_from(PROTOCOLS)), slots, split)


@st.composite
def configs(draw: st.DrawFn) -> TrafficConfig:
    found = {name: draw(services(name)) for name in sorted(draw(st.sets(NAMES)))}
    edges = tuple(
        Edge(draw(st.sampled_from(["front", "gateway"])), "a", name, 20_000 + index, Need())
        for index, name in enumerate(("web", "api", "db"))
        if draw(st.booleans())
    )
    wish = TrafficConfig(services=found, edges=edges)
    if draw(st.booleans()):
        wish = replace(wish, gateway=gateway(*(GatewayRoute(f"/{name}", name) for name in found)))
    return wish


@given(st.lists(configs(), min_size=2, max_size=4))
def test_one_after_the_other_is_the_same_as_each_alone(wishes: list[TrafficConfig]) -> None:
    compiler, fallbacks = xds.Compiler(), bootstrap.Fallbacks()
    for wish in wishes:
        state = compiler.snapshot(wish)
        assert state == snapshot(wish)
        assert fallbacks.of(state) == bootstrap.fallback(snapshot(wish))


def targets(state: Snapshot) -> dict[str, set[str]]:
    """Listener -> clusters it may send to."""
    found: dict[str, set[str]] = {}
    for name in state.types[LISTENERS]:
        routes = xds.routes_of(name)
        # A listener whose routes are still to come waits for them.
        if routes in xds.expected(state, ROUTES) & state.types[ROUTES].keys():
            message = state.types[ROUTES][routes]
            found[name] = {
                item.name
                for host in message.virtual_hosts
                for route in host.routes
                for item in route.route.weighted_clusters.clusters
            } | {
                copy.cluster
                for host in message.virtual_hosts
                for route in host.routes
                for copy in route.route.request_mirror_policies
            }
    return found


@given(configs(), configs())
def test_the_way_ends_where_it_should_and_every_stage_is_whole(
    before: TrafficConfig, after: TrafficConfig
) -> None:
    old, new = snapshot(before), snapshot(after)
    path = stages(old, new)
    assert (path[-1] if path else old) == new
    for stage in path:
        assert stage.types[CLUSTERS].keys() == stage.types[ENDPOINTS].keys()
        for clusters in targets(stage).values():
            assert clusters <= stage.types[CLUSTERS].keys()
        assert xds.expected(stage, ROUTES) <= stage.types[ROUTES].keys()
    assert xds.expected(new, ROUTES) == new.types[ROUTES].keys()


def moments(old: Snapshot, new: Snapshot) -> Iterator[Snapshot]:
    """Everything a proxy has at any moment of the way: types are sent one after the other."""
    types = dict(old.types)
    for stage in stages(old, new):
        for url in xds.ORDER:
            types[url] = stage.types[url]
            yield Snapshot(dict(types))


def all_serve(state: Snapshot, clusters: set[str]) -> bool:
    return bool(clusters) and all(
        name in state.types[ENDPOINTS] and "HEALTHY" in endpoints(state, name).values()
        for name in clusters
    )


@given(configs(), configs())
def test_on_the_way_nobody_is_left_without_an_answer(
    before: TrafficConfig, after: TrafficConfig
) -> None:
    old, new = snapshot(before), snapshot(after)
    served = [
        listener
        for listener, clusters in targets(old).items()
        if xds.routes_of(listener) != "gateway"
        and all_serve(old, clusters)
        and all_serve(new, targets(new).get(listener, set()))
    ]
    for moment in moments(old, new):
        for listener in served:
            assert all_serve(moment, targets(moment)[listener])


@pytest.mark.parametrize("protocol", ["http", "http2", "grpc", "tcp"])
def test_the_same_wish_is_the_same_bytes(protocol: Any) -> None:
    wish = config(edge("web"), web=service(protocol=protocol))
    for url in xds.ORDER:
        one, two = snapshot(wish).types[url], snapshot(wish).types[url]
        assert {n: m.SerializeToString(deterministic=True) for n, m in one.items()} == {
            n: m.SerializeToString(deterministic=True) for n, m in two.items()
        }
