"""The rollout: a bounded, journaled change of one service from one release to another.

`step` looks at a rollout and what is observed and returns the rollout and the service as they
should be now. It never touches an engine or the data plane: it edits slots (counts and weights),
and the reconcilers do the rest. Each call is idempotent, so a crash between any two calls
resumes.

A step forward waits until the data plane has acknowledged everything before it (*settled*) and
every instance asked for so far is ready. Strategies are in `decide.strategy`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from volery.decide import strategy
from volery.decide.strategy import Group, Moved, View
from volery.model.ports import BuildStatus
from volery.model.state import Phase, Rollout, ServiceState, Slot, Track, other

TRANSITIONS: dict[Phase, frozenset[Phase]] = {
    Phase.BUILDING: frozenset({Phase.TESTING, Phase.STARTING, Phase.ROLLED_BACK, Phase.FAILED}),
    Phase.TESTING: frozenset({Phase.STARTING, Phase.ROLLED_BACK, Phase.FAILED}),
    Phase.STARTING: frozenset({Phase.SHIFTING, Phase.PAUSED, Phase.PROMOTING, Phase.ROLLING_BACK}),
    Phase.SHIFTING: frozenset({Phase.ANALYSING, Phase.PAUSED, Phase.PROMOTING, Phase.ROLLING_BACK}),
    Phase.ANALYSING: frozenset({Phase.SHIFTING, Phase.PAUSED, Phase.PROMOTING, Phase.ROLLING_BACK}),
    Phase.PAUSED: frozenset(
        {Phase.STARTING, Phase.SHIFTING, Phase.ANALYSING, Phase.PROMOTING, Phase.ROLLING_BACK}
    ),
    Phase.PROMOTING: frozenset({Phase.DONE, Phase.ROLLING_BACK}),
    Phase.ROLLING_BACK: frozenset({Phase.ROLLED_BACK, Phase.FAILED}),
    Phase.DONE: frozenset(),
    Phase.ROLLED_BACK: frozenset(),
    Phase.FAILED: frozenset(),
}
"""Which phase may follow which; the diagram in the docs is drawn from this."""

PATIENCE_SECONDS = 60.0
"""How long a return waits for the old group to be whole again before it ends with what there is."""


@dataclass(frozen=True)
class Situation:
    """What `step` may know besides the documents."""

    view: View
    build: BuildStatus | None
    built: bool
    """The release has an artifact that passed its tests."""
    turn: Literal["wait", "go", "abort"]
    """Whether the rollouts it belongs together with let it start."""
    turn_reason: str = ""


def step(rollout: Rollout, service: ServiceState, now: Situation) -> tuple[Rollout, ServiceState]:
    """The rollout and its service as they should be now; unchanged if there is nothing to do."""
    match rollout.phase:
        case Phase.BUILDING | Phase.TESTING:
            return _prepare(rollout, service, now)
        case Phase.STARTING | Phase.SHIFTING | Phase.ANALYSING | Phase.PROMOTING:
            return _forward(rollout, service, now)
        case Phase.ROLLING_BACK:
            return _back(rollout, service, now)
        case _:
            return rollout, service


def abort(
    rollout: Rollout,
    service: ServiceState,
    reason: str,
    now: float,
    *,
    tail: tuple[str, ...] = (),
    blame: bool = False,
) -> tuple[Rollout, ServiceState]:
    """Turn round: the old group gets all requests again, the new one is taken away.

    With `blame` the verdict is *abort*: the release itself is at fault and will be refused.
    """
    rollout = replace(rollout, reason=reason, tail=tail, verdict="abort" if blame else None)
    if rollout.phase in (Phase.BUILDING, Phase.TESTING):
        return _enter(rollout, _refused(rollout), now), service
    if rollout.phase in (Phase.STARTING, Phase.SHIFTING):
        rollout = _timed(rollout, now)
    rollout = _enter(rollout, Phase.ROLLING_BACK, now)
    return rollout, strategy.turn_round(rollout, service)


def pause(rollout: Rollout, now: float) -> Rollout:
    """Hold where it is until `resume`."""
    return replace(_enter(rollout, Phase.PAUSED, now), resume_to=rollout.phase)


def resume(rollout: Rollout, now: float) -> Rollout:
    """Go on where it was paused."""
    return replace(_enter(rollout, rollout.resume_to or Phase.SHIFTING, now), resume_to=None)


def _enter(rollout: Rollout, phase: Phase, now: float) -> Rollout:
    if phase not in TRANSITIONS[rollout.phase]:
        raise AssertionError(f"{rollout.id}: {rollout.phase} -> {phase} is not in the table")
    ended = not TRANSITIONS[phase]
    return replace(
        rollout, phase=phase, since=now, stalled_since=None, finished_at=now if ended else None
    )


def _refused(rollout: Rollout) -> Phase:
    return Phase.ROLLED_BACK if rollout.from_release else Phase.FAILED


def _prepare(
    rollout: Rollout, service: ServiceState, now: Situation
) -> tuple[Rollout, ServiceState]:
    build, moment = now.build, now.view.now
    if build:
        spent = {"build": round(build.build_seconds, 3), "test": round(build.test_seconds, 3)}
        rollout = replace(rollout, seconds=rollout.seconds | spent)
    if build and build.phase == "failed":
        return abort(rollout, service, build.reason, moment, tail=build.tail, blame=True)
    if now.turn == "abort":
        return abort(rollout, service, now.turn_reason, moment)
    if not now.built:
        testing = build is not None and build.phase == "testing"
        if testing and rollout.phase is Phase.BUILDING:
            rollout = _enter(rollout, Phase.TESTING, moment)
        return rollout, service
    if now.turn == "wait":
        return rollout, service
    moved = strategy.begin(rollout, service, now.view)
    if not moved.begun:
        return rollout, moved.service
    return _enter(replace(rollout, steps=moved.steps), Phase.STARTING, moment), moved.service


def _forward(
    rollout: Rollout, service: ServiceState, now: Situation
) -> tuple[Rollout, ServiceState]:
    view = now.view
    reason = _why_abort(now, service)
    if reason:
        blame = bool(view.new.failure)
        return abort(rollout, service, reason, view.now, tail=view.new.tail, blame=blame)
    if rollout.phase is Phase.PROMOTING:
        return _promote(rollout, service, view)
    moved = strategy.advance(rollout, service, view)
    if moved.complete:
        rollout = _timed(rollout, view.now)
        rollout = replace(rollout, weight=100, step=rollout.steps, verdict="promote")
        return _enter(rollout, Phase.PROMOTING, view.now), moved.service
    return _progress(rollout, moved, view), moved.service


def _progress(rollout: Rollout, moved: Moved, view: View) -> Rollout:
    """Note how far it is; once requests go to the new group it is *shifting*."""
    rollout = replace(rollout, weight=moved.weight, step=moved.step, verdict="continue")
    if rollout.phase is Phase.STARTING and moved.shifting:
        rollout = _enter(_timed(rollout, view.now), Phase.SHIFTING, view.now)
    return rollout


def _timed(rollout: Rollout, now: float) -> Rollout:
    key = "start" if rollout.phase is Phase.STARTING else "shift"
    spent = rollout.seconds.get(key, 0.0) + max(0.0, now - rollout.since)
    return replace(rollout, seconds=rollout.seconds | {key: round(spent, 3)})


def _why_abort(now: Situation, service: ServiceState) -> str:
    """Hard signals: no statistics are needed to see that these must not go on."""
    view = now.view
    if view.new.failure:
        return view.new.failure
    if view.rejected:
        return f"the data plane refused the configuration: {view.rejected}"
    if now.turn == "abort":
        return now.turn_reason
    if service.removing:
        return "the service was removed"
    return ""


def _promote(rollout: Rollout, service: ServiceState, view: View) -> tuple[Rollout, ServiceState]:
    """The new group is the live one from here on."""
    if not view.settled:
        return rollout, service
    slots = dict(service.slots)
    new, old = slots[rollout.slot], slots[other(rollout.slot)]
    assert new is not None
    slots[rollout.slot] = replace(new, track=Track.STABLE, weight=100, count=service.scale)
    warm_until = None
    if old is not None and old.count > 0:
        slots[other(rollout.slot)] = replace(old, track=Track.BLUE, weight=0)
        warm_until = view.now + service.config.deploy.warm
    elif old is not None and view.old.existing == 0:
        slots[other(rollout.slot)] = None
    service = replace(service, slots=slots, active=rollout.slot, warm_until=warm_until)
    return _enter(rollout, Phase.DONE, view.now), service


def _back(rollout: Rollout, service: ServiceState, now: Situation) -> tuple[Rollout, ServiceState]:
    view = now.view
    service = strategy.turn_round(rollout, service)
    old, new = service.slots[other(rollout.slot)], service.slots[rollout.slot]
    if new is not None and new.count > 0:
        may = strategy.may_remove_new(rollout, service, view)
        if not may and view.in_phase < PATIENCE_SECONDS:
            return rollout, service
        return rollout, _with_slot(service, rollout, replace(new, count=0))
    if view.new.existing > 0:
        return rollout, service
    service = strategy.restore_old(rollout, service)
    whole = old is None or view.old.ready >= service.scale
    if not (whole and view.settled) and view.in_phase < PATIENCE_SECONDS:
        return rollout, service
    service = _with_slot(service, rollout, None)
    return _enter(replace(rollout, weight=0), _refused(rollout), view.now), service


def _with_slot(service: ServiceState, rollout: Rollout, slot: Slot | None) -> ServiceState:
    return replace(service, slots=dict(service.slots) | {rollout.slot: slot})


__all__ = ["TRANSITIONS", "Group", "Situation", "View", "abort", "pause", "resume", "step"]
