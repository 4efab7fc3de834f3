"""What is so plainly wrong that no comparison is needed: everything failing, instances crashing.

A release is *stillborn* if it got enough requests and never answered one. The other alarms see what
becomes of one that did. Each is a cumulative sum of log-likelihood ratios (Page 1954) that never
goes below zero. By Lorden's bound it wrongly exceeds `h` at most once in `exp(h)` looks with
something bad in them. So `limit` follows how often such looks are: one false alarm in a hundred
hours of looking every second, if the release fails no more than the old one does or just did.
Failures come in clumps: their sizes are taken to be geometric with the over-dispersion `phi`, so
that each failure may count only as much as the tail of such clumps allows.
"""

from __future__ import annotations

import math

LOOKS = 3600 * 100
"""One false alarm in so many looks."""
NEVER = 1e9
RAREST = 0.01
"""Looks with something bad in them are taken to be no rarer than this."""
HALF = 0.5
"""The failing release this looks for fails half of the requests that would not fail anyway."""
NEAR = 0.1
"""How near to the point where a clump's size could explain anything a failure may count."""
UNLIKELY = math.log(1e4)
"""A release that is no worse than usual fails all of its first requests once in so many times (the
logarithm)."""
MOSTLY = 0.5
"""Where this share of failures would be no surprise, a release that never answered tells nothing by
one more."""
FIRST_REQUESTS = 8
"""Fewer say nothing, whatever their odds: the first ones of an instance may be its warming up."""
CRASHING = 10.0
CRASH_SECONDS = 30.0
"""The crashing release this looks for: an exit of an instance every so often."""
SHARED_SECONDS = 30.0
"""For so long after an instance of the old release ended no end of a new one is a surprise: what
both need may be away."""
CALM_SECONDS = 3600.0
"""An exit of an instance every so often is nobody's fault."""
MOST = 1000.0


def stakes(usual: float, phi: float) -> tuple[float, float]:
    """By how much a failure raises the alarm and every request lowers it.

    Clumps of failures begin at a rate of `usual / size` a request, of geometric size with the mean
    `size = (phi + 1) / 2`. The two cancel in expectation: E exp(raise * failures) = exp(lower).
    """
    usual, again = _usual(usual), again_after(phi)
    ratio = 1 + (1 - usual) * HALF / usual
    if again > 0:
        ratio = min(ratio, (1 - NEAR * (1 - again)) / again)
    clumps = (1 - again) * ratio / (1 - again * ratio) - 1
    return math.log(ratio), usual * (1 - again) * clumps


def again_after(phi: float) -> float:
    """The chance that a clump of failures goes on after each of them."""
    return 1 - 2 / (max(phi, 1.0) + 1)


def _usual(share: float) -> float:
    return min(max(share, 1e-6), 1 - 1e-6)


def stillborn(
    first: float, missing: float, failures: float, usual: float, phi: float
) -> tuple[float, float]:
    """How many requests of a release that never answered one have failed, and how unlikely that
    must still become (a logarithm) until it is dead, after so many more.

    Each tells what it told when it happened: a release that begins in an outage of both failed its
    first requests for a reason, also once that is over.
    """
    usual = _usual(usual)
    if usual >= MOSTLY or failures <= 0:
        return first, missing
    again = again_after(phi)
    another = math.log(again + (1 - again) * usual)
    more = failures if first > 0 else failures - 1
    alone = 0.0 if first > 0 else math.log(usual)
    return first + failures, missing + alone + more * another


def is_dead(first: float, missing: float) -> bool:
    """Whether a release is stillborn. Unlike the sums below this is asked only once of each
    release, so little is enough."""
    return first >= FIRST_REQUESTS and missing <= 0


def limit(requests: float, usual: float) -> float:
    """The level at which so many requests a look are failing without doubt."""
    return math.log(LOOKS * min(max(requests * usual, RAREST), 1.0))


def failing(level: float, requests: float, failures: float, usual: float, phi: float) -> float:
    """The alarm after one more tick; `usual` is the share of failures that would be no surprise."""
    up, down = stakes(usual, phi)
    return min(max(0.0, level + failures * up - requests * down), MOST)


def crashing(level: float, instance_seconds: float, exits: float, usual: float) -> float:
    """The alarm after one more tick. `exits` are those of instances that end again and again: each
    one once is what a restart of their database does to all; `usual` is the old release's rate."""
    usual = max(usual, 1 / CALM_SECONDS)
    expected = max(1 / CRASH_SECONDS, 10 * usual)
    change = exits * math.log(expected / usual) - instance_seconds * (expected - usual)
    return min(max(0.0, level + change), MOST)
