"""What it brings to know how cold the last release was at its start, and what that risks.

The judge itself, not its numpy twin: a service starts, is watched while it is young, serves until
it is warm, and then gets a canary. Ticks are a second long.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from unit.decide.judge.world import COLD_SECONDS, NONE, Config, Environment, Regression, Seen, World

from benchmarks.judge.measure import finite, what
from volery.decide.judge import (
    History,
    Policy,
    begin,
    decide,
    empty,
    expected,
    look,
    of_release,
    remember,
)
from volery.model.evidence import Arm

KNOWN_SECONDS, WATCHED_SECONDS, BAD_SECONDS = 120, 150, 600
CONFIGS = {
    "100/s": Config(100, 0.05, 0.001),
    "200/s": Config(200, 0.05, 0.001),
    "500/s": Config(500, 0.05, 0.001),
}
UNKIND = Environment(bursts=True, clumps=True, differ=True, drift=True)
HEALTHY = {
    "both warm": (0.0, 0.0, Environment()),
    "both warm, unkind traffic": (0.0, 0.0, UNKIND),
    "both cold": (1.0, 1.0, Environment()),
    "both cold, unkind traffic": (1.0, 1.0, UNKIND),
    "both twice as cold": (2.0, 2.0, Environment()),
    "the new one twice as cold as the old one was": (1.0, 2.0, Environment()),
}
BAD = (
    *(Regression(errors=share) for share in (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)),
    *(Regression(slower=factor) for factor in (1.25, 1.5, 2.0, 3.0)),
    *(Regression(tail=factor) for factor in (2.0, 4.0)),
)
ALLOWED = Policy(warm_up_seconds=20.0)
BEFORE, AFTER, NOTHING = "all of the allowance", "what the last one needed", "no allowance"


def healthy(runs: int) -> Iterator[dict[str, Any]]:
    """Good releases taken back while they are young."""
    for said, (old, new, environment) in HEALTHY.items():
        for name, config in CONFIGS.items():
            found = _ends(config, environment, old, new, NONE, runs, WATCHED_SECONDS, seed=5)
            shares = {rule: float(np.isfinite(at).mean()) for rule, at in found.items()}
            yield {
                "kind": "starts",
                "case": said,
                "config": name,
                "runs": runs,
                "seconds": WATCHED_SECONDS,
                "aborted": shares,
            }


def bad(runs: int) -> Iterator[dict[str, Any]]:
    """Seconds until bad releases are taken back, after one that was warm at once."""
    for regression in BAD:
        found = _ends(
            CONFIGS["200/s"], Environment(), 0.0, 0.0, regression, runs, BAD_SECONDS, seed=6
        )
        yield {
            "kind": "starts",
            "regression": what(regression),
            "runs": runs,
            "rules": {
                rule: {
                    name: finite(np.quantile(at, q, method="higher"))
                    for name, q in (("median", 0.5), ("p95", 0.95))
                }
                for rule, at in found.items()
            },
        }


def _ends(
    config: Config,
    environment: Environment,
    old: float,
    new: float,
    regression: Regression,
    runs: int,
    seconds: int,
    seed: int,
) -> dict[str, Any]:
    """When each rule takes each run back, `inf` if it does not; `old` and `new` say how cold both
    releases are at first."""
    world = World(config, replace(environment, cold=new), regression, runs, seed)
    world.few_cells = world.cells
    pasts = _pasts(world, old)
    policies = [
        {BEFORE: ALLOWED, AFTER: expected(ALLOWED, past.start), NOTHING: Policy()} for past in pasts
    ]
    states = [
        {rule: begin(policy, pasts[run], 0.25) for rule, policy in policies[run].items()}
        for run in range(runs)
    ]
    ends = {rule: np.full(runs, np.inf) for rule in policies[0]}
    for age in range(seconds):
        canary, slice_, rest = world.second(age)
        for run in range(runs):
            arms = _arm(canary, run), _added(_arm(slice_, run), _arm(rest, run))
            for rule in list(states[run]):
                policy = policies[run][rule]
                states[run][rule] = look(policy, states[run][rule], *arms, 1.0)
                said = decide(policy, states[run][rule], config.share, 0.25, age + 1.0)
                if said.verdict == "abort":
                    ends[rule][run] = age + 1
                    del states[run][rule]
    return ends


def _pasts(world: World, cold: float) -> list[History]:
    """The old release of each run from its first request on, in three parts."""
    pasts = [of_release(empty(), "old", None) for _ in range(world.runs)]
    pasts = [remember(past, [Arm()] * 3, 1.0) for past in pasts]
    for age in range(KNOWN_SECONDS):
        parts = world.stable(cold * 2.0 ** (-age / COLD_SECONDS))
        pasts = [
            remember(past, [_arm(part, run) for part in parts], 1.0)
            for run, past in enumerate(pasts)
        ]
    return pasts


def _arm(seen: Seen, run: int) -> Arm:
    row = seen.histogram[run]
    latency = {seen.begins[int(cell)]: int(row[cell]) for cell in np.flatnonzero(row)}
    return Arm(int(seen.n[run]), int(seen.failures[run]), latency, 1.0)


def _added(one: Arm, other: Arm) -> Arm:
    latency = dict(one.latency)
    for bucket, number in other.latency.items():
        latency[bucket] = latency.get(bucket, 0) + number
    return Arm(one.requests + other.requests, one.failures + other.failures, latency, 2.0)
