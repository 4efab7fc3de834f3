"""Evidence against a release, as the wealth of a bettor who bets against it.

The null hypothesis is that the new release is no worse than tolerated: its rate of bad events is at
most `rho` times the old one's plus `delta`. Each tick multiplies the wealth by a factor whose
expectation is at most 1 under every such rate, so by Ville's inequality the wealth reaches
1 / alpha with a chance of at most alpha, however often one looks. The factor needs a mean and a
bound on the variance only (Catoni 2012; Wang & Ramdas 2023), so one stall of a thousand requests
moves it by a few units: requests are not independent, and `phi` says how far from it they are
(over-dispersion: variance over what independent events would have).

Several sizes of harm are bet on at once (`ODDS`), most of the wealth at the start and the rest bit
by bit (`late`), so that a release that turns bad late is caught as well.
"""

from __future__ import annotations

import math
from functools import lru_cache
from operator import mul
from typing import NamedTuple

ODDS = (1.2, 1.7, 3.0, 8.0, 40.0)
"""How many times worse the bets assume the release to be."""
_FIRST = tuple(tuple(odds - 1 for odds in ODDS[:count]) for count in range(len(ODDS) + 1))
EARLY = 0.7
"""Share of the wealth that is bet from the start."""
LATE_SECONDS = 300.0
"""By then half of the rest is bet."""
STEEPEST = 3.0
"""No bet is so steep that a standard deviation moves it by more than this."""
MOST = 1e15
"""Wealth is cut here: more says nothing, and products stay finite."""

PRESENT_MOST = 200.0
"""What a bet on the present may be worth: it has to be over soon after what it is about."""


class Bets(NamedTuple):
    """What each bet is worth now, and for how many seconds there was something to bet on. May be
    fewer than `ODDS`: what half of the requests do anyway cannot become 25 times as often."""

    early: tuple[float, ...] = (EARLY / len(ODDS),) * len(ODDS)
    late: tuple[float, ...] = (0.0,) * len(ODDS)
    seconds: float = 0.0


def bets_for(share: float) -> Bets:
    """New bets on events that are usually this share of all."""
    count = bets_count(share)
    return Bets((EARLY / count,) * count, (0.0,) * count)


@lru_cache(maxsize=256)
def bets_count(share: float) -> int:
    """How many of `ODDS` make sense for events that are usually this share of all."""
    return max(3, sum(odds * share <= 2 for odds in ODDS))


class Counts(NamedTuple):
    """Exposure (requests or instance-seconds) and bad events of both arms."""

    n: float
    k: float
    n_control: float
    k_control: float


def kept(seconds: float) -> float:
    """The share of the wealth that is not bet yet after so many seconds."""
    return (1 - EARLY) * LATE_SECONDS / (LATE_SECONDS + seconds)


def wealth(bets: Bets) -> float:
    """The evidence: 100 means odds of 100:1 against the release. Starts at 1."""
    return sum(bets.early) + sum(bets.late) + kept(bets.seconds)


class Terms(NamedTuple):
    """What of a tick does not depend on its bad events, so that counters with the same exposure
    share it: the share of bad events that the new release would have at `rho` times the old one's
    rate, what the variance grows by with each, how many are tolerated in addition, and what these
    take from the surprise and add to the variance."""

    share: float
    each: float
    tolerated: float
    less: float
    least: float


def terms(n: float, n_control: float, rho: float, delta: float) -> Terms:
    """Both arms must have exposure."""
    share = rho * n / (rho * n + n_control)
    size = n / (n + n_control)
    rest, tolerated = 1 - share, n * delta
    each = max(share * rest, size * (1 - size))
    return Terms(share, each, tolerated, rest * tolerated, rest**2 * tolerated)


def surprise(counts: Counts, rho: float, delta: float, phi: float) -> tuple[float, float, float]:
    """How many bad events more than tolerated, a bound on the variance of that, and the share of
    bad events that the new release would have at `rho` times the old one's rate."""
    of = terms(counts.n, counts.n_control, rho, delta)
    return (*_surprise(of, counts.k, counts.k_control, phi), of.share)


def _surprise(of: Terms, k: float, k_control: float, phi: float) -> tuple[float, float]:
    share, each, tolerated, less, least = of
    total = k + k_control
    spread = each * (total - tolerated) if total > tolerated else 0.0
    return k - share * total - less, phi * (spread + least)


def factors(
    counts: Counts, rho: float, delta: float, phi: float, count: int = len(ODDS)
) -> list[float]:
    """By what each of the bets grows in a tick. Each has an expectation of at most 1 if the new
    release is no worse than tolerated. Both arms must have exposure."""
    of = terms(counts.n, counts.n_control, rho, delta)
    return _factors(of, counts.k, counts.k_control, phi, count)


def _factors(of: Terms, k: float, k_control: float, phi: float, count: int) -> list[float]:
    more, variance = _surprise(of, k, k_control, phi)
    steepest = STEEPEST / math.sqrt(variance) if variance > 0 else math.inf
    half, worse, share = variance / 2, more >= 0, of.share
    result = []
    for excess in _FIRST[count]:
        bet = excess / (phi * (1 + excess * share))
        bet = bet if bet < steepest else steepest
        x = bet * more
        grown = 1 + x + x * x / 2 if worse else 1 / (1 - x + x * x / 2)
        result.append(grown / (1 + bet * bet * half))
    return result


def place(bets: Bets, counts: Counts, rho: float, delta: float, phi: float, dt: float) -> Bets:
    """The bets after one tick of `dt` seconds; without exposure in both arms nothing moves."""
    if counts.n <= 0 or counts.n_control <= 0:
        return bets
    of = terms(counts.n, counts.n_control, rho, delta)
    return grown(bets, of, counts.k, counts.k_control, phi, dt)


def grown(bets: Bets, of: Terms, k: float, k_control: float, phi: float, dt: float) -> Bets:
    """The bets after one tick of `dt` seconds, given the terms of its exposure."""
    early, late, seconds = bets
    count = len(early)
    by = _factors(of, k, k_control, phi, count)
    stake = (kept(seconds) - kept(seconds + dt)) / count
    early = tuple(map(mul, early, by))
    late = tuple(map(mul, [wealth + stake for wealth in late], by))
    if max(early) > MOST or max(late) > MOST:
        early, late = (tuple([min(wealth, MOST) for wealth in part]) for part in (early, late))
    return Bets(early, late, seconds + dt)


def anew(
    present: tuple[float, ...], counts: Counts, rho: float, delta: float, phi: float
) -> tuple[float, ...]:
    """Bets on the present after one tick: each begins anew when it has lost (an e-detector, see
    Shin, Ramdas & Rinaldo 2023), so that they tell of now and not of all that ever was."""
    if counts.n <= 0 or counts.n_control <= 0:
        return present
    by = factors(counts, rho, delta, phi)
    before = present or (1.0,) * len(by)
    grown = zip(before, by, strict=True)
    return tuple([min(PRESENT_MOST, max(1.0, worth) * factor) for worth, factor in grown])


def at_present(present: tuple[float, ...]) -> float:
    """The evidence that something is so now. Starts at 1."""
    return sum(present) / len(present) if present else 1.0
