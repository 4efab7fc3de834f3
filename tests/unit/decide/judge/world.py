"""Simulated services, many at once: what three groups of instances do, second by second.

The canary, a slice of the old release of the same size, and the rest of it. Latency is lognormal
(median 40 ms, p99 257 ms) in buckets of an eighth of an octave. Environments make traffic as unkind
as it is: requests that depend on each other, bursts that hit everybody, instances that differ,
drift, and releases that are cold at first. Arrays are [run], histograms [run, bucket].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from unit.decide.judge.twin import Judges, Past, Tick

from volery.decide.judge import Policy
from volery.decide.judge.policy import cold_shift, coldness, tolerated_shift
from volery.model.evidence import BUCKET_MIN

Array = NDArray[np.float64]
Whole = NDArray[np.int64]
LOWEST, HIGHEST = 38, 110
"""Buckets told apart: 27 ms to 13 s; cell 0 is all below."""
CELLS = HIGHEST - LOWEST + 2
MEDIAN, SIGMA = 40.0, 0.8
FINE = 16
"""Shifts of the distribution are told apart by a sixteenth of a bucket."""
SHIFT_MAX = 48
TAIL_Z = 2.0537
"""The slowest 2 % begin here."""
CLUMP = 4.0
STALLED, STALL_SHIFT = 0.01, 16
PAUSE_SECONDS, PAUSE_LENGTH, PAUSE_REQUESTS = 30.0, 0.2, 50.0
BURST_EVERY, BURST_LENGTH = 720.0, 40.0
COLD_SECONDS, COLD_SHIFT = 20.0, math.log2(1.5) * 8
LEVELS = (0.5, 0.75, 0.9, 0.95, 0.99, 0.999)


@dataclass(frozen=True)
class Config:
    """Requests a second, the canary's share of them, and the service's own error rate."""

    rate: float
    share: float
    errors: float


CONFIGS = {
    "A": Config(10, 0.1, 0.001),
    "B": Config(100, 0.05, 0.001),
    "C": Config(1000, 0.05, 0.001),
    "D": Config(5000, 0.01, 0.0001),
    "E": Config(1000, 0.5, 0.01),
    "F": Config(100, 0.2, 0.01),
}


@dataclass(frozen=True)
class Environment:
    """What is unkind. `cold` is how many percent of failures more, halving every 20 s, and how many
    times 1.5 slower (as a power)."""

    bursts: bool = False
    clumps: bool = False
    differ: bool = False
    drift: bool = False
    cold: float = 0.0
    baseline_cold: bool = False


ENVIRONMENTS = {
    "clean": Environment(),
    "bursts": Environment(bursts=True),
    "clumped": Environment(clumps=True),
    "differ": Environment(differ=True),
    "real": Environment(bursts=True, clumps=True, differ=True, drift=True),
    "cold": Environment(cold=1.0),
    "cold x2": Environment(cold=2.0),
    "cold, real": Environment(bursts=True, clumps=True, differ=True, drift=True, cold=1.0),
}


@dataclass(frozen=True)
class Regression:
    """What is wrong with the canary: failures more, times slower, the slowest 2 % times slower;
    from a second on."""

    errors: float = 0.0
    slower: float = 1.0
    tail: float = 1.0
    since: int = 0


NONE = Regression()


@dataclass
class Seen:
    """What one arm did in a second: the histogram is [run, cell], cell i begins at bucket
    `begins[i]`."""

    n: Whole
    failures: Whole
    histogram: Whole
    begins: Sequence[int]


@dataclass(frozen=True)
class Table:
    """The chance of each cell, [shift, cell], and at which bucket each cell begins."""

    chances: Array
    begins: tuple[int, ...]

    def coarse(self, edges: Sequence[int]) -> Table:
        """The same with few cells: between these buckets only."""
        first = [0, *(edge - LOWEST + 1 for edge in edges)]
        chances = np.add.reduceat(self.chances, first, axis=1)
        return Table(chances, tuple(self.begins[index] for index in first))


def _normal_above(z: Array) -> Array:
    return np.array([0.5 * math.erfc(value / math.sqrt(2)) for value in z.ravel()]).reshape(z.shape)


def cells(tail: float = 1.0) -> Table:
    """The chances of all cells, where the slowest 2 % are `tail` times slower."""
    edges = np.arange(LOWEST, HIGHEST + 1) / 8
    shifts = np.arange(-SHIFT_MAX * FINE, SHIFT_MAX * FINE + 1) / (8 * FINE)
    z = (np.log(2.0) * (edges[None, :] - shifts[:, None]) - math.log(MEDIAN)) / SIGMA
    slower = _normal_above(np.maximum(TAIL_Z, z - math.log(tail) / SIGMA))
    above = slower + np.maximum(_normal_above(z) - _normal_above(np.array([TAIL_Z])), 0)
    whole = np.concatenate([np.ones((len(shifts), 1)), above, np.zeros((len(shifts), 1))], axis=1)
    chances = np.maximum(whole[:, :-1] - whole[:, 1:], 0)
    return Table(chances, (BUCKET_MIN, *range(LOWEST, HIGHEST + 1)))


class World:
    """So many runs of one configuration in one environment. Seeded."""

    def __init__(
        self,
        config: Config,
        environment: Environment,
        regression: Regression = NONE,
        runs: int = 100,
        seed: int = 1,
    ) -> None:
        self.config, self.environment, self.regression = config, environment, regression
        self.runs, self.random = runs, np.random.default_rng(seed)
        self.cells, self.tail_cells = cells(), cells(regression.tail)
        self.edges = usual_edges(environment)
        self.few_cells = self.cells.coarse(self.edges)
        self.slice_cells = self.cells
        self.burst_errors, self.burst_shift = np.zeros(runs), np.zeros(runs)
        self.walk = np.zeros(runs)
        self.now = 0
        self.start = self.random.uniform(0, 86400, runs)
        spread = 1.0 if environment.differ else 0.0
        self.own_errors = np.exp(self.random.normal(0, 0.05 * spread, (5, runs)))
        self.own_shift = self.random.normal(0, 0.1 * spread, (5, runs))
        self.owed = np.zeros((5, runs), dtype=np.int64)

    def hurry(self, policy: Policy) -> None:
        """Draw only the cells that a policy without an allowance looks at."""
        looked_at = set()
        for edge in self.edges:
            shift = tolerated_shift(policy, edge)
            looked_at |= {edge + shift, edge + 2 * shift}
        self.slice_cells = self.few_cells
        self.cells, self.tail_cells = (
            table.coarse(sorted(looked_at)) for table in (self.cells, self.tail_cells)
        )

    def _shared(self) -> None:
        """What happens to all alike."""
        self.now += 1
        if self.environment.bursts:
            begins = self.random.random(self.runs) < 1 / BURST_EVERY
            ends = self.random.random(self.runs) < 1 / BURST_LENGTH
            size = self.random.uniform(0.02, 0.1, self.runs)
            self.burst_errors = np.where(begins, size, np.where(ends, 0, self.burst_errors))
            self.burst_shift = 100 * self.burst_errors
        if self.environment.drift:
            step = self.random.normal(0, 0.3 * math.sqrt(2 / 600), self.runs)
            self.walk = self.walk - self.walk / 600 + step

    def arm(self, slot: int, share: float, errors: Array, shift: Array, table: Table) -> Seen:
        """One second of one group. `slot` says whose differences and debts these are."""
        rate = np.full(self.runs, self.config.rate * share)
        if self.environment.drift:
            day = 2 * math.pi * (self.start + self.now) / 86400
            rate = rate * (1 + 0.3 * np.sin(day)) * np.exp(0.2 * self.walk)
        n = self.random.poisson(rate)
        wrong = self.config.errors * self.own_errors[slot] * np.exp(self.walk) + self.burst_errors
        chance = np.minimum(wrong + errors, 1.0)
        shifts = self.own_shift[slot] + self.burst_shift + 2 * self.walk + shift
        histogram = self._latencies(n, shifts, table)
        return Seen(n, self._failures(slot, n, chance), histogram, table.begins)

    def _failures(self, slot: int, n: Whole, chance: Array) -> Whole:
        if not self.environment.clumps:
            return self.random.binomial(n, chance)
        clumps = self.random.poisson(n * chance / CLUMP)
        size = clumps + self.random.negative_binomial(np.maximum(clumps, 1), 1 / CLUMP)
        owed = self.owed[slot] + np.where(clumps > 0, size, 0)
        many = np.where(chance > 0.3, self.random.binomial(n, chance), np.minimum(owed, n))
        self.owed[slot] = np.where(chance > 0.3, 0, owed - many)
        return np.asarray(many)

    def _latencies(self, n: Whole, shifts: Array, table: Table) -> Whole:
        if not self.environment.clumps:
            return self._drawn(n, shifts, table)
        clumps = self.random.poisson(n * STALLED / CLUMP)
        size = clumps + self.random.negative_binomial(np.maximum(clumps, 1), 1 / CLUMP)
        pauses = self.random.poisson(n / PAUSE_REQUESTS / PAUSE_SECONDS + 1e-3)
        paused = self.random.poisson(pauses * np.minimum(n, PAUSE_REQUESTS) * PAUSE_LENGTH)
        stalled = np.minimum(np.where(clumps > 0, size, 0) + paused, n)
        calm = self._drawn(n - stalled, shifts, table)
        return np.asarray(calm + self._drawn(stalled, shifts + STALL_SHIFT, table))

    def _drawn(self, n: Whole, shifts: Array, table: Table) -> Whole:
        index = np.clip(np.rint(shifts * FINE), -SHIFT_MAX * FINE, SHIFT_MAX * FINE)
        chances = table.chances[index.astype(np.int64) + SHIFT_MAX * FINE]
        return self.random.multinomial(n, chances)

    def stable(self, cold: float = 0.0) -> list[Seen]:
        """A second before the rollout: three equal parts of the old release, `cold` as in the
        environment."""
        self._shared()
        nothing = np.zeros(self.runs)
        errors, shift = nothing + 0.02 * cold, nothing + cold * COLD_SHIFT
        return [self.arm(slot, 1 / 3, errors, shift, self.few_cells) for slot in (2, 3, 4)]

    def second(self, age: int) -> tuple[Seen, Seen, Seen]:
        """A second of the rollout: canary, a slice as large, the rest of the old release."""
        self._shared()
        cold = self.environment.cold * 2.0 ** (-age / COLD_SECONDS)
        size = COLD_SHIFT
        bad = self.regression if age >= self.regression.since else NONE
        nothing = np.zeros(self.runs)
        errors = nothing + 0.02 * cold + bad.errors
        shift = nothing + cold * size + math.log2(bad.slower) * 8
        table = self.tail_cells if age >= self.regression.since else self.cells
        share = self.config.share
        canary = self.arm(0, share, errors, shift, table)
        young = cold if self.environment.baseline_cold else 0.0
        slice_ = self.arm(
            1, share, nothing + 0.02 * young, nothing + young * size, self.slice_cells
        )
        rest = self.arm(2, max(1 - 2 * share, 0.0), nothing, nothing, self.few_cells)
        return canary, slice_, rest


def usual_edges(environment: Environment, levels: tuple[float, ...] = LEVELS) -> list[int]:
    """The latency edges of a service in an environment, as its history would have them."""
    chances = cells().chances
    still = chances[SHIFT_MAX * FINE]
    if environment.clumps:
        stalled = STALLED + PAUSE_LENGTH / PAUSE_SECONDS
        slow = chances[(SHIFT_MAX + STALL_SHIFT) * FINE]
        still = (1 - stalled) * still + stalled * slow
    above = np.cumsum(still[::-1])[::-1]
    return [int(np.argmax(above <= 1 - level)) + LOWEST - 1 for level in levels]


def over(seen: Seen, at: Sequence[int]) -> Array:
    """How many requests reach each bucket, [bucket, run]; a cell must begin there."""
    above = np.cumsum(seen.histogram[:, ::-1], axis=1)[:, ::-1]
    cell = np.searchsorted(seen.begins, at)
    return np.asarray(above[:, cell].T.astype(float))


def remembered(world: World, edges: list[int], seconds: int) -> Past:
    """What the judge knows after so much stable traffic: errors by part, latency of the whole."""
    past = Past(LEVELS[: len(edges)], world.runs)
    for _ in range(seconds):
        parts = world.stable()
        n = np.zeros((3, 1 + len(edges), world.runs))
        k = np.zeros_like(n)
        for index, part in enumerate(parts):
            n[index, 0], k[index, 0] = part.n, part.failures
        n[0, 1:] = sum(part.histogram.sum(1) for part in parts)
        k[0, 1:] = sum(over(part, edges) for part in parts)
        past.add(n, k)
    return past


def tick(policy: Policy, age: float, edges: list[int], canary: Seen, controls: list[Seen]) -> Tick:
    """What the judge sees of a second."""
    shifts = [tolerated_shift(policy, edge) for edge in edges]
    extra = cold_shift(policy, coldness(policy, age))
    levels = len(edges)
    n_control = sum((c.n for c in controls[1:]), controls[0].n)
    failures = sum((c.failures for c in controls[1:]), controls[0].failures)
    slow = np.sum([over(control, edges) for control in controls], axis=0)
    failed = canary.failures[None].astype(float)
    worse = over(canary, [e + s + extra for e, s in zip(edges, shifts, strict=True)])
    far = over(canary, [e + 2 * s for e, s in zip(edges, shifts, strict=True)])
    return Tick(
        np.repeat(canary.n[None].astype(float), 1 + levels, axis=0),
        np.concatenate([failed, worse]),
        np.concatenate([failed, far]),
        np.repeat(n_control[None].astype(float), 1 + levels, axis=0),
        np.concatenate([failures[None].astype(float), slow]),
    )


def judged(
    world: World, policy: Policy, seconds: int, history: int = 900
) -> tuple[NDArray[np.bool_], Judges]:
    """Which of the runs were taken back within so many seconds, looking every second."""
    edges = usual_edges(world.environment)
    judges = Judges(policy, remembered(world, edges, history))
    aborted = np.zeros(world.runs, dtype=np.bool_)
    for age in range(seconds):
        canary, slice_, rest = world.second(age)
        controls = [slice_] if policy.same_age else [slice_, rest]
        judges.look(tick(policy, age, edges, canary, controls))
        aborted |= judges.aborts()
    return aborted, judges
