"""Manifest x what runs -> what `up` or `deploy` would change, in order, each with a *because*.

The same plan is printed by `volery plan`, carried out by `submit`, and compared in golden tests.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from volery.decide.forecast import Forecast, forecast, shares_at
from volery.decide.judge import History, empty
from volery.decide.order import ordering_needs, start_order
from volery.decide.phases import has_begun
from volery.decide.removed import LEFT, why_kept
from volery.decide.world import World, number_of
from volery.model.application import RUN_FIELDS, Application, Service
from volery.model.deploy import STAGED
from volery.model.errors import Code, VoleryError
from volery.model.state import Phase, Release, Rollout, Slot

Verb = Literal["start", "replace", "scale", "configure", "remove", "keep", "refuse"]


@dataclass(frozen=True)
class Step:
    """One service's part of a plan. `wave` counts from 1; steps of a wave go together."""

    wave: int
    verb: Verb
    service: str
    because: str
    release: str = ""
    replaces: str = ""
    strategy: str = ""
    blast_radius: str = ""
    forecast: Forecast | None = None
    shares: tuple[float, ...] = ()
    refused: str = ""
    """The release that is wanted and was refused before, so that the last good one serves."""
    then: str = ""
    """The release that is wanted and rolled out as soon as the one that is started serves."""

    def __str__(self) -> str:
        arrow = f"{self.replaces} -> " if self.replaces else ""
        how = f" ({self.strategy})" if self.strategy else ""
        what = f": {arrow}{self.release}{how}" if self.release else ""
        return f"[{self.wave}] {self.verb} {self.service}{what}, {self.because}"


def make_plan(
    world: World,
    application: Application,
    releases: Mapping[str, Release],
    only: Collection[str] | None = None,
    *,
    force: bool = False,
    histories: Mapping[str, History] | None = None,
) -> tuple[Step, ...]:
    """What has to change so that the environment is as the manifest and these releases say.

    `releases` maps each service to the release its present source and configuration make. With
    `only`, other services are left as they are and none is removed (that is `deploy`). A release
    that was refused before is left alone unless `force`: the last good one serves on, or is started
    in its place; an environment that is down and has none is refused.
    `histories` is what is known of the services' traffic: canaries are sized and forecast by it.

    Raises:
        VoleryError: a service that runs would speak tcp instead of HTTP, or the other way round.
    """
    steps: list[Step] = [
        _step(world, wave, name, application, releases[name], only, force)
        for wave, names in enumerate(start_order(application.services), start=1)
        for name in names
        if only is None or name in only
    ]
    if only is None:
        steps += _removals(world, application, max((s.wave for s in steps), default=0) + 1)
    return tuple(_foreseen(item, application, histories or {}) for item in steps)


def _foreseen(step: Step, application: Application, histories: Mapping[str, History]) -> Step:
    """With the shares a canary would take, also if it is only asked for when it is carried out."""
    if step.verb != "replace" and not step.then:
        return step
    service, history = application.services[step.service], histories.get(step.service, empty())
    sized = replace(step, shares=shares_at(service, history))
    if step.strategy != "canary":
        return sized
    return replace(sized, forecast=forecast(service, history))


def _step(
    world: World,
    wave: int,
    name: str,
    application: Application,
    made: Release,
    only: Collection[str] | None,
    force: bool,
) -> Step:
    service, release = application.services[name], made.id
    state = world.services.get(name)
    live = state.live if state else None
    strategy = effective_strategy(service)
    running = world.newest_rollout_of(name)
    if running and running.to_release == release and running.phase is not Phase.ROLLING_BACK:
        return Step(wave, "keep", name, f"{running.id} is on its way", release)
    before = world.releases.get(release)
    healed = running is not None and running.cause == "heal" and running.from_release == release
    refused = before and _refused(before, running, healed=healed) if not force else None
    first = running is not None and running.from_release is None
    if live is not None and world.instances_of(name) and not first:
        refuse_other_traffic(world.releases.get(live.release), service)
    if state is None or live is None or _is_idle(world, name, live):
        judged = strategy in STAGED and not force
        return _start(world, wave, made, _served(world, application, name), refused, judged=judged)
    resized = only is None and state.scale != service.scale.min
    sizes = f"{state.scale} -> {service.scale.min} instances"
    if refused:
        because = f"{release} was refused: {refused.reason}"
        serves = running.to_release if running and healed else live.release
        return Step(wave, "keep", name, because, serves, refused=release)
    if live.release != release:
        because = _difference(world.releases.get(live.release), made)
        because += f"; {sizes}" if resized else ""
        radius = _blast_radius(application, name, service)
        return Step(wave, "replace", name, because, release, live.release, strategy, radius)
    if running is not None and running.to_release != release:
        because = f"{running.id} to {running.to_release} is under way"
        return Step(wave, "replace", name, because, release, running.to_release)
    changed = _changed(state.config, service)
    settings = [name for name in changed if name != "scale" or not resized]
    policy = _said(settings) if settings else ""
    if resized:
        because = f"{sizes}; {policy}" if policy else sizes
        return Step(wave, "scale", name, because, release)
    if policy:
        return Step(wave, "configure", name, policy, release)
    return Step(wave, "keep", name, "nothing changed", release)


def _is_idle(world: World, service: str, live: Slot) -> bool:
    """Whether nothing of it should run. At the end of a rolling rollout, and during recreate, none
    of the release that is live should, and the one that takes over from it may."""
    begun = world.rollout_of(service)
    takes_over = begun is not None and begun.from_release is not None and has_begun(begun)
    return live.count == 0 and not takes_over


def _refused(wanted: Release, running: Rollout | None, *, healed: bool) -> Release | None:
    """The release, with the reason, if it was refused, or will be as soon as the rollout that takes
    it back for what it did has ended. What goes back for another reason comes again."""
    goes_back = running is not None and running.to_release == wanted.id
    if running and goes_back and is_found_bad(wanted, running):
        return replace(wanted, reason=running.reason)
    return wanted if wanted.state == "refused" or healed else None


def is_found_bad(release: Release, by: Rollout) -> bool:
    """Whether a rollout that goes back says that its release must not come again. What served
    before may be bad as a deploy of today, if its instances were; tests and gates, which are not
    asked on the way back, and a rollback to it that fails, say less."""
    if release.state == "kept" and by.cause in ("deploy", "up"):
        begun = by.ready_before is not None
        return by.verdict == "abort" and begun and not by.denied
    return by.verdict == "abort" and release.state in ("new", "built")


def refuse_other_traffic(serving: Release | None, wanted: Service) -> None:
    """What listens for a service forwards either bytes or requests, to all that runs of it.

    Raises:
        VoleryError: INVALID, the two releases cannot serve beside each other.
    """
    if serving is None or (serving.spec.protocol == "tcp") == (wanted.protocol == "tcp"):
        return
    raise VoleryError(
        f"{serving.service} speaks {serving.spec.protocol} while it runs, not {wanted.protocol}",
        code=Code.INVALID,
        hint="give what speaks otherwise another name, or take it down first: volery down",
        where=f"services.{serving.service}.protocol",
    )


def _served(world: World, application: Application, service: str) -> Release | None:
    """The release that served last, if what it needs is still there."""
    served = (r for r in world.releases.values() if r.service == service and r.state == "live")
    release = next(served, None)
    if release is None or not application.services.keys() >= set(ordering_needs(release.spec)):
        return None
    return release


def _start(
    world: World,
    wave: int,
    made: Release,
    good: Release | None,
    refused: Release | None,
    *,
    judged: bool,
) -> Step:
    """A service that does not run. Where one that was refused has nothing before it, only another
    `up` while the environment is up tries again: that is how a first start is mended. One that was
    being judged when it went down is judged again, beside what served."""
    name, because = made.service, "it does not run yet"
    if refused is None:
        if good is None or not judged or not _is_undecided(world, made):
            return Step(wave, "start", name, because, made.id)
        because = f"it served; then {made.id} is rolled out, which was undecided"
        return Step(wave, "start", name, because, good.id, then=made.id)
    was_refused = f"{made.id} was refused: {refused.reason}"
    if good is not None:
        running = world.newest_rollout_of(name)
        begun = running is not None and running.to_release == good.id
        verb: Verb = "keep" if begun else "start"
        return Step(wave, verb, name, was_refused, good.id, refused=made.id)
    if world.environment is None or world.environment.running:
        because = f"it was refused: {refused.reason}"
        return Step(wave, "start", name, because, made.id)
    because = f"{was_refused}; no earlier release has served"
    return Step(wave, "refuse", name, because, refused=made.id)


def _is_undecided(world: World, made: Release) -> bool:
    """Whether a release was tried beside another one last, and that came to no good end."""
    tried = [item for item in world.rollouts.values() if item.to_release == made.id]
    newest = max(tried, key=lambda item: number_of(item.id), default=None)
    return newest is not None and bool(newest.from_release) and newest.phase is not Phase.DONE


def _difference(before: Release | None, after: Release) -> str:
    if before is None:
        return "its source or configuration changed"
    # `source` is where the folder is; what is in it made the artifact.
    fields = [name for name in _changed(before.spec, after.spec) if name != "source"]
    if before.artifact != after.artifact:
        return _said(fields if "build" in fields else ["source", *fields])
    # The versions of secrets are part of a release's name alone.
    return _said(fields if RUN_FIELDS.intersection(fields) else ["secrets", *fields])


def _changed(before: Service, after: Service) -> list[str]:
    names = type(before).model_fields
    return [name for name in names if getattr(before, name) != getattr(after, name)]


def _said(fields: Sequence[str]) -> str:
    *most, last = fields
    return f"its {' and '.join([', '.join(most), last] if most else [last])} changed"


def _blast_radius(application: Application, name: str, service: Service) -> str:
    dependants = sorted(other for other, item in application.services.items() if name in item.needs)
    routed = [route.path for route in application.gateway.routes if route.service == name]
    parts = [f"users of {', '.join(routed)}"] if routed else []
    parts += [f"callers {', '.join(dependants)}"] if dependants else []
    parts.append(f"{service.scale.min} instance{'' if service.scale.min == 1 else 's'}")
    gap = _gap(service)
    return "; ".join([*parts, gap] if gap else parts)


def _gap(service: Service) -> str:
    """Why nobody serves for a moment, where that cannot be avoided."""
    if service.deploy.strategy == "recreate":
        return "a gap: every old instance stops before a new one starts"
    if service.state is not None and service.scale.min == 1:
        return (
            "a gap: the only instance stops before its successor starts, the volume has one writer"
        )
    return ""


def effective_strategy(service: Service, asked: str | None = None) -> str:
    """The strategy that was asked for, or else the manifest's; but a stateful service cannot have
    two releases beside each other on one volume."""
    wanted = asked or service.deploy.strategy
    return "rolling" if wanted in STAGED and service.state is not None else wanted


def _removals(world: World, application: Application, wave: int) -> list[Step]:
    """What leaves, and what has left and is kept for those that still call it."""
    return [
        Step(wave, "keep", name, kept) if kept else Step(wave, "remove", name, LEFT)
        for name, state in sorted(world.services.items())
        if name not in application.services
        for kept in (why_kept(world, state),)
        if kept or not state.removing
    ]
