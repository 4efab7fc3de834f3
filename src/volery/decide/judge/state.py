"""Where the judgement of one release stands, and what its evidence adds up to.

Each *counter* compares one kind of bad event: failed requests, requests slower than each level's
edge, exits, seconds at a limit, seconds after a probe that failed; a *promise* compares one with a
limit of `steady_state`. All counters' wealth is averaged with fixed weights: the mean of several
such processes is one again, whatever they depend on, so many metrics cost no correction. The state
is bounded and plain, so that it can be stored with every tick; `look` moves it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from volery.decide.judge.alarm import NEVER, UNLIKELY
from volery.decide.judge.bets import Bets, Counts, bets_for, kept, wealth
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
)
from volery.decide.judge.policy import (
    Policy,
    coldness,
    level_name,
    limit_edge,
    tolerated_shift,
)
from volery.decide.judge.starts import UNKNOWN, Start
from volery.decide.judge.trust import Trust
from volery.model.evidence import Arm

RUNS_PHI = 5.0
"""Seconds at a limit come in runs, and so do those after a probe that failed."""
NO_RATE, NO_BETS, NO_TRUST, NO_ARMS = Rate(), Bets(), Trust(), (Arm(), Arm())
NO_COUNTS = Counts(0.0, 0.0, 0.0, 0.0)
WEIGHTS = {"errors": 8.0, "exits": 1.0, "saturation": 0.5, "probes": 0.5}
OF_INSTANCES = ("exits", "saturation", "probes")
"""They only speak against a release, never for it."""
_WHOLE = sum(WEIGHTS.values()) + 6


class Counter(NamedTuple):
    """One comparison. `rate` is the old release's; `phi` its over-dispersion, `doubt` the same for
    promotion; `n` and `k` are this step's exposure and bad events, by arm; `held` what is not bet
    on yet because nothing bad happened (instances only)."""

    phi: float
    doubt: float
    rate: Rate = NO_RATE
    bets: Bets = NO_BETS
    trust: Trust = NO_TRUST
    n: float = 0.0
    k: float = 0.0
    n_control: float = 0.0
    k_control: float = 0.0
    held: Counts = NO_COUNTS
    held_seconds: float = 0.0


class Level(NamedTuple):
    """A latency level that is compared: its quantile, the bucket that the old release's slow
    requests reach, and by how many buckets a slow request of the new one must be beyond it."""

    quantile: float
    edge: int
    shift: int


class Alarms(NamedTuple):
    """Levels of the alarms, the limit of the first, and the share of failures of the control that
    is no surprise now. `first` are requests that failed before any was answered, where the old
    release answered most, -1 once one was; `stillborn` is how unlikely that must still become (a
    logarithm) until the release is dead. `failed` and `ended` are what raised the alarms: requests
    since `failing` was 0, and running and exits since `crashing` was. For `excused` seconds no exit
    is a surprise."""

    failing: float = 0.0
    limit: float = NEVER
    crashing: float = 0.0
    usual: float = 0.0
    first: float = 0.0
    stillborn: float = UNLIKELY
    failed: Counts = NO_COUNTS
    ended: Counts = NO_COUNTS
    excused: float = 0.0


NO_ALARMS = Alarms()


@dataclass(frozen=True)
class Promise:
    """A limit of `steady_state`: bets that the release breaks it, that it is worse than the old one
    at all, and that the old one breaks it at present; `shared` is said from when this is sure until
    it is over."""

    limit: float
    edge: int | None
    phi: float
    broken: Bets = NO_BETS
    worse: Bets = NO_BETS
    control_present: tuple[float, ...] = ()
    shared: bool = False


class Beside(NamedTuple):
    """Where the control is a baseline: bets that the new release fails at present what the old
    group does not, and requests and failures of both in this step."""

    present: tuple[float, ...] = ()
    n: float = 0.0
    k: float = 0.0
    n_old: float = 0.0
    k_old: float = 0.0


NO_BESIDE = Beside()


@dataclass(frozen=True)
class State:
    """All that is kept of one release under judgement.

    `age` is seconds since the first tick, less where instances `joined` later; `next_weight` is the
    share of requests the current step asks for; `levels` the latency levels compared, by name;
    `against` the evidence against the release from everything together, and `peak` the most so far.
    `learning` is there while the latency edges are unknown. `waiting` are the arms of the last
    `waited` seconds, too few requests to be bet on yet. `start` is how cold the release was in its
    first seconds, None until that is known. `firm` is what bets on its first failures are worth
    without an excuse, see `settled`. `beside` is the comparison with the old group where a baseline
    is the control.
    """

    age: float = 0.0
    next_weight: float = 1.0
    levels: Mapping[str, Level] = field(default_factory=dict)
    counters: Mapping[str, Counter] = field(default_factory=dict)
    promises: Mapping[str, Promise] = field(default_factory=dict)
    latency: Mapping[int, int] = field(default_factory=dict)
    latency_control: Mapping[int, int] = field(default_factory=dict)
    alarms: Alarms = NO_ALARMS
    against: float = 1.0
    peak: float = 1.0
    learning: History | None = None
    waiting: tuple[Arm, Arm] = NO_ARMS
    waited: float = 0.0
    start: Start | None = None
    firm: Bets | None = None
    beside: Beside = NO_BESIDE


def begin(policy: Policy, history: History, next_weight: float = 1.0) -> State:
    """The state before the first tick; `next_weight` is what the first step asks for."""
    errors = _counter(history.errors, LEAST_PHI, policy)
    counters = {
        "errors": errors,
        "exits": Counter(1.0, 1.0, history.exits),
        "saturation": Counter(RUNS_PHI, RUNS_PHI, history.saturation),
        "probes": Counter(RUNS_PHI, RUNS_PHI, history.probes),
    }
    state = State(
        next_weight=next_weight,
        counters=counters,
        promises=_promises(policy, history),
        firm=NO_BETS if policy.warm_up_seconds > 0 else None,
    )
    return (
        compare_latency(policy, state, history)
        if history.edges
        else replace(state, learning=history)
    )


def step(state: State, next_weight: float) -> State:
    """A step began: evidence in favour begins anew, evidence against stays."""
    return replace(
        in_force(state), next_weight=next_weight, start=state.start or UNKNOWN, firm=None
    )


def in_force(state: State) -> State:
    """The step's shares are in force now: what was seen before that speaks for no step, nor what
    waits to be bet on; alarms have seen it."""
    counters = {
        name: c._replace(trust=NO_TRUST, n=0.0, k=0.0, n_control=0.0, k_control=0.0)
        for name, c in state.counters.items()
    }
    beside = Beside(state.beside.present)
    return replace(
        state,
        counters=counters,
        latency={},
        latency_control={},
        waiting=NO_ARMS,
        waited=0.0,
        beside=beside,
    )


def joined(policy: Policy, state: State, share: float) -> State:
    """Fresh instances came, which are now this share (0 to 1) of the release: it is as cold as its
    instances are on average."""
    if policy.warm_up_seconds <= 0 or share <= 0:
        return state
    cold = share + (1 - share) * coldness(policy, state.age)
    return replace(state, age=max(0.0, -policy.warm_up_seconds * math.log2(cold)))


def _counter(metric: Metric, least: float, policy: Policy) -> Counter:
    frozen = policy.frozen_control
    phi = max(least, over_dispersion(metric, PRIOR_PHI, PRIOR_WEIGHT, frozen))
    doubt = max(phi, over_dispersion(metric, DOUBT_PHI, DOUBT_WEIGHT, frozen))
    return Counter(phi, doubt, metric.rate)


def compare_latency(policy: Policy, state: State, history: History) -> State:
    """The state with the latency levels of a history compared from now on."""
    levels = {
        level_name(quantile): Level(quantile, edge, tolerated_shift(policy, edge))
        for quantile, edge in history.edges.items()
        if quantile in policy.levels
    }
    slow = {
        name: _counter(history.slow.get(level.quantile, Metric()), LEAST_PHI_SLOW, policy)._replace(
            bets=bets_for(1 - level.quantile)
        )
        for name, level in levels.items()
    }
    return replace(state, levels=levels, counters={**state.counters, **slow}, learning=None)


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
    return _weight(state, WEIGHTS.get(name) or 6 / max(len(state.levels), 1))


def _weight(state: State, part: float) -> float:
    return part / (_WHOLE + len(state.promises))


def evidence(state: State) -> float:
    """The evidence against the release from everything together. Starts at 1."""
    return combined(state.counters, state.promises, len(state.levels))


def combined(
    counters: Mapping[str, Counter], promises: Mapping[str, Promise], levels: int
) -> float:
    """The evidence of these counters and promises, so many of them levels of latency, together."""
    total, whole = 1.0, _WHOLE + len(promises)
    level = 6 / max(levels, 1)
    for name, counter in counters.items():
        early, late, seconds = counter.bets
        worth = sum(early) + sum(late) + kept(seconds)
        total += (WEIGHTS.get(name) or level) / whole * (worth - 1)
    for promise in promises.values():
        total += 1.0 / whole * (against_promise(promise) - 1)
    return total


def against_promise(promise: Promise) -> float:
    """The evidence that the release breaks a promise and is the cause: the weaker of both."""
    return min(wealth(promise.broken), wealth(promise.worse))
