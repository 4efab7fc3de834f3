"""What the judge will need: how long a step takes at today's traffic, how soon harm is seen.

Expected growth of evidence in the long run, from the same formulas that gather it. Real rollouts
vary around these numbers; see the benchmark. Nothing here decides.
"""

from __future__ import annotations

import math

from volery.decide.judge import alarm
from volery.decide.judge.bets import EARLY, ODDS, Counts, factors
from volery.decide.judge.history import History, requests_per_second
from volery.decide.judge.policy import Policy, error_margin, slow_margin
from volery.decide.judge.state import OF_INSTANCES, State, begin, weight
from volery.decide.judge.trust import EARLY as TRUST_EARLY
from volery.decide.judge.trust import gain

COUNTS_MAX = 60


def enough(
    policy: Policy, history: History, rate: float | None, share: float, next_weight: float
) -> float | None:
    """Seconds until a good release is promoted from `share` of `rate` requests a second (None:
    today's traffic, as remembered). None if that cannot be told: no traffic."""
    rate = requests_per_second(history) if rate is None else rate
    if not rate or not 0 < share < 1:
        return None
    state = begin(policy, history, next_weight)
    n, n_control = _arms(policy, rate, share)
    slowest = max(
        _seconds(policy, state, name, Counts(n, 0, n_control, 0)) for name in _gating(state)
    )
    return max(policy.min_dwell_seconds, slowest) if math.isfinite(slowest) else None


def _arms(policy: Policy, rate: float, share: float) -> tuple[float, float]:
    canary = rate * share
    return canary, canary if policy.same_age else rate - canary


def _gating(state: State) -> list[str]:
    return [name for name in state.counters if name not in OF_INSTANCES]


def _seconds(policy: Policy, state: State, name: str, per_second: Counts) -> float:
    counter = state.counters[name]
    bad = counter.rate.per()
    slow = name != "errors"
    rho = policy.promote_rho_slow if slow else policy.promote_rho
    margin = (slow_margin if slow else error_margin)(policy, state.next_weight)
    due = Counts(per_second.n, per_second.n * bad, per_second.n_control, per_second.n_control * bad)
    growth = gain(due, bad, rho, margin) / counter.doubt
    needed = math.log(1 / (policy.beta * TRUST_EARLY))
    return needed / growth if growth > 0 else math.inf


def detects(
    policy: Policy, history: History, rate: float | None, share: float, excess: float
) -> float | None:
    """Seconds until the judge takes back a release that fails `excess` (a share) more requests than
    the old one, at `share` of `rate` requests a second. None if it would not, or cannot be told."""
    rate = requests_per_second(history) if rate is None else rate
    if not rate or not 0 < share < 1 or excess <= 0:
        return None
    state = begin(policy, history)
    errors = state.counters["errors"]
    n, n_control = _arms(policy, rate, share)
    usual = errors.rate.per()
    bad = min(1.0, usual + excess)
    needed = math.log(len(ODDS) / (policy.alpha * EARLY * weight(state, "errors")))
    growth = _bets_growth(policy, errors.phi, n, bad, Counts(n, 0, n_control, n_control * usual))
    found = [needed / growth] if growth > 0 else []
    rising = _alarm_growth(policy, errors.phi, usual, bad) * n
    if rising > 0:
        surprise = policy.rho * usual + policy.delta
        found.append(alarm.limit(n, surprise) / rising)
    return 1.0 + min(found) if found else None


def _bets_growth(policy: Policy, phi: float, n: float, bad: float, arms: Counts) -> float:
    """How fast the best of the bets grows, in natural logarithms a second."""
    mean = n * bad
    sums = [0.0] * len(ODDS)
    spread = 6 * math.sqrt(mean) + 6
    low, high = max(0, int(mean - spread)), int(mean + spread)
    steps = max(1, (high - low) // COUNTS_MAX)
    mass = 0.0
    for k in range(low, high + 1, steps):
        chance = math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) * steps
        mass += chance
        seen = Counts(n, k, arms.n_control, arms.k_control)
        for i, factor in enumerate(factors(seen, policy.rho, policy.delta, phi)):
            sums[i] += chance * math.log(factor)
    return max(sums) / mass


def _alarm_growth(policy: Policy, phi: float, usual: float, bad: float) -> float:
    up, down = alarm.stakes(policy.rho * usual + policy.delta, phi)
    return bad * up - down
