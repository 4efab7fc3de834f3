"""Where the judgement of one release stands, and how one tick of evidence moves it.

Each *counter* compares one kind of bad event: failed requests, requests slower than each level's
edge, exits, seconds at a limit; a *promise* compares one with a limit of `steady_state`. All
counters' wealth is averaged with fixed weights: the mean of several such processes is one again,
whatever they depend on, so many metrics cost no correction. The state is bounded and plain, so that
it can be stored with every tick. Missing data moves nothing but the release's age.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from volery.decide.judge import alarm
from volery.decide.judge.bets import Bets, Counts, place, wealth
from volery.decide.judge.history import (
    DOUBT_PHI,
    DOUBT_WEIGHT,
    LEAST_PHI,
    LEAST_PHI_SLOW,
    PRIOR_PHI,
    PRIOR_WEIGHT,
    History,
    Metric,
    Rate,
    over_dispersion,
    remember,
)
from volery.decide.judge.policy import (
    Policy,
    cold_shift,
    coldness,
    error_margin,
    level_name,
    limit_edge,
    slow_margin,
    tolerated_shift,
)
from volery.decide.judge.tails import above
from volery.decide.judge.trust import Trust, vouch
from volery.model.evidence import Arm

LONGEST_TICK = 60.0
LEARNED_AFTER = 300.0
"""Without a history, latency is compared once so many of the control's requests were seen."""
EXIT_DELTA = 1 / 3600
SATURATION_DELTA = 0.1
SATURATION_PHI = 5.0
"""Seconds at a limit come in runs."""
RECENT = 0.7
"""How much of what the control failed a tick ago is still no surprise."""
NO_RATE, NO_BETS, NO_TRUST = Rate(), Bets(), Trust()
WEIGHTS = {"errors": 8.0, "exits": 1.0, "saturation": 1.0}


@dataclass(frozen=True)
class Counter:
    """One comparison. `rate` is the old release's; `phi` its over-dispersion, `doubt` the same for
    promotion; `n` and `k` are this step's exposure and bad events, by arm."""

    phi: float
    doubt: float
    rate: Rate = NO_RATE
    bets: Bets = NO_BETS
    trust: Trust = NO_TRUST
    n: float = 0.0
    k: float = 0.0
    n_control: float = 0.0
    k_control: float = 0.0


@dataclass(frozen=True)
class Promise:
    """A limit of `steady_state`: bets that the release breaks it, that it is worse than the old one
    at all, and that the old one breaks it."""

    limit: float
    edge: int | None
    phi: float
    broken: Bets = NO_BETS
    worse: Bets = NO_BETS
    control_broken: Bets = NO_BETS


@dataclass(frozen=True)
class State:
    """All that is kept of one release under judgement.

    `age` is seconds since the first tick, `next_weight` the share of requests the current step asks
    for; `edges` the latency buckets compared; `failing` and `crashing` the alarms; `peak` the most
    evidence against the release so far. `learning` is there while the latency edges are unknown.
    """

    age: float = 0.0
    next_weight: float = 1.0
    edges: Mapping[float, int] = field(default_factory=dict)
    counters: Mapping[str, Counter] = field(default_factory=dict)
    promises: Mapping[str, Promise] = field(default_factory=dict)
    latency: Mapping[int, int] = field(default_factory=dict)
    latency_control: Mapping[int, int] = field(default_factory=dict)
    failing: float = 0.0
    crashing: float = 0.0
    usual: float = 0.0
    peak: float = 1.0
    learning: History | None = None


def begin(policy: Policy, history: History, next_weight: float = 1.0) -> State:
    """The state before the first tick; `next_weight` is what the first step asks for."""
    errors = _counter(history.errors, LEAST_PHI, policy)
    counters = {
        "errors": errors,
        "exits": Counter(1.0, 1.0, history.exits),
        "saturation": Counter(SATURATION_PHI, SATURATION_PHI, history.saturation),
    }
    state = State(next_weight=next_weight, counters=counters, promises=_promises(policy, history))
    return (
        _compare_latency(policy, state, history)
        if history.edges
        else replace(state, learning=history)
    )


def step(state: State, next_weight: float) -> State:
    """A step began: evidence in favour begins anew, evidence against stays."""
    counters = {
        name: replace(c, trust=NO_TRUST, n=0.0, k=0.0, n_control=0.0, k_control=0.0)
        for name, c in state.counters.items()
    }
    return replace(
        state, next_weight=next_weight, counters=counters, latency={}, latency_control={}
    )


def _counter(metric: Metric, least: float, policy: Policy) -> Counter:
    frozen = policy.frozen_control
    phi = max(least, over_dispersion(metric, PRIOR_PHI, PRIOR_WEIGHT, frozen))
    doubt = max(phi, over_dispersion(metric, DOUBT_PHI, DOUBT_WEIGHT, frozen))
    return Counter(phi, doubt, metric.rate)


def _compare_latency(policy: Policy, state: State, history: History) -> State:
    levels = {level: edge for level, edge in history.edges.items() if level in policy.levels}
    slow = {
        level_name(level): _counter(history.slow.get(level, Metric()), LEAST_PHI_SLOW, policy)
        for level in levels
    }
    return replace(state, edges=levels, counters={**state.counters, **slow}, learning=None)


def _promises(policy: Policy, history: History) -> dict[str, Promise]:
    result = {}
    if policy.error_limit is not None:
        phi = _counter(history.errors, LEAST_PHI, policy).phi
        result["errors"] = Promise(max(policy.error_limit, 1e-6), None, phi)
    for name, limit in policy.latency_limits.items():
        level = float("0." + name.removeprefix("p"))
        phi = _counter(history.slow.get(level, Metric()), LEAST_PHI, policy).phi
        result[name] = Promise(1 - level, limit_edge(limit), phi)
    return result


def weight(state: State, name: str) -> float:
    """A counter's share of the evidence; the levels of latency share six sixteenths."""
    return _weight(state, WEIGHTS.get(name) or 6 / max(len(state.edges), 1))


def _weight(state: State, part: float) -> float:
    return part / (sum(WEIGHTS.values()) + 6 + len(state.promises))


def evidence(state: State) -> float:
    """The evidence against the release from everything together. Starts at 1."""
    total = 1.0
    for name, counter in state.counters.items():
        total += weight(state, name) * (wealth(counter.bets) - 1)
    for promise in state.promises.values():
        total += _weight(state, 1.0) * (against_promise(promise) - 1)
    return total


def against_promise(promise: Promise) -> float:
    """The evidence that the release breaks a promise and is the cause: the weaker of both."""
    return min(wealth(promise.broken), wealth(promise.worse))


def check(arm: Arm) -> None:
    """Raises ValueError if an arm has a negative or unlike-a-number value in it."""
    for name in ("requests", "failures", "instance_seconds", "exits", "saturated_seconds"):
        value = getattr(arm, name)
        if not 0 <= value < math.inf:
            raise ValueError(f"evidence is nonsense: {name} is {value}")
    if arm.latency and min(arm.latency.values()) < 0:
        raise ValueError("evidence is nonsense: a latency bucket has less than nothing in it")


def look(policy: Policy, state: State, canary: Arm, control: Arm, seconds: float) -> State:
    """The state after one tick. Raises ValueError where an arm or the time is nonsense.

    An arm without requests moves none of the comparisons of requests; one without latencies none of
    those; instances that were not running none of exits and saturation.
    """
    if not 0 < seconds < math.inf:
        raise ValueError(f"evidence is nonsense: a tick of {seconds} seconds")
    check(canary)
    check(control)
    dt = min(seconds, LONGEST_TICK)
    state = _learned(policy, state, control, dt)
    cold = coldness(policy, state.age)
    moved = replace(
        state,
        age=state.age + seconds,
        counters=_counters(policy, state, canary, control, cold, dt),
        promises=_kept(policy, state, canary, control, cold, dt),
        latency=_added(state.latency, canary.latency),
        latency_control=_added(state.latency_control, control.latency),
    )
    alarmed = _alarms(policy, state, moved, canary, control, cold)
    return replace(alarmed, peak=max(state.peak, evidence(alarmed)))


def _learned(policy: Policy, state: State, control: Arm, dt: float) -> State:
    """While the latency edges are unknown they are learned from the control."""
    if state.learning is None or not control.latency:
        return state
    known = remember(state.learning, [control], dt)
    if sum(known.latency.values()) < LEARNED_AFTER:
        return replace(state, learning=replace(known, edges={}))
    return _compare_latency(policy, state, known)


def _counters(
    policy: Policy, state: State, canary: Arm, control: Arm, cold: float, dt: float
) -> dict[str, Counter]:
    old = state.counters
    failed = Counts(
        max(canary.requests, canary.failures),
        canary.failures,
        max(control.requests, control.failures),
        control.failures,
    )
    exits = Counts(canary.instance_seconds, canary.exits, control.instance_seconds, control.exits)
    saturated = Counts(
        canary.instance_seconds,
        canary.saturated_seconds,
        control.instance_seconds,
        control.saturated_seconds,
    )
    rho, delta = policy.rho, policy.delta + policy.cold_errors * cold
    margin = (policy.promote_rho, error_margin(policy, state.next_weight))
    return {
        "errors": _moved(old["errors"], failed, (rho, delta), (failed, *margin), dt),
        "exits": _moved(old["exits"], exits, (rho, EXIT_DELTA), None, dt),
        "saturation": _moved(old["saturation"], saturated, (rho, SATURATION_DELTA), None, dt),
        **_slow_counters(policy, state, canary, control, cold, dt),
    }


def _slow_counters(
    policy: Policy, state: State, canary: Arm, control: Arm, cold: float, dt: float
) -> dict[str, Counter]:
    names = [level_name(level) for level in state.edges]
    if not canary.latency or not control.latency:
        return {name: state.counters[name] for name in names}
    at = list(state.edges.values())
    shifts = [tolerated_shift(policy, edge) for edge in at]
    extra = cold_shift(policy, cold)
    n, n_control = sum(canary.latency.values()), sum(control.latency.values())
    slow = above(control.latency, at)
    worse = above(canary.latency, [e + s + extra for e, s in zip(at, shifts, strict=True)])
    far_worse = above(canary.latency, [e + 2 * s for e, s in zip(at, shifts, strict=True)])
    margin = (policy.promote_rho_slow, slow_margin(policy, state.next_weight))
    return {
        name: _moved(
            state.counters[name],
            Counts(n, worse[i], n_control, slow[i]),
            (1.0, 0.0),
            (Counts(n, far_worse[i], n_control, slow[i]), *margin),
            dt,
        )
        for i, name in enumerate(names)
    }


def _moved(
    counter: Counter,
    counts: Counts,
    tolerated: tuple[float, float],
    margin: tuple[Counts, float, float] | None,
    dt: float,
) -> Counter:
    if counts.n <= 0 and counts.n_control <= 0:
        return counter
    trust = counter.trust
    if margin is not None:
        trust = vouch(trust, margin[0], counter.rate.per(), *margin[1:], counter.doubt, dt)
    return Counter(
        counter.phi,
        counter.doubt,
        counter.rate.after(counts.n_control, counts.k_control, dt),
        place(counter.bets, counts, *tolerated, counter.phi, dt),
        trust,
        counter.n + counts.n,
        counter.k + counts.k,
        counter.n_control + counts.n_control,
        counter.k_control + counts.k_control,
    )


def _kept(
    policy: Policy, state: State, canary: Arm, control: Arm, cold: float, dt: float
) -> dict[str, Promise]:
    extra = cold_shift(policy, cold)
    result = {}
    for name, promise in state.promises.items():
        if promise.edge is None:
            arms = Counts(canary.requests, canary.failures, control.requests, control.failures)
            loose = promise.limit + policy.cold_errors * cold
        else:
            arms = Counts(
                sum(canary.latency.values()),
                above(canary.latency, [promise.edge + extra])[0],
                sum(control.latency.values()),
                above(control.latency, [promise.edge])[0],
            )
            loose = promise.limit
        result[name] = replace(
            promise,
            broken=_over(promise.broken, arms.n, arms.k, loose, promise.phi, dt),
            worse=place(promise.worse, arms, 1.0, 0.0, promise.phi, dt),
            control_broken=_over(
                promise.control_broken,
                arms.n_control,
                arms.k_control,
                promise.limit,
                promise.phi,
                dt,
            ),
        )
    return result


def _over(bets: Bets, n: float, k: float, limit: float, phi: float, dt: float) -> Bets:
    """Bets that a rate is over a fixed limit: compared with nobody (`rho` 0)."""
    return place(bets, Counts(n, k, 1.0, 0.0), 0.0, limit, phi, dt)


def _added(total: Mapping[int, int], tick: Mapping[int, int]) -> Mapping[int, int]:
    if not tick:
        return total
    result = dict(total)
    for bucket, number in tick.items():
        result[bucket] = result.get(bucket, 0) + number
    return result


def _alarms(
    policy: Policy, before: State, state: State, canary: Arm, control: Arm, cold: float
) -> State:
    """The alarms after one tick. What the old release does, or did a moment ago, is no surprise."""
    errors, exits = before.counters["errors"], before.counters["exits"]
    now = _likely(control.failures, max(control.requests, control.failures))
    recent = max(now, before.usual * RECENT)
    usual = policy.rho * max(errors.rate.per(), recent) + policy.delta + policy.cold_errors * cold
    exiting = _likely(control.exits, control.instance_seconds) if control.exits else 0.0
    requests = max(canary.requests, canary.failures)
    return replace(
        state,
        usual=recent,
        failing=alarm.failing(before.failing, requests, canary.failures, usual, errors.phi),
        crashing=alarm.crashing(
            before.crashing,
            canary.instance_seconds,
            canary.exits,
            max(policy.rho * exits.rate.per(), exiting),
        ),
    )


def _likely(k: float, n: float) -> float:
    """A share that would be no surprise where `k` of `n` failed; 0 where none did."""
    return min(1.0, (k + 2 * math.sqrt(k)) / n) if n > 0 else 0.0
