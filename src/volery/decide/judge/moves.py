"""How one tick moves a counter of requests: bets, trust, the old release's rate, and totals.

Counters that have the same exposure, as all levels of latency do, share what follows from it; this
is what the judge spends its time on.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from volery.decide.judge.bets import Counts, Terms, grown, terms
from volery.decide.judge.history import RATE_SECONDS, Rate
from volery.decide.judge.state import Counter
from volery.decide.judge.trust import vouch


class Exposure(NamedTuple):
    """Requests of both arms in a tick of `dt` seconds; what the bets make of them (None where an
    arm has none), what a step must rule out (`rho` and the margin), and how much of the old rate
    is kept."""

    n: float
    n_control: float
    dt: float
    of: Terms | None
    margin: tuple[float, float]
    keep: float


def exposure(
    n: float,
    n_control: float,
    tolerated: tuple[float, float],
    margin: tuple[float, float],
    dt: float,
) -> Exposure:
    """`tolerated` and `margin` are a factor and a share of requests each."""
    of = terms(n, n_control, *tolerated) if n > 0 and n_control > 0 else None
    return Exposure(n, n_control, dt, of, margin, math.exp(-dt / RATE_SECONDS))


def moved(counter: Counter, at: Exposure, k: float, far_worse: float, k_control: float) -> Counter:
    """The counter after a tick with so many bad events; `far_worse` are those of the new release
    that trust is lost by."""
    n, n_control, dt, of, margin, keep = at
    if n <= 0 and n_control <= 0:
        return counter
    phi, doubt, rate, bets, trust, n_before, k_before, m_before, j_before, *_ = counter
    if of is not None:
        bets = grown(bets, of, k, k_control, phi, dt)
        seen = Counts(n, far_worse, n_control, k_control)
        trust = vouch(trust, seen, rate.per(), *margin, doubt, dt)
    return Counter(
        phi,
        doubt,
        Rate(rate.n * keep + n_control, rate.k * keep + k_control),
        bets,
        trust,
        n_before + n,
        k_before + k,
        m_before + n_control,
        j_before + k_control,
    )
