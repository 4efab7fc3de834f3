"""The rollout: a bounded, journaled change of one service from one release to another.

`step` looks at a rollout and what is observed and returns the rollout and the service as they
should be now. It never touches an engine or the data plane: it edits slots (counts and weights),
and the reconcilers do the rest. Each call is idempotent, so a crash between any two calls
resumes.

A step forward waits until the data plane has acknowledged everything before it (*settled*) and
every instance asked for so far is ready. Strategies are in `decide.strategy` and, for those that
go by evidence, `decide.staged`; the phases in `decide.phases`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from volery.decide import staged, strategy
from volery.decide.group import started_anew
from volery.decide.phases import TRANSITIONS, enter, has_begun, is_return, pause, resume
from volery.decide.situation import Situation
from volery.decide.stages import by_stages, without_baseline
from volery.decide.strategy import Group, Moved, View
from volery.model.evidence import Verdict
from volery.model.state import Phase, Rollout, ServiceState, Slot, Track, other

PATIENCE_SECONDS = 15.0
"""How long a return waits for the data plane before it goes on with what there is."""
FAILED_STARTS = 3
"""After so many failed starts in a row the old group is as large as it can be."""
FORWARD = (Phase.STARTING, Phase.SHIFTING, Phase.ANALYSING, Phase.PAUSED)
"""Where a rollout that has begun may still end either way."""


def step(rollout: Rollout, service: ServiceState, now: Situation) -> tuple[Rollout, ServiceState]:
    """The rollout and its service as they should be now; unchanged if there is nothing to do."""
    match rollout.phase:
        case Phase.BUILDING | Phase.TESTING:
            return _prepare(rollout, service, now)
        case Phase.STARTING | Phase.SHIFTING | Phase.ANALYSING | Phase.PROMOTING | Phase.PAUSED:
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
    verdict: Verdict | None = None,
) -> tuple[Rollout, ServiceState]:
    """Turn round: the old group gets all requests again, the new one is taken away.

    With the verdict *abort* the release itself is at fault and will be refused. Else what of it
    serves in the place of old instances goes on with that until these are back.
    """
    rollout = replace(rollout, reason=reason, tail=tail, verdict=verdict)
    if not has_begun(rollout):
        return enter(rollout, _refused(rollout), now), service
    rollout = replace(enter(rollout, Phase.ROLLING_BACK, now), weight=0)
    service = started_anew(service)  # what failed so far was the new group
    if strategy.may_serve_on(rollout, service):
        return rollout, service
    return rollout, strategy.turn_round(rollout, service)


def _refused(rollout: Rollout) -> Phase:
    return Phase.ROLLED_BACK if rollout.from_release else Phase.FAILED


def _prepare(
    rollout: Rollout, service: ServiceState, now: Situation
) -> tuple[Rollout, ServiceState]:
    build, moment = now.build, now.view.now
    if build:
        spent = {"build": round(build.build_seconds, 3), "test": round(build.test_seconds, 3)}
        if any(rollout.seconds.get(key) != seconds for key, seconds in spent.items()):
            rollout = replace(rollout, seconds=rollout.seconds | spent)
    if build and build.phase == "failed":
        return abort(rollout, service, build.reason, moment, tail=build.tail, verdict="abort")
    if now.turn == "abort":
        return abort(rollout, service, now.turn_reason, moment)
    if not now.built:
        testing = build is not None and build.phase == "testing"
        if testing and rollout.phase is Phase.BUILDING:
            rollout = enter(rollout, Phase.TESTING, moment)
        return rollout, service
    return _begin(rollout, service, now)


def _begin(rollout: Rollout, service: ServiceState, now: Situation) -> tuple[Rollout, ServiceState]:
    """Make the new group, once it is its turn and the gates before it let it pass."""
    moment = now.view.now
    if now.turn == "wait":
        return replace(rollout, reason=now.turn_reason), service
    if rollout.phase is Phase.BUILDING and _serves_already(rollout):
        there = replace(rollout, weight=100, step=rollout.steps, verdict="promote", reason="")
        return enter(there, Phase.DONE, moment), service
    gate = staged.first_gate(rollout, now)
    if gate.state == "abort":  # it says when, not what: nobody has seen the release yet
        return abort(rollout, service, gate.text, moment)
    if gate.state == "hold":
        return pause(rollout, moment, gate.text, "gate"), service
    if gate.state == "wait":
        return replace(rollout, reason=gate.text), service
    moved = strategy.begin(rollout, service, now.view)
    if not moved.begun:
        return rollout, moved.service
    ready = min(now.view.old.ready, service.scale)
    begun = replace(rollout, steps=moved.steps, reason="", ready_before=ready)
    # What comes back does not wait for how the release before it failed to start.
    after = started_anew(moved.service) if is_return(rollout) else moved.service
    return enter(staged.counted(begun), Phase.STARTING, moment), after


def _serves_already(rollout: Rollout) -> bool:
    """Whether somebody wants what serves: it was asked for while another release was on its way."""
    return staged.is_asked_for(rollout) and rollout.from_release == rollout.to_release


def placed(rollout: Rollout, service: ServiceState) -> Rollout:
    """Where a rollout that has not begun goes and what it goes from: one before it may change
    both."""
    if has_begun(rollout):
        return rollout
    live = service.live
    origin = live.release if live and live.count else None
    slot = other(service.active) if live else service.active
    if (rollout.slot, rollout.from_release) == (slot, origin):
        return rollout
    return replace(rollout, slot=slot, from_release=origin)


def _forward(
    rollout: Rollout, service: ServiceState, now: Situation
) -> tuple[Rollout, ServiceState]:
    view = now.view
    back = _turned_back(rollout, service, now)
    if back is not None:
        return back
    if rollout.phase is Phase.PAUSED:
        freed = rollout.paused_for == "evidence" and staged.is_unopposed(view)
        return (resume(rollout, view.now) if freed else rollout), service
    if rollout.phase is Phase.PROMOTING:
        return _promote(rollout, service, view)
    if is_return(rollout):
        rollout = replace(rollout, reason=view.new.lacking)
    if by_stages(rollout):
        return staged.forward(rollout, service, now)
    rollout = staged.noted(rollout, now.judged)
    moved = strategy.advance(rollout, service, view)
    if moved.complete:
        done = replace(rollout, weight=100, step=rollout.steps, verdict="promote", reason="")
        return enter(done, Phase.PROMOTING, view.now), moved.service
    return _progress(rollout, moved, view), moved.service


def _progress(rollout: Rollout, moved: Moved, view: View) -> Rollout:
    """Note how far it is; once requests go to the new group it is *shifting*."""
    told = (moved.weight, moved.step, "continue")
    if (rollout.weight, rollout.step, rollout.verdict) != told:
        rollout = replace(rollout, weight=moved.weight, step=moved.step, verdict="continue")
    if rollout.phase is Phase.STARTING and moved.shifting:
        rollout = enter(rollout, Phase.SHIFTING, view.now)
    return rollout


def way_out(rollout: Rollout, service: ServiceState, view: View) -> Literal["", "on", "back"]:
    """How a rollout that something newer waits for makes way for it: with what there is of it, or
    back to what can bear the requests. "" while it does not.

    One that brings something new turns round, unless nothing but it serves. What comes back, and
    moves no further, is ended where it lacks something for longer than a start takes."""
    if rollout.phase not in FORWARD or not has_begun(rollout):
        return ""
    if staged.is_asked_for(rollout):
        alone = view.new.ready > 0 and view.old.ready + view.beside.ready == 0
        return ("on" if staged.is_unopposed(view) else "") if alone else "back"
    lacks = is_return(rollout) and rollout.phase is Phase.SHIFTING and view.new.lacking
    if not (lacks and view.settled and strategy.is_late(rollout, service, view)):
        return ""
    return "on" if 2 * view.new.ready >= service.scale else "back"


def as_it_is(rollout: Rollout, reason: str, now: float) -> Rollout:
    """The rollout on its way to its end with what there is of its new group."""
    if is_return(rollout):
        return replace(rollout, passed=rollout.steps)
    whole = replace(rollout, weight=100, step=rollout.steps, verdict="promote", reason=reason)
    return replace(enter(whole, Phase.PROMOTING, now), resume_to=None)


def _turned_back(
    rollout: Rollout, service: ServiceState, now: Situation
) -> tuple[Rollout, ServiceState] | None:
    """The rollout on its way back, if it must not go on; None if it may."""
    view, moment = now.view, now.view.now
    if not has_begun(rollout):  # paused before anything ran
        return abort(rollout, service, now.turn_reason, moment) if now.turn == "abort" else None
    if view.new.failure:
        tail = view.new.tail
        verdict: Verdict | None = "abort" if view.new.blamed else None
        return abort(rollout, service, view.new.failure, moment, tail=tail, verdict=verdict)
    if (
        now.judged is not None
        and now.judged.verdict == "abort"
        and not (now.judged.by_comparison and staged.is_let_through(rollout))
    ):
        seen = staged.noted(rollout, now.judged)
        return abort(seen, service, now.judged.reason, moment, verdict="abort")
    gate = now.gate(staged.due(rollout)) if staged.is_gated(rollout) else None
    if gate is not None and gate.state == "abort":
        denied = replace(rollout, denied=True)
        return abort(denied, service, gate.text, moment, verdict="abort")
    if service.config.deploy.on_inconclusive == "rollback":
        lacking = staged.lacking(rollout, service, now)
        if lacking:
            return abort(rollout, service, lacking, moment, verdict="inconclusive")
    reason = _outer_reason(now)
    return abort(rollout, service, reason, moment) if reason else None


def _outer_reason(now: Situation) -> str:
    """Why it must not go on though nothing is known against the release itself."""
    if now.view.rejected:
        return f"the data plane refused the configuration: {now.view.rejected}"
    return now.turn_reason if now.turn == "abort" else ""


def _promote(rollout: Rollout, service: ServiceState, view: View) -> tuple[Rollout, ServiceState]:
    """The new group is the live one from here on."""
    if not view.settled:
        return rollout, service
    slots = dict(service.slots)
    new, old = slots[rollout.slot], slots[other(rollout.slot)]
    assert new is not None
    slots[rollout.slot] = Slot(new.release, Track.STABLE, service.scale, 100)
    warm_until = None
    if old is not None and old.count > 0:
        slots[other(rollout.slot)] = replace(old, track=Track.BLUE, weight=0)
        warm_until = view.now + service.config.deploy.warm
    elif old is not None and view.old.existing == 0:
        slots[other(rollout.slot)] = None
    service = replace(service, slots=slots, active=rollout.slot, warm_until=warm_until)
    service = without_baseline(service)
    return enter(rollout, Phase.DONE, view.now), service


def _back(rollout: Rollout, service: ServiceState, now: Situation) -> tuple[Rollout, ServiceState]:
    view = now.view
    if _serves_on(rollout, service, view):
        return rollout, strategy.give_back(rollout, service, view)
    turned = strategy.turn_round(rollout, service)
    if turned != service:
        return rollout, turned
    new = service.slots[rollout.slot]
    if new is not None and new.count > 0:
        may = strategy.may_remove_new(rollout, service, view)
        if not may and view.in_phase < PATIENCE_SECONDS:
            return rollout, service
        return rollout, _with_slot(service, rollout, replace(new, count=0))
    if view.new.existing > 0:
        return rollout, service
    service = strategy.restore_old(rollout, service)
    if not _is_whole(rollout, service, view):
        return rollout, service
    service = _with_slot(service, rollout, None)
    return enter(replace(rollout, weight=0), _refused(rollout), view.now), service


def _serves_on(rollout: Rollout, service: ServiceState, view: View) -> bool:
    """Whether the new group serves what the old one cannot yet: it is not at fault, and the old one
    gets its size back in the time that a start may take."""
    return (
        strategy.may_serve_on(rollout, service)
        and view.old.ready < _had(rollout, service)
        and view.new.ready > 0
        and not view.new.failure
        and not _cannot_start(service)
        and view.in_phase < _limit(rollout, service)
    )


def _had(rollout: Rollout, service: ServiceState) -> int:
    """How many instances of the old group a return waits for."""
    before = rollout.ready_before
    return service.scale if before is None else min(before, service.scale)


def _limit(rollout: Rollout, service: ServiceState) -> float:
    """How long the old group may take to be back. What must not run twice starts only when those
    of it that were leaving when it turned round are gone."""
    stop = service.config.stop
    leaving = stop.drain + stop.grace if rollout.strategy == "recreate" else 0.0
    return leaving + max(PATIENCE_SECONDS, service.config.health.startup)


def _is_whole(rollout: Rollout, service: ServiceState, view: View) -> bool:
    """Whether the old group serves with as many as before, or with as many as it can have."""
    old = service.slots[other(rollout.slot)]
    if old is None or view.old.ready >= _had(rollout, service) or _cannot_start(service):
        return view.settled or view.in_phase >= PATIENCE_SECONDS
    return view.in_phase >= _limit(rollout, service)


def _cannot_start(service: ServiceState) -> bool:
    """Whether what the old group lacks does not start; nothing of the new one is started then."""
    return service.start_failures >= FAILED_STARTS


def _with_slot(service: ServiceState, rollout: Rollout, slot: Slot | None) -> ServiceState:
    return replace(service, slots=dict(service.slots) | {rollout.slot: slot})


__all__ = [
    "TRANSITIONS",
    "Group",
    "Situation",
    "View",
    "abort",
    "as_it_is",
    "pause",
    "placed",
    "resume",
    "step",
    "way_out",
]
