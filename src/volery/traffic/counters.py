"""What an Envoy's admin interface says -> the counters of one proxy. Pure.

Requests of a *group* are attempts that came to an end: what its cluster completed, and what it
failed so that it was tried again (every retry follows a failure). Requests of an *edge* are what
the caller saw in the end. `statistics` says how they are told apart and what a failure is.

What replicas answer is counted for the group that they belong to, as what the primary does is. How
fast they do is not: to read takes another time than to write, which says nothing of a release.

Envoy's histograms have bins of two decimal digits, so 1 % to 10 % wide; each goes as a whole into
the bucket of its middle. With our buckets 9 % wide, a latency is known to within 10 % either way.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import quote

from volery.decide.by_role import owner_of
from volery.model.evidence import Counters, ProxySample, bucket
from volery.model.tenure import REPLICAS
from volery.traffic import statistics as named
from volery.traffic.admin import HostCount
from volery.traffic.clusters import tcp_cluster

TCP_SUFFIX = tcp_cluster("")
# Where a request went that no route led anywhere.
NOBODY = "-"
RESET = f"{named.ENDED} RemoteReset"


class Effect(NamedTuple):
    """What one count adds to the group it went to and to the edge it came from."""

    group_requests: int = 0
    group_failures: int = 0
    edge_requests: int = 0
    edge_failures: int = 0


CLUSTER_EFFECTS = {
    "upstream_rq_completed": Effect(1, 0),
    "upstream_rq_retry": Effect(1, 1),
    "upstream_rq_5xx": Effect(0, 1),
}
EFFECTS = {
    named.REQUESTS: Effect(0, 0, 1, 0),
    named.FAILURES: Effect(0, 0, 0, 1),
    named.BROKEN: Effect(0, 1, 0, 0),
    named.COUNTED: Effect(0, -1, 0, 0),
    named.LEFT: Effect(0, -1, 0, -1),
    named.CONNECTED: Effect(1, 0, 1, 0),
    named.REFUSED: Effect(1, 1, 1, 1),
    RESET: Effect(0, 1, 0, 1),
}
ROUGH = "upstream_rq_time"
"""A cluster's own histogram, in whole milliseconds: all there is of copied requests."""
MS = {named.LATENCY: 0.001, named.GIVEN_UP: 1.0}
"""Milliseconds in the unit of each histogram."""

_OURS = re.compile(
    rf"{named.PREFIX}\.(?P<what>\w+)(?:\.how\.(?P<how>\w+))?"
    r"\.via\.(?P<via>[^.]+)\.need\.(?P<need>[^.]+)\.to\.(?P<to>[^.]+)"
)
_SERVED = re.compile(
    rf"{named.PREFIX}\.{named.SERVED}\.{named.TO}\.(?P<to>[^.]+)\.{named.ON}\.(?P<on>\d+)"
)
_CLUSTER = re.compile(r"cluster\.(?P<to>[^.]+)\.(?P<what>\w+)")


def query(services: Iterable[str] | None) -> str:
    """The admin path for the statistics of these services, or of all."""
    names = "[^.]+"
    if services is not None:
        either = "|".join(map(re.escape, sorted(services)))
        names = f"({either})({re.escape(REPLICAS)})?"
    ours = rf"^{named.PREFIX}\..*\.need\.{names}\.to\."
    clusters = rf"^cluster\.{names}~[a-z]\.({'|'.join([*CLUSTER_EFFECTS, ROUGH])})$"
    served = rf"^{named.PREFIX}\.{named.SERVED}\.{named.TO}\.{names}~[a-z]\."
    wanted = quote(f"{ours}|{clusters}|{served}", safe="")
    return f"/stats?format=json&usedonly&histogram_buckets=detailed&filter={wanted}"


FAILING = "/stats?format=json&usedonly&type=Counters&filter=" + quote(
    rf"^{named.PREFIX}\.{named.FAILURES}\.", safe=""
)
"""The admin path for everything that ever failed."""


def failing(text: str) -> dict[str, int]:
    """Read the answer to `FAILING`: by service, what callers saw fail.

    Raises:
        ValueError: that is not what an Envoy answers.
    """
    failures: Counter[str] = Counter()
    try:
        for stat in json.loads(text)["stats"]:
            if found := _OURS.fullmatch(stat.get("name", "")):
                failures[found["need"]] += stat["value"]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not the statistics of an Envoy: {error!r}") from None
    return failures


def proxy_sample(text: str, hosts: Mapping[tuple[str, str], HostCount]) -> ProxySample:
    """Read the answer to `query`, and what each upstream host had to do.

    Raises:
        ValueError: that is not what an Envoy answers.
    """
    try:
        stats = json.loads(text)["stats"]
        found = _tallies(stats)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not the statistics of an Envoy: {error!r}") from None
    groups, edges, rough, served = map(_counters, found)
    return ProxySample(groups, _instances(hosts), edges, rough, served)


@dataclass
class _Tally:
    requests: int = 0
    failures: int = 0
    latency: Counter[int] = field(default_factory=Counter)

    def add(self, requests: int, failures: int) -> None:
        self.requests += requests
        self.failures += failures


_Tallies = defaultdict[str, _Tally]


def _tallies(stats: Iterable[Mapping[str, Any]]) -> tuple[_Tallies, ...]:
    """Of groups, of edges, of groups in whole milliseconds, and of instances."""
    groups, edges, rough, served = (_Tallies(_Tally) for _ in range(4))
    for stat in stats:
        if "histograms" in stat:
            for histogram in stat["histograms"].get("details", ()):
                _spread(histogram, groups, edges, rough)
                _spread_over_instances(histogram, served)
        elif isinstance(stat["value"], int):
            _count(stat["name"], stat["value"], groups, edges)
    return groups, edges, rough, served


def _count(name: str, amount: int, groups: _Tallies, edges: _Tallies) -> None:
    if found := _CLUSTER.fullmatch(name):
        effect = CLUSTER_EFFECTS.get(found["what"], Effect())
    elif found := _OURS.fullmatch(name):
        what = " ".join(filter(None, (found["what"], found["how"])))
        effect = EFFECTS.get(what, Effect())
        edges[_edge(found)].add(amount * effect.edge_requests, amount * effect.edge_failures)
    if found:
        group = _group(found["to"])
        groups[group].add(amount * effect.group_requests, amount * effect.group_failures)


def _spread(
    histogram: Mapping[str, Any], groups: _Tallies, edges: _Tallies, rough: _Tallies
) -> None:
    name, bins = histogram["name"], histogram["totals"]
    if (found := _CLUSTER.fullmatch(name)) and found["what"] == ROUGH:
        rough[found["to"]].latency.update(_latency(bins, 1.0, 1.0))
    elif (found := _OURS.fullmatch(name)) and found["what"] in MS:
        latency = _latency(bins, MS[found["what"]])
        if found["to"] == _group(found["to"]):
            groups[found["to"]].latency.update(latency)
        edges[_edge(found)].latency.update(latency)


def _spread_over_instances(histogram: Mapping[str, Any], served: _Tallies) -> None:
    if found := _SERVED.fullmatch(histogram["name"]):
        latency = _latency(histogram["totals"], 0.001)
        served[f"{found['to']}~{found['on']}"].latency.update(latency)


def _latency(
    bins: Iterable[Mapping[str, Any]], unit_ms: float, narrowest: float = 0.0
) -> Counter[int]:
    latency: Counter[int] = Counter()
    for item in bins:
        middle = item["lower_bound"] + max(item["width"], narrowest) / 2
        latency[bucket(middle * unit_ms)] += item["count"]
    return latency


def _group(cluster: str) -> str:
    """The group that a cluster belongs to."""
    name, tilde, slot = cluster.rpartition("~")
    return f"{owner_of(name)}{tilde}{slot}"


def _edge(found: re.Match[str]) -> str:
    return f"{found['via']}~{found['need']}"


def _counters(tallies: _Tallies) -> dict[str, Counters]:
    """Statistics are not read all at one moment: what is subtracted may be ahead."""
    return {
        name: Counters(tally.requests, max(0, tally.failures), dict(tally.latency))
        for name, tally in sorted(tallies.items())
        if NOBODY not in name.split("~")
    }


def _instances(hosts: Mapping[tuple[str, str], HostCount]) -> dict[str, Counters]:
    """What each instance was asked, in all its clusters: of a tcp service connections, of others
    requests."""
    found = _Tallies(_Tally)
    for (cluster, instance), count in hosts.items():
        if instance and cluster.endswith(TCP_SUFFIX):
            found[instance].add(count.total_connections, count.not_connected)
        elif instance:
            found[instance].add(count.succeeded + count.failed, count.failed)
    return _counters(found)
