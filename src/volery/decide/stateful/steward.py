"""All decisions about who is the primary of one service, in one call a look.

In this order: is there a tenure at all; does somebody claim to be the primary who is not; does a
handover under way go on; is the primary lost; may what the reconciler wants be done, or does a
switchover come first. It returns the tenure as it should be, and never waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from volery.decide.group import Operation
from volery.decide.members import members, place, replicas, state_of
from volery.decide.stateful import failover, handover, holds
from volery.decide.stateful.choice import still_for, unknown_for
from volery.decide.stateful.situation import Decided, Given, Note
from volery.decide.upkeep import is_leaving
from volery.decide.world import World
from volery.model.application import State
from volery.model.errors import Code, VoleryError
from volery.model.guard import Cause
from volery.model.ports import RoleWatch, SideCommand
from volery.model.state import ServiceState
from volery.model.tenure import Handover, Step, Tenure

TOLD_SECONDS = 1.0
"""What is waited for no longer than this is not worth a word."""
FURTHEST_SECONDS = 10.0
"""How often it is written down how far the primary is."""
AGAIN_SECONDS, LONGEST_AGAIN_SECONDS = 15.0, 1800.0
"""After a switchover that failed Volery itself begins the next one no earlier, each time later."""
GIVEN_UP = 3
"""So many in a row that were given up send a rollout back."""


def steward(
    world: World, service: ServiceState, operations: Sequence[Operation], given: Given
) -> Decided | None:
    """What to do now; None for a service without roles."""
    state = state_of(world, service)
    if state is None:
        return None
    tenure = world.tenures.get(service.name) or _first(service, given)
    if is_leaving(world, service):
        return _leaving(tenure, operations)
    _note_ages(world, service, given)
    found = failover.impostors(world, service, tenure, given)
    killed, notes = found.operations, found.notes
    if found.claims != tenure.claims:
        tenure = replace(tenure, claims=found.claims)
    if tenure.changing is None:
        tenure, more = _watch_over(world, service, state, tenure, given)
        notes += more
    held = holds.hold(world, service, state, tenure, operations)
    rollout = world.rollout_of(service.name)
    wanted_in = rollout.id if rollout else ""
    tenure = _after_hold(tenure, held, wanted_in, given)
    before = tenure.changing
    tenure, moved, more = _go_on(world, service, state, _with_position(tenure, given), given)
    tenure, failed = _count_given_up(tenure, before, wanted_in, given)
    operations = (*_except(held.operations, killed), *killed, *moved)
    abort = failed if tenure.given_up >= GIVEN_UP and wanted_in else ""
    said = (*found.failed, failed) if failed else found.failed
    return Decided(tenure, operations, (*notes, *more), held.abort or abort, said)


def _first(service: ServiceState, given: Given) -> Tenure:
    """The first primary ever is the instance at the first place."""
    return Tenure(service.name, place(service.name, 0), 1, given.now)


def _with_position(tenure: Tenure, given: Given) -> Tenure:
    """With how far the primary is: so that one that is back with less is found out."""
    age = given.age((tenure.service, "furthest", tenure.furthest))
    due = tenure.furthest == 0 or age >= FURTHEST_SECONDS
    return replace(tenure, furthest=given.furthest) if due else tenure


def _leaving(tenure: Tenure, operations: Sequence[Operation]) -> Decided:
    """Nobody is promoted while everything goes. A term that was begun is used up. While nothing
    runs an owner may restore older data."""
    tenure, notes = _at_rest(tenure, "the service is being taken down")
    return Decided(tenure, tuple(operations), notes)


def _at_rest(tenure: Tenure, why: str) -> tuple[Tenure, tuple[Note, ...]]:
    change, tenure = tenure.changing, replace(tenure, furthest=0, claims={})
    if change is None:
        return tenure, ()
    moved = handover.abandon(change, why)
    term = max(tenure.term, change.term)
    return replace(tenure, handover=moved.handover, term=term), moved.notes


def without_data(tenure: Tenure) -> Tenure:
    """The tenure once all volumes were deleted on purpose: there is nothing to hand over. The term
    stays, as volumes that are restored know it."""
    return replace(_at_rest(tenure, "its volumes were deleted")[0], emptied=True)


def _note_ages(world: World, service: ServiceState, given: Given) -> None:
    """Ages count while they are asked for: how long each member has been unknown, and how long its
    position has not grown."""
    there = members(world, service.name)
    for item in there:
        still_for(service, item, given)
    known = {item.id for item in there if item.role is not None}
    for number in range(service.scale):
        if place(service.name, number) not in known:
            unknown_for(service, place(service.name, number), given)
    for item in there:
        if item.id not in known:
            unknown_for(service, item.id, given)


def _except(operations: Sequence[Operation], killed: Sequence[Operation]) -> tuple[Operation, ...]:
    gone = {item.instance.id for item in killed}
    return tuple(item for item in operations if item.instance.id not in gone)


def _watch_over(
    world: World, service: ServiceState, state: State, tenure: Tenure, given: Given
) -> tuple[Tenure, tuple[Note, ...]]:
    why = failover.loss(world, service, state, tenure, given)
    if not why:
        return tenure, ()
    lost = f"{tenure.primary} is lost: {why}"
    if state.switchover is None:
        return _waiting(tenure, f"{lost}; without `switchover` nobody can take over")
    there = replicas(members(world, service.name), tenure)
    item = world.instances.get(tenure.primary)
    if not there and item is not None and item.intent != "run":
        return tenure, ()  # it is replaced in its place: nobody else could take over
    # Who followed it cannot be in sync with one that has lost its data.
    emptied = failover.is_emptied(world, tenure, given)
    if not there and not emptied:
        return _waiting(tenure, f"{tenure.primary} is lost and no replica is in sync")
    begun = begin(tenure, "failover", why, given.now)
    note = Note("state.failover", f"{service.name}: {lost}", tenure.primary, why)
    return begun, (note,)


def _waiting(tenure: Tenure, why: str) -> tuple[Tenure, tuple[Note, ...]]:
    if tenure.waits == why:
        return tenure, ()
    return replace(tenure, waits=why), (Note("state.waits", why, tenure.primary, why),)


def begin(
    tenure: Tenure,
    kind: Literal["failover", "switchover"],
    because: str,
    now: float,
    *,
    cause: Cause = "heal",
    by: str = "",
    to: str = "",
) -> Tenure:
    """The tenure with a handover at its first step."""
    number = tenure.numbers + 1
    step = Step.FENCE if kind == "failover" else Step.BACKUP if by else Step.DEMOTE
    change = Handover(
        number=number,
        kind=kind,
        step=step,
        out=tenure.primary,
        term=tenure.term + 1,
        because=because,
        cause=cause,
        began_at=now,
        by=by,
        to=to,
    )
    return replace(tenure, handover=change, numbers=number, waits="")


def _after_hold(tenure: Tenure, held: holds.Held, wanted_in: str, given: Given) -> Tenure:
    if held.backed_up:
        tenure = replace(tenure, backed_up=held.backed_up)
    if held.switchover and tenure.changing is None:
        if not given.has_room:
            return replace(tenure, waits=handover.NO_ROOM)
        left = tenure.not_before - given.now
        if not 0 < left <= LONGEST_AGAIN_SECONDS or tenure.given_up_in != wanted_in:
            return begin(tenure, "switchover", held.switchover, given.now, cause=held.cause)
        return replace(tenure, waits="the next switchover waits, as the last one was given up")
    if tenure.changing is None and "is lost" not in tenure.waits:
        return replace(tenure, waits=held.waits)
    return tenure


def _go_on(
    world: World, service: ServiceState, state: State, tenure: Tenure, given: Given
) -> tuple[Tenure, tuple[Operation, ...], tuple[Note, ...]]:
    """One step of the handover under way."""
    before = tenure.changing
    if before is None:
        return _settled(world, tenure), (), ()
    case = handover.Case(world, service, state, tenure, before, given)
    moved = handover.step(case)
    after, notes = moved.handover, moved.notes
    if after.waits and after.waits != after.told and case.age("waits", after.waits) >= TOLD_SECONDS:
        after = replace(after, told=after.waits)
        notes += (Note("state.waits", f"{service.name}: {after.waits}", cause=after.because),)
    tenure = replace(tenure, handover=after)
    if after.step is Step.DONE:
        tenure = replace(
            tenure,
            primary=after.successor,
            term=after.term,
            since=given.now,
            furthest=0,
            given_up=0,
            not_before=0.0,
        )
        text = f"{after.successor} is the primary of {service.name} in term {after.term}"
        notes += (Note("state.primary", text, after.successor, after.because),)
    return tenure, moved.operations, notes


def _count_given_up(
    tenure: Tenure, before: Handover | None, wanted_in: str, given: Given
) -> tuple[Tenure, str]:
    """The tenure after a switchover that may have been given up just now, and what is said of that
    if Volery began it: the same again is likely to fail again, so the next one waits."""
    after = tenure.handover
    if before is None or before.by or after is None or after.step is not Step.ABANDONED:
        return tenure, ""
    times = tenure.given_up + 1 if tenure.given_up_in == wanted_in else 1
    pause = min(LONGEST_AGAIN_SECONDS, AGAIN_SECONDS * 2.0 ** min(times - 1, 30))
    tenure = replace(tenure, given_up=times, given_up_in=wanted_in, not_before=given.now + pause)
    often = "once" if times == 1 else f"{times} times"
    return tenure, f"the switchover of {after.out} was given up {often}: {after.reason}"


def _settled(world: World, tenure: Tenure) -> Tenure:
    """Nothing is lost any more, and what is there must not be lost."""
    seen = world.observed.get(tenure.primary)
    well = seen is not None and seen.unsure_since is None and seen.role == "primary"
    well = well and seen is not None and not seen.volume
    if not well:
        return tenure
    waits = "" if "is lost" in tenure.waits else tenure.waits
    return replace(tenure, waits=waits, emptied=False)


def wishes(world: World) -> list[tuple[str, str, SideCommand]]:
    """Every command that something waits for: beside which instance, its key, and what to run."""
    found = []
    for name, tenure in sorted(world.tenures.items()):
        service = world.services.get(name)
        state = state_of(world, service) if service else None
        if service is None or state is None:
            continue
        wished = handover.wish(tenure, state) or holds.backup_wish(world, service, state, tenure)
        if wished is not None:
            found.append(wished)
    return found


def role_watches(world: World) -> dict[str, RoleWatch]:
    """How each service with roles is to be asked: often while somebody waits for the answer."""
    found = {}
    for name, service in world.services.items():
        tenure = world.tenures.get(name)
        if tenure is None or state_of(world, service) is None:
            continue
        seen = world.observed.get(tenure.primary)
        well = seen is not None and seen.unsure_since is None and seen.role == "primary"
        change = tenure.changing
        term = change.term if change and change.step is Step.PROMOTE else tenure.term
        occasion = f"{change.number} {change.step}" if change else str(well)
        found[name] = RoleWatch(term, change is not None or not well, occasion)
    return found


def by_hand(world: World, service: ServiceState, by: str, to: str | None, now: float) -> Tenure:
    """The tenure with a switchover that a person asks for.

    Raises:
        VoleryError: INVALID, there is nothing to switch over; CONFLICT, it cannot be done now;
            NOT_FOUND, no such instance.
    """
    state, tenure = state_of(world, service), world.tenures.get(service.name)
    if state is None or state.switchover is None or tenure is None:
        raise VoleryError(
            f"{service.name} has no primary to switch over",
            code=Code.INVALID,
            hint="it needs `state: {role: ..., switchover: ...}` in the manifest",
        )
    if tenure.changing is not None:
        raise VoleryError(
            f"{service.name} has a {tenure.changing.kind} under way: {tenure.changing.step}",
            code=Code.CONFLICT,
            hint=f"volery status {service.name} --watch",
        )
    there = replicas(members(world, service.name), tenure)
    _refuse(service, tenure, to, [item.id for item in there])
    because = f"asked for by {by}" if by else "asked for"
    return begin(
        tenure, "switchover", because, now, cause="person", by=by or "somebody", to=to or ""
    )


def _refuse(service: ServiceState, tenure: Tenure, to: str | None, there: list[str]) -> None:
    if to == tenure.primary:
        raise VoleryError(f"{to} is the primary already", code=Code.CONFLICT, hint="nothing to do")
    if not there or (to is not None and to not in there):
        said = f"{to} is no replica in sync" if to and there else "no replica is in sync"
        raise VoleryError(
            f"{service.name} cannot be switched over: {said}",
            code=Code.CONFLICT,
            hint=f"in sync: {', '.join(there)}" if there else f"volery status {service.name}",
        )


__all__ = ["begin", "by_hand", "role_watches", "steward", "wishes", "without_data"]
