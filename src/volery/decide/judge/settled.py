"""Whether a release that may be cold is seen to be warm already.

What is cold is slow first of all. A release that is as quick as the old one beside it has no excuse
of a cold start for its failures, so the allowance for them ends; the one for latency does not, as
nothing but time tells slow from cold. Only the present step counts, and only what was seen before a
tick, so that evidence stays fair.

The question cannot be answered before `REQUESTS`. Until then failures are bet on in both ways, with
the excuse and, *firm*, without; if the first answer is that the release is warm, it never had one,
and the firm bets count. Later answers do not reach back: a release may have been cold before.
"""

from __future__ import annotations

import math
from dataclasses import replace

from volery.decide.judge.policy import Policy
from volery.decide.judge.state import State
from volery.decide.judge.tails import above

REQUESTS = 40
"""Fewer do not show how quick a release is."""


def excused(policy: Policy, state: State, cold: float) -> float:
    """How much of the allowance for failures is left, where `cold` is left of that for latency."""
    return 0.0 if cold and is_settled(policy, state) else cold


def answered(policy: Policy, state: State) -> State:
    """The state with the firm bets in force, or gone, once it can be told which."""
    errors = state.counters["errors"]
    if state.firm is None or errors.n < REQUESTS:
        return state
    if not is_settled(policy, state):
        return replace(state, firm=None)
    firm = {"errors": errors._replace(bets=state.firm)}
    return replace(state, counters={**state.counters, **firm}, firm=None)


def is_settled(policy: Policy, state: State) -> bool:
    """Whether the new release was as quick as the old one in this step.

    It was if, by a standard deviation, fewer of its requests are two buckets beyond the edge of the
    lowest level than of the old release's are beyond the edge itself.
    """
    level = next(iter(state.levels.values()), None)
    n, n_control = sum(state.latency.values()), sum(state.latency_control.values())
    if level is None or n < REQUESTS or not n_control:
        return False
    slow = above(state.latency, [level.edge + 2 * policy.shift])[0]
    usual = above(state.latency_control, [level.edge])[0] / n_control
    return slow + math.sqrt(slow) <= n * usual
