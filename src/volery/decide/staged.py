"""How a canary and a blue-green switch go forward: start, shift, analyse, stage by stage.

A stage is left when the evidence suffices, when a person says so, or, without enough evidence in
time, as the owner chose. Nothing here goes back: bad evidence is `decide.rollout`'s business.
"""

from __future__ import annotations

from dataclasses import replace

from volery.decide.phases import Waits, enter, has_begun, is_return, pause
from volery.decide.situation import GateState, Situation
from volery.decide.stages import (
    baseline_given_up,
    by_stages,
    grown,
    has_baseline,
    is_last,
    ramp_of,
    stage_of,
    stages,
    wanted_weight,
    weighted,
    whole,
)
from volery.decide.strategy import View, is_late, is_there
from volery.model.evidence import Judgement
from volery.model.state import Phase, Rollout, ServiceState
from volery.model.units import format_duration

Moved = tuple[Rollout, ServiceState]
UNSERVED_SECONDS = 10.0
"""Nothing of the old release serves any more if nothing did for so long."""
UNOPPOSED = (
    "nothing of the old release serves: there is nothing to compare with and nobody to protect"
)


def forward(rollout: Rollout, service: ServiceState, now: Situation) -> Moved:
    """The next move of a staged rollout beside an old group, or the same again."""
    if is_unopposed(now.view):
        larger = whole(rollout, service)  # it gets all requests, whatever its share
        if larger != service:
            return rollout, larger
    if rollout.phase is Phase.STARTING:
        return _start(rollout, service, now)
    if rollout.phase is Phase.SHIFTING:
        return _shift(rollout, service, now)
    return _analyse(rollout, service, now)


def due(rollout: Rollout) -> str:
    """The point whose gates have to be open for the next move: "before_start",
    "before_step:2", "after"; "" if the next move needs none. Only a release that takes over from
    an older one in stages has something to stand before but its start."""
    phase = rollout.resume_to if rollout.phase is Phase.PAUSED else rollout.phase
    match phase:
        case Phase.BUILDING | Phase.TESTING:
            return "before_start"
        case Phase.STARTING if by_stages(rollout):
            return "before_step:1"
        case Phase.SHIFTING | Phase.ANALYSING if rollout.passed >= rollout.step > 0:
            return "after" if is_last(rollout) else f"before_step:{rollout.step + 1}"
        case _:
            return ""


def is_asked_for(rollout: Rollout) -> bool:
    """Whether it brings something new, so that gates, approval and evidence have a say. Going back
    and restarting do not wait for anybody."""
    return rollout.cause in ("deploy", "up")


def is_gated(rollout: Rollout) -> bool:
    """Whether gates have a say in its next move."""
    point = due(rollout)
    return bool(point) and point not in rollout.waived and is_asked_for(rollout)


def first_gate(rollout: Rollout, now: Situation) -> GateState:
    """The gates before anything of the new release runs."""
    return now.gate("before_start") if is_gated(rollout) else GateState()


def is_watched(rollout: Rollout, service: ServiceState) -> bool:
    """Whether the last stage is analysed too: a blue-green deploy, for `watch`."""
    watches = rollout.strategy == "blue-green" and service.config.deploy.watch > 0
    return watches and is_asked_for(rollout)


def promoted(rollout: Rollout, *, full: bool) -> Rollout:
    """The rollout with a person's word that this step (with `full`: every step) is good enough."""
    passed = rollout.steps if full else max(rollout.passed, rollout.step)
    certain = replace(rollout, passed=passed)
    # How many steps there are is known once it has begun.
    last = full or (has_begun(rollout) and rollout.step + 1 >= rollout.steps)
    points = [f"before_step:{n}" for n in range(1, rollout.steps + 1)] + ["after"]
    waived = [*(points if full else ()), due(certain)]
    return replace(
        certain,
        approved=rollout.approved or last,
        waived=tuple(dict.fromkeys(filter(None, (*rollout.waived, *waived)))),
    )


def is_let_through(rollout: Rollout) -> bool:
    """Whether a person let it pass to its end: who did has waived the gates after it. Then it goes
    on, however it compares with the old release, unless something is plainly wrong."""
    return "after" in rollout.waived


def counted(rollout: Rollout) -> Rollout:
    """A rollout whose steps were counted just now: who let it pass in full before means every step
    there is."""
    return promoted(rollout, full=True) if is_let_through(rollout) else rollout


def _start(rollout: Rollout, service: ServiceState, now: Situation) -> Moved:
    rollout = replace(rollout, steps=len(stages(rollout, service)))
    if is_return(rollout):
        serves = now.view.settled and now.view.new.ready >= min(1, service.scale)
        return (_take(rollout, service, now, 1) if serves else rollout), service
    larger = grown(rollout, service, stage_of(rollout, service))
    if larger != service:  # the service was given another size meanwhile
        return rollout, larger
    if not _group_is_ready(rollout, service, now):
        return rollout, service
    return _by_baseline(rollout, service, now) or (_take(rollout, service, now, 1), service)


def is_unopposed(view: View) -> bool:
    """Whether the new release alone serves, for want of anything of the old one."""
    return view.unserved >= UNSERVED_SECONDS


def _group_is_ready(rollout: Rollout, service: ServiceState, now: Situation) -> bool:
    return now.view.settled and now.view.new.ready >= stage_of(rollout, service).count


def _by_baseline(rollout: Rollout, service: ServiceState, now: Situation) -> Moved | None:
    """What there is to do as the baseline is not as large as the stage asks for: wait, or give it
    up if it cannot be, or a person lets the canary begin. None if it is, or is needed no more."""
    passed = rollout.passed >= max(rollout.step, 1) or is_unopposed(now.view)
    if passed or is_last(rollout) or not has_baseline(rollout, service):
        return None
    beside, count = now.view.beside, stage_of(rollout, service).count
    if beside.ready >= count:
        return None
    there = f"{beside.ready} of {count} instances of {rollout.from_release} are ready"
    may_begin = rollout.step <= 1 and "before_step:1" in rollout.waived
    why = beside.failure or (f"not waited for: {there}" if may_begin else "")
    if why:
        return _alone(rollout, service, why)
    return replace(rollout, reason=f"waits for its baseline: {there}"), service


def _alone(rollout: Rollout, service: ServiceState, why: str) -> Moved:
    return replace(rollout, no_baseline=why, reason=""), baseline_given_up(rollout, service)


def _lost_baseline(rollout: Rollout, service: ServiceState, now: Situation) -> bool:
    """Whether there is nothing left to compare with, for the baseline has failed meanwhile."""
    beside, awaited = now.view.beside, not (_is_good(now) or is_unopposed(now.view))
    failed = beside.ready == 0 and bool(beside.failure)
    return failed and awaited and has_baseline(rollout, service)


def _bring_back(rollout: Rollout, service: ServiceState, now: Situation) -> Moved:
    """What comes back gets as much as it bears in the place of what serves now: its share by what
    is ready, and everything as soon as as many are, or half as many where the rest is late."""
    view, stage = now.view, stage_of(rollout, service)
    needed = min(service.scale, max(1, view.old.ready))
    if not view.settled or view.new.ready < min(1, needed):
        return rollout, service
    share = min(1.0, view.new.ready / needed) if needed else 1.0
    if share >= 0.5 and is_late(rollout, service, view):
        share = 1.0
    weight = round(100 * share, 4)
    rollout = replace(rollout, weight=weight)
    moved = weighted(rollout, service, stage, weight)
    enough = rollout.passed >= rollout.step or (weight >= 100 and is_there(rollout, service, view))
    if moved != service or not enough:
        return rollout, moved
    return _onward(replace(rollout, passed=rollout.step), service, now)


def _shift(rollout: Rollout, service: ServiceState, now: Situation) -> Moved:
    stage = stage_of(rollout, service)
    larger = service if is_unopposed(now.view) else grown(rollout, service, stage)
    if larger != service:
        return rollout, larger
    if is_return(rollout):
        return _bring_back(rollout, service, now)
    if not _group_is_ready(rollout, service, now):
        return rollout, service
    waits = _by_baseline(rollout, service, now)
    if waits is not None:
        return waits
    weight = wanted_weight(rollout, stage, service.config.deploy, 0.0)
    reason = rollout.reason if is_unopposed(now.view) else ""
    rollout = replace(rollout, weight=weight, verdict="continue", reason=reason)
    moved = weighted(rollout, service, stage, weight)
    if moved != service:
        return rollout, moved
    if is_last(rollout) and not is_watched(rollout, service):
        return _onward(replace(rollout, passed=rollout.step), service, now)
    return enter(rollout, Phase.ANALYSING, now.view.now), service


def _analyse(rollout: Rollout, service: ServiceState, now: Situation) -> Moved:
    rollout = noted(rollout, now.judged)
    stage, deploy = stage_of(rollout, service), service.config.deploy
    weight = wanted_weight(rollout, stage, deploy, now.view.in_phase)
    if rollout.passed < rollout.step:
        if weight > rollout.weight:
            ramped = weighted(rollout, service, stage, weight)
            return replace(rollout, weight=weight), ramped
        if rollout.weight < stage.weight and not is_unopposed(now.view):
            return rollout, service
        if _lost_baseline(rollout, service, now):
            lone, service = _alone(rollout, service, now.view.beside.failure)
            return enter(lone, Phase.SHIFTING, now.view.now), service
        rollout = _weigh(rollout, service, now)
        if rollout.phase is Phase.PAUSED or rollout.passed < rollout.step:
            return rollout, service
    return _onward(rollout, service, now)


def noted(rollout: Rollout, judged: Judgement | None) -> Rollout:
    """The rollout with what the evidence says written on it."""
    if judged is None:
        return rollout
    return replace(rollout, verdict=judged.verdict, reason=judged.reason, evidence=judged.lines)


def lacking(rollout: Rollout, service: ServiceState, now: Situation) -> str:
    """Why the evidence of this step is given up on: it did not suffice in time. "" if it is not."""
    if rollout.phase is not Phase.ANALYSING or rollout.passed >= rollout.step:
        return ""
    deploy = service.config.deploy
    limit = max(deploy.watch, deploy.at_most) if is_last(rollout) else deploy.at_most
    waited = now.view.in_phase - ramp_of(rollout, deploy)
    passes = _is_good(now) or _is_over(rollout, service, now) or is_unopposed(now.view)
    if waited < limit or passes:
        return ""
    why = now.judged.reason if now.judged else "no requests were measured"
    return f"not enough evidence within {format_duration(limit)}: {why}"


def _is_good(now: Situation) -> bool:
    return now.judged is not None and now.judged.verdict == "promote"


def _is_over(rollout: Rollout, service: ServiceState, now: Situation) -> bool:
    """Whether a switch was watched for long enough, and nothing speaks against it now, or nothing
    is left to go back to, or its owner does not want it watched any more. What was looked at, but
    not just now, may be as bad as it was."""
    if not is_last(rollout) or now.view.in_phase < service.config.deploy.watch:
        return False
    if is_unopposed(now.view) or not is_watched(rollout, service):
        return True
    return not (now.judged.suspicious if now.judged else rollout.evidence)


def _weigh(rollout: Rollout, service: ServiceState, now: Situation) -> Rollout:
    """Whether the step is passed by evidence, or by what the owner wants without enough of it. In
    one that gives the release nothing there is nothing to wait for."""
    stage = stage_of(rollout, service)
    gives_nothing = not (stage.weight or stage.mirror)
    if _is_good(now) or _is_over(rollout, service, now) or gives_nothing:
        return replace(rollout, passed=rollout.step)
    if is_unopposed(now.view) and not is_last(rollout):
        # Not sooner than by evidence: by then a release that fails most requests is found out.
        passed = rollout.step if now.view.in_phase >= UNSERVED_SECONDS else rollout.passed
        return replace(rollout, verdict="continue", passed=passed, reason=UNOPPOSED)
    if rollout.reason == UNOPPOSED:  # it is back
        rollout = replace(rollout, reason="")
    reason = lacking(rollout, service, now)
    if not reason:
        return rollout
    rollout = replace(rollout, verdict="inconclusive", reason=reason)
    if service.config.deploy.on_inconclusive == "promote":
        return replace(rollout, passed=rollout.step)
    return pause(rollout, now.view.now, reason, "evidence")


def _onward(rollout: Rollout, service: ServiceState, now: Situation) -> Moved:
    """Leave a stage that is passed."""
    if not is_last(rollout):
        return _take(rollout, service, now, rollout.step + 1), service
    held = _held_by_gate(rollout, "after", now)
    if held is not None:
        return held, service
    done = replace(rollout, weight=100.0, verdict="promote", reason="")
    return enter(done, Phase.PROMOTING, now.view.now), service


def _take(rollout: Rollout, service: ServiceState, now: Situation, step: int) -> Rollout:
    """Begin a step if approval, the services it belongs together with and the gates allow it."""
    moment, last = now.view.now, step == rollout.steps
    asked = is_asked_for(rollout)
    if asked and last and service.config.deploy.approve and not rollout.approved:
        asks = f"waits for approval: volery promote {rollout.service}"
        return _ask(rollout, moment, asks, "approval")
    if asked and last and now.behind:
        return replace(rollout, reason=f"waits for {now.behind}")
    held = _held_by_gate(rollout, f"before_step:{step}", now)
    if held is not None:
        return held
    if rollout.phase is Phase.SHIFTING:
        rollout = enter(rollout, Phase.ANALYSING, moment)
    reason = UNOPPOSED if is_asked_for(rollout) and is_unopposed(now.view) else ""
    return replace(enter(rollout, Phase.SHIFTING, moment), step=step, reason=reason)


def _held_by_gate(rollout: Rollout, point: str, now: Situation) -> Rollout | None:
    """The rollout as it is while the gates of a point are not open; None if they are."""
    if point in rollout.waived or not is_asked_for(rollout):
        return None
    gate = now.gate(point)
    if gate.state == "open":
        return None
    if gate.state == "hold":
        return _ask(rollout, now.view.now, gate.text, "gate")
    return replace(rollout, reason=gate.text)


def _ask(rollout: Rollout, now: float, reason: str, waits: Waits) -> Rollout:
    """Hold for a person's word. The step before is passed, with or without enough evidence: it is
    not what is waited for."""
    return pause(replace(rollout, verdict="continue"), now, reason, waits)
