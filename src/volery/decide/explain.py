"""Replays a rollout's decisions from what was measured, by its own policy or by another promise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from volery.decide import judge
from volery.decide.comparison import Comparison, by_alarms, with_baseline
from volery.decide.judge import Policy
from volery.model.application import SteadyState
from volery.model.deploy import Deploy
from volery.model.evidence import Judgement
from volery.model.state import Look, Phase, Rollout

WENT_BACK = (Phase.ROLLING_BACK, Phase.ROLLED_BACK, Phase.FAILED)


@dataclass(frozen=True)
class Decision:
    """What was or would have been decided, `after` seconds of comparing; `taken` is what the
    rollout did then, where custom metrics and gates have a say too."""

    after: float
    step: int
    weight: float
    judgement: Judgement
    taken: str


def other_policy(comparison: Comparison, promise: SteadyState) -> Policy:
    """The policy with another promise."""
    other = judge.policy_of(promise, Deploy(), comparison.policy.same_age)
    return replace(
        comparison.policy, error_limit=other.error_limit, latency_limits=other.latency_limits
    )


def decisions(
    comparison: Comparison, looks: Sequence[Look], policy: Policy | None = None
) -> list[Decision]:
    """Every change of verdict, and the last one; replaying ends where it would have gone back."""
    found: list[Decision] = []
    before: Decision | None = None
    for decision in _all(comparison, looks, policy or comparison.policy):
        known = before and (before.step, before.judgement.verdict)
        if known != (decision.step, decision.judgement.verdict):
            found.append(decision)
        before = decision
        if decision.judgement.verdict == "abort":
            break
    if before is not None and before is not found[-1]:
        found.append(before)
    return found


def _all(comparison: Comparison, looks: Sequence[Look], policy: Policy) -> Iterator[Decision]:
    state, step, after, last = None, 0, 0.0, policy
    for look in looks:
        policy = with_baseline(last) if look.number <= comparison.beside else last
        if state is None:
            state = judge.begin(policy, comparison.past, look.next_weight)
        elif look.step != step:
            state = judge.step(state, look.next_weight)
        if look.begins:
            state = judge.in_force(state)
        state = judge.joined(policy, state, look.fresh)
        step, after = look.step, after + look.seconds
        state = judge.look(policy, state, look.canary, look.control, look.seconds, look.old)
        state = judge.beside(policy, state, look.canary, look.old)
        said = judge.judge(policy, state, look.weight, look.next_weight, look.in_step)
        if look.alarms_only and said.verdict != "abort":
            said = replace(by_alarms(state, look.in_step), lines=said.lines)
        percent = 100 * look.weight if look.percent is None else look.percent
        yield Decision(after, look.step, percent, said, look.verdict)


def policy_lines(policy: Policy) -> list[str]:
    """The policy in words."""
    against = "a group of the old release of the same age" if policy.same_age else "the old release"
    if policy.frozen_control:
        against = "the old release as it was before the switch"
    lines = [
        f"compared with {against}; at most {policy.alpha:.0%} of good releases are taken back,"
        f" at most {policy.beta:.0%} of worse ones pass a step",
        f"errors: tolerated are {policy.rho:g} times the old release's and {policy.delta:.1%} more",
    ]
    if policy.error_limit is not None:
        lines.append(f"promise: errors < {100 * policy.error_limit:g} %")
    lines += [f"promise: {name} < {ms:g} ms" for name, ms in policy.latency_limits.items()]
    if policy.warm_up_seconds:
        lines.append(
            f"a cold release may fail {100 * policy.cold_errors:.2g} % more at first and be"
            f" {2**policy.cold_octaves:.2g} times slower; that halves every"
            f" {policy.warm_up_seconds:g} s"
        )
    return lines


def summary(found: Sequence[Decision], rollout: Rollout) -> str:
    """The end of it in one line: what the comparison comes to, and what else took it back."""
    if not found:
        return f"{rollout.id}: nothing was compared"
    last = found[-1]
    if last.judgement.verdict == "abort":
        return f"it goes back after {last.after:.1f} s of comparing: {last.judgement.reason}"
    if rollout.phase in WENT_BACK:
        return (
            f"the comparison alone does not take it back: {last.judgement.reason};"
            f" it was taken back: {rollout.reason}"
        )
    return f"it does not go back: {last.judgement.reason}"
