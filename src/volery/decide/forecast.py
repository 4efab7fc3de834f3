"""How long a canary will take at today's traffic, and what a bad release would cost its users.

Estimates from what is known of the service's traffic; nothing is decided by them. Without traffic
there is nothing to tell by, and that is what is said.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from volery.decide import judge
from volery.decide.judge import History
from volery.model.application import Service
from volery.model.units import format_duration

EXCESSES = (0.02, 0.1, 0.9)
"""How many more requests a bad release fails, for which the cost is told."""

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
    back from the first step, and how many requests it fails until then."""

    excess: float
    seconds: float | None
    requests: float | None


@dataclass(frozen=True)
class Forecast:
    """A canary at today's traffic; `rate` is requests a second, None if none were seen. `limit` is
    how many seconds a step may wait for evidence, `otherwise` what is done without enough."""

    rate: float | None
    steps: tuple[StepForecast, ...]
    harms: tuple[Harm, ...]
    limit: float = math.inf
    otherwise: str = "pause"

    def lines(self) -> list[str]:
        """For people."""
        if not self.rate:
            return [
                "no requests were seen lately: the canary waits for some before each step,"
                " at most `at_most`; see `deploy.synthetic`"
            ]
        shares = ", ".join(f"{100 * one.weight:g} % {_about(one.seconds)}" for one in self.steps)
        return [
            f"at {self.rate:.3g} requests/s a good release needs: {shares}",
            *self._too_slow(),
        ] + [
            f"one that fails {100 * one.excess:g} % more is taken back {_about(one.seconds)},"
            f" after {_number(one.requests)} failed requests"
            for one in self.harms
        ]

    def _too_slow(self) -> list[str]:
        slow = [one for one in self.steps if one.seconds is not None and one.seconds > self.limit]
        if not slow:
            return []
        return [
            f"a step waits at most {format_duration(self.limit)} (`at_most`), so at"
            f" {100 * slow[0].weight:g} % it may {OTHERWISE[self.otherwise]} without more"
            " traffic: larger `steps`, a longer `at_most` or `deploy.synthetic` help"
        ]


def forecast(service: Service, history: History) -> Forecast:
    """What to expect of a canary of this service."""
    policy = judge.policy_of(service.steady_state, service.deploy, service.deploy.baseline)
    settled = replace(policy, warm_up_seconds=0.0)
    rate = judge.requests_per_second(history)
    shares = [share for share in service.deploy.steps if 0 < share < 1]
    following = [*shares, 1.0][1:]
    steps = tuple(
        StepForecast(share, judge.enough(settled, history, None, share, after))
        for share, after in zip(shares, following, strict=True)
    )
    harms = tuple(_harm(settled, history, rate, shares[0], e) for e in EXCESSES if shares)
    deploy = service.deploy
    return Forecast(rate, steps, harms, deploy.at_most, deploy.on_inconclusive)


def _harm(
    policy: judge.Policy, history: History, rate: float | None, share: float, excess: float
) -> Harm:
    seconds = judge.detects(policy, history, None, share, excess)
    if seconds is None or rate is None:
        return Harm(excess, None, None)
    return Harm(excess, seconds, rate * share * excess * seconds)


def _about(seconds: float | None) -> str:
    return "cannot be told" if seconds is None else f"about {format_duration(max(1, seconds))}"


def _number(count: float | None) -> str:
    return "an unknown number of" if count is None else f"about {max(1, round(count)):,}"
