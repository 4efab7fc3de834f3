"""What is measured of the groups of a service, and what it adds up to.

Terms: *counters* only grow, and begin anew with every proxy; a *sample* is all counters at one
moment; an *arm* is what one group of instances did between two samples (a *tick*, about half a
second); a *line* is what the evidence on one metric says to a person. Missing data is an arm with
nothing in it: it moves no evidence, and is never good and never bad.

Latencies are counted in buckets an eighth of an octave (9 %) wide: bucket `i` holds what took from
`2 ** (i / 8)` ms to less than `2 ** ((i + 1) / 8)` ms, see `bucket` and `floor_ms`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

BUCKETS_PER_OCTAVE = 8
BUCKET_MIN, BUCKET_MAX = -80, 200
"""From 1 microsecond to 9 hours; what is outside is counted in the outermost bucket."""

Verdict = Literal["promote", "continue", "abort", "inconclusive"]
Latency = Mapping[int, int]
"""How many requests by bucket; buckets without any are left out."""


def bucket(ms: float) -> int:
    """The bucket of a latency in milliseconds."""
    if ms <= 0:
        return BUCKET_MIN
    return max(BUCKET_MIN, min(BUCKET_MAX, math.floor(BUCKETS_PER_OCTAVE * math.log2(ms))))


def floor_ms(index: int) -> float:
    """The lower end of a bucket, in milliseconds."""
    return float(2.0 ** (index / BUCKETS_PER_OCTAVE))


@dataclass(frozen=True)
class Counters:
    """What a proxy counted so far. `failures` are requests that the group failed: answered 5xx,
    reset, timed out, not connected, or with a gRPC status that means a server's fault."""

    requests: int = 0
    failures: int = 0
    latency: Latency = field(default_factory=dict)


@dataclass(frozen=True)
class ProxySample:
    """One proxy's counters: by group (`catalog~a`), by instance (latency is not known there), by
    edge (`storefront~a~catalog`; the gateway's are `gateway~catalog`, those to replicas lead to
    `orders-db+replicas`). `rough` is by group as well: latencies in whole milliseconds, also of the
    copies of requests that `groups` has none of. `served` has the latencies of single instances, by
    group and number (`catalog~a~2`)."""

    groups: Mapping[str, Counters] = field(default_factory=dict)
    instances: Mapping[str, Counters] = field(default_factory=dict)
    edges: Mapping[str, Counters] = field(default_factory=dict)
    rough: Mapping[str, Counters] = field(default_factory=dict)
    served: Mapping[str, Counters] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """All counters at one moment: `at` monotonic seconds, `number` grows with every look.

    `proxies` is keyed by what makes a proxy's counters begin anew (process and start time), so
    that a proxy that was replaced or restarted is never mistaken for one whose counters jumped.
    """

    number: int = 0
    at: float = 0.0
    proxies: Mapping[str, ProxySample] = field(default_factory=dict)


@dataclass(frozen=True)
class Arm:
    """What one group did in one tick.

    `instance_seconds` is how long its instances ran, together; `exits` how often one of them ended
    by itself, and `again` how many of these are of instances that end again and again: with its
    second end the first one of an instance counts as well; `saturated_seconds` how much of
    `instance_seconds` was spent at a limit of memory or processor time, `unready_seconds` how much
    after a probe that failed.
    """

    requests: int = 0
    failures: int = 0
    latency: Latency = field(default_factory=dict)
    instance_seconds: float = 0.0
    exits: int = 0
    saturated_seconds: float = 0.0
    unready_seconds: float = 0.0
    again: int = 0


@dataclass(frozen=True)
class Line:
    """The evidence on one metric, for a person and for the JSON of the contract.

    `evidence` is the odds against the release gathered so far (an e-value: 100 means 100:1);
    `confidence` the same in its favour; `needed` how much `confidence` the step asks for. Values
    are fractions for errors and shares, milliseconds for latencies, events an hour for exits.
    """

    metric: str
    state: Literal["good", "bad", "undecided", "missing"]
    text: str
    value: float | None = None
    control: float | None = None
    limit: float | None = None
    n: int = 0
    n_control: int = 0
    evidence: float = 1.0
    confidence: float = 1.0
    needed: float = 1.0


@dataclass(frozen=True)
class Judgement:
    """What the evidence says now, in one line and metric by metric. `shared` says that the service
    is in trouble with the old release too; `suspicious` that something speaks against the new one,
    if not enough to take it back; `by_comparison` that it is taken back because it is worse than
    the old one, and not because something is plainly wrong."""

    verdict: Verdict
    reason: str
    lines: tuple[Line, ...] = ()
    shared: bool = False
    suspicious: bool = False
    by_comparison: bool = False
