"""What a release is held to: how wrong the judge may be, and which differences are tolerated.

Terms: *alpha* is the chance to take back a release that is no worse than tolerated, over the whole
rollout however often one looks; *beta* the chance to promote a step that is worse than its margin;
a *tolerance* is what the comparison that takes back allows (`rho` times the old release's rate plus
`delta`); a *margin* is the wider difference a step must rule out before it is promoted; the
*allowance* is what a cold release may be worse at first, where no group of the same age is there.
This module never sees measurements.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from volery.model.application import SteadyState
from volery.model.deploy import Deploy
from volery.model.evidence import BUCKETS_PER_OCTAVE, floor_ms

LEVELS = (0.5, 0.75, 0.9, 0.95, 0.99, 0.999)
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}
MIN_DWELL_SECONDS = 10.0


@dataclass(frozen=True)
class Policy:
    """What the judge is told. Rates are fractions of requests, or of instance-seconds."""

    alpha: float = 0.01
    beta: float = 0.05
    rho: float = 1.1
    """Tolerated: this many times the old release's error rate ..."""
    delta: float = 0.001
    """... plus this much."""
    error_limit: float | None = None
    """The promise: share of failed requests (`steady_state.errors`)."""
    levels: tuple[float, ...] = LEVELS
    """Latency is compared at these quantiles of the old release."""
    shift: int = 1
    """Tolerated: this many buckets (9 % each) slower ..."""
    slack_ms: float = 0.5
    """... or this much, whichever is more: users cannot tell, and fast services jitter."""
    slow_delta: float = 0.0001
    """Tolerated as well: this share of slow requests more; where the old release has none, a few
    outliers must not be decisive."""
    latency_limits: Mapping[str, float] = field(default_factory=dict)
    """The promise: milliseconds by percentile (`steady_state.latency`)."""
    same_age: bool = False
    """The control is a group as young and as large as the new release's."""
    frozen_control: bool = False
    """The control is not running now but replayed from before (blue-green after the switch)."""
    unsplit: bool = False
    """Requests come to the groups besides their shares, so that these say nothing: ours, or such as
    are sent to one on purpose."""
    warm_up_seconds: float = 0.0
    """Half-life of what a cold release is allowed to be worse; 0: nothing is allowed."""
    cold_errors: float = 0.03
    """Allowed to a cold release at its start: this share of failed requests more ..."""
    cold_octaves: float = 1.2
    """... this many octaves slower (1.0 is twice as slow) ..."""
    cold_slow: float = 0.005
    """... and this share of requests slower than even that. It may be busy all the time."""
    min_dwell_seconds: float = MIN_DWELL_SECONDS
    error_risk: float = 0.02
    """A step must rule out that the next one makes this share of all requests fail in addition.
    The judge goes on watching there."""
    error_risk_last: float = 0.005
    """The same for the last step, after which nothing is compared any more."""
    slow_risk: float = 0.01
    """The same for slow requests."""
    promote_rho: float = 1.5
    """The margin of errors: this many times the old release's rate, plus the risk."""
    promote_rho_slow: float = 1.2
    """The margin of slow requests, which are counted at twice the tolerated shift."""


def policy_of(steady_state: SteadyState | None, deploy: Deploy, same_age: bool) -> Policy:
    """What a service's manifest says; `same_age`: it is compared with a group of the same age."""
    promise = steady_state or SteadyState()
    return Policy(
        error_limit=promise.errors.value if promise.errors else None,
        latency_limits={name: limit.value * 1000 for name, limit in promise.latency.items()},
        same_age=same_age,
        unsplit=bool(deploy.synthetic),
        warm_up_seconds=0.0 if same_age else deploy.warm_up,
    )


def error_margin(policy: Policy, next_weight: float) -> float:
    """How many more failures (a share) a step must rule out before `next_weight` is given."""
    if next_weight >= 1:
        return policy.error_risk_last
    return min(0.5, policy.error_risk / max(next_weight, 1e-6))


def slow_margin(policy: Policy, next_weight: float) -> float:
    """How many more slow requests (a share) a step must rule out."""
    return min(0.5, policy.slow_risk / max(min(next_weight, 1.0), 1e-6))


def coldness(policy: Policy, age: float) -> float:
    """How much of the cold start's allowance is left at an age in seconds: 1 to 0."""
    if policy.warm_up_seconds <= 0:
        return 0.0
    left = 2.0 ** (-age / policy.warm_up_seconds)
    return float(left) if left > 1 / 32 else 0.0


def tolerated_shift(policy: Policy, edge: int) -> int:
    """How many buckets slower is tolerated at a bucket edge of the old release's latencies."""
    slack = math.log2(1 + policy.slack_ms / floor_ms(edge)) * BUCKETS_PER_OCTAVE
    return max(policy.shift, math.ceil(slack - 1e-9))


def cold_shift(policy: Policy, cold: float) -> int:
    """How many buckets slower a cold release may be in addition."""
    return int(policy.cold_octaves * cold * BUCKETS_PER_OCTAVE + 0.5)


def level_name(level: float) -> str:
    """`p50`, `p99`, `p999`."""
    return "p" + f"{level:.6f}".rstrip("0")[2:].ljust(2, "0")


def limit_edge(limit_ms: float) -> int:
    """The first bucket that lies wholly above a limit in milliseconds."""
    return math.ceil(math.log2(max(limit_ms, 1e-3)) * BUCKETS_PER_OCTAVE - 1e-9)
