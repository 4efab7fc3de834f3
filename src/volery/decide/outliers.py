"""Whether an instance serves its users worse than its siblings do: failures and slow answers.

Each instance is compared with all others of its group together, by the same bets that judge a
release (`decide.judge.bets`), so that no threshold on errors or latency exists: what all of them do
is nobody's fault, and what one of them does is evidence. The watch never ends, so each bet is an
e-detector: it begins anew whenever it has lost (Shin, Ramdas & Rinaldo 2023). Then a group of
equals is wrongly suspected no more than once in `ENOUGH` looks on average, however long it is
watched. Requests are bet on at most every `BATCH_SECONDS`: a short stall is one event, not many.

Terms: an instance's *edge* is the latency bucket that only a share of its siblings' requests
reached so far; a request counts as slow some buckets beyond it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import NamedTuple

from volery.decide.judge.bets import Counts, bets_count, factors
from volery.decide.judge.tails import above, edges
from volery.model.deploy import Deploy
from volery.model.evidence import BUCKETS_PER_OCTAVE, Arm, floor_ms
from volery.model.healing import Ailment

ENOUGH = 1e6
"""Evidence at which an instance is an outlier."""
PHI = 2.0
"""Failures are taken to come in clumps: their variance is so many times that of lone ones."""
RHO, RHO_SLOW, DELTA = 1.5, 1.1, 0.001
"""Tolerated: this many times its siblings' rate of failures, or of slow requests, plus this share
of requests."""
SHIFT = 5
"""Tolerated: so many buckets slower (5 is half as slow again) ..."""
SLACK_MS = 5.0
"""... or by so much, whichever is more."""
LEVELS = (0.5, 0.9, 0.99)
BATCH_SECONDS, FEWEST_REQUESTS, LONGEST_WAIT = 1.0, 5, 10.0
MEMORY_SECONDS = 300.0
"""Latencies are remembered with this time constant."""
MOST = 1e12
WARM_UPS = 3.0
"""For so many times `deploy.warm_up`, in which what is cold halves, an instance may be slow."""


class Score(NamedTuple):
    """What each bet against one instance is worth, of failures and of each level of latency."""

    errors: tuple[float, ...] = ()
    slow: Mapping[float, tuple[float, ...]] = {}


@dataclass(frozen=True)
class Watched:
    """What is known of the instances of one group; `waiting` is not bet on yet."""

    scores: Mapping[str, Score] = field(default_factory=dict)
    latency: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    waiting: Mapping[str, Arm] = field(default_factory=dict)
    waited: float = 0.0
    seen: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Requests and failures so far, for what is said."""


def warm_after(deploy: Deploy) -> float:
    """Seconds for which a fresh instance may be slower than its siblings."""
    return WARM_UPS * deploy.warm_up


def look(watched: Watched, arms: Mapping[str, Arm], seconds: float) -> Watched:
    """After one tick. `arms` has every instance that is in rotation, by id; others are forgotten.

    Without requests to at least two instances nothing moves.
    """
    waiting = {key: _together(watched.waiting.get(key, Arm()), arm) for key, arm in arms.items()}
    waited = watched.waited + seconds
    total = sum(arm.requests for arm in waiting.values())
    if waited < BATCH_SECONDS or (total < FEWEST_REQUESTS and waited < LONGEST_WAIT):
        return replace(watched, waiting=waiting, waited=waited)
    scores = {key: _score(watched, waiting, key) for key in waiting}
    keep = math.exp(-waited / MEMORY_SECONDS)
    return Watched(
        scores=scores,
        latency={key: _faded(watched.latency.get(key, {}), keep, waiting[key]) for key in waiting},
        seen={key: _counted(watched.seen.get(key, (0, 0)), waiting[key]) for key in waiting},
    )


def outliers(watched: Watched) -> dict[str, Ailment]:
    """Those of which the evidence suffices: of each group only the worst one."""
    found = {}
    for key, score in watched.scores.items():
        errors, slow = _mean(score.errors), _mean_of_levels(score)
        if max(errors, slow) >= ENOUGH:
            found[key] = (max(errors, slow), errors >= slow)
    if not found:
        return {}
    worst = max(found, key=lambda key: (found[key][0], key))
    return {worst: _ailment(watched, worst, *found[worst])}


def _together(one: Arm, other: Arm) -> Arm:
    latency = dict(one.latency)
    for bucket, count in other.latency.items():
        latency[bucket] = latency.get(bucket, 0) + count
    return Arm(one.requests + other.requests, one.failures + other.failures, latency)


def _score(watched: Watched, arms: Mapping[str, Arm], key: str) -> Score:
    before = watched.scores.get(key, Score())
    mine = arms[key]
    siblings = [arm for other, arm in arms.items() if other != key]
    failed = Counts(
        mine.requests,
        min(mine.failures, mine.requests),
        sum(arm.requests for arm in siblings),
        sum(min(arm.failures, arm.requests) for arm in siblings),
    )
    return Score(_bet(before.errors, failed, RHO, 0.0), _slow(watched, before, arms, key))


def _slow(
    watched: Watched, before: Score, arms: Mapping[str, Arm], key: str
) -> dict[float, tuple[float, ...]]:
    pooled = _pooled([watched.latency[o] for o in watched.latency if o != key and o in arms])
    found = dict(before.slow)
    at = edges(pooled, LEVELS)
    for level, counts in zip(at, _slow_counts(arms, key, tuple(at.values())), strict=True):
        found[level] = _bet(before.slow.get(level, ()), counts, RHO_SLOW, 1 - level)
    return found


def _pooled(latencies: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """All of them together."""
    first, *others = latencies or [{}]
    pooled = dict(first)
    for latency in others:
        for bucket, count in latency.items():
            pooled[bucket] = pooled.get(bucket, 0.0) + count
    return pooled


def _slow_counts(arms: Mapping[str, Arm], key: str, at: tuple[int, ...]) -> list[Counts]:
    """Requests and slow ones for each of these edges, which ascend."""
    if not at:
        return []
    n, mine = sum(arms[key].latency.values()), above(arms[key].latency, _shifted(at))
    siblings = [arm.latency for other, arm in arms.items() if other != key]
    n_control = sum(sum(latency.values()) for latency in siblings)
    slow = zip(*(above(latency, at) for latency in siblings), strict=True)
    return [Counts(n, k, n_control, sum(theirs)) for k, theirs in zip(mine, slow, strict=True)]


@lru_cache(maxsize=1024)
def _shifted(at: tuple[int, ...]) -> tuple[int, ...]:
    """The edges from which on a request is slow against these of its siblings."""
    return tuple(edge + _shift(edge) for edge in at)


def _shift(edge: int) -> int:
    slack = math.log2(1 + SLACK_MS / floor_ms(edge)) * BUCKETS_PER_OCTAVE
    return max(SHIFT, math.ceil(slack))


def _bet(before: tuple[float, ...], counts: Counts, rho: float, share: float) -> tuple[float, ...]:
    if counts.n <= 0 or counts.n_control <= 0:
        return before
    grown = factors(counts, rho, DELTA, PHI, bets_count(share))
    old = before or (1.0,) * len(grown)
    return tuple(
        min(MOST, max(1.0, worth) * factor) for worth, factor in zip(old, grown, strict=True)
    )


def _mean(worth: tuple[float, ...]) -> float:
    return sum(worth) / len(worth) if worth else 0.0


def _mean_of_levels(score: Score) -> float:
    return sum(map(_mean, score.slow.values())) / len(LEVELS)


def _faded(before: Mapping[int, float], keep: float, arm: Arm) -> dict[int, float]:
    found = {bucket: count * keep for bucket, count in before.items() if count * keep > 0.01}
    for bucket, count in arm.latency.items():
        found[bucket] = found.get(bucket, 0.0) + count
    return found


def _counted(before: tuple[int, int], arm: Arm) -> tuple[int, int]:
    return before[0] + arm.requests, before[1] + arm.failures


def _ailment(watched: Watched, key: str, odds: float, by_errors: bool) -> Ailment:
    others = [other for other in watched.scores if other != key]
    evidence = {"odds": float(f"{odds:.3g}")}
    if by_errors:
        mine = watched.seen[key]
        rest = [sum(watched.seen[other][index] for other in others) for index in (0, 1)]
        evidence |= {"requests": mine[0], "failures": mine[1]}
        evidence |= {"requests_of_siblings": rest[0], "failures_of_siblings": rest[1]}
        text = (
            f"{mine[1]} of {mine[0]} requests failed, of its siblings {rest[1]} of {rest[0]}"
            f" (odds {odds:.0g}:1)"
        )
        return Ailment(key, "errors", text, evidence)
    mine_ms = _median(watched.latency.get(key, {}))
    rest_ms = _median(_pooled([watched.latency.get(other, {}) for other in others]))
    evidence |= {"median_ms": mine_ms, "median_ms_of_siblings": rest_ms}
    text = f"its median is {mine_ms:.3g} ms, of its siblings {rest_ms:.3g} ms (odds {odds:.0g}:1)"
    return Ailment(key, "slow", text, evidence)


def _median(latency: Mapping[int, float]) -> float:
    half, so_far = sum(latency.values()) / 2, 0.0
    for bucket in sorted(latency):
        so_far += latency[bucket]
        if so_far >= half:
            return round(floor_ms(bucket), 3)
    return 0.0
