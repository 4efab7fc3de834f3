"""How much worse a service's releases are at their start, learned from the last one's own start.

A release without a group of its age beside it is allowed to be cold: a bit worse at first. How much
worse is no secret where the release before it was watched when it was young: its *youth* (its first
requests) compared with itself once it was *grown*, or, if it came as a canary, with the release
beside it. The next one may be as cold as that, twice, and never more than the policy's allowance;
where nothing was seen, all of that is allowed. What is counted is few, so each bound leaves room
for chance. Nothing is learned from a release that was taken back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from volery.decide.judge.policy import Policy
from volery.decide.judge.tails import above, edges
from volery.model.evidence import BUCKETS_PER_OCTAVE, Arm, Latency

FACTOR = 2.0
"""The next release may be so many times as cold as the last one was."""
WAIT_SECONDS = 30.0
"""Instances that got no request for so long may have warmed up by themselves."""
YOUNG_REQUESTS, TOO_MANY = 100, 300
"""The youth ends after so many requests of each instance; a tick with more shows no beginning."""
YOUNG_SECONDS, FEWEST_REQUESTS = 10.0, 40
"""A youth takes no longer than this, and says nothing with fewer requests, by one release."""
GROWN_AFTER, GROWN_UNTIL = 30.0, 50.0
"""Seconds after its first request between which a release shows how it is when it is warm."""
LEVELS = (0.5, 0.75, 0.9, 0.95)
SHIFTS = 40
"""Slower by five octaves is as good as unknown."""


class Start(NamedTuple):
    """How much worse a release was at its start, at most: the share of requests it failed more, and
    the octaves it was slower. The default is that nothing is known."""

    errors: float = 1.0
    octaves: float = 9.0


UNKNOWN = Start()


class Seen(NamedTuple):
    """Requests, how many failed, and how long they took."""

    n: float = 0.0
    k: float = 0.0
    latency: Latency = {}


@dataclass(frozen=True)
class Youth:
    """A release that is watched from its beginning: `age` is seconds since its first request,
    `waited` those before."""

    waited: float = 0.0
    age: float = 0.0
    young: Seen = field(default_factory=Seen)
    grown: Seen = field(default_factory=Seen)


def expected(policy: Policy, start: Start) -> Policy:
    """The policy for the release after one that started like this."""
    return replace(
        policy,
        cold_errors=min(policy.cold_errors, FACTOR * start.errors),
        cold_octaves=min(policy.cold_octaves, FACTOR * start.octaves),
    )


def older(youth: Youth, parts: Sequence[Arm], seconds: float) -> tuple[Youth | None, Start]:
    """The youth after one more tick of the release's parts, None once it is over, and what it
    taught."""
    n = sum(part.requests for part in parts)
    if not youth.age and not n:
        waited = youth.waited + seconds
        return (replace(youth, waited=waited) if waited < WAIT_SECONDS else None), UNKNOWN
    age = youth.age + seconds
    if _is_young(youth, len(parts)):
        young = _more(youth.young, parts)
        if n > TOO_MANY * len(parts):
            return None, UNKNOWN
        return replace(youth, age=age, young=young), UNKNOWN
    if youth.age < GROWN_AFTER:
        return replace(youth, age=age), UNKNOWN
    grown = _more(youth.grown, parts)
    if age < GROWN_UNTIL:
        return replace(youth, age=age, grown=grown), UNKNOWN
    return None, measured(youth.young, grown)


def _is_young(youth: Youth, parts: int) -> bool:
    return youth.age < YOUNG_SECONDS and youth.young.n < YOUNG_REQUESTS * parts


def _more(seen: Seen, parts: Sequence[Arm]) -> Seen:
    latency = dict(seen.latency)
    for part in parts:
        for bucket, number in part.latency.items():
            latency[bucket] = latency.get(bucket, 0) + number
    n, k = sum(part.requests for part in parts), sum(part.failures for part in parts)
    return Seen(seen.n + n, seen.k + k, latency)


def measured(young: Seen, grown: Seen) -> Start:
    """How much worse a release was when it was young than what is grown, at most.

    Where the grown one did worse, something else changed in between, and nothing was learned.
    """
    n, n_grown = sum(young.latency.values()), sum(grown.latency.values())
    if min(young.n, grown.n, n, n_grown) < FEWEST_REQUESTS:
        return UNKNOWN
    failed = (young.k + 2 * math.sqrt(young.k) + 1) / young.n - grown.k / grown.n
    shift = _shift(young.latency, grown.latency, n / n_grown)
    return UNKNOWN if failed < 0 or shift is None else Start(failed, shift / BUCKETS_PER_OCTAVE)


def _shift(young: Latency, grown: Latency, part: float) -> int | None:
    """The least number of buckets by which the grown one would have to be slower not to be quicker
    at any level, with a standard deviation to spare; None if there is none, or it is slower."""
    at = list(edges(grown, LEVELS).values())
    usual = [part * slow for slow in above(grown, at)]
    for shift in range(-1, SHIFTS):
        if _is_no_slower(above(young, [edge + shift for edge in at]), usual):
            return shift if shift >= 0 else None
    return None


def _is_no_slower(slow: Sequence[float], usual: Sequence[float]) -> bool:
    return all(k + math.sqrt(k) <= due for k, due in zip(slow, usual, strict=True))
