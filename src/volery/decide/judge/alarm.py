"""What is so plainly wrong that no comparison is needed: everything failing, instances crashing.

Each alarm is a cumulative sum of log-likelihood ratios (Page 1954) that never goes below zero. By
Lorden's bound it wrongly exceeds `h` at most once in `exp(h)` looks with something bad in them. So
`limit` follows how often such looks are: one false alarm in a hundred hours of looking every
second, if the release fails no more than the old one does or just did. Failures come in clumps:
their sizes are taken to be geometric with the over-dispersion `phi`, so that each failure may count
only as much as the tail of such clumps allows.
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
CRASHING = 10.0
CRASH_SECONDS = 30.0
"""The crashing release this looks for: an exit of an instance every so often."""
CALM_SECONDS = 3600.0
"""An exit of an instance every so often is nobody's fault."""
MOST = 1000.0


def stakes(usual: float, phi: float) -> tuple[float, float]:
    """By how much a failure raises the alarm and every request lowers it.

    Clumps of failures begin at a rate of `usual / size` a request, of geometric size with the mean
    `size = (phi + 1) / 2`. The two cancel in expectation: E exp(raise * failures) = exp(lower).
    """
    usual = min(max(usual, 1e-6), 1 - 1e-6)
    again = 1 - 2 / (max(phi, 1.0) + 1)
    ratio = 1 + (1 - usual) * HALF / usual
    if again > 0:
        ratio = min(ratio, (1 - NEAR * (1 - again)) / again)
    clumps = (1 - again) * ratio / (1 - again * ratio) - 1
    return math.log(ratio), usual * (1 - again) * clumps


def limit(requests: float, usual: float) -> float:
    """The level at which so many requests a look are failing without doubt."""
    return math.log(LOOKS * min(max(requests * usual, RAREST), 1.0))


def failing(level: float, requests: float, failures: float, usual: float, phi: float) -> float:
    """The alarm after one more tick; `usual` is the share of failures that would be no surprise."""
    up, down = stakes(usual, phi)
    return min(max(0.0, level + failures * up - requests * down), MOST)


def crashing(level: float, instance_seconds: float, exits: float, usual: float) -> float:
    """The alarm after one more tick; `usual` is the rate of exits that would be no surprise."""
    usual = max(usual, 1 / CALM_SECONDS)
    expected = max(1 / CRASH_SECONDS, 10 * usual)
    change = exits * math.log(expected / usual) - instance_seconds * (expected - usual)
    return min(max(0.0, level + change), MOST)
