"""Where requests to a service with roles go: the primary, and the replicas in sync.

To the data plane these are two services: `orders-db` is the primary, `orders-db+replicas` the
replicas (or the primary, while there is none). The primary is the recorded one, while it is ready
and the last thing it said is that it is the primary: not knowing better is no reason to cut it off.
Whoever else says so gets nothing, nor does one that is syncing, or a replica whose role is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from volery.decide.members import state_of
from volery.decide.world import World, in_sync
from volery.model.ports import Endpoint, GroupTraffic, ServiceTraffic
from volery.model.state import Instance, ServiceState, SlotName
from volery.model.tenure import REPLICAS, Step, Tenure

BEFORE_WITHDRAWAL = (Step.BACKUP, Step.DEMOTE)
Wanted = Callable[[World, Instance], bool]


def has_roles(world: World, service: str) -> bool:
    """Whether this service has a primary and replicas, each with an address of its own."""
    state = world.services.get(service)
    return state is not None and state_of(world, state) is not None


def replicas_of(service: str) -> str:
    """The name under which the data plane knows the replicas of a service."""
    return service + REPLICAS


def owner_of(service: str) -> str:
    """The service that the data plane knows under this name."""
    return service.removesuffix(REPLICAS)


def by_role(
    world: World, service: ServiceState, whole: ServiceTraffic
) -> dict[str, ServiceTraffic]:
    """The two services that one with roles is to the data plane, made of what it would be."""
    primaries = _narrowed(world, service, whole, _is_primary)
    replicas = _narrowed(world, service, whole, _is_replica)
    if not any(_active(group.endpoints) for group in replicas.slots.values()):
        replicas = primaries
    return {service.name: primaries, replicas_of(service.name): replicas}


def _narrowed(
    world: World, service: ServiceState, whole: ServiceTraffic, wanted: Wanted
) -> ServiceTraffic:
    """Only these endpoints, and those that finish; each gets the same share."""
    chosen = {item.id for item in world.instances_of(service.name) if wanted(world, item)}
    slots = {
        name: tuple(item for item in group.endpoints if item.draining or item.instance in chosen)
        for name, group in whole.slots.items()
    }
    total = sum(map(_active, slots.values()))
    groups: dict[SlotName, GroupTraffic] = {
        name: replace(
            whole.slots[name],
            weight=100 * _active(endpoints) / total if total else whole.slots[name].weight,
            endpoints=endpoints,
        )
        for name, endpoints in slots.items()
    }
    return replace(whole, slots=groups)


def _active(endpoints: Iterable[Endpoint]) -> int:
    return sum(not item.draining for item in endpoints)


def _is_primary(world: World, item: Instance) -> bool:
    tenure, seen = world.tenures.get(item.service), world.observed.get(item.id)
    if tenure is None or seen is None or item.id != tenure.primary or item.fenced:
        return False
    return _serves(tenure) and seen.role == "primary"


def _serves(tenure: Tenure) -> bool:
    change = tenure.changing
    return change is None or change.step in BEFORE_WITHDRAWAL


def _is_replica(world: World, item: Instance) -> bool:
    tenure, seen = world.tenures.get(item.service), world.observed.get(item.id)
    is_other = tenure is not None and item.id != tenure.primary
    if seen is None or not is_other or seen.volume:  # with that it stays behind
        return False
    return in_sync(seen) and seen.role == "replica"
