"""Turns a plan or a wish of a person into documents: services, releases and rollouts.

Everything is refused before anything is changed; a refusal says what runs and what to do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from volery.decide.group import started_anew
from volery.decide.order import ordering_needs, waits_for
from volery.decide.phases import has_begun
from volery.decide.plan import Step, effective_strategy, refuse_other_traffic
from volery.decide.staged import is_asked_for
from volery.decide.stages import by_stages, with_stages_of
from volery.decide.world import World, number_of
from volery.model.application import Application
from volery.model.errors import Code, VoleryError
from volery.model.state import Phase, Release, Rollout, ServiceState, SlotName, other


@dataclass(frozen=True)
class Order:
    """Who asked for what: the words that rollouts and events carry along."""

    cause: str
    by: str
    now: float
    strategy: str | None = None
    skip_tests: bool = False
    force: bool = False
    root: str = ""
    base_env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Submission:
    """Documents to write. `rollouts` are in the order they will run."""

    services: tuple[ServiceState, ...] = ()
    releases: tuple[Release, ...] = ()
    rollouts: tuple[Rollout, ...] = ()
    superseded: tuple[tuple[Rollout, Rollout], ...] = ()
    """Rollouts under way that a newer one takes the place of, each with that one."""
    removed: tuple[str, ...] = field(default=())


def submit(
    world: World,
    application: Application,
    plan: Sequence[Step],
    releases: Mapping[str, Release],
    order: Order,
) -> Submission:
    """The documents that carry out a plan.

    A deploy that is under way to another release is superseded: it turns round, unless it alone
    serves, and the new rollout begins when it has ended. Behind a restart and behind a rollback
    the new one waits.

    Raises:
        VoleryError: REFUSED if a release that was refused before is deployed again without force,
            or is all there is to bring up.
    """
    _refuse_refused(plan, order)
    changing = [step for step in plan if step.verb in ("start", "replace")]
    waiting = {
        step.service: waits_for(
            step.service, application.services, {item.service for item in changing}
        )
        for step in changing
    }
    ids = {step.service: _next_id(world, step.service) for step in changing}
    group = ids[changing[0].service] if changing else ""
    rollouts = []
    for step in changing:
        behind = tuple(ids[name] for name in waiting[step.service])
        rollouts.append(_rollout(world, application, step, ids[step.service], group, behind, order))
    later = [step for step in changing if step.then]
    follow = [
        _following(world, application, step, ids[step.service], group, order) for step in later
    ]
    named = [
        (step.service, name) for step in changing for name in (step.release, step.then) if name
    ]
    wanted = [_wanted(world, name, releases[service], order) for service, name in named]
    wanted += _kept(world, plan, order)
    return Submission(
        services=tuple(_services(world, application, plan, order)),
        releases=tuple(item for item in wanted if world.releases.get(item.id) != item),
        rollouts=(*rollouts, *follow),
        superseded=tuple(
            (old, new)
            for new in rollouts
            for old in world.active_rollouts()
            if old.service == new.service and is_asked_for(old)
        ),
        removed=tuple(step.service for step in plan if step.verb == "remove"),
    )


def _refuse_refused(plan: Sequence[Step], order: Order) -> None:
    """`up` goes on with the last good release, where there is one; `deploy` asked for this one."""
    for step in plan:
        if step.verb == "refuse" or (step.refused and order.cause == "deploy"):
            again = f"deploy {step.service}" if order.cause == "deploy" else "up"
            raise VoleryError(
                step.because, code=Code.REFUSED, hint=f"change it, or: volery {again} --force"
            )


def _wanted(world: World, identity: str, made: Release, order: Order) -> Release:
    """The release of a step: the one that was made now, or what is known of it. One that has still
    to be built, or failed or was refused before, has the time limits of today: they are no part of
    its name."""
    known = _asked_by(order, world.releases.get(identity, made))
    spec = made.spec if identity == made.id else known.spec
    if known.state in ("failed", "refused", "gone"):
        return replace(known, state="new", reason="", spec=spec)
    return replace(known, spec=spec) if known.state == "new" else known


def _asked_by(order: Order, release: Release) -> Release:
    return replace(release, base_env=dict(order.base_env) or release.base_env)


def _kept(world: World, plan: Sequence[Step], order: Order) -> Iterator[Release]:
    """The releases that serve and are to go on; one that is on its way is left as it was asked
    for."""
    for step in plan:
        known = world.releases.get(step.release)
        if step.verb in ("keep", "scale", "configure") and known and known.state == "live":
            yield _asked_by(order, known)


def _services(
    world: World, application: Application, plan: Sequence[Step], order: Order
) -> list[ServiceState]:
    """`up` also brings back the manifest's size; `deploy` keeps one that was set by hand."""
    found = []
    for step in plan:
        state = world.services.get(step.service)
        if step.verb == "remove":
            assert state is not None
            found.append(replace(state, removing=True))
        if step.service not in application.services:
            continue
        config = application.services[step.service]
        if state is None:
            found.append(ServiceState(step.service, config, config.scale.min, root=order.root))
        else:
            resize = order.cause == "up" or step.verb == "start"
            scale = config.scale.min if resize else state.scale
            if _goes_on(world, step):
                config = with_stages_of(config, state.config)
            new = replace(state, config=config, scale=scale, removing=False)
            found.append(replace(new, root=order.root or state.root))
    return found


def _goes_on(world: World, step: Step) -> bool:
    """Whether a rollout in stages goes on, also where one that was refused is wanted in its place:
    its steps are counted by the stages it began with."""
    running = world.newest_rollout_of(step.service)
    return (
        running is not None
        and step.verb not in ("start", "replace")
        and running.phase is not Phase.ROLLING_BACK
        and has_begun(running)
        and by_stages(running)
    )


def _following(
    world: World, application: Application, step: Step, first: str, group: str, order: Order
) -> Rollout:
    """The rollout of what is wanted, behind the start of what served before."""
    identity = f"{step.service}-r{number_of(first) + 1}"
    step = replace(step, verb="replace", release=step.then)
    return _rollout(world, application, step, identity, group, (), order)


def _rollout(
    world: World,
    application: Application,
    step: Step,
    identity: str,
    group: str,
    behind: tuple[str, ...],
    order: Order,
) -> Rollout:
    state = world.services.get(step.service)
    live = state.live if state else None
    slot: SlotName = "a" if state is None else state.active if live is None else other(state.active)
    strategy = effective_strategy(application.services[step.service], order.strategy)
    return Rollout(
        id=identity,
        service=step.service,
        to_release=step.release,
        from_release=live.release if live and step.verb == "replace" else None,
        strategy=strategy,  # type: ignore[arg-type]
        slot=slot,
        group=group,
        cause=order.cause,  # type: ignore[arg-type]
        waits_for=behind,
        skip_tests=order.skip_tests,
        shares=step.shares if strategy == "canary" and step.verb == "replace" else (),
        created_at=order.now,
        since=order.now,
        by=order.by,
    )


def rollback(world: World, service: str, to: str | None, order: Order) -> Rollout:
    """The rollout that brings an earlier release back: to the one asked for, or the previous one.

    Raises:
        VoleryError: NOT_FOUND without such a release; CONFLICT during another rollout, or if what
            it needs is gone; INVALID if it cannot serve beside what runs.
    """
    state = known(world, service)
    _refuse_second_rollout(world, service)
    if state.live is None:
        raise VoleryError(f"{service} does not run", code=Code.CONFLICT, hint="volery up")
    release = earlier(world, state, to)
    refuse_other_traffic(world.releases.get(state.live.release), release.spec)
    _refuse_without_needs(world, release)
    warm = state.slots[other(state.active)]
    quick = warm is not None and warm.release == release.id and state.warm_until is not None
    strategy = "blue-green" if quick else effective_strategy(release.spec)
    # What served before needs no evidence: it comes back as soon as it is ready.
    strategy = "blue-green" if strategy == "canary" else strategy
    if state.config.deploy.strategy == "recreate" and not quick:
        strategy = "recreate"  # also where that was not said yet when the release was made
    return _to_release(world, state, release.id, strategy, order)


def _refuse_without_needs(world: World, release: Release) -> None:
    """A release whose need has left since would come up and could do nothing."""
    for need in ordering_needs(release.spec):
        if need not in world.services:
            raise VoleryError(
                f"{release.id} needs {need}, which is not there",
                code=Code.CONFLICT,
                hint=f"add {need} to the manifest, then: volery up",
            )


def serves_already(world: World, service: str, to: str | None) -> str:
    """The release that `rollback --to` names, if it is the one that serves; else "".

    Raises:
        VoleryError: NOT_FOUND without such a release.
    """
    state = known(world, service)
    if to is None or state.live is None or state.live.count == 0:
        return ""
    wanted = earlier(world, state, to).id
    return wanted if wanted == state.live.release else ""


def restart(world: World, service: str, order: Order) -> Rollout:
    """A rollout from the live release to itself: every instance is replaced, none is missed."""
    state = known(world, service)
    _refuse_second_rollout(world, service)
    if state.live is None:
        raise VoleryError(f"{service} does not run", code=Code.CONFLICT, hint="volery up")
    strategy = "recreate" if state.config.deploy.strategy == "recreate" else "rolling"
    return _to_release(world, state, state.live.release, strategy, order)


def _to_release(
    world: World, state: ServiceState, release: str, strategy: str, order: Order
) -> Rollout:
    assert state.live is not None
    identity = _next_id(world, state.name)
    return Rollout(
        id=identity,
        service=state.name,
        to_release=release,
        from_release=state.live.release,
        strategy=strategy,  # type: ignore[arg-type]
        slot=other(state.active),
        group=identity,
        cause=order.cause,  # type: ignore[arg-type]
        created_at=order.now,
        since=order.now,
        by=order.by,
    )


def earlier(world: World, state: ServiceState, to: str | None) -> Release:
    """The release to go back to: the one whose id begins so, or the one that served before and
    that nobody went back from since.

    Raises:
        VoleryError: NOT_FOUND, not exactly one with that name can come back; CONFLICT, none can.
    """
    assert state.live is not None
    mine = [item for item in world.releases.values() if item.service == state.name]
    if to is not None:
        wanted = to if "@" in to else f"{state.name}@{to}"
        found = [item for item in mine if item.id.startswith(wanted)]
        usable = [item for item in found if item.state in ("live", "kept", "built")]
        if len(usable) == 1:
            return usable[0]
        raise VoleryError(
            _unusable(state.name, to, usable or found),
            code=Code.NOT_FOUND,
            hint=f"volery releases {state.name}",
        )
    ended = sorted(
        (r for r in world.rollouts.values() if r.service == state.name and r.phase is Phase.DONE),
        key=lambda item: number_of(item.id),
        reverse=True,
    )
    left: set[str] = set()
    for rollout in ended:
        if rollout.cause in ("rollback", "heal") and rollout.from_release:
            left.add(rollout.from_release)  # somebody found it bad, unless it came again later
        earlier = world.releases.get(rollout.to_release)
        if earlier is None or earlier.id in (state.live.release, *left):
            continue
        if earlier.state in ("kept", "live"):
            return earlier
    raise VoleryError(
        f"{state.name} has no earlier release to go back to that was not rolled back from",
        code=Code.CONFLICT,
        hint=f"volery releases {state.name}, then volery rollback {state.name} --to RELEASE",
    )


def _unusable(service: str, to: str, found: Sequence[Release]) -> str:
    """Why these releases, whose names begin as asked for, are not what can come back."""
    if not found:
        return f"no release {to} of {service}"
    if len(found) > 1:
        return f"{to} may be {' or '.join(item.id for item in found)}"
    state = "was never built" if found[0].state == "new" else f"is {found[0].state}"
    return f"{found[0].id} {state}"


def scale(world: World, service: str, count: int, *, force: bool = False) -> ServiceState:
    """The service with another number of instances.

    Raises:
        VoleryError: NOT_FOUND, CONFLICT during a rollout, INVALID out of bounds, REFUSED if that is
            fewer than its owner's floor, without force.
    """
    state = known(world, service)
    _refuse_second_rollout(world, service)
    if not 0 <= count <= 1000:
        raise VoleryError(
            f"scale must be 0 to 1000, got {count}",
            code=Code.INVALID,
            hint=f"volery scale {service} {min(max(count, 0), 1000)}",
        )
    floor = state.config.floor or 0
    if count < min(floor, state.scale) and not force:
        raise VoleryError(
            f"{service} would have {count} instance{'' if count == 1 else 's'}"
            f" and its floor is {floor}",
            code=Code.REFUSED,
            hint=f"lower `floor` of {service} and run volery up, or add --yes",
        )
    return replace(started_anew(state), scale=count)


def known(world: World, service: str) -> ServiceState:
    """The service's state. Raises VoleryError NOT_FOUND with the nearest known name."""
    state = world.services.get(service)
    if state is not None and not state.removing:
        return state
    raise unknown_service(service, world.services)


def unknown_service(service: str, names: Collection[str]) -> VoleryError:
    """The error for a service nobody knows, with the nearest name that exists."""
    from difflib import get_close_matches

    near = get_close_matches(service, list(names), 1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(names)) or 'none'}"
    return VoleryError(f"no service {service!r}", code=Code.NOT_FOUND, hint=hint)


def _refuse_second_rollout(world: World, service: str) -> None:
    running = world.rollout_of(service)
    if running is not None:
        wait = f"wait for it (volery rollout {service} --watch)"
        turned = running.phase is Phase.ROLLING_BACK
        raise VoleryError(
            f"{service} has a rollout under way: {running.id} to {running.to_release}"
            f" ({running.phase.replace('_', ' ')})",
            code=Code.CONFLICT,
            hint=wait if turned else f"{wait} or volery abort {service}",
        )


def _next_id(world: World, service: str) -> str:
    prefix = f"{service}-r"
    numbers = [
        int(identity.removeprefix(prefix))
        for identity, rollout in world.rollouts.items()
        if rollout.service == service
    ]
    return f"{prefix}{max(numbers, default=0) + 1}"
