"""The judge for many rollouts at once, with numpy: the same formulas, proven equal in test_twin.

Arrays are [metric, run] (metric 0 is errors, then the latency levels), wealth [odds, metric, run].
Only what calibration and the benchmark need: bets, trust and the alarm on failures; no exits, no
saturation (their wealth stays at 1), no promises.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from volery.decide.judge import alarm, bets, history, trust
from volery.decide.judge.history import (
    DOUBT_PHI,
    DOUBT_WEIGHT,
    LARGEST_PHI,
    LEAST_PHI,
    LEAST_PHI_SLOW,
    LONG,
    MOST_EVENTS,
    MOST_USUAL,
    PRIOR_PHI,
    PRIOR_WEIGHT,
    RATE_SECONDS,
    SHORT,
    SPREAD_SECONDS,
)
from volery.decide.judge.look import FEWEST_REQUESTS, LONGEST_WAIT, RECENT
from volery.decide.judge.policy import Policy, coldness, error_margin, slow_margin
from volery.decide.judge.settled import REQUESTS
from volery.decide.judge.state import WEIGHTS

Array = NDArray[np.float64]
ODDS = np.array(bets.ODDS)[:, None, None]


@dataclass
class Tick:
    """Exposure and bad events of both arms, [metric, run]; `far` are the canary's events at twice
    the tolerated shift (for errors the same as `k`)."""

    n: Array
    k: Array
    far: Array
    n_control: Array
    k_control: Array


def factors(tick: Tick, rho: Array, delta: Array, phi: Array) -> Array:
    """`bets.factors` of all runs; 1 where an arm had nothing."""
    there = (tick.n > 0) & (tick.n_control > 0)
    n, m = np.where(there, tick.n, 1.0), np.where(there, tick.n_control, 1.0)
    total = tick.k + tick.k_control
    share, size = rho * n / (rho * n + m), n / (n + m)
    more = tick.k - share * total - (1 - share) * n * delta
    spread = np.maximum(share * (1 - share), size * (1 - size))
    spread = spread * np.maximum(total - n * delta, 0.0)
    variance = phi * (spread + (1 - share) ** 2 * n * delta)
    steepest = bets.STEEPEST / np.sqrt(np.maximum(variance, 1e-300))
    bet = np.minimum((ODDS - 1) / (phi * (1 + (ODDS - 1) * share)), steepest)
    x = bet * more
    half = x * x / 2
    grown = np.where(x >= 0, 1 + x + half, 1 / (1 - x + half))
    return np.asarray(np.where(there, grown / (1 + bet * bet * variance / 2), 1.0))


def log_trust(tick: Tick, rate: Array, rho: Array, margin: Array, phi: Array) -> Array:
    """By how much `trust.vouch` grows, as a logarithm; 0 where an arm had nothing."""
    there = (tick.n > 0) & (tick.n_control > 0)
    n, m = np.where(there, tick.n, 1.0), np.where(there, tick.n_control, 1.0)
    rate = np.maximum(rate, trust.LEAST_RATE)
    usual = m * rate
    seen = np.minimum(tick.k_control, usual + 2 * np.sqrt(phi * usual) + 1)
    good = rate + margin * trust.HOPED
    a = n * rho * rho + m * rho
    b = n * rho * (margin - good) + m * (margin - rho * rate)
    c = -m * rate * margin
    root = np.sqrt(b * b - 4 * a * c)
    control = np.where(b <= 0, (-b + root) / (2 * a), -2 * c / (b + root))
    control = np.maximum(control, trust.LEAST_RATE / 2)
    bad = rho * control + margin
    gain = tick.far * np.log(good / bad) - n * (good - bad)
    gain = gain + seen * np.log(rate / control) - m * (rate - control)
    return np.where(there, np.minimum(gain / phi, 30.0), 0.0)


class Spreads:
    """`history.Spread` of all runs, where each tick is a second; parts are [part, metric, run]."""

    def __init__(self, window: float, along: bool) -> None:
        self.window, self.along, self.elapsed = window, along, 0
        self.n = self.k = self.seen = self.due = np.zeros(())
        self.before: tuple[Array, Array] | None = None

    def add(self, n: Array, k: Array) -> None:
        """One second more."""
        if self.along:
            n, k = n.sum(0, keepdims=True), k.sum(0, keepdims=True)
        self.n, self.k, self.elapsed = self.n + n, self.k + k, self.elapsed + 1
        if self.elapsed < self.window:
            return
        n, k = self.n, self.k
        if self.along and self.before is not None:
            n, k = np.concatenate([self.before[0], n]), np.concatenate([self.before[1], k])
        if len(n) > 1:
            self._measure(n, k)
        self.before = (self.n, self.k)
        self.n, self.k, self.elapsed = np.zeros(()), np.zeros(()), 0

    def _measure(self, n: Array, k: Array) -> None:
        there = n.min(0) > 0
        keep = math.exp(-self.window / SPREAD_SECONDS)
        shares = n / np.maximum(n.sum(0), 1e-300)
        total = k.sum(0)
        seen = ((k - shares * total) ** 2).sum(0)
        due = total * (shares * (1 - shares)).sum(0)
        most = np.maximum(MOST_EVENTS, MOST_USUAL * self.due * (1 - keep))
        weight = (1 - total / np.maximum(n.sum(0), 1e-300)) * np.minimum(
            1.0, most / np.maximum(due, 1e-300)
        )
        seen = weight * np.minimum(seen, LARGEST_PHI * due)
        self.seen = np.where(there, self.seen * keep + seen, self.seen)
        self.due = np.where(there, self.due * keep + weight * due, self.due)

    def phi(self, prior: float, weight: float) -> Array:
        """The over-dispersion, [metric, run]."""
        due = self.due + weight
        caution = 1 + history.CAUTION / np.sqrt(due)
        return np.minimum((self.seen + prior * weight) / due * caution, LARGEST_PHI)


class Past:
    """`history.History` of all runs: errors by parts, latency levels of the whole."""

    def __init__(self, levels: Sequence[float], runs: int) -> None:
        self.levels = tuple(levels)
        size = (1 + len(self.levels), runs)
        self.n, self.k = np.zeros(size), np.zeros(size)
        self.errors = [Spreads(SHORT, False), Spreads(LONG, False)]
        self.slow = [Spreads(SHORT, True)]

    def add(self, n: Array, k: Array) -> None:
        """One second: arrays [part, metric, run]."""
        keep = math.exp(-1 / RATE_SECONDS)
        self.n, self.k = self.n * keep + n.sum(0), self.k * keep + k.sum(0)
        for spread in self.errors:
            spread.add(n[:, :1], k[:, :1])
        for spread in self.slow:
            spread.add(n[:, 1:], k[:, 1:])

    def phi(self, prior: float, weight: float) -> Array:
        """Over-dispersion by metric, with its floor."""
        errors = np.max([spread.phi(prior, weight) for spread in self.errors], axis=0)
        slow = np.max([spread.phi(prior, weight) for spread in self.slow], axis=0)
        return np.concatenate([np.maximum(errors, LEAST_PHI), np.maximum(slow, LEAST_PHI_SLOW)])


class Judges:
    """One judge for each run."""

    def __init__(self, policy: Policy, past: Past) -> None:
        counts = [len(bets.ODDS), *(bets.bets_count(1 - level) for level in past.levels)]
        index = np.arange(len(bets.ODDS))[:, None]
        self.share = np.where(index < np.array(counts), 1 / np.array(counts), 0.0)[:, :, None]
        self.policy = policy
        self.phi = past.phi(PRIOR_PHI, PRIOR_WEIGHT)
        self.doubt = np.maximum(self.phi, past.phi(DOUBT_PHI, DOUBT_WEIGHT))
        self.n, self.k = past.n.copy(), past.k.copy()
        metrics, runs = self.n.shape
        size = (len(bets.ODDS), metrics, runs)
        self.early = np.broadcast_to(bets.EARLY * self.share, size).copy()
        self.late = np.zeros(size)
        self.seconds = np.zeros((metrics, runs))
        self.failing, self.usual = np.zeros(runs), np.zeros(runs)
        self.limit = np.full(runs, alarm.NEVER)
        self.first, self.missing = np.zeros(runs), np.full(runs, alarm.UNLIKELY)
        self.waited = np.zeros(runs)
        nothing = np.zeros((metrics, runs))
        self.waiting = Tick(nothing, nothing, nothing, nothing, nothing)
        self.age = 0.0
        self.firm, self.firm_late = self.early[:, :1].copy(), self.late[:, :1].copy()
        self.asked = np.full(runs, policy.warm_up_seconds > 0)
        parts = np.array([WEIGHTS["errors"]] + [6 / (metrics - 1)] * (metrics - 1))
        self.weights = (parts / (sum(WEIGHTS.values()) + 6))[:, None]
        self.rho = np.array([policy.rho] + [1.0] * (metrics - 1))[:, None]
        self.step(1.0)

    def step(self, next_weight: float) -> None:
        """`state.step`."""
        metrics, runs = self.n.shape
        slow = [slow_margin(self.policy, next_weight)] * (metrics - 1)
        self.margin = np.array([error_margin(self.policy, next_weight), *slow])[:, None]
        rhos = [self.policy.promote_rho] + [self.policy.promote_rho_slow] * (metrics - 1)
        self.promote_rho = np.array(rhos)[:, None]
        self.trust = np.full((metrics, runs), trust.EARLY)
        self.trust_late = np.zeros((metrics, runs))
        self.trust_seconds = np.zeros((metrics, runs))
        self.quick = np.zeros((4, runs))
        self.asked = self.asked & (self.seconds[0] == 0)

    def look(self, tick: Tick) -> None:
        """`state.look` at one second."""
        left = coldness(self.policy, self.age)
        cold = np.where(self._settled(), 0.0, self.policy.cold_errors * left)
        slow = self.policy.slow_delta + self.policy.cold_slow * left
        delta = np.full(self.n.shape, slow)
        delta[0] = self.policy.delta + cold
        self._alarm(tick, cold)
        self.age += 1
        tick, dt = self._enough(tick)
        self._answer(dt)
        self.quick += np.array([tick.far[1], tick.n[1], tick.k_control[1], tick.n_control[1]])
        self._vouch(tick, dt)
        grown = factors(tick, self.rho, delta, self.phi)
        there = ((tick.n > 0) & (tick.n_control > 0)) * dt
        stake = self._kept(self.seconds) - self._kept(self.seconds + there)
        self._firmly(tick, stake[:1] * self.share[:, :1])
        self.early = np.minimum(self.early * grown, bets.MOST)
        self.late = np.minimum((self.late + stake * self.share) * grown, bets.MOST)
        self.seconds = self.seconds + there
        keep = np.exp(-dt / RATE_SECONDS)
        some = (tick.n > 0) | (tick.n_control > 0)
        self.n = np.where(some, self.n * keep + tick.n_control, self.n)
        self.k = np.where(some, self.k * keep + tick.k_control, self.k)

    def _settled(self) -> NDArray[np.bool_]:
        """`settled.is_settled`, where two buckets are twice the tolerated shift."""
        slow, n, k_control, n_control = self.quick
        usual = k_control / np.maximum(n_control, 1)
        there = (n >= REQUESTS) & (n_control > 0)
        return np.asarray(there & (slow + np.sqrt(slow) <= n * usual))

    def _answer(self, dt: Array) -> None:
        """`settled.answered`."""
        now = self.asked & (dt > 0) & (self.quick[1] >= REQUESTS)
        warm = now & self._settled()
        self.early[:, :1] = np.where(warm, self.firm, self.early[:, :1])
        self.late[:, :1] = np.where(warm, self.firm_late, self.late[:, :1])
        self.asked = self.asked & ~now

    def _firmly(self, tick: Tick, stake: Array) -> None:
        """`state.firm`, where the question is still open."""
        if not self.asked.any():
            return
        failed = Tick(tick.n[:1], tick.k[:1], tick.far[:1], tick.n_control[:1], tick.k_control[:1])
        grown = factors(failed, self.rho[:1], np.array([[self.policy.delta]]), self.phi[:1])
        self.firm = np.minimum(self.firm * grown, bets.MOST)
        self.firm_late = np.minimum((self.firm_late + stake) * grown, bets.MOST)

    def _enough(self, tick: Tick) -> tuple[Tick, Array]:
        """What there is to bet on now, and of how many seconds; the rest waits."""
        there = (tick.n[0] + tick.n_control[0]) > 0
        self.waited = self.waited + there
        names = ("n", "k", "far", "n_control", "k_control")
        sums = [getattr(self.waiting, name) + getattr(tick, name) for name in names]
        ready = (sums[0][0] >= FEWEST_REQUESTS) | (self.waited >= LONGEST_WAIT)
        ready = ready & there
        dt = np.where(ready, self.waited, 0.0)
        self.waiting = Tick(*(np.where(ready, 0.0, values) for values in sums))
        self.waited = np.where(ready, 0.0, self.waited)
        return Tick(*(np.where(ready, values, 0.0) for values in sums)), dt

    def evidence(self) -> Array:
        """`state.evidence`, by run."""
        wealth = self.early.sum(0) + self.late.sum(0) + self._kept(self.seconds)
        return np.asarray(1 + (self.weights * (wealth - 1)).sum(0))

    def confidence(self) -> Array:
        """The least confidence of all metrics, by run."""
        seconds = self.trust_seconds
        kept = (1 - trust.EARLY) * trust.LATE_SECONDS / (trust.LATE_SECONDS + seconds)
        return np.asarray((self.trust + self.trust_late + kept).min(0))

    def aborts(self) -> NDArray[np.bool_]:
        """Which runs the judge would take back now."""
        dead = (self.first >= alarm.FIRST_REQUESTS) & (self.missing <= 0)
        return (self.failing >= self.limit) | dead | (self.evidence() >= 1 / self.policy.alpha)

    @staticmethod
    def _kept(seconds: Array) -> Array:
        return (1 - bets.EARLY) * bets.LATE_SECONDS / (bets.LATE_SECONDS + seconds)

    def _rate(self) -> Array:
        return (self.k + 0.05) / (self.n + 50.0)

    def _vouch(self, tick: Tick, dt: Array) -> None:
        gain = log_trust(tick, self._rate(), self.promote_rho, self.margin, self.doubt)
        there = ((tick.n > 0) & (tick.n_control > 0)) * dt
        size = (1 - trust.EARLY) * trust.LATE_SECONDS
        after = self.trust_seconds + there
        stake = size / (trust.LATE_SECONDS + self.trust_seconds) - size / (
            trust.LATE_SECONDS + after
        )
        self.trust = np.minimum(self.trust * np.exp(gain), trust.MOST)
        self.trust_late = np.minimum((self.trust_late + stake) * np.exp(gain), trust.MOST)
        self.trust_seconds = after

    def _alarm(self, tick: Tick, cold: Array) -> None:
        k, n = tick.k_control[0], tick.n_control[0]
        now = np.where(n > 0, np.minimum(1.0, (k + 2 * np.sqrt(k)) / np.maximum(n, 1e-300)), 0.0)
        some = (n > 0) | (tick.n[0] > 0)
        self.usual = np.where(some, np.maximum(now, self.usual * RECENT), self.usual)
        policy = self.policy
        usual = policy.rho * np.maximum(self._rate()[0], self.usual) + policy.delta + cold
        usual = np.clip(usual, 1e-6, 1 - 1e-6)
        again = 1 - 2 / (np.maximum(self.phi[0], 1.0) + 1)
        most = (1 - alarm.NEAR * (1 - again)) / np.maximum(again, 1e-12)
        ratio = np.minimum(1 + (1 - usual) * alarm.HALF / usual, most)
        clumps = (1 - again) * ratio / (1 - again * ratio) - 1
        change = tick.k[0] * np.log(ratio) - tick.n[0] * usual * (1 - again) * clumps
        self.failing = np.clip(self.failing + change, 0.0, alarm.MOST)
        busy = np.clip(tick.n[0] * usual, alarm.RAREST, 1.0)
        self.limit = np.where(tick.n[0] > 0, np.log(alarm.LOOKS * busy), self.limit)
        alive = (self.first < 0) | (tick.k[0] < tick.n[0])
        another = np.log(again + (1 - again) * usual)
        told = tick.k[0] * another + np.where(self.first > 0, 0.0, np.log(usual) - another)
        counts = ~alive & (usual < alarm.MOSTLY) & (tick.k[0] > 0)
        self.missing = np.where(counts, self.missing + told, self.missing)
        self.first = np.where(counts, self.first + tick.k[0], np.where(alive, -1.0, self.first))
