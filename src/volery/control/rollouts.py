"""Advances rollouts: gathers what `decide.rollout.step` may know, and records what it decided."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

from volery.control.begin import begin, go_further_back
from volery.control.draft import Draft
from volery.control.evidence import EvidenceWatch
from volery.control.watch import Ages
from volery.decide import claims
from volery.decide.asked import gate_state
from volery.decide.blame import LOOP_SECONDS
from volery.decide.built import is_built
from volery.decide.capacity import floor
from volery.decide.dependence import RECOVERY_SECONDS, down, lacks
from volery.decide.phases import has_begun, is_return
from volery.decide.plan import is_found_bad
from volery.decide.rollout import FAILED_STARTS, abort, as_it_is, placed, step, way_out
from volery.decide.situation import Situation
from volery.decide.staged import is_asked_for
from volery.decide.stages import by_stages
from volery.decide.strategy import Group, View
from volery.decide.submit import Order, rollback
from volery.decide.world import World
from volery.model.deploy import STAGED
from volery.model.errors import VoleryError
from volery.model.ports import REFUSED, RESTARTS, Answer, BuildStatus, Engine, Observation
from volery.model.state import (
    BASELINE,
    Instance,
    Phase,
    Release,
    Rollout,
    ServiceState,
    SlotName,
    other,
)
from volery.model.units import format_duration

Turn = tuple[Literal["wait", "go", "abort"], str]
BAD = (Phase.ROLLING_BACK, Phase.ROLLED_BACK, Phase.FAILED)


@dataclass(frozen=True)
class Seen:
    """What was observed outside the documents at this look."""

    settled: bool
    rejected: str | None
    monotonic: float
    answers: Mapping[str, Answer] = field(default_factory=dict)


class RolloutDriver:
    """Moves every rollout that is under way as far as it can go now."""

    def __init__(self, engine: Engine, ages: Ages, evidence: EvidenceWatch) -> None:
        self._engine = engine
        self._ages = ages
        self._evidence = evidence
        self.unstartable: dict[str, str] = {}
        """Instances that cannot even be asked for, and why."""
        self._lacked: dict[str, float] = {}
        """When a service with a rollout lacked a need last, on the steady clock."""

    def drive(self, draft: Draft, seen: Seen) -> None:
        """One step of each, oldest first; a release group that must go back is sent back."""
        settled = seen.settled
        self._note_lacks(draft.world, seen.monotonic)
        for found in list(draft.world.active_rollouts()):
            service = draft.world.services[found.service]
            rollout = placed(found, service)
            situation = self._situation(draft, rollout, seen, settled)
            after, changed = step(_explained(draft.world, rollout), service, situation)
            draft.put("service", service.name, changed)
            record(draft, rollout, after)
            moved = (after, changed) != (rollout, service)
            _make_way(draft, after, situation.view, moved=moved)
            settled = settled and draft.world.services[service.name] == service
        _undo_groups(draft)

    def _note_lacks(self, world: World, monotonic: float) -> None:
        """What the needs of services that change do to them is not held against their releases."""
        changing = {rollout.service for rollout in world.active_rollouts()}
        unavailable = down(world) if changing else frozenset()
        self._lacked = {name: at for name, at in self._lacked.items() if name in changing}
        for name in changing:
            if lacks(world.services[name], unavailable):
                self._lacked[name] = monotonic

    def _is_excused(self, service: str, monotonic: float) -> bool:
        return monotonic - self._lacked.get(service, -math.inf) < RECOVERY_SECONDS

    def _situation(self, draft: Draft, rollout: Rollout, seen: Seen, settled: bool) -> Situation:
        world = draft.world
        service = world.services[rollout.service]
        release = world.releases[rollout.to_release]
        # What is built already took no time now.
        there = is_built(release, rollout)
        build = None if there else world.builds.get(release.id)
        built = there or (build is not None and _suffices(build, rollout))
        deploy, stateful = service.config.deploy, service.config.state is not None
        new = self._new_group(draft, rollout, seen.monotonic)
        # A return waits anew when the new group is gone: only now may the old one be restored.
        cleared = rollout.phase is Phase.ROLLING_BACK and new.existing == 0
        age = (rollout.id, rollout.phase, rollout.step, cleared)
        old = _group(world, service.name, other(rollout.slot))
        beside = self._baseline(draft, rollout, seen.monotonic)
        view = View(
            now=draft.now,
            old=old,
            beside=beside,
            new=new,
            settled=settled,
            in_phase=self._ages.of(age, seen.monotonic),
            unserved=self._unserved(rollout, old.ready + beside.ready, seen.monotonic),
            rejected=seen.rejected,
            surge=0 if stateful else deploy.surge,
            unavailable=1 if stateful else min(deploy.unavailable, service.scale - floor(service)),
        )
        turn, reason = _turn(world, rollout)
        return Situation(
            view=view,
            build=build,
            built=built,
            turn=turn,
            turn_reason=reason,
            judged=self._evidence.judged(draft, rollout, seen.monotonic),
            gate=partial(gate_state, rollout, deploy, answers=seen.answers),
            behind=behind(world, rollout),
        )

    def _unserved(self, rollout: Rollout, ready: int, monotonic: float) -> float:
        """For how long nothing of the old release has served. For want of a need it is no time: it
        will be back by itself, and what takes over meanwhile would do so unseen."""
        if ready or self._is_excused(rollout.service, monotonic):
            return 0.0
        return self._ages.of((rollout.id, "unserved"), monotonic)

    def _new_group(self, draft: Draft, rollout: Rollout, monotonic: float) -> Group:
        world = draft.world
        there = world.instances_of(rollout.service, rollout.slot)
        mine = [item for item in there if item.release == rollout.to_release]
        begun, excused = has_begun(rollout), self._is_excused(rollout.service, monotonic)
        there_now = Group(_ready(world, mine), len(there))
        failures = self._failures(draft, rollout, mine, monotonic) if begun else {}
        claimed = claims.failure(world, rollout) if begun else ""
        lacking = next(iter(failures.values()), "") or claimed
        if is_return(rollout) and lacking and _may_serve(world, rollout, there_now, failures):
            return replace(there_now, lacking=lacking)
        for identity, failure in failures.items():
            tail = tuple(self._engine.tail(identity))
            blamed = not excused and not _was_killed(world.observed.get(identity))
            return replace(there_now, failure=failure, tail=tail, blamed=blamed)
        if claimed:
            return replace(there_now, failure=claimed)
        if mine and there_now.ready == 0 and _is_relied_on(rollout) and not excused:
            seen = world.observed.get(mine[0].id)
            failure = f"no instance of {rollout.to_release} is ready: {_detail(seen)}"
            tail, blamed = tuple(self._engine.tail(mine[0].id)), not _was_killed(seen)
            return replace(there_now, failure=failure, tail=tail, blamed=blamed)
        return there_now

    def _baseline(self, draft: Draft, rollout: Rollout, monotonic: float) -> Group:
        there = draft.world.instances_of(rollout.service, BASELINE)
        mine = [item for item in there if item.release == rollout.from_release]
        failures = self._failures(draft, rollout, mine, monotonic)
        found = _group(draft.world, rollout.service, BASELINE)
        return replace(found, failure=next(iter(failures.values()), ""))

    def _failures(
        self, draft: Draft, rollout: Rollout, mine: Sequence[Instance], monotonic: float
    ) -> dict[str, str]:
        """What speaks against a new group, or a baseline, by instance."""
        world, now = draft.world, draft.now
        found = {item.id: self._failure(world, rollout, item, now, monotonic) for item in mine}
        return {identity: failure for identity, failure in found.items() if failure}

    def _failure(
        self, world: World, rollout: Rollout, item: Instance, now: float, monotonic: float
    ) -> str:
        """Why an instance makes its group a bad one; "" if it does not."""
        seen = world.observed.get(item.id)
        if item.id in self.unstartable:
            return f"{item.id} cannot be started: {self.unstartable[item.id]}"
        if seen is None or item.intent != "run":
            return ""
        startup = world.releases[item.release].spec.health.startup
        # One that was ready waits for its need.
        lacking = item.proven and self._is_excused(rollout.service, monotonic)
        waiting = seen.state in ("starting", "unready") and not lacking
        waited = self._ages.of((item.id, "not ready"), monotonic) if waiting else 0.0
        # An instance that is older than the rollout (a warm group) may have crashed long ago.
        before = item.restarts if item.created_at < rollout.created_at else 0
        crashes = seen.restarts - before
        if by_stages(rollout) and item.proven:
            # Its crashes are compared with the old release's, unless it does nothing else.
            lately = sum(0 <= now - ended.at <= LOOP_SECONDS for ended in seen.exits)
            crashes = min(crashes, lately) - 1
        return _why_bad(item, seen, crashes, waited, startup)


def _may_serve(world: World, rollout: Rollout, there: Group, failures: Mapping[str, str]) -> bool:
    """Whether a group of which something fails serves all the same, or still may: another instance
    starts, or one that ended at its start is about to be started again, not for the n-th time."""
    if there.ready > 0:
        return True
    mine = [i for i in world.instances_of(rollout.service, rollout.slot) if i.intent == "run"]
    hopeful = [i for i in mine if i.id not in failures or _ended_at_start(world, i)]
    failed = world.services[rollout.service].start_failures
    return bool(hopeful) and failed < max(FAILED_STARTS, len(mine))


def _ended_at_start(world: World, item: Instance) -> bool:
    seen = world.observed.get(item.id)
    return seen is not None and seen.state == "exited" and not item.proven


def _is_relied_on(rollout: Rollout) -> bool:
    """Whether users' requests go to a new group beside an old one."""
    return rollout.strategy in STAGED and rollout.weight > 0 and rollout.from_release is not None


def _was_killed(seen: Observation | None) -> bool:
    """Whether somebody else ended it or what keeps it: SIGKILL, and not for want of memory. Such a
    rollout goes back, but its release may be deployed again."""
    if seen is not None and seen.unkept:
        return True
    ended = seen.exit if seen else None
    return ended is not None and ended.signal == "SIGKILL" and not ended.out_of_memory


def _explained(world: World, rollout: Rollout) -> Rollout:
    """One that went back at once because its instances had ended, with how they did: that is known
    a moment later."""
    if rollout.phase is not Phase.ROLLING_BACK or not rollout.reason.endswith(RESTARTS):
        return rollout
    mine = world.instances_of(rollout.service, rollout.slot)
    seen = [world.observed.get(item.id) for item in mine if item.release == rollout.to_release]
    known = next((str(one.exit) for one in seen if one and one.exit), "it ended")
    reason = rollout.reason.removesuffix(RESTARTS) + RESTARTS.replace("it ended", known)
    return replace(rollout, reason=reason)


def _detail(seen: Observation | None) -> str:
    if seen is None:
        return "nothing is known of it"
    return seen.detail or str(seen.exit or seen.state)


def _suffices(build: BuildStatus, rollout: Rollout) -> bool:
    return build.phase == "built" and (build.tested or rollout.skip_tests)


def _group(world: World, service: str, slot: SlotName) -> Group:
    there = world.instances_of(service, slot)
    return Group(ready=_ready(world, there), existing=len(there))


def _why_bad(item: Instance, seen: Observation, crashes: int, waited: float, startup: float) -> str:
    when = "after it was ready" if item.proven else "while starting"
    if seen.state == "exited":
        return f"{item.id} ended {when}: {seen.exit or seen.detail}"
    if crashes > 0:
        return f"{item.id} crashed {when}: {seen.exit or seen.detail}"
    if not seen.alive:
        return f"{item.id} is not alive: {seen.detail}"
    if waited >= startup:
        within = f"{item.id} was not ready within {format_duration(startup)}"
        return f"{within}: {seen.detail}{_advice(seen)}"
    return ""


def _advice(seen: Observation) -> str:
    """What to do where nobody listens: a worker, most likely, that never will."""
    if seen.detail != REFUSED:
        return ""
    needs = "a service without a port needs `health: {ready: {command: ...}}`"
    return f": nothing listens on $PORT ({seen.address}); {needs}"


def _ready(world: World, instances: Iterable[Instance]) -> int:
    return sum(item.intent == "run" and world.ready(item) for item in instances)


def _make_way(draft: Draft, rollout: Rollout, view: View, *, moved: bool) -> None:
    """End a rollout that was not superseded at once by what is newer: a deploy that alone served,
    or a rollback; that only if it moves no further, and what is newer could begin in its place."""
    world = draft.world
    newer = world.newest_rollout_of(rollout.service)
    if newer is None or newer.group == rollout.group:  # itself, or what is to follow it
        return
    if not is_asked_for(rollout) and (moved or not _could_begin(world, newer)):
        return
    way = way_out(rollout, world.services[rollout.service], view)
    if way == "on":
        reason = f"it alone serves, and {newer.id} to {newer.to_release} follows"
        record(draft, rollout, as_it_is(rollout, reason, draft.now))
    elif way == "back":
        supersede(draft, rollout, newer)


def _could_begin(world: World, rollout: Rollout) -> bool:
    return not _is_unbuilt(world, rollout) and _turn_in_group(world, rollout)[0] == "go"


def _turn(world: World, rollout: Rollout) -> Turn:
    """Whether the group a rollout belongs to, and what is older, lets it go on."""
    first = world.rollout_of(rollout.service)
    if first is not None and first.id != rollout.id:
        return "wait", f"waits until {first.id} has ended"
    return _turn_in_group(world, rollout)


def _turn_in_group(world: World, rollout: Rollout) -> Turn:
    if rollout.cause in ("rollback", "restart", "heal"):
        return "go", ""
    together = (r for r in world.rollouts.values() if r.group == rollout.group)
    group = [r for r in together if not _has_left(r)]
    behind = [r for r in group if r.id in rollout.waits_for]
    judged = group if rollout.cause == "deploy" else behind
    bad = next(_to_blame(r for r in judged if r.id != rollout.id), None)
    if bad is not None and not _is_as_before(world, rollout, bad):
        return "abort", f"{bad.service} failed: {bad.reason}"
    if rollout.cause == "deploy":
        behind += [r for r in group if not r.ended and _is_unbuilt(world, r)]
    waits = next((r for r in behind if not _lets_start(world, r, rollout)), None)
    return ("wait", f"waits for {waits.service}") if waits else ("go", "")


def _is_as_before(world: World, rollout: Rollout, bad: Rollout) -> bool:
    """Whether one that only starts again what served before meets what it knows: what a service
    that it waited for had before comes back by itself."""
    live, need = world.services[rollout.service].live, world.services[bad.service].live
    starts_again = live is not None and live.release == rollout.to_release
    return rollout.cause == "up" and starts_again and need is not None


def _to_blame(rollouts: Iterable[Rollout]) -> Iterator[Rollout]:
    """The bad ones of a group, first those with which something is wrong: the others go back for
    one of these."""
    bad = [item for item in rollouts if _is_bad(item)]
    return iter(sorted(bad, key=lambda item: item.verdict != "abort"))


def _is_bad(rollout: Rollout) -> bool:
    return rollout.phase in BAD and not _has_left(rollout)


def _has_left(rollout: Rollout) -> bool:
    """Whether it belongs to its group no more: it gave way to a newer one, or its service goes."""
    return bool(rollout.superseded_by) or rollout.given_up


def _is_unbuilt(world: World, rollout: Rollout) -> bool:
    return not is_built(world.releases[rollout.to_release], rollout)


def _lets_start(world: World, before: Rollout, rollout: Rollout) -> bool:
    """Whether one that waits for another may start: canaries of a group run at the same time, so
    that the requests of one reach the other."""
    if before.ended:
        return True
    side_by_side = before.strategy == rollout.strategy == "canary" and before.from_release
    return bool(side_by_side) and not _is_unbuilt(world, before) and before.step > 0


def behind(world: World, rollout: Rollout) -> str:
    """Whom a canary must wait for before its last step: the canaries of a group are promoted
    together, when all have passed their steps, and what is needed goes first."""
    if rollout.strategy != "canary":
        return ""
    for item in world.rollouts.values():
        together = item.group == rollout.group and item.id != rollout.id
        if not together or item.ended or _has_left(item):
            continue
        if _is_unproven(item, rollout) or item.id in rollout.waits_for:
            return item.service
    return ""


def is_its_turn(world: World, rollout: Rollout) -> bool:
    """Whether no other rollout goes before its next move."""
    if not has_begun(rollout):
        return _turn(world, rollout)[0] == "go"
    return rollout.step + 1 != rollout.steps or not behind(world, rollout)


def answered(world: World, rollout: Rollout) -> Rollout:
    """A rollout that a person let pass a step just now, with whom it waits for all the same."""
    is_next_last = has_begun(rollout) and rollout.step + 1 == rollout.steps
    service = behind(world, rollout) if is_next_last else ""
    return replace(rollout, reason=f"waits for {service}") if service else rollout


def _is_unproven(item: Rollout, rollout: Rollout) -> bool:
    """Whether a canary still has steps to pass before its last one. One that has not begun has
    all of them, but may be waiting for this very rollout."""
    if item.strategy != "canary":
        return False
    if has_begun(item):
        return item.passed < item.steps - 1
    return by_stages(item) and rollout.id not in item.waits_for


def record(draft: Draft, before: Rollout, after: Rollout) -> None:
    """Write a rollout, its release's state, and the event of a new phase."""
    build = draft.world.builds.get(after.to_release)
    release = draft.world.releases[after.to_release]
    if build and build.phase == "built":
        state = "built" if release.state == "new" else release.state
        tested = release.tested or build.tested
        draft.put("release", release.id, replace(release, state=state, tested=tested))
    draft.put("rollout", after.id, after)
    if after.no_baseline and not before.no_baseline:
        draft.event(
            "rollout.no_baseline",
            f"{after.service}: goes on without its baseline: {after.no_baseline}",
            service=after.service,
            release=after.to_release,
            cause=after.no_baseline,
            data={"rollout": after.id},
        )
    if before.phase is after.phase:
        return
    draft.event(
        f"rollout.{after.phase}",
        f"{after.service}: {after.phase.replace('_', ' ')} {after.to_release}"
        + (f": {after.reason}" if after.reason else ""),
        service=after.service,
        release=after.to_release,
        cause=after.reason or after.cause,
        data={
            "rollout": after.id,
            "step": after.step,
            "weight": after.weight,
            "verdict": after.verdict,
            "evidence": [line.text for line in after.evidence],
            "seconds": after.seconds,
        },
    )
    if after.ended:
        _settle_releases(draft, after)
        found = draft.document("comparison", after.id)
        if found is not None:  # kept to explain the rollout, not to go on
            draft.put("comparison", after.id, replace(found, marks=None))
        go_further_back(draft, after)


def _settle_releases(draft: Draft, rollout: Rollout) -> None:
    releases = draft.world.releases
    new = releases[rollout.to_release]
    if rollout.phase is Phase.DONE:
        for item in list(releases.values()):
            if item.service == rollout.service and item.state == "live" and item.id != new.id:
                draft.put("release", item.id, _left(item, rollout))
        draft.put("release", new.id, replace(new, state="live", reason=""))
    elif is_found_bad(new, rollout) and not _comes_again(draft, new):
        build = draft.world.builds.get(new.id)
        unbuilt = build is not None and build.failed_in == "build"
        bad = replace(new, state="failed" if unbuilt else "refused", reason=rollout.reason)
        draft.put("release", new.id, bad)
    elif new.state in ("new", "built"):
        reason = f"never served all requests: {rollout.reason}"
        draft.put("release", new.id, replace(new, reason=reason))


def _comes_again(draft: Draft, release: Release) -> bool:
    """Whether somebody insisted on it while it was being taken back."""
    return any(other.to_release == release.id for other in draft.world.active_rollouts())


def _left(release: Release, rollout: Rollout) -> Release:
    """The release that was live before; one that healing took back is refused, and says why."""
    if rollout.cause == "heal":
        return replace(release, state="refused")
    back = f"rolled back by {rollout.by or 'nobody'}"
    reason = back if rollout.cause == "rollback" else release.reason
    return replace(release, state="kept", reason=reason)


def _undo_groups(draft: Draft) -> None:
    """`deploy a b` is one group: when b fails after a was done, a goes back too."""
    world = draft.world
    deploys = (r for r in world.rollouts.values() if r.cause == "deploy")
    failed: dict[str, Rollout] = {}
    for bad in _to_blame(deploys):
        failed.setdefault(bad.group, bad)
    for rollout in list(world.rollouts.values()):
        cause = failed.get(rollout.group)
        if cause is None or not _needs_undo(world, rollout):
            continue
        order = Order("rollback", f"failure of {cause.service}", draft.now)
        try:
            undo = rollback(world, rollout.service, rollout.from_release, order)
        except VoleryError as error:
            draft.event("rollout.undo_failed", error.message, service=rollout.service)
            draft.put("rollout", rollout.id, replace(rollout, group=f"{rollout.group}-kept"))
            continue
        reason = f"{cause.service} failed: {cause.reason}"
        begin(draft, replace(undo, group=rollout.group, reason=reason))


def _needs_undo(world: World, rollout: Rollout) -> bool:
    service = world.services.get(rollout.service)
    return (
        rollout.cause == "deploy"
        and rollout.phase is Phase.DONE
        and rollout.from_release not in (None, rollout.to_release)
        and isinstance(service, ServiceState)
        and service.live is not None
        and service.live.release == rollout.to_release
        and world.rollout_of(rollout.service) is None
        and not any(
            r.service == rollout.service and r.cause == "rollback" and r.group == rollout.group
            for r in world.rollouts.values()
        )
    )


def supersede(draft: Draft, old: Rollout, new: Rollout) -> None:
    """Turn a rollout round because a newer one was asked for; nothing is held against it. One that
    is turned round already goes no further back than that; one that alone serves has time to show
    whether that lasts."""
    if old.phase is Phase.ROLLING_BACK:
        draft.put("rollout", old.id, replace(old, back_to=None))
        return
    if _serves_alone(draft.world, old):
        return
    turn_round(draft, old, f"superseded by {new.id} to {new.to_release}", superseded_by=new.id)


def _serves_alone(world: World, rollout: Rollout) -> bool:
    """Whether a rollout in stages serves, and nothing of what was before."""
    there = world.instances_of(rollout.service)
    serving = {item.slot for item in there if item.intent == "run" and world.ready(item)}
    return has_begun(rollout) and by_stages(rollout) and serving == {rollout.slot}


def turn_round(
    draft: Draft, rollout: Rollout, reason: str, *, superseded_by: str = "", given_up: bool = False
) -> None:
    """Send a rollout back for a reason that is not the release's."""
    after, service = abort(rollout, draft.world.services[rollout.service], reason, draft.now)
    draft.put("service", rollout.service, service)
    record(draft, rollout, replace(after, superseded_by=superseded_by, given_up=given_up))
