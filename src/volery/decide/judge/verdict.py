"""What the evidence says now: one verdict with a reason, and a line for each metric.

Abort where the evidence against the release reached 1 / alpha or an alarm rang; promote where every
comparison of requests vouches for it with 1 / beta, nothing speaks against it and the step lasted
long enough; inconclusive where the split itself is off; else continue, and say what is missing.
Time limits are the rollout's. This module only reads the state; it moves no evidence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from volery.decide.judge import alarm
from volery.decide.judge.beside import vouches_for_harm
from volery.decide.judge.bets import wealth
from volery.decide.judge.lines import control_failed, lines_of, odds, percent, promise_line, worst
from volery.decide.judge.policy import Policy
from volery.decide.judge.state import OF_INSTANCES, State
from volery.decide.judge.trust import confidence
from volery.model.evidence import Judgement

SUSPICION = 0.5
"""With more than `alpha ** -SUSPICION` against the release nothing is promoted."""
SPLIT_SECONDS = 60.0
SPLIT_MANY, SPLIT_FEW, SPLIT_SURE = 3.0, 0.2, 200.0
"""The split is off if the release got three times its share, or a fifth, of requests enough."""


@dataclass(frozen=True)
class _Step:
    weight: float
    next_weight: float
    seconds: float


def judge(
    policy: Policy, state: State, weight: float, next_weight: float, seconds_in_step: float
) -> Judgement:
    """What to do with the release, which has `weight` of the requests and asks for `next_weight`,
    with a line for each metric.

    Evidence in favour counts only if it was gathered for this step: see `step`.
    """
    said = decide(policy, state, weight, next_weight, seconds_in_step)
    return replace(said, lines=lines_of(policy, state))


def decide(
    policy: Policy, state: State, weight: float, next_weight: float, seconds_in_step: float
) -> Judgement:
    """The same without the lines, which take longer to write than it takes to decide."""
    at = _Step(weight, next_weight, seconds_in_step)
    return replace(_decided(policy, state, at), suspicious=_is_suspicious(policy, state))


def _decided(policy: Policy, state: State, at: _Step) -> Judgement:
    for question in (_alarm, _abort, _split, _shared, _beside):
        found = question(policy, state, at)
        if found is not None:
            return found
    missing = _missing(policy, state, at)
    return Judgement("continue", missing) if missing else _promote(state, at)


def _is_suspicious(policy: Policy, state: State) -> bool:
    """Whether something speaks against the release: on the whole, or a promise that it alone
    breaks."""
    return state.against > policy.alpha**-SUSPICION or any(
        wealth(promise.broken) >= 1 / policy.beta and not promise.shared
        for promise in state.promises.values()
    )


def _alarm(policy: Policy, state: State, at: _Step) -> Judgement | None:
    alarms, failed, ended = state.alarms, state.alarms.failed, state.alarms.ended
    if alarm.is_dead(alarms.first, alarms.stillborn):
        reason = (
            f"the new release fails its requests: all {alarms.first:,.0f} since its first one"
            f" failed, and {control_failed(failed)} of the old one's"
        )
        return Judgement("abort", reason)
    if alarms.failing >= alarms.limit:
        reason = (
            f"the new release fails its requests: {percent(_share(failed.k, failed.n))} of"
            f" {failed.n:,.0f} failed, and {control_failed(failed)} of the old one's"
        )
        return Judgement("abort", reason)
    if alarms.crashing >= alarm.CRASHING:
        reason = (
            f"the new release's instances crash: {ended.k:,.0f} exits in"
            f" {ended.n:,.0f} s of running, against {ended.k_control:,.0f} of the old one's"
        )
        return Judgement("abort", reason)
    return None


def _abort(policy: Policy, state: State, at: _Step) -> Judgement | None:
    if state.peak < 1 / policy.alpha:
        return None
    reason = f"the new release is worse: {worst(state, lines_of(policy, state))}"
    return Judgement("abort", reason, by_comparison=True)


def _split(policy: Policy, state: State, at: _Step) -> Judgement | None:
    errors = state.counters["errors"]
    total = errors.n + errors.n_control
    due = (0.5 if policy.same_age else at.weight) * total
    settled = at.seconds >= SPLIT_SECONDS and errors.n > 0 and errors.n_control > 0
    if policy.frozen_control or policy.unsplit or at.weight >= 1 or not settled:
        return None
    many = errors.n > SPLIT_MANY * due + SPLIT_SURE
    few = due > SPLIT_SURE and errors.n < SPLIT_FEW * due
    if not (many or few):
        return None
    reason = (
        f"the new release gets {percent(errors.n / total)} of the compared requests instead of"
        f" {percent(due / total)}: the two groups cannot be compared"
    )
    return Judgement("inconclusive", reason)


def _shared(policy: Policy, state: State, at: _Step) -> Judgement | None:
    """A promise that both releases break: nobody is blamed, and nothing is promoted meanwhile."""
    for name, promise in state.promises.items():
        if wealth(promise.broken) < 1 / policy.beta:
            continue
        line = promise_line(policy, state, name, promise)
        if promise.shared:
            return Judgement(
                "continue",
                f"the old release breaks the promise as well ({line.text}): the new one is not"
                " blamed, and is promoted once the promise is kept",
                shared=True,
            )
        return Judgement("continue", f"waits until it is clear who breaks the promise: {line.text}")
    return None


def _beside(policy: Policy, state: State, at: _Step) -> Judgement | None:
    excused = vouches_for_harm(policy, state)
    return Judgement("continue", excused) if excused else None


def _promote(state: State, at: _Step) -> Judgement:
    reason = (
        f"no worse than the old release in {state.counters['errors'].n:,.0f} requests,"
        f" as far as the step to {percent(at.next_weight)} asks"
    )
    return Judgement("promote", reason)


def _missing(policy: Policy, state: State, at: _Step) -> str:
    """What is missing for a promotion; empty if nothing is."""
    errors = state.counters["errors"]
    if errors.n <= 0:
        return "no request reached the new release yet"
    if errors.n_control <= 0:
        return "no request reached the old release yet, so there is nothing to compare with"
    if state.next_weight != at.next_weight:
        return "the step begins"
    if state.learning is not None and (state.latency or state.latency_control):
        return "learns how long requests of the old release take"
    if state.against > policy.alpha**-SUSPICION:
        return f"something may be wrong: odds {odds(state.against)} against the new release"
    slowest = min(
        (confidence(counter.trust), name)
        for name, counter in state.counters.items()
        if name not in OF_INSTANCES
    )
    if slowest[0] < 1 / policy.beta:
        return (
            f"needs more evidence on {slowest[1]}: odds {odds(slowest[0])} of"
            f" {odds(1 / policy.beta)} in favour"
        )
    if at.seconds < policy.min_dwell_seconds:
        return f"looks good; every step lasts at least {policy.min_dwell_seconds:g} s"
    return ""


def _share(k: float, n: float) -> float:
    return k / n if n > 0 else 0.0
