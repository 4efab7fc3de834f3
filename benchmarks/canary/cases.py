"""What is deployed: releases that are bad in one way each, and good ones, with the goals for them.

Pure data. A *behaviour* is what `services/bird.py` reads: `fail` (share), `slower` (factor, for
requests `beyond` so many sigmas of the usual time), `die` (at the first request).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

FIRST_STEPS = ("5%", "25%", "50%")
FOUR_STEPS = ("1%", "5%", "25%", "50%")
TAIL = 2.05
"""Beyond it lie two of a hundred requests: with those twice as slow p99 doubles, and p90 does not
move."""


@dataclass(frozen=True, eq=False)
class Case:
    """One release. `goal` is in seconds: until it has no traffic any more if it is bad, from the
    command to its end if it is good."""

    name: str
    goal: float
    behaviour: Mapping[str, float] = field(default_factory=dict)
    good: bool = False
    steps: tuple[str, ...] = FIRST_STEPS
    strategy: str = "canary"

    @property
    def harms_all(self) -> bool:
        """Whether users cannot tell its failures from those of the way to it: it dies."""
        return "die" in self.behaviour


BAD = (
    Case("dead: every request fails", 2, {"fail": 1}),
    Case("dead: the process dies at each request", 2, {"die": 1}),
    Case("half of the requests fail", 5, {"fail": 0.5}),
    Case("10 % of the requests fail", 10, {"fail": 0.1}),
    Case("every request takes twice as long", 20, {"slower": 2}),
    Case("p99 alone takes twice as long", 120, {"slower": 2, "beyond": TAIL}),
)
GOOD = (
    Case("good, 4 steps", 90, good=True, steps=FOUR_STEPS),
    Case("good, blue-green", 90, good=True, strategy="blue-green"),
)
QUICK = (BAD[0], BAD[3], GOOD[1])
