"""A judgement again from its evidence: to explain it, or to see what another policy had decided."""

from __future__ import annotations

from collections.abc import Iterable

from volery.decide.judge.history import History
from volery.decide.judge.look import look
from volery.decide.judge.policy import Policy
from volery.decide.judge.state import State, begin
from volery.decide.judge.verdict import judge
from volery.model.evidence import Arm, Judgement


def replay(
    policy: Policy,
    history: History,
    looks: Iterable[tuple[Arm, Arm, float]],
    weight: float = 1.0,
    next_weight: float = 1.0,
) -> tuple[State, list[Judgement]]:
    """The state after all ticks of one step (canary, control, seconds), and the judgement after
    each. For a rollout of several steps use `begin`, `look`, `step` and `judge` in the same way."""
    state, seconds, judgements = begin(policy, history, next_weight), 0.0, []
    for canary, control, dt in looks:
        state = look(policy, state, canary, control, dt)
        seconds += dt
        judgements.append(judge(policy, state, weight, next_weight, seconds))
    return state, judgements
