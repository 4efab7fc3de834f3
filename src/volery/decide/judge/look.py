"""How one tick of evidence moves the state of a judgement.

Missing data moves nothing but the release's age; nonsense is refused. Requests are bet on five at
least together, or those of five seconds: what follows each other so closely hangs together. The
alarms see every tick at once.
"""

from __future__ import annotations

import math
from dataclasses import replace
from operator import add

from volery.decide.judge import alarm
from volery.decide.judge.bets import Bets, Counts, anew, at_present, place, wealth
from volery.decide.judge.history import remember
from volery.decide.judge.moves import exposure, moved
from volery.decide.judge.policy import (
    Policy,
    cold_shift,
    coldness,
    error_margin,
    slow_margin,
)
from volery.decide.judge.settled import answered, excused
from volery.decide.judge.starts import FEWEST_REQUESTS as FEWEST_YOUNG
from volery.decide.judge.starts import YOUNG_SECONDS, Seen, Start, measured
from volery.decide.judge.state import (
    NO_BETS,
    NO_COUNTS,
    RUNS_PHI,
    Alarms,
    Counter,
    Promise,
    State,
    combined,
    compare_latency,
)
from volery.decide.judge.tails import above
from volery.model.evidence import Arm, Latency

LONGEST_TICK = 60.0
FEWEST_REQUESTS, LONGEST_WAIT = 5, 5.0
HELD_SECONDS = 30.0
"""Instances to which nothing happens are bet on so often."""
LEARNED_AFTER = 300.0
"""Without a history, latency is compared once so many of the control's requests were seen."""
EXIT_DELTA = 1 / 3600
SATURATION_DELTA = 0.1
PROBES_DELTA = 0.05
PROBES = Counter(RUNS_PHI, RUNS_PHI)
"""For a judgement that began before these were compared."""
OVER = 6.0
"""With lower odds that it still goes on, trouble of the old release is over."""
NO_ARM = Arm()
RECENT = 0.7
"""How much of what the control failed a second ago is still no surprise."""


def check(arm: Arm) -> None:
    """Raises ValueError if an arm has a negative or unlike-a-number value in it."""
    times = (arm.instance_seconds, arm.saturated_seconds, arm.unready_seconds)
    values = (arm.requests, arm.failures, arm.exits, arm.again, *times)
    if not (min(values) >= 0 and math.isfinite(sum(values))):
        raise ValueError(f"evidence is nonsense: {arm}")
    if arm.latency and min(arm.latency.values()) < 0:
        raise ValueError(f"evidence is nonsense: less than nothing in a bucket of {arm.latency}")


def look(
    policy: Policy, state: State, canary: Arm, control: Arm, seconds: float, old: Arm = NO_ARM
) -> State:
    """The state after one tick. Raises ValueError where an arm or the time is nonsense. Where the
    release is compared with nothing, `old` is the old group all the same, for the alarms.

    An arm without requests moves none of the comparisons of requests; one without latencies none of
    those; instances that were not running none of exits, saturation and probes.
    """
    if not 0 < seconds < math.inf:
        raise ValueError(f"evidence is nonsense: a tick of {seconds} seconds")
    check(canary)
    check(control)
    if _nothing(canary) and _nothing(control):
        return replace(state, age=state.age + seconds)
    cold = coldness(policy, state.age)
    failing_cold = excused(policy, state, cold)
    beside = old if _nothing(control) and not policy.same_age else control
    alarms = _alarms(policy, state, (canary, beside), failing_cold, seconds)
    dt = min(state.waited + min(seconds, LONGEST_TICK), LONGEST_TICK)
    if state.waited:
        canary = together(state.waiting[0], canary)
        control = together(state.waiting[1], control)
    if canary.requests < FEWEST_REQUESTS and dt < LONGEST_WAIT:
        waiting = (canary, control)
        return replace(state, age=state.age + seconds, waiting=waiting, waited=dt, alarms=alarms)
    state = answered(policy, _learned(policy, state, control, dt))
    counters = _counters(policy, state, (canary, control), cold, failing_cold, dt)
    promises = _kept(policy, state, canary, control, cold, dt)
    latency = _added(state.latency, canary.latency)
    latency_control = _added(state.latency_control, control.latency)
    against = combined(counters, promises, len(state.levels))
    return State(
        state.age + seconds,
        state.next_weight,
        state.levels,
        counters,
        promises,
        latency,
        latency_control,
        alarms,
        against,
        max(against, state.peak),
        state.learning,
        start=state.start or _start(counters["errors"], latency, latency_control),
        firm=_firm(policy, state, canary, control, dt) if state.firm else None,
        beside=state.beside,
    )


def _firm(policy: Policy, state: State, canary: Arm, control: Arm, dt: float) -> Bets:
    """The bets on failures of a release that has no excuse."""
    assert state.firm is not None
    phi = state.counters["errors"].phi
    return place(state.firm, _failed(canary, control), policy.rho, policy.delta, phi, dt)


def _failed(canary: Arm, control: Arm) -> Counts:
    return Counts(
        max(canary.requests, canary.failures),
        canary.failures,
        max(control.requests, control.failures),
        control.failures,
    )


def _ended(canary: Arm, control: Arm) -> Counts:
    return Counts(canary.instance_seconds, canary.exits, control.instance_seconds, control.exits)


def _start(errors: Counter, latency: Latency, latency_control: Latency) -> Start | None:
    """How cold the release was beside the old one, once its first seconds are over."""
    if errors.trust.seconds < YOUNG_SECONDS or errors.n < FEWEST_YOUNG:
        return None
    young = Seen(errors.n, errors.k, latency)
    return measured(young, Seen(errors.n_control, errors.k_control, latency_control))


def _nothing(arm: Arm) -> bool:
    return not (arm.requests or arm.failures or arm.latency or arm.instance_seconds or arm.exits)


def together(one: Arm, other: Arm) -> Arm:
    """What a group did in two ticks."""
    if _nothing(one):
        return other
    return Arm(
        one.requests + other.requests,
        one.failures + other.failures,
        _added(one.latency, other.latency),
        one.instance_seconds + other.instance_seconds,
        one.exits + other.exits,
        one.saturated_seconds + other.saturated_seconds,
        one.unready_seconds + other.unready_seconds,
        one.again + other.again,
    )


def _learned(policy: Policy, state: State, control: Arm, dt: float) -> State:
    """While the latency edges are unknown they are learned from the control."""
    if state.learning is None or not control.latency:
        return state
    known = remember(state.learning, [control], dt)
    if sum(known.latency.values()) < LEARNED_AFTER:
        return replace(state, learning=replace(known, edges={}))
    return compare_latency(policy, state, known)


def _counters(
    policy: Policy,
    state: State,
    arms: tuple[Arm, Arm],
    cold: float,
    failing_cold: float,
    dt: float,
) -> dict[str, Counter]:
    (canary, control), old = arms, state.counters
    running = canary.instance_seconds, control.instance_seconds
    exits = _ended(canary, control)
    saturated = Counts(running[0], canary.saturated_seconds, running[1], control.saturated_seconds)
    unready = Counts(running[0], canary.unready_seconds, running[1], control.unready_seconds)
    rho, delta = policy.rho, policy.delta + policy.cold_errors * failing_cold
    busy = SATURATION_DELTA + (1 - SATURATION_DELTA) * cold
    n, k, n_control, k_control = _failed(canary, control)
    margin = (policy.promote_rho, error_margin(policy, state.next_weight))
    at = exposure(n, n_control, (rho, delta), margin, dt)
    return {
        "errors": moved(old["errors"], at, k, k, k_control),
        "exits": _held(old["exits"], exits, rho, EXIT_DELTA, dt),
        "saturation": _held(old["saturation"], saturated, rho, busy, dt),
        "probes": _held(old.get("probes", PROBES), unready, rho, PROBES_DELTA, dt),
        **_slow_counters(policy, state, canary, control, cold, dt),
    }


def _slow_counters(
    policy: Policy, state: State, canary: Arm, control: Arm, cold: float, dt: float
) -> dict[str, Counter]:
    if not canary.latency and not control.latency:
        return {name: state.counters[name] for name in state.levels}
    levels = state.levels.values()
    extra = cold_shift(policy, cold)
    n, n_control = sum(canary.latency.values()), sum(control.latency.values())
    slow = above(control.latency, [edge for _, edge, _ in levels])
    worse = above(canary.latency, [edge + shift + extra for _, edge, shift in levels])
    far_worse = above(canary.latency, [edge + 2 * shift for _, edge, shift in levels])
    tolerated = (1.0, policy.slow_delta + policy.cold_slow * cold)
    margin = (policy.promote_rho_slow, slow_margin(policy, state.next_weight))
    at = exposure(n, n_control, tolerated, margin, dt)
    return {
        name: moved(state.counters[name], at, k, far, k_control)
        for name, k, far, k_control in zip(state.levels, worse, far_worse, slow, strict=True)
    }


def _held(counter: Counter, counts: Counts, rho: float, delta: float, dt: float) -> Counter:
    """A counter of instances after a tick. Where nothing bad happens, time adds up first: it says
    the same, and there is nearly always nothing."""
    phi, doubt, rate, bets, trust, n, k, m, j, before, seconds = counter
    held = Counts(*map(add, before, counts))
    waited = seconds + dt
    if counts.k or counts.k_control or waited >= HELD_SECONDS:
        bets = place(bets, held, rho, delta, phi, waited)
        held, waited = NO_COUNTS, 0.0
    return Counter(
        phi,
        doubt,
        rate.after(counts.n_control, counts.k_control, dt),
        bets,
        trust,
        n + counts.n,
        k + counts.k,
        m + counts.n_control,
        j + counts.k_control,
        held,
        waited,
    )


def _kept(
    policy: Policy, state: State, canary: Arm, control: Arm, cold: float, dt: float
) -> dict[str, Promise]:
    if not state.promises:
        return {}
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
        moved = _after_trouble(promise, arms, policy)
        result[name] = replace(
            moved,
            broken=place(moved.broken, _alone(arms.n, arms.k), 0.0, loose, promise.phi, dt),
            worse=place(promise.worse, arms, 1.0, 0.0, promise.phi, dt),
        )
    return result


def _after_trouble(promise: Promise, arms: Counts, policy: Policy) -> Promise:
    """The promise with what the old release did to it. When that keeps it again, what the new one
    did meanwhile tells nothing: it has to show anew that it keeps it."""
    theirs = _alone(arms.n_control, arms.k_control)
    present = anew(promise.control_present, theirs, 0.0, promise.limit, promise.phi)
    odds = at_present(present)
    shared = odds >= (OVER if promise.shared else 1 / policy.beta)
    over = promise.shared and not shared and wealth(promise.broken) > 1
    broken = NO_BETS if over else promise.broken
    return replace(promise, broken=broken, control_present=present, shared=shared)


def _alone(n: float, k: float) -> Counts:
    """What is compared with a limit and nobody (`rho` 0)."""
    return Counts(n, k, 1.0, 0.0)


def _added(total: Latency, tick: Latency) -> Latency:
    if not tick:
        return total
    result, before = dict(total), total.get
    for bucket, number in tick.items():
        result[bucket] = number + before(bucket, 0)
    return result


def _alarms(
    policy: Policy, state: State, arms: tuple[Arm, Arm], cold: float, seconds: float
) -> Alarms:
    """The alarms after one tick. What the old release does, or did a moment ago, is no surprise."""
    canary, control = arms
    errors, exits, before = state.counters["errors"], state.counters["exits"], state.alarms
    failed, ended = _failed(canary, control), _ended(canary, control)
    requests, failures = failed.n, failed.k
    now = _likely(failed.k_control, failed.n_control)
    recent = max(now, before.usual * RECENT**seconds)
    usual = policy.rho * max(errors.rate.per(), recent) + policy.delta + policy.cold_errors * cold
    excused = alarm.SHARED_SECONDS if control.exits else max(0.0, before.excused - seconds)
    again, crashes = 0 if excused else canary.again, policy.rho * exits.rate.per()
    first, missing = before.first, before.stillborn
    if first >= 0 and failures < requests:
        first = -1.0
    elif first >= 0:
        first, missing = alarm.stillborn(first, missing, failures, usual, errors.phi)
    return Alarms(
        alarm.failing(before.failing, requests, failures, usual, errors.phi),
        alarm.limit(requests, usual) if requests else before.limit,
        alarm.crashing(before.crashing, ended.n, again, crashes),
        recent,
        first,
        missing,
        _since(before.failing, before.failed, failed),
        _since(before.crashing, before.ended, ended._replace(k=max(ended.k, again))),
        excused,
    )


def _since(level: float, before: Counts, more: Counts) -> Counts:
    """What there was since an alarm began to rise, which was at this level so far."""
    return Counts(*map(add, before, more)) if level > 0 else more


def _likely(k: float, n: float) -> float:
    """A share that would be no surprise where `k` of `n` failed; 0 where none did."""
    return min(1.0, (k + 2 * math.sqrt(k)) / n) if n > 0 else 0.0
