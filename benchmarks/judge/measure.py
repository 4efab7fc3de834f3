"""What is measured: false aborts, times to detect, requests harmed, steps promoted."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from unit.decide.judge.twin import Judges
from unit.decide.judge.world import (
    CONFIGS,
    ENVIRONMENTS,
    Config,
    Environment,
    Regression,
    World,
    remembered,
    tick,
    usual_edges,
)

from benchmarks.judge import peers
from benchmarks.judge.recording import Cell, Recording, record
from volery.decide.judge import Policy
from volery.decide.judge.policy import error_margin

Array = NDArray[np.float64]
OURS = "Volery"
WARM = Policy()
COLD = Policy(warm_up_seconds=20.0)
SAME_AGE = Policy(same_age=True)
HEALTHY = (
    ("real", "BCDAEF"),
    ("clean", "BF"),
    ("bursts", "BC"),
    ("clumped", "BC"),
    ("differ", "CE"),
    ("cold", "BC"),
    ("cold x2", "BC"),
    ("cold, real", "B"),
)
BAD = (
    ("A", "clean", (Regression(errors=0.05), Regression(errors=0.5))),
    (
        "B",
        "clean",
        (
            Regression(errors=0.02),
            Regression(errors=0.1),
            Regression(errors=1.0),
            Regression(slower=1.25),
            Regression(slower=2.0),
            Regression(tail=2.0),
        ),
    ),
    (
        "B",
        "real",
        (
            Regression(errors=0.02),
            Regression(errors=0.1),
            Regression(errors=0.5),
            Regression(slower=2.0),
            Regression(tail=4.0),
        ),
    ),
    (
        "C",
        "real",
        (
            Regression(errors=0.02),
            Regression(errors=0.1),
            Regression(slower=1.5),
            Regression(slower=2.0),
            Regression(tail=2.0),
        ),
    ),
    ("D", "real", (Regression(errors=0.02), Regression(errors=0.1), Regression(slower=1.5))),
)
STEPS = (0.01, 0.05, 0.25, 0.5, 1.0)
STEP_SECONDS = 600
PROMOTED = {
    "200/s, 0.1 % errors, clean": (Config(200, 0.01, 0.001), Environment()),
    "200/s, no errors, clean": (Config(200, 0.01, 1e-6), Environment()),
    "200/s, 0.1 % errors, clumped": (Config(200, 0.01, 0.001), Environment(clumps=True)),
    "1,000/s, 1 % errors, real": (Config(1000, 0.01, 0.01), ENVIRONMENTS["real"]),
}


@dataclass(frozen=True)
class Size:
    """How much is simulated."""

    runs: int
    bad_runs: int
    seconds: int
    bad_seconds: int


def what(regression: Regression) -> str:
    """`+2 % errors`, `all latencies x2`, `slowest 2 % x4`."""
    if regression.errors >= 1:
        return "all requests fail"
    if regression.errors:
        return f"+{regression.errors:.0%} errors".replace("%", " %")
    if regression.slower != 1:
        return f"all latencies x{regression.slower:g}"
    return f"slowest 2 % x{regression.tail:g}"


def healthy(size: Size) -> Iterator[dict[str, Any]]:
    """False aborts of every rule, and the limits at which the tuned ones have 1 %."""
    for environment, configs in HEALTHY:
        for config in configs:
            start = time.monotonic()
            cell = Cell(config, environment, runs=size.runs, seconds=size.seconds)
            cold = ENVIRONMENTS[environment].cold > 0
            policies = {OURS: COLD, "no allowance": WARM} if cold else {OURS: WARM}
            recording = record(cell, policies)
            found = {name: _share(rule(recording)) for name, rule in peers.RULES.items()}
            for name, score in recording.extra.items():
                found[name] = _share(peers.first(score, 1))
            yield {
                "kind": "healthy",
                "environment": environment,
                "config": config,
                "aborted": found,
                "limits": limits(recording) if environment == "real" else {},
                "runs": size.runs,
                "took": round(time.monotonic() - start, 1),
            }


def same_age(size: Size) -> Iterator[dict[str, Any]]:
    """Cold canaries against a group of the same age and size, without an allowance."""
    for environment in ("cold", "cold x2"):
        for config in "BC":
            base = replace(ENVIRONMENTS[environment], baseline_cold=True)
            name = f"{environment}, same age"
            ENVIRONMENTS[name] = base
            cell = Cell(config, name, runs=size.runs, seconds=size.seconds)
            recording = record(cell, {OURS: SAME_AGE})
            share = _share(peers.first(recording.score, 1))
            yield {
                "kind": "healthy",
                "environment": name,
                "config": config,
                "aborted": {OURS: share},
                "limits": {},
                "runs": size.runs,
            }


def _share(times: Array, limit: float = 3600.0) -> float:
    return float((times <= limit).mean())


def limits(recording: Recording) -> dict[str, float]:
    """At which limit each tunable score would have aborted one healthy run in a hundred."""
    scores = {OURS: recording.score, "Mann-Whitney": peers.mann_whitney(recording)}
    scores |= peers.fixed_scores(recording)
    return {name: float(np.quantile(score.max(0), 0.99)) for name, score in scores.items()}


def tuned(recording: Recording, limit: dict[str, float]) -> dict[str, Array]:
    """When the tuned rules abort. Fixed limits: errors and latency together, the best of 1, 2 and 5
    strikes (by median)."""
    small = 1e-9
    fixed = peers.fixed_scores(recording)
    strikes = []
    for count in (1, 2, 5):
        names = (f"errors {count}", f"latency {count}")
        at = [peers.first(fixed[name], 10, limit[name] + small) for name in names]
        strikes.append(np.minimum(*at))
    whitney = peers.mann_whitney(recording)
    return {
        f"{OURS}, tuned": peers.first(recording.score, 1, min(1.0, limit[OURS])),
        "Mann-Whitney, tuned": peers.first(whitney, 60, limit["Mann-Whitney"] + small),
        "fixed limit, tuned": min(strikes, key=lambda at: float(np.median(at))),
    }


def bad(size: Size, limit: dict[str, dict[str, float]]) -> Iterator[dict[str, Any]]:
    """Times to detect and requests harmed, of every rule, by kind of regression."""
    for config, environment, regressions in BAD:
        for regression in regressions:
            cell = Cell(config, environment, regression, size.bad_runs, size.bad_seconds, seed=2)
            recording = record(cell, {OURS: WARM, "with allowance": COLD})
            times = {name: rule(recording) for name, rule in peers.RULES.items()}
            for name, score in recording.extra.items():
                times[name] = peers.first(score, 1)
            if environment == "real" and config in limit:
                times |= tuned(recording, limit[config])
            yield {
                "kind": "bad",
                "environment": environment,
                "config": config,
                "regression": what(regression),
                "runs": size.bad_runs,
                "seconds": size.bad_seconds,
                "rules": {
                    name: _summary(at, config, regression, size.bad_seconds)
                    for name, at in times.items()
                },
            }


def _summary(times: Array, config: str, regression: Regression, seconds: float) -> dict[str, Any]:
    per_second = CONFIGS[config].rate * CONFIGS[config].share
    share = regression.errors or (1.0 if regression.slower != 1 else 0.02)
    found = np.where(times <= seconds, times, np.inf)
    levels = [q / 100 for q in range(5, 100, 5)]
    return {
        "median": finite(np.quantile(found, 0.5, method="higher")),
        "p95": finite(np.quantile(found, 0.95, method="higher")),
        "found": float(np.isfinite(found).mean()),
        "harmed": float(np.minimum(times, seconds).mean() * per_second * share),
        "times": [finite(np.quantile(found, q, method="higher")) for q in levels],
    }


def finite(value: float) -> float | None:
    """The value as JSON can hold it: None for never."""
    return float(value) if np.isfinite(value) else None


def promotion(runs: int) -> Iterator[dict[str, Any]]:
    """Seconds a good release needs by step, and how often one just at the margin is promoted."""
    for name, (config, environment) in PROMOTED.items():
        steps = []
        for weight, after in pairwise(STEPS):
            at = replace(config, share=weight)
            good = _promoted(at, environment, Regression(), after, runs)
            margin = error_margin(WARM, after) + (WARM.promote_rho - 1) * config.errors
            wrong = _promoted(at, environment, Regression(errors=margin), after, runs)
            steps.append(
                {
                    "weight": weight,
                    "median": finite(np.quantile(good.promoted, 0.5, method="higher")),
                    "p95": finite(np.quantile(good.promoted, 0.95, method="higher")),
                    "wrong": float((wrong.promoted <= STEP_SECONDS).mean()),
                    "slipped": float((wrong.promoted < wrong.aborted).mean()),
                    "margin": margin,
                }
            )
        yield {"kind": "promotion", "service": name, "runs": runs, "steps": steps}


@dataclass
class _Ends:
    promoted: Array
    aborted: Array


def _promoted(
    config: Config, environment: Environment, regression: Regression, after: float, runs: int
) -> _Ends:
    """One step of so many rollouts: when the judge would promote, when it would abort."""
    world = World(config, environment, regression, runs, seed=3)
    edges = usual_edges(environment)
    judges = Judges(WARM, remembered(world, edges, 900))
    judges.step(after)
    ends = _Ends(np.full(runs, np.inf), np.full(runs, np.inf))
    for age in range(STEP_SECONDS):
        canary, slice_, rest = world.second(age)
        judges.look(tick(WARM, age, edges, canary, [slice_, rest]))
        sure = (judges.confidence() >= 1 / WARM.beta) & (judges.evidence() < WARM.alpha**-0.5)
        late = age + 1 >= WARM.min_dwell_seconds
        ends.promoted = np.where(np.isinf(ends.promoted) & sure & late, age + 1, ends.promoted)
        ends.aborted = np.where(np.isinf(ends.aborted) & judges.aborts(), age + 1, ends.aborted)
        if np.isfinite(ends.promoted).all():
            break
    return ends


def over_time(config: str, regressions: Sequence[Regression], seconds: int) -> list[list[float]]:
    """The judge's score second by second, one simulated rollout for each regression."""
    lines = []
    for regression in regressions:
        cell = Cell(config, "real", regression, runs=1, seconds=seconds, seed=11)
        lines.append([float(value[0]) for value in record(cell, {OURS: WARM}).score])
    return lines
