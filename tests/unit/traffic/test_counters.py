"""What a real Envoy 1.40 said (`recorded/`), and what it could say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volery.model.evidence import Counters, bucket, floor_ms
from volery.traffic.admin import HostCount, read_hosts
from volery.traffic.counters import proxy_sample, query

RECORDED = Path(__file__).parent / "recorded"
HOSTS = read_hosts((RECORDED / "clusters.json").read_text())
STATS = (RECORDED / "stats.json").read_text()


def numbers(found: Counters) -> tuple[int, int, int]:
    return found.requests, found.failures, sum(found.latency.values())


def test_what_was_recorded() -> None:
    """Through the edge: 6 fine, a 500 that was tried twice, half an answer, a slow one. Through the
    gateway: three, and one that was given up. gRPC: 2 OK, UNKNOWN, NOT_FOUND, and a stream that was
    left. TCP: two, and one that was reset."""
    found = proxy_sample(STATS, HOSTS)
    assert {name: numbers(value) for name, value in found.groups.items()} == {
        "web~a": (13, 3, 13),
        "calls~a": (5, 1, 4),
        "db~b": (3, 1, 3),
    }
    assert {name: numbers(value) for name, value in found.edges.items()} == {
        "front~a~web": (9, 2, 9),
        "gateway~web": (3, 0, 4),
        "front~a~calls": (5, 1, 4),
        "front~a~db": (3, 1, 3),
    }
    assert {name: numbers(value) for name, value in found.instances.items()} == {
        "web-11aa22bb-1": (13, 2, 0),
        "calls-33cc44dd-1": (4, 1, 0),
        "db-55ee66ff-1": (3, 0, 0),
    }


def stats(*found: dict[str, Any]) -> str:
    return json.dumps({"stats": found})


def counter(name: str, value: object) -> dict[str, Any]:
    return {"name": name, "value": value}


VIA = "via.front~a.need.web.to"


@pytest.mark.parametrize(
    ("found", "group", "edge"),
    [
        ([counter("cluster.web~a.upstream_rq_completed", 5)], (5, 0), None),
        ([counter("cluster.web~a.upstream_rq_5xx", 5)], (0, 5), None),
        ([counter("cluster.web~a.upstream_rq_retry", 5)], (5, 5), None),
        ([counter(f"volery.requests.{VIA}.web~a", 5)], (0, 0), (5, 0)),
        ([counter(f"volery.failures.{VIA}.web~a", 5)], (0, 0), (0, 5)),
        ([counter(f"volery.failures.{VIA}.-", 5)], None, (0, 5)),
        ([counter(f"volery.connected.{VIA}.web~a", 5)], (5, 0), (5, 0)),
        ([counter(f"volery.refused.{VIA}.web~a", 5)], (5, 5), (5, 5)),
        ([counter(f"volery.ended.how.RemoteReset.{VIA}.web~a", 5)], (0, 5), (0, 5)),
        ([counter(f"volery.ended.how.Normal.{VIA}.web~a", 5)], (0, 0), (0, 0)),
        ([counter(f"volery.left.{VIA}.web~a", 5)], (0, 0), (0, 0)),
        ([counter("volery.requests.via.gateway.need.-.to.-", 5)], None, None),
        ([counter("cluster.volery~ads.upstream_rq_completed", "5")], None, None),
    ],
)
def test_what_each_count_means(
    found: list[dict[str, Any]], group: tuple[int, int] | None, edge: tuple[int, int] | None
) -> None:
    seen = proxy_sample(stats(*found), {})
    groups = {"web~a": Counters(*group)} if group else {}
    edges = {"front~a~web": Counters(*edge)} if edge else {}
    assert (seen.groups, seen.edges) == (groups, edges)


def test_what_replicas_answer_is_their_service_s() -> None:
    """But how fast is not: to read takes another time than to write."""
    totals = [{"lower_bound": 3000, "width": 100, "count": 4}]
    via = "via.front~a.need.db+replicas.to.db+replicas~b"
    found = proxy_sample(
        stats(
            counter("cluster.db~b.upstream_rq_completed", 2),
            counter("cluster.db+replicas~b.upstream_rq_completed", 5),
            counter("cluster.db+replicas~b.upstream_rq_5xx", 3),
            counter(f"volery.requests.{via}", 5),
            counter(f"volery.failures.{via}", 3),
            {"histograms": {"details": [{"name": f"volery.latency.{via}", "totals": totals}]}},
        ),
        {},
    )
    assert {name: numbers(value) for name, value in found.groups.items()} == {"db~b": (7, 3, 0)}
    assert {name: numbers(value) for name, value in found.edges.items()} == {
        "front~a~db+replicas": (5, 3, 4)
    }


def test_an_instance_that_is_asked_both_ways_did_both() -> None:
    """The primary stands in for replicas while there are none."""
    hosts = {
        ("db~a", "db-0"): HostCount(succeeded=5, failed=1),
        ("db+replicas~a", "db-0"): HostCount(succeeded=2, failed=2),
    }
    assert proxy_sample(stats(), hosts).instances == {"db-0": Counters(10, 3)}


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"stats": 3}', '{"stats": [{}]}', "nonsense"])
def test_what_is_no_answer_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        proxy_sample(text, {})


@given(st.floats(0.01, 1e6), st.integers(1, 10**6))
def test_a_latency_is_known_to_within_a_bucket_and_half_a_bin(ms: float, count: int) -> None:
    exponent = len(f"{int(ms * 1000)}") - 2
    width = max(1.0, 10.0**exponent)
    low = int(ms * 1000 / width) * width
    totals = [{"lower_bound": low, "width": width, "count": count}]
    detail = {"name": f"volery.latency.{VIA}.web~a", "totals": totals}
    seen = proxy_sample(stats({"histograms": {"details": [detail]}}), {})
    ((index, found),) = seen.groups["web~a"].latency.items()
    assert found == count
    assert index == bucket((low + width / 2) / 1000)
    assert floor_ms(index) / 1.051 <= ms <= floor_ms(index + 1) * 1.051


def test_a_clusters_own_histogram_is_rough() -> None:
    totals = [
        {"lower_bound": 0, "width": 0, "count": 2},
        {"lower_bound": 3, "width": 0.1, "count": 1},
        {"lower_bound": 100, "width": 10, "count": 4},
    ]
    detail = {"name": "cluster.web~a.upstream_rq_time", "totals": totals}
    seen = proxy_sample(stats({"histograms": {"details": [detail]}}), {})
    latency = {bucket(0.5): 2, bucket(3.5): 1, bucket(105): 4}
    assert seen.rough == {"web~a": Counters(latency=latency)}
    assert not seen.groups


def test_the_query_asks_for_the_services_named_and_no_others() -> None:
    names = [
        "volery.requests.via.gateway.need.web.to.web~a",
        "volery.failures.via.front~a.need.web.to.-",
        "cluster.web~a.upstream_rq_completed",
        "cluster.web~c.upstream_rq_5xx",
        "cluster.web+replicas~a.upstream_rq_completed",
        "volery.failures.via.front~a.need.web+replicas.to.web+replicas~a",
    ]
    others = [
        "volery.requests.via.web~a.need.webs.to.webs~a",
        "cluster.webs~a.upstream_rq_completed",
        "cluster.web~a.external.upstream_rq_5xx",
        "cluster.web~a.upstream_rq_total",
    ]
    some = re.compile(unquote(query({"web", "api"}).rpartition("filter=")[2]))
    everything = re.compile(unquote(query(None).rpartition("filter=")[2]))
    assert [name for name in names + others if some.search(name)] == names
    assert [name for name in names + others if everything.search(name)] == [*names, *others[:2]]
