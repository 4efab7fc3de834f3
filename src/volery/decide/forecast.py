"""How long a canary will take at today's traffic, and what a bad release would cost its users.

Estimates from what is known of the service's traffic; nothing is decided by them. Without traffic
there is nothing to tell by, and that is what is said.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from volery.decide import judge
from volery.decide.judge import History
from volery.decide.judge.history import LULL_SECONDS
from volery.model.application import Service
from volery.model.units import format_duration

EXCESSES = (0.02, 0.1, 0.9)
"""How many more requests a bad release fails, for which the cost is told."""
UNLUCKY = 2.5
"""A step may well take so many times as long as expected."""

OTHERWISE = {
    "pause": "pause",
    "promote": "go on without enough evidence",
    "rollback": "be taken back",
}


@dataclass(frozen=True)
class StepForecast:
    """One step: its share of the requests (0 to 1) and how many seconds a good release needs."""

    weight: float
    seconds: float | None


@dataclass(frozen=True)
class Harm:
    """What a release costs that fails `excess` (0 to 1) more requests: seconds until it is taken
    back from the first step, and how many requests it fails until then. One that turns bad later
    fails `most` at worst, in the step with the share `at`."""

    excess: float
    seconds: float | None
    requests: float | None
    most: float | None = None
    at: float | None = None

    def __str__(self) -> str:
        later = (
            f" ({_number(self.most)} if it turns bad only at {100 * self.at:g} %)"
            if self.most and self.at and self.requests and round(self.most) > round(self.requests)
            else ""
        )
        return (
            f"one that fails {100 * self.excess:g} % more is taken back {_about(self.seconds)},"
            f" after {_number(self.requests)} failed requests{later}"
        )


@dataclass(frozen=True)
class Forecast:
    """A canary at today's traffic; `rate` is requests a second, None if none were seen. `limit` is
    how many seconds a step may wait for evidence, `otherwise` what is done without enough. Steps
    that nobody wrote and that are too small today are `left_out`. The last request was `idle`
    seconds ago."""

    rate: float | None
    steps: tuple[StepForecast, ...]
    harms: tuple[Harm, ...]
    limit: float = math.inf
    otherwise: str = "pause"
    left_out: tuple[float, ...] = ()
    idle: float = 0.0

    def lines(self) -> list[str]:
        """For people."""
        if not self.rate:
            return [
                "no requests were seen lately: the canary waits for some before each step,"
                " at most `at_most`; see `deploy.synthetic`"
            ]
        shares = ", ".join(f"{100 * one.weight:g} % {_about(one.seconds)}" for one in self.steps)
        ago = f", as {format_duration(self.idle)} ago," if self.idle > LULL_SECONDS else ""
        return [
            f"at {self.rate:.3g} requests/s{ago} a good release needs: {shares}",
            *self._left_out(),
            *self._too_slow(),
            *map(str, self.harms),
        ]

    def _left_out(self) -> list[str]:
        if not self.left_out:
            return []
        shares = ", ".join(f"{100 * share:g} %" for share in self.left_out)
        return [f"left out: {shares}, which would tell too little at this traffic"]

    def _too_slow(self) -> list[str]:
        slow = [one for one in self.steps if one.seconds is not None and one.seconds > self.limit]
        if not slow:
            return []
        return [
            f"a step waits at most {format_duration(self.limit)} (`at_most`), so at"
            f" {100 * slow[0].weight:g} % it may {OTHERWISE[self.otherwise]} without more"
            " traffic: larger `steps`, a longer `at_most` or `deploy.synthetic` help"
        ]


def shares_at(service: Service, history: History) -> tuple[float, ...]:
    """The steps of a canary: those that are written, else from the smallest on that can tell
    something at today's traffic. Without any traffic, and with requests of ours, that is all."""
    deploy = service.deploy
    if deploy.steps is not None or deploy.synthetic or not judge.requests_per_second(history):
        return tuple(share for share in deploy.shares if 0 < share < 1)
    within = deploy.at_most / UNLUCKY
    timed = _timed(_settled(service), history, deploy.shares)
    soon = (i for i, one in enumerate(timed) if one.seconds is not None and one.seconds <= within)
    first = next(soon, -1)
    return deploy.shares[first:]


def forecast(service: Service, history: History) -> Forecast:
    """What to expect of a canary of this service."""
    policy = _settled(service)
    rate = judge.requests_per_second(history)
    shares = shares_at(service, history)
    deploy = service.deploy
    return Forecast(
        rate,
        _timed(policy, history, shares),
        tuple(_harm(policy, history, rate, shares, excess) for excess in EXCESSES if shares),
        deploy.at_most,
        deploy.on_inconclusive,
        tuple(share for share in deploy.shares if 0 < share < 1 and share not in shares),
        history.idle,
    )


def _settled(service: Service) -> judge.Policy:
    """What a release is held to once it is warm."""
    policy = judge.policy_of(service.steady_state, service.deploy, service.deploy.baseline)
    return replace(policy, warm_up_seconds=0.0)


def _timed(
    policy: judge.Policy, history: History, shares: tuple[float, ...]
) -> tuple[StepForecast, ...]:
    return tuple(
        StepForecast(share, judge.enough(policy, history, None, share, after))
        for share, after in zip(shares, [*shares, 1.0][1:], strict=True)
    )


def _harm(
    policy: judge.Policy,
    history: History,
    rate: float | None,
    shares: tuple[float, ...],
    excess: float,
) -> Harm:
    found = [judge.detects(policy, history, None, share, excess) for share in shares]
    if rate is None or found[0] is None:
        return Harm(excess, None, None)
    costs = [
        (rate * share * excess * seconds, share)
        for share, seconds in zip(shares, found, strict=True)
        if seconds is not None
    ]
    return Harm(excess, found[0], costs[0][0], *max(costs))


def _about(seconds: float | None) -> str:
    return "cannot be told" if seconds is None else f"about {format_duration(max(1, seconds))}"


def _number(count: float | None) -> str:
    return "an unknown number of" if count is None else f"about {max(1, round(count)):,}"
