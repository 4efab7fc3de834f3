"""One cell of the benchmark: so many simulated rollouts, recorded the way each rule looks at them.

Every second for the judge and for tests on counts, every ten seconds and every minute for the rules
that read a metric store. Arrays are [time, run]. Rules never act here: their time of abort is found
afterwards from these recordings, so that all of them see the very same rollouts.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from unit.decide.judge.twin import Judges
from unit.decide.judge.world import (
    CONFIGS,
    ENVIRONMENTS,
    LOWEST,
    NONE,
    Regression,
    Seen,
    World,
    remembered,
    tick,
    usual_edges,
)

from volery.decide.judge import Policy, alarm

Array = NDArray[np.float64]
HISTORY_SECONDS = 900
SLOW_MS = 500.0
SLOW_CELL = int(np.ceil(8 * np.log2(SLOW_MS))) - LOWEST + 1
EXCEED_P99 = 0.01
BAND_SECONDS = 5


@dataclass(frozen=True)
class Cell:
    """What is simulated."""

    config: str
    environment: str
    regression: Regression = NONE
    runs: int = 100
    seconds: int = 3600
    seed: int = 1


@dataclass
class Recording:
    """What each rule would have seen. `score` is the judge's: it aborts at 1."""

    cell: Cell
    score: Array
    counts: dict[str, Array]
    tens: dict[str, Array]
    minutes: dict[str, Array]
    bands: Array
    confidence: Array
    extra: dict[str, Array] = field(default_factory=dict)


class _Windows:
    """Sums over windows of one arm, kept at the end of each."""

    def __init__(self, seconds: int) -> None:
        self.seconds, self.parts = seconds, 0
        self.sum: list[Array] = []
        self.kept: list[tuple[Array, Array, Array]] = []

    def add(self, seen: Seen) -> None:
        values = [seen.n.astype(float), seen.failures.astype(float), seen.histogram.astype(float)]
        before = self.sum or [np.zeros(1)] * len(values)
        self.sum = [a + b for a, b in zip(before, values, strict=True)]
        self.parts += 1
        if self.parts == self.seconds:
            n, failures, histogram = self.sum
            self.kept.append((n, failures, histogram))
            self.sum, self.parts = [], 0


def quantile_ms(histogram: Array, level: float) -> Array:
    """A quantile of each run's histogram, interpolated in its bucket; NaN without requests."""
    total = histogram.sum(1)
    cumulated = np.cumsum(histogram, axis=1)
    wanted = (level * total)[:, None]
    cell = np.argmax(cumulated >= np.maximum(wanted, 1e-9), axis=1)
    rows = np.arange(len(histogram))
    inside = np.maximum(histogram[rows, cell], 1e-9)
    part = (wanted[:, 0] - (cumulated[rows, cell] - inside)) / inside
    octaves = (cell - 1 + LOWEST + np.clip(part, 0, 1)) / 8
    return np.where(total > 0, 2.0**octaves, np.nan)


def record(cell: Cell, policies: dict[str, Policy]) -> Recording:
    """Simulate a cell once, with one judge for each policy; the first is the one that counts."""
    world = World(
        CONFIGS[cell.config],
        ENVIRONMENTS[cell.environment],
        cell.regression,
        cell.runs,
        cell.seed,
    )
    edges = usual_edges(world.environment)
    past = remembered(world, edges, HISTORY_SECONDS)
    judges = {name: Judges(policy, past) for name, policy in policies.items()}
    scores: dict[str, list[Array]] = {name: [] for name in policies}
    confidence: list[Array] = []
    seconds: list[list[Array]] = [[], [], [], []]
    tens = [_Windows(10), _Windows(10)]
    minutes = [_Windows(60), _Windows(60)]
    bands = _Bands(cell.runs)
    for age in range(cell.seconds):
        canary, slice_, rest = world.second(age)
        for name, policy in policies.items():
            controls = [slice_] if policy.same_age else [slice_, rest]
            judge = judges[name]
            judge.look(tick(policy, age, edges, canary, controls))
            scores[name].append(score(judge))
        confidence.append(next(iter(judges.values())).confidence())
        for kept, values in zip(
            seconds, (canary.n, canary.failures, slice_.n, slice_.failures), strict=True
        ):
            kept.append(values.astype(float))
        for windows in (tens, minutes):
            windows[0].add(canary)
            windows[1].add(slice_)
        bands.add(canary, slice_)
    named = dict(zip(("n", "k", "n_slice", "k_slice"), map(np.array, seconds), strict=True))
    return Recording(
        cell,
        np.array(next(iter(scores.values()))),
        named,
        _tens(tens[0], edges),
        _minutes(minutes),
        np.array(bands.kept),
        np.array(confidence),
        {name: np.array(values) for name, values in scores.items()},
    )


def score(judge: Judges) -> Array:
    """1 where the judge aborts: the evidence on a logarithmic scale, or an alarm's level."""
    evidence = np.log(np.maximum(judge.evidence(), 1e-3)) / np.log(1 / judge.policy.alpha)
    unlikely = 1 - judge.missing / alarm.UNLIKELY
    dead = np.minimum(judge.first / alarm.FIRST_REQUESTS, unlikely)
    return np.maximum(evidence, np.maximum(judge.failing / judge.limit, dead))


def _tens(windows: _Windows, edges: list[int]) -> dict[str, Array]:
    p99 = edges[4] - LOWEST + 1
    n = np.array([kept[0] for kept in windows.kept])
    return {
        "n": n,
        "k": np.array([kept[1] for kept in windows.kept]),
        "slow": np.array([kept[2][:, SLOW_CELL:].sum(1) for kept in windows.kept]),
        "over_p99": np.array([kept[2][:, p99:].sum(1) for kept in windows.kept]),
    }


def _minutes(windows: list[_Windows]) -> dict[str, Array]:
    result = {}
    for name, arm in zip(("canary", "slice"), windows, strict=True):
        result[f"errors {name}"] = np.array([k / np.maximum(n, 1) for n, k, _ in arm.kept])
        for level in (0.5, 0.99):
            values = [quantile_ms(histogram, level) for _, _, histogram in arm.kept]
            result[f"p{level} {name}"] = np.array(values)
    return result


class _Bands:
    """How far the canary's latency distribution lies to the right of the slice's, so far, and the
    number of requests in both."""

    def __init__(self, runs: int) -> None:
        self.canary: Array = np.zeros((runs, 1))
        self.slice: Array = np.zeros((runs, 1))
        self.age = 0
        self.kept: list[Array] = []

    def add(self, canary: Seen, slice_: Seen) -> None:
        self.canary = self.canary + canary.histogram
        self.slice = self.slice + slice_.histogram
        self.age += 1
        if self.age % BAND_SECONDS == 0:
            n, m = self.canary.sum(1), self.slice.sum(1)
            below = np.cumsum(self.canary, 1) / np.maximum(n, 1)[:, None]
            below_slice = np.cumsum(self.slice, 1) / np.maximum(m, 1)[:, None]
            self.kept.append(np.array([(below_slice - below).max(1), n, m]))
