"""Keeps the instances of one service as its slots want them.

Start what is missing, replace what failed (add before remove), take out of rotation what is too
much, and stop it only when it is drained. Level-triggered: called again and again, it returns
only what is still to be done, each operation with its *because*.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from volery.decide.world import World, number_of
from volery.model.state import SLOTS, Instance, ServiceState, SlotName

Verb = Literal["start", "prove", "condemn", "drain", "stop", "forget"]
BACKOFF_CAP_SECONDS = 10.0


@dataclass(frozen=True)
class Operation:
    """One change to one instance: the record as it should be afterwards, and why."""

    verb: Verb
    instance: Instance
    because: str


@dataclass(frozen=True)
class Conditions:
    """What the group may rely on now.

    `drained` says that the data plane sends an instance nothing and waits for nothing from it;
    `age` is how many seconds (on a clock that never jumps) an instance has had its present intent;
    `may_start` is false while the data plane lacks the edges new instances would call through.
    """

    now: float
    drained: Callable[[Instance], bool]
    age: Callable[[Instance], float]
    may_start: bool = True
    in_rollout: bool = False
    closing: SlotName | None = None
    """The group of a release that is being taken back: nothing of it is started any more."""


def reconcile(
    world: World, service: ServiceState, given: Conditions
) -> tuple[ServiceState, list[Operation]]:
    """What to do now for both groups of a service, and the service with its start back-off."""
    operations: list[Operation] = []
    for slot in SLOTS:
        operations += _ending(world, service, slot, given)
        claimed = [item.instance for item in operations if item.verb == "start"]
        service, running = _running(world, service, slot, given, claimed)
        operations += running
    return _without_empty_slots(world, service, operations, given), operations


def _ending(
    world: World, service: ServiceState, slot: SlotName, given: Conditions
) -> list[Operation]:
    """Instances on their way out: drain -> stop -> forget."""
    found = []
    for item in world.instances_of(service.name, slot):
        seen = world.observed.get(item.id)
        gone = seen is None or seen.state == "exited"
        if item.intent == "stop" and gone:
            found.append(Operation("forget", item, "nothing of it runs any more"))
        if item.intent != "drain":
            continue
        limit = _stop_drain(world, item, service)
        if gone or given.drained(item):
            because = "it is gone" if gone else "nothing is in flight"
            found.append(_to("stop", item, because, given))
        elif given.age(item) >= limit:
            found.append(
                _to("stop", item, f"still busy after the drain limit of {limit:g}s", given)
            )
    return found


def _stop_drain(world: World, item: Instance, service: ServiceState) -> float:
    release = world.releases.get(item.release)
    return (release.spec if release else service.config).stop.drain


def _running(
    world: World,
    service: ServiceState,
    slot: SlotName,
    given: Conditions,
    claimed: Sequence[Instance],
) -> tuple[ServiceState, list[Operation]]:
    wanted = service.slots.get(slot)
    service, operations, healthy, condemned = _judge(world, service, slot, given)
    count = wanted.count if wanted else 0
    belongs = [item for item in healthy if wanted and item.release == wanted.release]
    strangers = [item for item in healthy if item not in belongs]
    operations += [_to("drain", item, "its group is not wanted", given) for item in strangers]
    operations += _excess(world, belongs, count, given)
    if world.spec(service, slot).state is None:
        operations += _replaced(world, belongs, condemned, count, given)
    elif not any(item.intent != "run" for item in world.instances_of(service.name)):
        # Its successor needs its volume: remove before add, one at a time.
        operations += [_to("drain", item, item.condemned, given) for item in condemned[:1]]
    may_start = given.may_start and slot != given.closing
    if wanted and may_start and not _backing_off(service, given.now):
        missing = wanted.count - len(belongs)
        operations += _missing(world, service, slot, missing, claimed, given)
    return service, operations


def _judge(
    world: World, service: ServiceState, slot: SlotName, given: Conditions
) -> tuple[ServiceState, list[Operation], list[Instance], list[Instance]]:
    """Sort the running instances into healthy and condemned ones, and note new findings."""
    operations: list[Operation] = []
    healthy: list[Instance] = []
    condemned: list[Instance] = []
    for item in world.instances_of(service.name, slot):
        if item.intent != "run":
            continue
        seen = world.observed.get(item.id)
        if seen and seen.state == "exited":
            because = f"it ended: {seen.exit or seen.detail}"
            operations.append(_to("stop", item, because, given))
            if not item.proven and slot != given.closing:
                trouble = f"{item.id} ended while starting: {seen.exit or seen.detail}"
                service = _back_off(service, trouble, given.now)
        elif seen and not seen.alive and not item.condemned:
            marked = replace(item, condemned=seen.detail or "liveness probe failed")
            operations.append(Operation("condemn", marked, marked.condemned))
            condemned.append(marked)
        elif item.condemned:
            condemned.append(item)
        else:
            healthy.append(item)
            if seen and seen.state == "ready" and not item.proven:
                operations.append(Operation("prove", replace(item, proven=True), "it is ready"))
                service = started_anew(service)
    return service, operations, healthy, condemned


def started_anew(service: ServiceState) -> ServiceState:
    """The service as one of which no instance failed to start."""
    return replace(service, start_failures=0, start_not_before=0.0, start_trouble="")


def _back_off(service: ServiceState, trouble: str, now: float) -> ServiceState:
    """First replacement at once, then 0.1 s doubling to the cap (orchestration.md, opinion 3)."""
    failures = service.start_failures + 1
    wait = 0.0 if failures == 1 else min(BACKOFF_CAP_SECONDS, 0.1 * 2 ** min(failures - 2, 20))
    return replace(
        service, start_failures=failures, start_not_before=now + wait, start_trouble=trouble
    )


def _backing_off(service: ServiceState, now: float) -> bool:
    """Whether a replacement must still wait; a wall clock that was set back does not count."""
    return 0 < service.start_not_before - now <= BACKOFF_CAP_SECONDS


def _excess(
    world: World, belongs: Sequence[Instance], count: int, given: Conditions
) -> list[Operation]:
    """Too many: the ones that serve least go first, then the youngest."""
    surplus = sorted(belongs, key=lambda item: (world.ready(item), -number_of(item.id)))
    return [
        _to("drain", item, f"{count} wanted, {len(belongs)} there", given)
        for item in surplus[: max(0, len(belongs) - count)]
    ]


def _replaced(
    world: World,
    belongs: Sequence[Instance],
    condemned: Sequence[Instance],
    count: int,
    given: Conditions,
) -> list[Operation]:
    """A condemned instance leaves when it serves nobody anyway or enough others are ready."""
    enough = sum(world.ready(item) for item in belongs) >= count
    return [
        _to("drain", item, item.condemned, given)
        for item in condemned
        if enough or not world.ready(item)
    ]


def _missing(
    world: World,
    service: ServiceState,
    slot: SlotName,
    missing: int,
    claimed: Sequence[Instance],
    given: Conditions,
) -> list[Operation]:
    wanted = service.slots[slot]
    assert wanted is not None
    stateful = world.spec(service, slot).state is not None
    # A stateful instance owns its volume: no successor before the predecessor is gone.
    known = [*world.instances_of(service.name), *claimed]
    taken = {number_of(item.id) for item in known if stateful or item.release == wanted.release}
    free = (number for number in range(1, 2**31) if number not in taken)
    if stateful:
        missing = min(missing, service.scale - len(taken))
    prefix = wanted.release.replace("@", "-")
    because = "its group lacks it"
    return [
        Operation(
            "start",
            Instance(
                id=f"{prefix}-{next(free)}",
                service=service.name,
                slot=slot,
                release=wanted.release,
                intent="run",
                since=given.now,
                created_at=given.now,
                because=because,
            ),
            because,
        )
        for _ in range(missing)
    ]


def _without_empty_slots(
    world: World, service: ServiceState, operations: Sequence[Operation], given: Conditions
) -> ServiceState:
    """Forget a group that is wanted no more and of which nothing is left."""
    if given.in_rollout:
        return service
    slots = dict(service.slots)
    for slot, group in service.slots.items():
        left = world.instances_of(service.name, slot)
        if group and group.count == 0 and not left and (slot != service.active or service.removing):
            slots[slot] = None
    return service if slots == service.slots else replace(service, slots=slots)


def _to(
    intent: Literal["drain", "stop"], item: Instance, because: str, given: Conditions
) -> Operation:
    changed = replace(item, intent=intent, since=given.now, because=because)
    return Operation(intent, changed, because)
