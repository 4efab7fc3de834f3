"""Evidence in favour of a release: that it is *not* worse than a step's margin.

The null hypothesis is mirrored: the new release's rate is at least `rho` times the old one's plus a
margin. Each tick multiplies the trust by the likelihood ratio of "no worse than before" to the
nearest rates that are too bad (the reverse information projection: exact for Poisson counts, and
so conservative for shares), tempered by 1 / phi because requests are not independent. A burst of
failures in the control arm counts only up to what was to be expected: it must not vouch for
anybody. See Grünwald, de Heide & Koolen (2024) and Turner, Ly & Grünwald (2024) on such tests.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from volery.decide.judge.bets import Counts

EARLY = 0.7
LATE_SECONDS = 60.0
MOST = 1e15
LEAST_RATE = 1e-9
HOPED = 0.05
"""A good release may use this share of the margin: one failure must not end all trust."""


class Trust(NamedTuple):
    """What the bets on the release are worth, from the step's start and from later."""

    early: float = EARLY
    late: float = 0.0
    seconds: float = 0.0


def kept(seconds: float) -> float:
    """The share of the wealth that is not bet yet after so many seconds."""
    return (1 - EARLY) * LATE_SECONDS / (LATE_SECONDS + seconds)


def confidence(trust: Trust) -> float:
    """20 means odds of 20:1 that the release is not worse than the margin. Starts at 1."""
    return trust.early + trust.late + kept(trust.seconds)


def nearest(good: float, rate: float, counts: Counts, rho: float, margin: float) -> float:
    """The control's rate in the world just too bad that resembles most the one where the new
    release has the rate `good` and the control `rate`."""
    n, _, n_control, _ = counts
    a = n * rho * rho + n_control * rho
    b = n * rho * (margin - good) + n_control * (margin - rho * rate)
    c = -n_control * rate * margin
    root = math.sqrt(b * b - 4 * a * c)
    return (-b + root) / (2 * a) if b <= 0 else -2 * c / (b + root)


def gain(counts: Counts, rate: float, rho: float, margin: float) -> float:
    """The logarithm of the likelihood ratio of one tick, before tempering. `rate` is what was
    known of the old release before this tick; both arms must have exposure."""
    n, k, n_control, k_control = counts
    rate = max(rate, LEAST_RATE)
    good = rate + margin * HOPED
    control = max(nearest(good, rate, counts, rho, margin), LEAST_RATE / 2)
    bad = rho * control + margin
    return (
        k * math.log(good / bad)
        - n * (good - bad)
        + k_control * math.log(rate / control)
        - n_control * (rate - control)
    )


def vouch(
    trust: Trust, counts: Counts, rate: float, rho: float, margin: float, phi: float, dt: float
) -> Trust:
    """The trust after one tick of `dt` seconds; without exposure in both arms nothing moves."""
    n, k, n_control, k_control = counts
    if n <= 0 or n_control <= 0:
        return trust
    usual = n_control * rate
    at_most = usual + 2 * math.sqrt(phi * usual) + 1
    seen = Counts(n, k, n_control, at_most) if k_control > at_most else counts
    grown = math.exp(min(gain(seen, rate, rho, margin) / phi, 30.0))
    early, late, seconds = trust
    early, late = early * grown, (late + (kept(seconds) - kept(seconds + dt))) * grown
    if early > MOST or late > MOST:
        early, late = min(early, MOST), min(late, MOST)
    return Trust(early, late, seconds + dt)
