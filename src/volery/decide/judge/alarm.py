"""What is so plainly wrong that no comparison is needed: everything failing, instances crashing.

Each alarm is a cumulative sum of log-likelihood ratios (Page 1954) that never goes below zero. By
Lorden's bound it is above `h` wrongly at most once in `exp(h)` looks with something bad in them;
`FAILING` therefore means at most one false alarm in a thousand hours of looking every second while
the release fails no more than the old one does or has done (as far as `phi` is right).
"""

from __future__ import annotations

import math

FAILING = math.log(3600 * 1000)
HALF = 0.5
"""The failing release this looks for fails half of the requests that would not fail anyway."""
CRASHING = 10.0
CRASH_SECONDS = 30.0
"""The crashing release this looks for: an exit of an instance every so often."""
CALM_SECONDS = 3600.0
"""An exit of an instance every so often is nobody's fault."""
MOST = 1000.0


def failing(level: float, requests: float, failures: float, usual: float, phi: float) -> float:
    """The alarm after one more tick; `usual` is the share of failures that would be no surprise."""
    usual = min(max(usual, 1e-6), 1 - 1e-6)
    expected = usual + (1 - usual) * HALF
    failures = min(failures, requests)
    worse = failures * math.log(expected / usual)
    better = (requests - failures) * math.log((1 - expected) / (1 - usual))
    return min(max(0.0, level + (worse + better) / phi), MOST)


def crashing(level: float, instance_seconds: float, exits: float, usual: float) -> float:
    """The alarm after one more tick; `usual` is the rate of exits that would be no surprise."""
    usual = max(usual, 1 / CALM_SECONDS)
    expected = max(1 / CRASH_SECONDS, 10 * usual)
    change = exits * math.log(expected / usual) - instance_seconds * (expected - usual)
    return min(max(0.0, level + change), MOST)
