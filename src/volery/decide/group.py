"""Keeps the instances of one service as its slots want them.

Start what is missing, replace what failed (add before remove), take out of rotation what is too
much, and stop it only when it is drained. Level-triggered: called again and again, it returns
only what is still to be done, each operation with its *because*.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from volery.decide import backoff, places
from volery.decide.members import place
from volery.decide.phases import has_begun
from volery.decide.world import World, number_of
from volery.model.guard import Cause
from volery.model.state import SLOTS, Instance, ServiceState, SlotName

Verb = Literal["start", "prove", "drain", "stop", "forget"]
BACKOFF_FIRST_SECONDS, BACKOFF_CAP_SECONDS = 0.1, 10.0


@dataclass(frozen=True)
class Operation:
    """One change to one instance: the record as it should be afterwards, and why."""

    verb: Verb
    instance: Instance
    because: str
    cause: Cause = "heal"
    """Whoever wants it: the guard asks."""
    harms: bool = False
    """Users get worse answers as long as this instance stays in rotation."""


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
    wanted_by: Cause = "scale"
    """Who wants the slots as they are now."""
    closing: SlotName | None = None
    """The group of a release that is being taken back: nothing of it is started any more."""
    routed: Callable[[Instance], bool] = lambda _: True
    """Whether a proxy may still send an instance something new."""


def reconcile(
    world: World, service: ServiceState, given: Conditions
) -> tuple[ServiceState, list[Operation]]:
    """What to do now for both groups of a service, and the service with its start back-off."""
    operations: list[Operation] = []
    for slot in SLOTS:
        if service.slots.get(slot) is None and not world.instances_of(service.name, slot):
            continue  # most services have one group, and most of the time
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
            because = "nothing of it runs any more"
            found.append(Operation("forget", item, because, given.wanted_by))
        if item.intent != "drain":
            continue
        limit = _stop_drain(world, item, service)
        if gone or given.drained(item):
            because = "it is gone" if gone else "nothing is in flight"
            found.append(_to("stop", item, because, given))
        elif item.hung and not given.routed(item):
            found.append(_to("stop", item, "what is in flight it will never answer", given))
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
    release = wanted.release if wanted else None
    belongs = [item for item in healthy if item.release == release]
    strangers = [item for item in healthy if item.release != release]
    operations += [_to("drain", item, "its group is not wanted", given) for item in strangers]
    stateful = world.spec(service, slot).state is not None
    excess = _given_up if stateful else _excess
    operations += excess(world, service, belongs, count, given)
    alone = not stateful and _must_be_alone(world, service)
    if not stateful and not alone:
        operations += _replaced(world, belongs, condemned, count, given)
    elif not any(item.intent != "run" for item in world.instances_of(service.name)):
        # Its successor needs its volume, or must not run beside it: remove before add, one at a
        # time. The guard may keep one that serves for the sake of one that does not.
        one = sorted(condemned, key=world.ready)[:1]
        operations += [_healed(item, given) for item in one]
    may_start = given.may_start and slot != given.closing
    if wanted and may_start and not _backing_off(service, given.now):
        if stateful:
            operations += _next_place(world, service, slot, belongs, claimed, given)
        else:
            there = _in_the_way(world, service, slot) if alone else len(belongs)
            missing = wanted.count - there
            if missing > 0:
                operations += _missing(world, service, slot, missing, claimed, given)
    return service, operations


def _must_be_alone(world: World, service: ServiceState) -> bool:
    """Whether a copy must never run beside the one whose place it takes: by the strategy of the
    rollout under way, or else by the owner's."""
    rollout = world.rollout_of(service.name)
    if rollout is not None and has_begun(rollout):
        return rollout.strategy == "recreate"
    return service.config.deploy.strategy == "recreate"


def _in_the_way(world: World, service: ServiceState, slot: SlotName) -> int:
    """How many instances have to be gone, or to stay, before one may come to a group: all of the
    group, and of another one those on their way out."""
    there = world.instances_of(service.name)
    return sum(item.slot == slot or item.intent != "run" for item in there)


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
            operations.append(_to("stop", item, because, given, "heal"))
            if not item.proven and slot != given.closing:
                trouble = f"{item.id} ended while starting: {seen.exit or seen.detail}"
                service = _back_off(service, item.release, trouble, given.now)
        elif item.condemned:
            condemned.append(item)
        else:
            healthy.append(item)
            if world.ready(item) and not item.proven:
                operations.append(Operation("prove", replace(item, proven=True), "it is ready"))
                service = started_anew(service)
    return service, operations, healthy, condemned


def started_anew(service: ServiceState) -> ServiceState:
    """The service as one of which no instance failed to start."""
    return replace(service, start_failures=0, start_not_before=0.0, start_trouble="")


def _back_off(service: ServiceState, release: str, trouble: str, now: float) -> ServiceState:
    """First replacement at once, then 0.1 s doubling to the cap, in steps of this release's own."""
    failures = service.start_failures + 1
    wait = backoff.wait(release, failures, BACKOFF_FIRST_SECONDS, BACKOFF_CAP_SECONDS)
    return replace(
        service, start_failures=failures, start_not_before=now + wait, start_trouble=trouble
    )


def _backing_off(service: ServiceState, now: float) -> bool:
    """Whether a replacement must still wait; a wall clock that was set back does not count."""
    return 0 < service.start_not_before - now <= BACKOFF_CAP_SECONDS


def _excess(
    world: World,
    service: ServiceState,
    belongs: Sequence[Instance],
    count: int,
    given: Conditions,
) -> list[Operation]:
    """Too many: the ones that serve least go first, then the youngest."""
    if len(belongs) <= count:
        return []
    surplus = sorted(belongs, key=lambda item: (world.ready(item), -number_of(item.id)))
    return [
        _to("drain", item, f"{count} wanted, {len(belongs)} there", given)
        for item in surplus[: len(belongs) - count]
    ]


def _given_up(
    world: World,
    service: ServiceState,
    belongs: Sequence[Instance],
    count: int,
    given: Conditions,
) -> list[Operation]:
    """Of a stateful service one at a time."""
    return [
        _to("drain", item, f"{count} wanted, {len(belongs)} there", given)
        for item in places.excess(world, service, belongs, count)
    ]


def _replaced(
    world: World,
    belongs: Sequence[Instance],
    condemned: Sequence[Instance],
    count: int,
    given: Conditions,
) -> list[Operation]:
    """A condemned instance leaves when it serves nobody anyway or enough others are ready."""
    if not condemned:
        return []
    enough = sum(world.ready(item) for item in belongs) >= count
    return [_healed(item, given) for item in condemned if enough or not world.ready(item)]


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
    known = [*world.instances_of(service.name), *claimed]
    taken = {number_of(item.id) for item in known if item.release == wanted.release}
    free = (number for number in range(1, 2**31) if number not in taken)
    prefix = wanted.release.replace("@", "-")
    cause = _cause_of_start(world, service, slot, given)
    return [_start(service, slot, f"{prefix}-{next(free)}", cause, given) for _ in range(missing)]


def _next_place(
    world: World,
    service: ServiceState,
    slot: SlotName,
    belongs: Sequence[Instance],
    claimed: Sequence[Instance],
    given: Conditions,
) -> list[Operation]:
    """The next instance of a stateful service: always the same names, one at a time."""
    numbers = places.missing(world, service, slot, belongs, claimed, given.age, given.now)
    if not numbers:
        return []
    cause = _cause_of_start(world, service, slot, given)
    return [_start(service, slot, place(service.name, number), cause, given) for number in numbers]


def _start(
    service: ServiceState, slot: SlotName, identity: str, cause: Cause, given: Conditions
) -> Operation:
    wanted, because = service.slots[slot], "its group lacks it"
    assert wanted is not None
    item = Instance(
        id=identity,
        service=service.name,
        slot=slot,
        release=wanted.release,
        intent="run",
        since=given.now,
        created_at=given.now,
        because=because,
    )
    return Operation("start", item, because, cause)


def _cause_of_start(
    world: World, service: ServiceState, slot: SlotName, given: Conditions
) -> Cause:
    """A start that no rollout asked for heals, unless the group was never as large as it should."""
    if given.wanted_by != "scale":
        return given.wanted_by
    wanted = service.slots[slot]
    there = world.instances_of(service.name, slot)
    return "heal" if service.start_failures or (wanted and len(there) >= wanted.count) else "scale"


def _without_empty_slots(
    world: World, service: ServiceState, operations: Sequence[Operation], given: Conditions
) -> ServiceState:
    """Forget a group that is wanted no more and of which nothing is left."""
    if given.in_rollout:
        return service
    slots = dict(service.slots)
    for slot, group in service.slots.items():
        serves = slot == service.active and not service.removing
        if group and group.count == 0 and not serves and not world.instances_of(service.name, slot):
            slots[slot] = None
    return service if slots == service.slots else replace(service, slots=slots)


def _healed(item: Instance, given: Conditions) -> Operation:
    """A condemned instance goes; one that is withheld harms whoever is sent to it."""
    return replace(_to("drain", item, item.condemned, given, "heal"), harms=item.withheld)


def _to(
    intent: Literal["drain", "stop"],
    item: Instance,
    because: str,
    given: Conditions,
    cause: Cause | None = None,
) -> Operation:
    changed = replace(item, intent=intent, since=given.now, because=because)
    return Operation(intent, changed, because, cause or given.wanted_by)
