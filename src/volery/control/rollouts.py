"""Advances rollouts: gathers what `decide.rollout.step` may know, and records what it decided."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from volery.control.begin import go_further_back
from volery.control.draft import Draft
from volery.control.watch import Ages
from volery.decide.rollout import Situation, step
from volery.decide.strategy import Group, View
from volery.decide.submit import Order, rollback
from volery.decide.world import World
from volery.model.errors import VoleryError
from volery.model.ports import Engine, Observation
from volery.model.state import (
    Instance,
    Phase,
    Rollout,
    ServiceState,
    other,
)
from volery.model.units import format_duration

BUILT = ("built", "live", "kept")
BAD = (Phase.ROLLING_BACK, Phase.ROLLED_BACK, Phase.FAILED)


class RolloutDriver:
    """Moves every rollout that is under way as far as it can go now."""

    def __init__(self, engine: Engine, ages: Ages) -> None:
        self._engine = engine
        self._ages = ages
        self.unstartable: dict[str, str] = {}
        """Instances that cannot even be asked for, and why."""

    def drive(self, draft: Draft, settled: bool, rejected: str | None, monotonic: float) -> None:
        """One step of each, oldest first; a release group that must go back is sent back."""
        for rollout in list(draft.world.active_rollouts()):
            situation = self._situation(draft, rollout, settled, rejected, monotonic)
            service = draft.world.services[rollout.service]
            after, changed = step(rollout, service, situation)
            draft.put("service", service.name, changed)
            record(draft, rollout, after)
            settled = settled and changed == service
        _undo_groups(draft)

    def _situation(
        self,
        draft: Draft,
        rollout: Rollout,
        settled: bool,
        rejected: str | None,
        monotonic: float,
    ) -> Situation:
        world = draft.world
        service = world.services[rollout.service]
        release = world.releases[rollout.to_release]
        # What is built already took no time now.
        build = None if release.state in BUILT else world.builds.get(release.id)
        built = release.state in BUILT or (build is not None and build.phase == "built")
        deploy, stateful = service.config.deploy, service.config.state is not None
        old = world.instances_of(service.name, other(rollout.slot))
        view = View(
            now=draft.now,
            old=Group(ready=_ready(world, old), existing=len(old)),
            new=self._new_group(world, rollout, monotonic),
            settled=settled,
            in_phase=self._ages.of((rollout.id, rollout.phase), monotonic),
            rejected=rejected,
            surge=0 if stateful else deploy.surge,
            unavailable=1 if stateful else deploy.unavailable,
        )
        return Situation(view, build, built, *_turn(world, rollout))

    def _new_group(self, world: World, rollout: Rollout, monotonic: float) -> Group:
        there = world.instances_of(rollout.service, rollout.slot)
        mine = [item for item in there if item.release == rollout.to_release]
        begun = rollout.phase not in (Phase.BUILDING, Phase.TESTING)
        there_now = Group(_ready(world, mine), len(there))
        for item in mine if begun else ():
            failure = self._failure(world, rollout, item, monotonic)
            if failure:
                tail = tuple(self._engine.tail(item.id))
                return replace(there_now, failure=failure, tail=tail)
        return there_now

    def _failure(self, world: World, rollout: Rollout, item: Instance, monotonic: float) -> str:
        """Why an instance of a new release makes the release a bad one; "" if it does not."""
        seen = world.observed.get(item.id)
        if item.id in self.unstartable:
            return f"{item.id} cannot be started: {self.unstartable[item.id]}"
        if seen is None or item.intent != "run":
            return ""
        startup = world.releases[item.release].spec.health.startup
        waiting = seen.state in ("starting", "unready")
        waited = self._ages.of((item.id, "not ready"), monotonic) if waiting else 0.0
        # An instance that is older than the rollout (a warm group) may have crashed long ago.
        before = item.restarts if item.created_at < rollout.created_at else 0
        return _why_bad(item, replace(seen, restarts=seen.restarts - before), waited, startup)


def _why_bad(item: Instance, seen: Observation, waited: float, startup: float) -> str:
    when = "after it was ready" if item.proven else "while starting"
    if seen.state == "exited":
        return f"{item.id} ended {when}: {seen.exit or seen.detail}"
    if seen.restarts > 0:
        return f"{item.id} crashed {when}: {seen.exit or seen.detail}"
    if not seen.alive:
        return f"{item.id} is not alive: {seen.detail}"
    if waited >= startup:
        return f"{item.id} was not ready within {format_duration(startup)}: {seen.detail}"
    return ""


def _ready(world: World, instances: list[Instance]) -> int:
    return sum(item.intent == "run" and world.ready(item) for item in instances)


def _turn(world: World, rollout: Rollout) -> tuple[Literal["wait", "go", "abort"], str]:
    """Whether the group a rollout belongs to lets it go on."""
    if rollout.cause in ("rollback", "restart"):
        return "go", ""
    group = [r for r in world.rollouts.values() if r.group == rollout.group]
    behind = [r for r in group if r.id in rollout.waits_for]
    together = group if rollout.cause == "deploy" else behind
    bad = next((r for r in together if r.phase in BAD and r.id != rollout.id), None)
    if bad is not None:
        return "abort", f"{bad.service} failed: {bad.reason}"
    unbuilt = rollout.cause == "deploy" and any(
        world.releases[r.to_release].state not in BUILT for r in group if not r.ended
    )
    waiting = unbuilt or any(r.phase is not Phase.DONE for r in behind)
    return ("wait" if waiting else "go"), ""


def record(draft: Draft, before: Rollout, after: Rollout) -> None:
    """Write a rollout, its release's state, and the event of a new phase."""
    build = draft.world.builds.get(after.to_release)
    release = draft.world.releases[after.to_release]
    if build and build.phase == "built" and release.state == "new":
        draft.put("release", release.id, replace(release, state="built"))
    draft.put("rollout", after.id, after)
    if before.phase is after.phase:
        return
    draft.event(
        f"rollout.{after.phase}",
        f"{after.service}: {after.phase.replace('_', ' ')} {after.to_release}"
        + (f": {after.reason}" if after.reason else ""),
        service=after.service,
        release=after.to_release,
        cause=after.reason or after.cause,
        data={"rollout": after.id, "weight": after.weight, "seconds": after.seconds},
    )
    if after.ended:
        _settle_releases(draft, after)
        go_further_back(draft, after)


def _settle_releases(draft: Draft, rollout: Rollout) -> None:
    releases = draft.world.releases
    new = releases[rollout.to_release]
    if rollout.phase is Phase.DONE:
        for item in list(releases.values()):
            if item.service == rollout.service and item.state == "live" and item.id != new.id:
                draft.put("release", item.id, replace(item, state="kept"))
        draft.put("release", new.id, replace(new, state="live", reason=""))
    elif new.state in ("new", "built") and rollout.verdict == "abort":
        build = draft.world.builds.get(new.id)
        unbuilt = build is not None and build.failed_in == "build"
        bad = replace(new, state="failed" if unbuilt else "refused", reason=rollout.reason)
        draft.put("release", new.id, bad)


def _undo_groups(draft: Draft) -> None:
    """`deploy a b` is one group: when b fails after a was done, a goes back too."""
    world = draft.world
    failed = {r.group: r for r in world.rollouts.values() if r.cause == "deploy" and r.phase in BAD}
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
        draft.put("rollout", undo.id, replace(undo, group=rollout.group, reason=reason))


def _needs_undo(world: World, rollout: Rollout) -> bool:
    service = world.services.get(rollout.service)
    undone = any(
        r.service == rollout.service and r.cause == "rollback" and r.group == rollout.group
        for r in world.rollouts.values()
    )
    return (
        rollout.cause == "deploy"
        and rollout.phase is Phase.DONE
        and rollout.from_release not in (None, rollout.to_release)
        and not undone
        and isinstance(service, ServiceState)
        and service.live is not None
        and service.live.release == rollout.to_release
        and world.rollout_of(rollout.service) is None
    )
