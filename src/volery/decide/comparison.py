"""How the releases of a rollout are compared: when, with what, and what is kept of it.

A comparison begins when the new group gets requests (or copies of them) and is stored with every
look, so that the next control plane goes on where this one was, counting nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from volery.decide import copies, judge
from volery.decide.asked import Streak, control_slot
from volery.decide.copies import Copies
from volery.decide.evidence import Marks, Tick
from volery.decide.judge import History, Policy, Start, State
from volery.decide.judge.starts import UNKNOWN, WAIT_SECONDS
from volery.decide.phases import has_begun
from volery.decide.staged import is_asked_for, is_watched
from volery.decide.stages import has_baseline, is_last, ramp_of, stage_of, stages
from volery.decide.tags import steered
from volery.decide.world import World, number_of
from volery.model.deploy import STAGED
from volery.model.evidence import Arm, Judgement, Line
from volery.model.state import Phase, Rollout, ServiceState, other

COMPARED = (Phase.SHIFTING, Phase.ANALYSING, Phase.PAUSED)
COPIES_SLACK_MS = 1.5
"""Copies of requests are timed in whole milliseconds, and so is what they are compared with."""
TICK_SECONDS_MAX = 5.0
FROZEN_TICKS = 60
"""How much of the old release's recent past stands in for it once it gets no more requests."""


@dataclass(frozen=True)
class Comparison:
    """A rollout's evidence so far. `past` is what was known of the old release at the beginning,
    `frozen` the ticks of it that are replayed, the newest first, where it gets no requests any
    more."""

    rollout: str
    policy: Policy
    past: History
    state: State
    step: int
    in_step: float = 0.0
    """Seconds the present step has been looked at."""
    ramps: bool = False
    """Whether its share still grows."""
    begins: bool = False
    """Whether its shares came into force with this look."""
    marks: Marks | None = None
    looks: int = 0
    ticks: int = 0
    """How many ticks are in its looks: while a rollout is paused they are put together."""
    frozen: tuple[Arm, ...] = ()
    streaks: Mapping[str, Streak] = field(default_factory=dict)
    ready: int = 0
    """The most instances of the new release that were ready at the same time."""
    fresh: float = 0.0
    """Which share of them was not a look ago."""
    copies: Copies = copies.NONE
    """Of requests, while that is all the new release gets."""
    beside: int = 0
    """How many looks there were beside a baseline that was given up then."""

    @property
    def alarms_only(self) -> bool:
        """Whether it is compared with nothing: copies are all it gets, and they are not of all
        kinds of requests."""
        return self.copies.answered > 0 and self.copies.are_some


@dataclass(frozen=True)
class Past:
    """What is known of a service's stable traffic; kept over restarts of the control plane."""

    service: str
    history: History


def is_compared(rollout: Rollout, service: ServiceState) -> bool:
    """Whether there is something to compare now."""
    new, old = service.slots.get(rollout.slot), service.slots.get(other(rollout.slot))
    if new is None or old is None or not is_asked_for(rollout) or rollout.phase not in COMPARED:
        return False
    if rollout.strategy == "blue-green":
        return new.weight > 0 and is_watched(rollout, service)
    return rollout.strategy != "recreate" and bool(new.weight or new.mirror)


def begin(
    rollout: Rollout, service: ServiceState, history: History, recent: tuple[Arm, ...]
) -> Comparison:
    """A comparison with nothing in it yet."""
    deploy = service.config.deploy
    has_copies = any(stage.mirror for stage in stages(rollout, service))
    # While copies are all the new release gets, its baseline gets nothing to compare with.
    beside = has_baseline(rollout, service) and not has_copies
    policy = judge.policy_of(service.config.steady_state, deploy, beside)
    policy = judge.expected(policy, history.start)
    if has_copies:
        policy = replace(policy, slack_ms=COPIES_SLACK_MS)
    frozen = recent if rollout.strategy == "blue-green" else ()
    policy = replace(policy, frozen_control=rollout.strategy == "blue-green")
    state = judge.begin(policy, history, next_weight(rollout, service))
    return Comparison(rollout.id, policy, history, state, rollout.step, frozen=frozen)


def next_weight(rollout: Rollout, service: ServiceState) -> float:
    """The share of requests (0 to 1) that the present step asks for."""
    if rollout.strategy != "canary" or is_last(rollout):
        return 1.0
    return stages(rollout, service)[max(rollout.step, 1)].weight / 100


def share(rollout: Rollout, service: ServiceState) -> float:
    """The share of the compared requests (0 to 1) that the new release should get: copies come on
    top of what the old one gets; after a blue-green switch there is nothing beside it."""
    new = service.slots[rollout.slot]
    control = service.slots.get(control_slot(rollout, service))
    assert new is not None
    mine, others = new.weight or new.mirror, control.weight if control else 0.0
    return mine / (mine + others) if mine + others else 1.0


def own_share(rollout: Rollout, service: ServiceState) -> float:
    """The percent of all requests that the new release should get."""
    new = service.slots[rollout.slot]
    return new.weight if new else 0.0


def arms_of(world: World, rollout: Rollout, tick: Tick, comparison: Comparison) -> tuple[Arm, Arm]:
    """The new release's and the control's part of a tick; of the latter nothing where only some
    kinds of requests are copied."""
    canary = tick.slots.get(rollout.slot, Arm())
    if comparison.looks == 0:
        canary = _own(world, rollout, tick, canary)
    if comparison.frozen:
        return canary, _replayed(rollout, comparison)
    if comparison.copies.are_some:
        return canary, Arm()
    slot = control_slot(rollout, world.services[rollout.service])
    return canary, tick.slots.get(slot, Arm())


def _replayed(rollout: Rollout, comparison: Comparison) -> Arm:
    """The tick of the old release's past whose turn it is. Said once more it is no news: while
    nothing but a person or a gate is waited for, for days maybe, each counts once."""
    frozen, ticks = comparison.frozen, comparison.ticks
    awaited = rollout.phase is not Phase.PAUSED and rollout.passed < rollout.step
    return frozen[-1 - ticks % len(frozen)] if awaited or ticks < len(frozen) else Arm()


def old_group(rollout: Rollout, tick: Tick, comparison: Comparison) -> Arm:
    """What serves most, where that is not what is compared with, without its latencies; else
    nothing."""
    if not (comparison.policy.same_age or comparison.copies.are_some):
        return Arm()
    return replace(tick.slots.get(other(rollout.slot), Arm()), latency={})


def _own(world: World, rollout: Rollout, tick: Tick, whole: Arm) -> Arm:
    """The part of a group's first tick that is its own: the release that was in this slot before
    may have answered its last requests in the same second."""
    arms = [
        tick.instances[item.id]
        for item in world.instances_of(rollout.service, rollout.slot)
        if item.id in tick.instances and item.release == rollout.to_release
    ]
    requests = sum(arm.requests for arm in arms)
    if requests >= whole.requests:
        return whole
    failures = sum(arm.failures for arm in arms)
    return replace(whole, requests=requests, failures=failures, latency={})


def stable_parts(world: World, service: ServiceState, tick: Tick) -> list[Arm]:
    """The pieces of the live release's part of a tick: its instances; the latencies, which are
    known of the whole group only, go with the first."""
    whole = tick.slots.get(service.active, Arm())
    parts = [
        tick.instances[item.id]
        for item in world.instances_of(service.name, service.active)
        if item.id in tick.instances and item.intent == "run"
    ]
    if not parts or sum(part.requests for part in parts) == 0:
        return [whole]
    return [replace(parts[0], latency=whole.latency), *parts[1:]]


def in_step(comparison: Comparison, rollout: Rollout, service: ServiceState) -> Comparison:
    """The comparison with the judge told if another step began, or its shares are in force now."""
    if comparison.step != rollout.step:
        state = judge.step(comparison.state, next_weight(rollout, service))
        comparison = replace(comparison, step=rollout.step, in_step=0.0, state=state)
    grows = rollout.weight < stage_of(rollout, service).weight
    ramps = grows and ramp_of(rollout, service.config.deploy) > 0
    if ramps != comparison.ramps:
        comparison = replace(comparison, ramps=ramps)
    if rollout.phase is Phase.ANALYSING and comparison.in_step == 0 and not ramps:
        return replace(comparison, begins=True, state=judge.in_force(comparison.state))
    return replace(comparison, begins=False) if comparison.begins else comparison


def alone(comparison: Comparison, rollout: Rollout, service: ServiceState) -> Comparison:
    """The comparison with the judge told if the baseline was given up: beside old instances all of
    the new release is cold, and the step has to show anew what it is."""
    if not (rollout.no_baseline and comparison.policy.same_age):
        return comparison
    warm_up = service.config.deploy.warm_up
    policy = replace(comparison.policy, same_age=False, warm_up_seconds=warm_up)
    return replace(comparison, policy=policy, beside=comparison.looks, ready=0, in_step=0.0)


def with_baseline(policy: Policy) -> Policy:
    """The policy as it was before the baseline was given up."""
    return replace(policy, same_age=True, warm_up_seconds=0.0)


def mixed(comparison: Comparison, world: World, service: ServiceState) -> Comparison:
    """The comparison with the judge told if by now requests come on top of the shares: ours, or
    those that are sent on purpose or by a tag. What was counted of them stays, and so does that."""
    on_top = bool(service.config.deploy.synthetic) or steered(world, service)
    if comparison.policy.unsplit or not on_top:
        return comparison
    return replace(comparison, policy=replace(comparison.policy, unsplit=True))


def grown(comparison: Comparison, world: World, rollout: Rollout) -> Comparison:
    """The comparison with the judge told if the new release has more ready instances than ever:
    what a later step starts is as cold as the first one was. One that only took the place of
    another is not excused: a release that loses instances would never be warm."""
    there = world.instances_of(rollout.service, rollout.slot)
    ready = sum(item.intent == "run" and world.ready(item) for item in there)
    fresh = max(0, ready - comparison.ready) / ready if ready else 0.0
    return replace(
        comparison,
        ready=max(ready, comparison.ready),
        fresh=fresh,
        state=judge.joined(comparison.policy, comparison.state, fresh),
    )


def copied(
    comparison: Comparison, rollout: Rollout, service: ServiceState, tick: Tick
) -> Comparison:
    """The comparison with the copies of one more tick, where only some methods are copied."""
    new = service.slots[rollout.slot]
    assert new is not None
    if new.weight or service.config.deploy.mirror_methods == "all":
        return replace(comparison, copies=copies.NONE)
    if rollout.phase is not Phase.ANALYSING:
        return comparison
    asked = tick.slots.get(control_slot(rollout, service), Arm()).requests
    answered = tick.slots.get(rollout.slot, Arm()).requests
    due = asked * new.mirror / 100
    found = copies.counted(comparison.copies, answered, due, comparison.in_step)
    return replace(comparison, copies=found)


def looked(
    comparison: Comparison,
    rollout: Rollout,
    arms: tuple[Arm, Arm],
    seconds: float,
    old: Arm | None = None,
    ticks: int = 1,
) -> Comparison:
    """The comparison after one more look at so many ticks, of which `old` is the `old_group`'s
    part. Only a step whose weights are in force gets older, and by no more than a few seconds where
    nothing was seen for long."""
    in_force = rollout.phase is Phase.ANALYSING and not comparison.ramps
    older = min(seconds, TICK_SECONDS_MAX) if in_force else 0.0
    old = old or Arm()
    state = judge.look(comparison.policy, comparison.state, *arms, seconds, old)
    return replace(
        comparison,
        state=judge.beside(comparison.policy, state, arms[0], old),
        looks=comparison.looks + 1,
        ticks=comparison.ticks + ticks,
        in_step=comparison.in_step + older,
    )


def judgement(
    comparison: Comparison, rollout: Rollout, service: ServiceState, before: Judgement | None = None
) -> Judgement:
    """What the evidence says of the present step. With what was said `before`, a moment ago, its
    lines stay as long as the verdict does: to write them takes longer than to decide."""
    found = judge.decide(
        comparison.policy,
        comparison.state,
        share(rollout, service),
        next_weight(rollout, service),
        comparison.in_step,
    )
    if comparison.alarms_only and found.verdict != "abort":
        found = by_alarms(comparison.state, comparison.in_step)
    if before is not None and before.verdict == found.verdict:
        return replace(found, lines=before.lines)
    lines = judge.lines_of(comparison.policy, comparison.state)
    if rollout.no_baseline:
        lines += (Line("baseline", "missing", f"no baseline: {rollout.no_baseline}"),)
    return replace(found, lines=lines)


def by_alarms(state: State, in_step: float) -> Judgement:
    """What is said of copies that are compared with nothing, while no alarm rings."""
    n = state.counters["errors"].n
    why = "only GET, HEAD and OPTIONS are copied, and users send more: nothing can be compared yet"
    if in_step < copies.ENOUGH_SECONDS or n < copies.FEWEST:
        return Judgement("continue", why)
    return Judgement("promote", f"{why}; no alarm in {n:,.0f} copies")


def start_of(
    world: World,
    service: ServiceState,
    comparison: Callable[[str], Comparison | None],
    now: float,
) -> Start | None:
    """How cold the live release was when it began, as it was measured when it came; None if it is
    the service's first and came just now, so that this can still be seen. Beside a baseline, which
    was as cold, it was not. `comparison` knows those of rollouts, by id; `now` in Unix seconds."""
    live = service.slots.get(service.active)
    came = sorted(
        (
            rollout
            for rollout in world.rollouts.values()
            if rollout.service == service.name
            and rollout.phase is Phase.DONE
            and live is not None
            and rollout.to_release == live.release
        ),
        key=lambda rollout: number_of(rollout.id),
    )
    for rollout in reversed(came):
        found = comparison(rollout.id)
        if found is not None and not (found.policy.same_age or found.beside):
            return found.state.start or UNKNOWN
    first = bool(came) and came[-1].from_release is None
    return None if first and now - (came[-1].finished_at or 0.0) <= WAIT_SECONDS else UNKNOWN


def is_stable(rollout: Rollout | None, service: ServiceState) -> bool:
    """Whether the live release alone gets requests, so that its traffic can be learned from."""
    if rollout is None or not has_begun(rollout):
        return True
    new = service.slots.get(rollout.slot)
    waits = rollout.phase is Phase.STARTING and rollout.strategy in STAGED
    return waits and (new is None or not (new.weight or new.mirror))
