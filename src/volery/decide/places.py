"""Which places of a stateful service are to be filled, and which are too many.

An instance has its place for ever: `orders-db-0`, `orders-db-1`, each with a volume of its own, and
no place is filled while anything of its former holder is left. Places are filled one at a time, the
primary's first, then from the lowest; the next one waits until the one before has been ready once
(where roles are known: in sync). Only the primary's never waits: nobody can get in sync without it.
They are given up one at a time too, from the highest, the primary's last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from volery.decide import claims
from volery.decide.members import members, place, state_of
from volery.decide.world import World, number_of
from volery.model.state import Instance, ServiceState, SlotName

Age = Callable[[Instance], float]


def taken(world: World, service: str) -> set[int]:
    """Places of which anything is left: a record, or something the engine still knows."""
    found = {number_of(item.id) for item in world.instances_of(service)}
    prefix = f"{service}-"
    for identity in world.observed:
        number = identity.removeprefix(prefix)
        if identity.startswith(prefix) and number.isdigit():
            found.add(int(number))
    return found


def missing(
    world: World,
    service: ServiceState,
    slot: SlotName,
    belongs: Sequence[Instance],
    claimed: Sequence[Instance],
    age: Age,
    now: float,
) -> list[int]:
    """The place to fill next in a slot to which these instances belong: one, or none.

    Those at places that are not wanted any more do not count: they may be the last copies, and
    leave only when the wanted places have theirs.
    """
    wanted = service.slots[slot]
    assert wanted is not None
    there = sum(number_of(item.id) < service.scale for item in belongs)
    if claimed or there >= wanted.count:
        return []
    used = taken(world, service.name)
    places = _wanted_places(world, service)
    if _somebody_comes(world, service, age):
        places = places[:1] if state_of(world, service) else []
    free = (number for number in places if number not in used)
    return [number for number in free if not _held(world, service, number, slot, now)][:1]


def _wanted_places(world: World, service: ServiceState) -> list[int]:
    """All places, the primary's first."""
    places = list(range(service.scale))
    tenure = world.tenures.get(service.name)
    if tenure is None or state_of(world, service) is None:
        return places
    first = number_of(tenure.primary)
    return [first, *(number for number in places if number != first)]


def _somebody_comes(world: World, service: ServiceState, age: Age) -> bool:
    """Whether the one started last is not ready yet: within its time, or for as long as it takes to
    get in sync."""
    startup = world.spec(service, service.active).health.startup
    return any(
        item.staying
        and not item.item.proven
        and not (item.seen and item.seen.state == "exited")
        and (item.role == "syncing" or age(item.item) < startup)
        for item in members(world, service.name)
    )


def _held(world: World, service: ServiceState, number: int, slot: SlotName, now: float) -> bool:
    """Whether a place must wait: the former primary's until another one is promoted; that of one
    that claimed to be the primary for a while, each time longer."""
    tenure = world.tenures.get(service.name)
    if claims.waits(tenure, place(service.name, number), slot, now):
        return True
    change = tenure.changing if tenure else None
    if change is None or state_of(world, service) is None:
        return False
    return place(service.name, number) == change.out and not change.returns


def excess(
    world: World, service: ServiceState, belongs: Sequence[Instance], count: int
) -> list[Instance]:
    """The instance to give up next: one at a time, and nothing while another one is on its way."""
    leaving = any(item.intent != "run" for item in world.instances_of(service.name))
    if len(belongs) <= count or leaving:
        return []
    tenure = world.tenures.get(service.name)
    primary = tenure.primary if tenure and state_of(world, service) else ""
    if count and count >= service.scale:  # scaled down: the places that are not wanted
        order = sorted(belongs, key=lambda item: -number_of(item.id))
    else:  # replaced by another release: the primary last
        order = sorted(
            belongs,
            key=lambda item: (item.id == primary, world.ready(item), -number_of(item.id)),
        )
    return order[:1]
