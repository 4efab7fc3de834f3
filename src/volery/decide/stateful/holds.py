"""What must not be taken away from a stateful service, and what must come before.

Looks at the operations that its reconciler wants. The primary is never taken out of rotation while
others are there: a switchover comes first. Nor is the last copy of the data that is in sync.
Nothing is taken away during a handover, nor, in an update, before the backup; that is not waited
for while the primary is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from volery.decide.group import Operation
from volery.decide.members import Member, member, members, replicas
from volery.decide.world import World, number_of
from volery.model.application import State
from volery.model.guard import Cause
from volery.model.ports import SideCommand
from volery.model.state import Rollout, ServiceState
from volery.model.tenure import Tenure

BACKUP_SECONDS = 600.0


@dataclass(frozen=True)
class Held:
    """What may be done now; why the rest waits; why a switchover is needed; whether a backup
    is; why the rollout must go back."""

    operations: tuple[Operation, ...]
    waits: str = ""
    switchover: str = ""
    backed_up: str = ""
    abort: str = ""
    cause: Cause = "heal"


def hold(
    world: World,
    service: ServiceState,
    state: State,
    tenure: Tenure,
    operations: Sequence[Operation],
) -> Held:
    """Sort what is wanted into what may be done and what must wait."""
    allowed = [item for item in operations if item.verb != "drain"]
    drains = [item for item in operations if item.verb == "drain"]
    if not drains:
        return Held(tuple(allowed))
    backup = _before_update(world, service, state, tenure)
    if backup is not None:
        return Held(tuple(allowed), *backup)
    backed_up = _update(world, service)
    waits = switchover = ""
    cause: Cause = "heal"
    for item in drains:
        why = _why_not(world, service, state, tenure, item)
        if not why:
            allowed.append(item)
        elif why.startswith("switchover"):
            switchover, cause = item.because, item.cause
        else:
            waits = why
    done = backed_up.id if backed_up else ""
    return Held(tuple(allowed), waits, switchover, done, cause=cause)


def _update(world: World, service: ServiceState) -> Rollout | None:
    """The rollout under way that brings another release."""
    rollout = world.rollout_of(service.name)
    changes = rollout is not None and rollout.from_release not in (None, rollout.to_release)
    return rollout if changes else None


def _before_update(
    world: World, service: ServiceState, state: State, tenure: Tenure
) -> tuple[str, str, str, str] | None:
    """What to wait for before anything is replaced by another release; None if nothing."""
    rollout = _update(world, service)
    if rollout is None or state.backup is None or tenure.backed_up == rollout.id:
        return None
    if rollout.phase.value == "rolling_back" or _is_lost(world, tenure):
        return None
    seen = world.observed.get(tenure.primary)
    answer = seen.commands.get(backup_key(rollout)) if seen else None
    if answer is None or answer.state == "waiting":
        return f"backup of {tenure.primary} runs before the update", "", "", ""
    if answer.state == "yes":
        return "", "", rollout.id, ""
    return "", "", "", f"backup of {tenure.primary} failed: {answer.text}"


def _is_lost(world: World, tenure: Tenure) -> bool:
    """Whether no backup can be had, and another release may be what mends that."""
    primary = member(world, tenure.primary)
    known = primary is not None and primary.role == "primary"
    return "is lost" in tenure.waits and not known


def backup_key(rollout: Rollout) -> str:
    """The key of the backup before an update."""
    return f"backup-{rollout.id}"


def backup_wish(
    world: World, service: ServiceState, state: State, tenure: Tenure
) -> tuple[str, str, SideCommand] | None:
    """The backup an update waits for, if it is one: where, its key, and what to run."""
    rollout = _update(world, service)
    if not tenure.waits.startswith("backup") or rollout is None or state.backup is None:
        return None
    environment = {"VOLERY_TERM": str(tenure.term), "VOLERY_ROLE": "primary"}
    command = SideCommand(tuple(state.backup), environment, BACKUP_SECONDS)
    return tenure.primary, backup_key(rollout), command


def _why_not(
    world: World, service: ServiceState, state: State, tenure: Tenure, drain: Operation
) -> str:
    """Why one instance must stay for now; "" if it may go, "switchover" if that must come first."""
    identity = drain.instance.id
    found = members(world, service.name)
    staying = [item for item in found if item.id != identity and item.staying]
    if tenure.changing is not None:
        return f"the primary of {service.name} is changing"
    if identity == tenure.primary:
        if state.switchover is None or not staying:
            return ""
        return "switchover" if replicas(found, tenure) else "no replica is in sync to take over"
    target = member(world, identity)
    if target is None or target.role is None or drain.instance.condemned:
        return ""
    primary = member(world, tenure.primary)
    if primary is None or primary.role != "primary":
        return f"{tenure.primary} is not known to be the primary: {identity} may be the last copy"
    others = [item for item in replicas(found, tenure) if item.id != identity]
    if others and target.role == "replica" and all(o.position < target.position for o in others):
        return f"no other replica is as far as {identity} yet"
    if world.rollout_of(service.name) is None and service.scale > 1:
        return _last_copy(service, found, tenure, target)
    return ""


def _last_copy(
    service: ServiceState, found: Sequence[Member], tenure: Tenure, target: Member
) -> str:
    left = [
        item
        for item in replicas(found, tenure)
        if item.id != target.id and number_of(item.id) < service.scale
    ]
    places_left = number_of(tenure.primary) >= service.scale
    if left or (places_left and target.role != "replica"):
        return ""
    return f"{target.id} is the last copy in sync beside the primary"
