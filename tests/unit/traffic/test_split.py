from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st
from unit.traffic.configs import edge, gateway, group, service

from volery.model.deploy import Override, Sticky
from volery.model.ports import SYNTHETIC_CALLER, GatewayRoute, ServiceTraffic
from volery.model.state import SlotName
from volery.traffic.retries import IDEMPOTENT
from volery.traffic.routes import edge_routes, gateway_routes
from volery.traffic.split import TAGGED, WHOLE, parts, shares


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (group(100, "web-1"), group(0), {"a": 100}),
        (group(95, "web-1"), group(5, "web-2"), {"a": 95, "b": 5}),
        (group(95, "web-1"), group(5), {"a": 95}),
        (group(95, "-web-1"), group(5, "web-2"), {"b": 5}),
        (group(95, "-web-1"), group(5, "-web-2"), {"a": 95, "b": 5}),
        (group(100), group(0, "web-2"), {"a": 100}),
        (group(0, "web-1"), group(0, "web-2"), {}),
    ],
    ids=[
        "one",
        "both",
        "empty canary",
        "draining stable",
        "nobody",
        "unproven waits",
        "weightless",
    ],
)
def test_weights_leave_out_a_slot_that_cannot_answer(a: Any, b: Any, expected: Any) -> None:
    assert shares(service(a, b)) == expected


@pytest.mark.parametrize(
    ("weights", "canary", "expected"),
    [
        ({"a": 100}, None, [("a", 1_000_000)]),
        ({"a": 99.5, "b": 0.5}, "b", [("b", 5_000), ("a", 995_000)]),
        ({"a": 0.5, "b": 99.5}, "a", [("a", 5_000), ("b", 995_000)]),
        ({"a": 90, "b": 5, "c": 5}, "b", [("b", 50_000), ("a", 900_000), ("c", 50_000)]),
        ({"a": 90, "b": 5}, "b", [("b", 50_000), ("a", 950_000)]),
        ({"b": 5, "c": 5}, "b", [("b", 50_000), ("c", 950_000)]),
        ({"b": 5}, "b", [("b", 1_000_000)]),
        ({"a": 99.99999, "b": 0.00001}, "b", [("b", 1), ("a", 999_999)]),
        ({"a": 100, "b": 100}, None, [("a", 500_000), ("b", 500_000)]),
    ],
    ids=[
        "one",
        "fraction",
        "canary first",
        "baseline last",
        "missing baseline falls to stable",
        "missing stable falls to the baseline, which is the same release",
        "nobody else",
        "tiny is not nothing",
        "too much",
    ],
)
def test_parts_divide_the_range_of_a_hash(
    weights: dict[SlotName, float], canary: SlotName | None, expected: Any
) -> None:
    assert list(parts(weights, canary).items()) == expected


def owner(weights: dict[SlotName, float], point: int) -> SlotName:
    end = 0
    for slot, part in parts(weights, "b").items():
        end += part
        if point < end:
            return slot
    raise AssertionError("the parts do not cover the range")


def three(canary: float, baseline: float) -> dict[SlotName, float]:
    found: dict[SlotName, float] = {"a": 100 - canary - baseline, "b": canary, "c": baseline}
    return {slot: weight for slot, weight in found.items() if weight}


@given(
    st.floats(0.001, 45),
    st.floats(0.001, 45),
    st.sampled_from([0.0, 1.0]),
    st.integers(0, WHOLE - 1),
)
def test_growing_loses_nobody_and_shrinking_moves_only_who_must(
    one: float, other: float, baseline: float, point: int
) -> None:
    small, large = sorted((one, other))
    before = owner(three(small, baseline * small), point)
    after = owner(three(large, baseline * large), point)
    if before != "a":
        assert after == before
    assert sum(parts(three(large, baseline * large), "b").values()) == WHOLE


# --- the routes a service produces ----------------------------------------------------------------

CANARY: dict[str, Any] = {"a": group(95, "web-1"), "b": group(5, "web-2"), "canary": "b"}
DARK: dict[str, Any] = {"a": group(100, "web-1"), "b": group(0, "web-2"), "canary": "b"}
COOKIE: dict[str, Any] = {"sticky": Sticky(cookie="who")}
HEADER: dict[str, Any] = {"sticky": Sticky(header="x-user")}
OVERRIDE: dict[str, Any] = {"override": Override(header="x-go")}
MIRROR: dict[str, Any] = {"mirror": 10}


def routes(users: bool, web: ServiceTraffic) -> list[dict[str, Any]]:
    if users:
        table = gateway_routes(gateway(GatewayRoute("/", "web")), {"web": web})
    else:
        table = edge_routes(edge("web"), {"web": web})
    found = MessageToDict(table, preserving_proto_field_name=True)["virtual_hosts"][0]["routes"]
    return [
        route
        for route in found
        if "route" in route and not for_some_methods(route) and not while_calm(route)
    ]


def while_calm(route: dict[str, Any]) -> bool:
    """Whether a route differs from the next only in what it leaves out: see `test_calm`."""
    return "runtime_fraction" in route["match"]


def for_some_methods(route: dict[str, Any]) -> bool:
    """Whether a route differs from the next only in what is tried again: see `test_routes`."""
    return any(
        item.get("string_match", {}).get("safe_regex", {}).get("regex") == IDEMPOTENT
        for item in route["match"].get("headers", [])
    )


def line(route: dict[str, Any]) -> str:
    """A route in one line: conditions -> targets, what is hashed, what is copied, what is given."""
    matched = [item["name"] for item in route["match"].get("headers", [])]
    action = route["route"]
    clusters = action["weighted_clusters"]["clusters"]
    targets = [
        item["name"].partition("~")[2] + ("+tag" if "request_headers_to_add" in item else "")
        for item in clusters
    ]
    hashed = [
        " by " + (policy.get("cookie", {}).get("name") or policy["header"]["header_name"])
        for policy in action.get("hash_policy", [])
    ]
    copied = [" copy " + item["cluster"] for item in action.get("request_mirror_policies", [])]
    given = [" give " + item["header"]["key"] for item in route.get("response_headers_to_add", [])]
    return " ".join(matched) + " -> " + " ".join(targets) + "".join(hashed + copied + given)


@pytest.mark.parametrize(
    ("users", "web", "expected"),
    [
        (True, {}, ["upgrade -> a", " -> a"]),
        (False, {}, ["upgrade -> a", " -> a"]),
        (True, COOKIE | OVERRIDE | MIRROR, ["upgrade -> a", " -> a"]),
        (
            True,
            {"a": group(50, "web-1"), "b": group(50, "web-2")},
            ["upgrade -> a b", " -> a b"],
        ),
        (True, CANARY, ["upgrade -> b+tag a", " -> b+tag a"]),
        (
            False,
            CANARY,
            [
                "upgrade baggage -> b",
                "upgrade -> b+tag a",
                "baggage -> b",
                " -> b+tag a",
            ],
        ),
        (
            True,
            CANARY | COOKIE | OVERRIDE | MIRROR | {"c": group(5, "web-3")},
            [
                "upgrade x-go -> b+tag",
                "upgrade -> b+tag a c by who",
                "x-go -> b+tag",
                "cookie x-request-id -> b+tag a c by x-request-id give set-cookie",
                " -> b+tag a c by who",
            ],
        ),
        (
            False,
            CANARY | COOKIE | OVERRIDE,
            [
                "upgrade baggage -> b",
                "upgrade x-go -> b+tag",
                "upgrade -> b+tag a by who",
                "baggage -> b",
                "x-go -> b+tag",
                " -> b+tag a by who",
            ],
        ),
        (False, CANARY | {"tagged": False}, ["upgrade -> b+tag a", " -> b+tag a"]),
        (True, CANARY | HEADER, ["upgrade -> b+tag a by x-user", " -> b+tag a by x-user"]),
        (
            True,
            DARK | COOKIE | OVERRIDE | MIRROR,
            [
                "upgrade x-go -> b+tag",
                "upgrade -> a",
                "x-go -> b+tag",
                ":method -> a copy web~b",
                " -> a",
            ],
        ),
        (
            True,
            DARK | MIRROR | {"mirror_all": True},
            ["upgrade -> a", " -> a copy web~b", " -> a"],
        ),
        (True, DARK | MIRROR | {"protocol": "grpc"}, [" -> a"]),
        (
            False,
            DARK | MIRROR | {"protocol": "grpc"},
            ["baggage -> b", " -> a"],
        ),
        (True, {**DARK, **OVERRIDE, **MIRROR, "b": group(0, "-web-2")}, ["upgrade -> a", " -> a"]),
    ],
    ids=[
        "plain",
        "plain edge",
        "no canary",
        "rolling",
        "canary",
        "canary edge",
        "all at the gateway",
        "all at an edge",
        "canary edge that takes no tagged ones",
        "header",
        "dark",
        "every method",
        "grpc is not copied",
        "grpc edge",
        "canary not ready",
    ],
)
def test_ways_are_few_and_tried_in_order(
    users: bool, web: dict[str, Any], expected: list[str]
) -> None:
    assert [line(route) for route in routes(users, service(**web))] == expected


@pytest.mark.parametrize("groups", [CANARY, DARK])
def test_our_own_requests_reach_the_canary_whatever_else_is_tagged(groups: dict[str, Any]) -> None:
    ours = replace(edge("web"), caller=SYNTHETIC_CALLER)
    table = edge_routes(ours, {"web": service(**groups, tagged=False)})
    found = MessageToDict(table, preserving_proto_field_name=True)["virtual_hosts"][0]["routes"]
    assert "baggage -> b" in [line(route) for route in found]


def test_a_plain_service_says_nothing_that_it_need_not() -> None:
    upgrade, rest = routes(True, service())
    cluster = {"name": "web~a", "weight": WHOLE}
    assert upgrade["match"] == {
        "prefix": "/",
        "headers": [{"name": "upgrade", "present_match": True}],
    }
    assert rest["match"] == {"prefix": "/"}
    for route in (upgrade, rest):
        assert route.keys() == {"name", "match", "route", "typed_per_filter_config"}
        assert route["route"]["weighted_clusters"] == {"clusters": [cluster]}
        assert route["route"].keys() == {
            "weighted_clusters",
            "timeout",
            "idle_timeout",
            "retry_policy",
        }


def matches(matcher: dict[str, Any], value: str | None) -> bool:
    """Envoy's rule: an absent header never matches, even inverted, unless it counts as empty."""
    if value is None and not matcher.get("treat_missing_header_as_empty"):
        return False
    pattern: str = matcher["string_match"]["safe_regex"]["regex"]
    inverted: bool = matcher.get("invert_match", False)
    plain = re.sub(r"\\x\{([0-9a-f]+)\}", lambda found: re.escape(chr(int(found[1], 16))), pattern)
    return bool(re.fullmatch(plain, value or "")) != inverted


@pytest.mark.parametrize(
    ("cookie", "expected"),
    [
        ("go=canary", True),
        ('a=1; go="canary"; b=2', True),
        ("a=1;go=canary", True),
        ("go=canary2", False),
        ("nogo=canary", False),
        ("go=Canary", False),
        ("a=go=canary", False),
        ("go=", False),
        (None, False),
    ],
)
def test_an_override_cookie_is_the_whole_value_of_that_cookie(
    cookie: str | None, expected: bool
) -> None:
    web = service(**DARK, override=Override(cookie="go"))
    matcher = routes(True, web)[0]["match"]["headers"][1]
    assert matches(matcher, cookie) == expected


@given(st.from_regex(r"[!-~]([ -~]{0,20}[!-~])?", fullmatch=True))
def test_any_override_value_is_a_pattern_for_itself(value: str) -> None:
    web = service(**DARK, override=Override(cookie="go", value=value))
    assert matches(routes(True, web)[0]["match"]["headers"][1], f"x=1; go={value}; y=2")


@pytest.mark.parametrize(
    ("cookie", "expected"),
    [
        (None, True),
        ("a=1", True),
        ("xwho=1", True),
        ("who=", True),
        ("who=; a=1", True),
        ("who=7", False),
        ("a=1; who=7; b=2", False),
    ],
)
def test_a_newcomer_has_no_such_cookie(cookie: str | None, expected: bool) -> None:
    matcher = routes(True, service(**CANARY, **COOKIE))[1]["match"]["headers"][0]
    assert matches(matcher, cookie) == expected


@pytest.mark.parametrize(
    ("baggage", "expected"),
    [
        ("volery-track=canary", True),
        ("user=1, volery-track = canary ;p=1,x=2", True),
        ("x=2,volery-track=canary", True),
        ("volery-track=canary2", False),
        ("xvolery-track=canary", False),
        ("x=volery-track=canary", False),
        ("volery-track=stable", False),
    ],
)
def test_the_tag_is_a_member_of_its_own(baggage: str, expected: bool) -> None:
    assert bool(re.fullmatch(TAGGED, baggage)) == expected
