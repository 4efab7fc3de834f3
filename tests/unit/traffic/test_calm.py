"""When nothing fails, and what is left out then."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st
from unit.traffic.configs import edge, gateway, service

from volery.model.ports import GatewayRoute
from volery.traffic import border, breaker
from volery.traffic.calm import QUIET_SECONDS, Failures, lease
from volery.traffic.counters import failing
from volery.traffic.routes import edge_routes, gateway_routes

BEGUN = 100.0
FILTERS = "typed_per_filter_config"
LATER = BEGUN + QUIET_SECONDS


def test_nobody_is_calm_before_it_was_looked_for_a_while() -> None:
    failures = Failures(BEGUN)
    assert failures.calm(["web"], LATER - 0.1) == frozenset()
    assert failures.calm(["web"], LATER) == {"web"}


def test_what_fails_is_not_calm_until_it_has_not_failed_for_a_while() -> None:
    failures = Failures(BEGUN)
    failures.heard({"1": {"web": 3}}, LATER)
    assert failures.calm(["web", "api"], LATER) == {"api"}
    failures.heard({"1": {"web": 3}}, LATER + 1)
    failures.heard({"1": {"web": 3}, "2": {"web": 1}}, LATER + 2)
    assert failures.calm(["web"], LATER + QUIET_SECONDS) == frozenset()
    assert failures.calm(["web"], LATER + 2 + QUIET_SECONDS) == {"web"}


def test_who_counts_from_the_beginning_again_is_heard() -> None:
    failures = Failures(BEGUN)
    failures.heard({"1": {"web": 3}}, BEGUN)
    failures.heard({"1": {"web": 1}}, LATER)
    assert failures.calm(["web"], LATER) == frozenset()


def test_what_fails_is_read_by_service() -> None:
    name = "volery.failures.via.{}.need.{}.to.{}"
    found = [
        {"name": name.format("gateway", "web", "web~a"), "value": 2},
        {"name": name.format("front~a", "web", "-"), "value": 1},
        {"name": name.format("front~a", "api", "api~b"), "value": 4},
    ]
    assert failing(json.dumps({"stats": found})) == {"web": 3, "api": 4}
    for nonsense in ("", "{}", '{"stats": [{"name": 3}]}'):
        with pytest.raises(ValueError):
            failing(nonsense)


def test_a_lease_ends() -> None:
    found = plain(lease(["web"]))
    assert found["ttl"] == "3s"
    assert found["resource"]["layer"] == {"volery.calm.web": 100.0}


def plain(message: Any) -> dict[str, Any]:
    found: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True)
    return found


def hosts_of(table: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = plain(table)["virtual_hosts"]
    return found


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_while_calm_a_request_goes_where_it_would_go_otherwise(protocol: str) -> None:
    web = {"web": service(protocol=protocol)}
    [users] = hosts_of(gateway_routes(gateway(GatewayRoute("/", "web")), web))
    [calls] = hosts_of(edge_routes(edge("web"), web))
    for host in (users, calls):
        pairs = list(zip(host["routes"], host["routes"][1:], strict=False))
        found = [(calm, full) for calm, full in pairs if "runtime_fraction" in calm["match"]]
        assert len(found) == (2 if protocol == "http" else 1)
        for calm, full in found:
            assert calm["match"].pop("runtime_fraction")["runtime_key"] == "volery.calm.web"
            headers = calm["match"].get("headers", [])
            calm["match"]["headers"] = [item for item in headers if item["name"] != "baggage"]
            full["match"].setdefault("headers", [])
            without, within = (route.pop(FILTERS, {}) for route in (calm, full))
            assert calm == full
            if host is users:
                assert len(headers) == len(full["match"]["headers"]) + len(border.PERHAPS_OURS)
                assert (without, sorted(within)) == ({}, [border.FILTER, breaker.FILTER])
            else:
                assert without[breaker.FILTER]["disabled"]
                assert not within


def test_who_keeps_trying_has_no_breaker_to_leave_out() -> None:
    waiting = edge("web", when_unavailable="keep_trying")
    [host] = hosts_of(edge_routes(waiting, {"web": service()}))
    assert not [route for route in host["routes"] if "runtime_fraction" in route["match"]]


@st.composite
def members_of_ours(draw: st.DrawFn) -> str:
    """Any way to write a key of ours: codes for some of its bytes, space around it."""
    key = draw(st.sampled_from(["fit", "volery-", "volery-track"]))
    ways = [(each, f"%{ord(each):02x}", f"%{ord(each):02X}") for each in key]
    coded = [draw(st.sampled_from(way)) for way in ways]
    space = st.text(st.sampled_from([" ", "\t", "+"]), max_size=2)
    return draw(space) + "".join(coded) + draw(space) + "=x"


@given(st.text(max_size=10), members_of_ours(), st.text(max_size=10))
def test_no_member_of_ours_looks_harmless(before: str, ours: str, after: str) -> None:
    assert any(text in f"{before},{ours},{after}" for text in border.PERHAPS_OURS)
